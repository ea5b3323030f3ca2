"""Thresholds of prediction sets: split conformal prediction whose units are groups, not images.

Images of one patient, and copies of one slice, err together: a hundred images of five patients are five observations of
how patients differ. What may be taken for exchangeable are the groups, and the images within one. For this the
hierarchical conformal prediction of Lee, Barber and Willett (Distribution-free inference with hierarchical data,
arXiv:2306.06342; the setting is that of Dunn, Wasserman and Ramdas, JASA 2023) gives a finite-sample promise: with K
groups, of which group k has N_k images with scores s, the threshold is the 1 - error quantile of

    sum over k, i of 1 / ((K + 1) N_k) at s_ki   +   1 / (K + 1) at infinity

and an image of a new group has a score below it with probability 1 - error at least. With one image a group this is the
usual (K + 1) correction. The mass at infinity is the new group: where it is more than the error, K < 1/error - 1, no
threshold can promise anything.

The score is -p(true class), and each class has its own threshold (Vovk 2012; Sadinle, Lei and Wasserman 2019), so
that a rare class is not served worse than a common one. Where a class has too few groups for that, all share one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neurodense.inference.card import Conformal, Sets
from neurodense.inference.sets import ERRORS


def groups_needed(error: float) -> int:
    """Groups without which nothing can be promised at an error rate: 19 for 5%, 9 for 10%, 4 for 20%."""
    return ceil(1 / error - 1e-9) - 1


def group_quantile(scores: NDArray[np.float64], groups: NDArray[Any], error: float) -> float | None:
    """The score below which an image of a new group lies with probability 1 - error at least.

    Args:
        scores: (N,), of the images.
        groups: (N,), which group each image is of.
        error: In (0, 1).

    Returns:
        None where there are fewer than `groups_needed(error)` groups.
    """
    _, where, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(scores, kind="stable")
    mass = np.cumsum(1 / sizes[where[order]]) / (len(sizes) + 1)
    reached = np.flatnonzero(mass >= 1 - error - 1e-9)
    return float(scores[order[reached[0]]]) if len(reached) else None


def fit_sets(
    classes: Sequence[str],
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    groups: NDArray[Any],
    unit: Literal["group", "image"] = "group",
    errors: Sequence[float] = ERRORS,
) -> Conformal:
    """Thresholds for each error rate that can be promised.

    Args:
        classes: The C names.
        truth: (N,), index of the true class.
        probabilities: (N, C), calibrated.
        groups: (N,).
        unit: What a group is called: an image where no groups are known.
        errors: Error rates to try.
    """
    scores = -probabilities[np.arange(len(truth)), truth]  # not 1 - p, whose rounding would move the threshold
    found = []
    for error in sorted(errors):
        each = [group_quantile(scores[truth == k], groups[truth == k], error) for k in range(len(classes))]
        if any(score is None for score in each):
            each = [group_quantile(scores, groups, error)] * len(classes)
            by_class = False
        else:
            by_class = True
        least = {name: -score for name, score in zip(classes, each, strict=True) if score is not None}
        if least:
            found.append(Sets(error=error, least=least, each_class=by_class))
    return Conformal(
        unit=unit,
        groups={name: len(np.unique(groups[truth == k])) for k, name in enumerate(classes)},
        sets=tuple(found),
        needed={f"{error:g}": groups_needed(error) for error in sorted(errors)},
    )
