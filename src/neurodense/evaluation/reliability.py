"""How far probabilities can be believed, before and after calibration, with intervals: loss, Brier score, ECE.

Definitions: docs/metrics.md. On finitely many images ECE is never 0, even of a perfectly calibrated model, and grows as
they get fewer: compare it between models on the same images, and read it beside the loss, which has no such bias.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, Floats, basic, bca, numbered
from neurodense.evaluation.intervals import distribution
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.scores import ECE_BINS, Scored, bin_of
from neurodense.evaluation.shares import Share
from neurodense.inference.card import Quality


@dataclass(frozen=True)
class Change:
    """A figure before and after calibration, and the one less the other, paired: below 0 is better."""

    before: Share
    after: Share
    change: Share

    def as_dict(self) -> dict[str, Any]:
        """The change as JSON takes it."""
        return asdict(self)


def quality(truth: NDArray[np.int64], probabilities: Floats) -> Quality:
    """Loss, Brier score and ECE of probabilities (N, C) for true classes (N,)."""
    scored = Scored([str(k) for k in range(probabilities.shape[1])], truth, probabilities)
    return Quality(**{name: float(value[0]) for name, value in scored.calibration(np.ones((1, 1))).items()})


def changes(before: Predictions, after: Predictions) -> dict[str, Change]:
    """What calibration changed: loss, brier and ece -> their change, by the bootstrap over the groups of `after`."""
    groups = numbered(after.units)
    sides = [Scored(one.labels, one.truth, one.probabilities, groups) for one in (before, after)]
    (values, parts), (others, other_parts) = (distribution(side, RESAMPLES, SEED, side.calibration) for side in sides)
    found = {}
    for name in values:
        point, other = (side.values[name] for side in sides)
        if name == "ece":
            ends = basic(values[name], point), basic(others[name], other)
        else:
            ends = bca(values[name], point, parts[name]), bca(others[name], other, other_parts[name])
        change = bca(others[name] - values[name], other - point, other_parts[name] - parts[name], LEVEL)
        found[name] = Change(Share(point, ends[0]), Share(other, ends[1]), Share(other - point, change))
    return found


def bins(truth: NDArray[np.int64], probabilities: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Images, mean confidence and accuracy of each bin of the ECE; the latter two are 0 in an empty bin."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    where = bin_of(confidence)
    counts = np.bincount(where, minlength=ECE_BINS)
    full = np.maximum(counts, 1)
    mean, accuracy = (np.bincount(where, values, ECE_BINS) / full for values in (confidence, right.astype(np.float64)))
    return counts, mean, accuracy
