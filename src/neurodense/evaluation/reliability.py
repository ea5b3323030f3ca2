"""How far probabilities can be believed: log loss, Brier score, expected calibration error, reliability diagram.

    loss     = mean of -ln p(true class), in nats, p clipped as in `metrics.py`
    Brier    = mean over images of the sum over classes of (p - 1[true])^2, in [0, 2] (Brier 1950)
    ECE      = sum over bins of (images in the bin / images) * |accuracy - mean confidence|

The confidence of an image is the probability of its most probable class; the bins are 15 of equal width (Guo et al.
2017). On finitely many images ECE is never 0, even of a perfectly calibrated model, and grows as they get fewer:
compare it between models on the same images, and read it beside the log loss, which has no such bias.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.inference.card import Quality

BINS: Final = 15


def quality(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Quality:
    """Log loss, Brier score and ECE of probabilities (N, C) for true classes (N,)."""
    rows = np.arange(len(truth))
    eps = np.finfo(np.float64).eps
    errors = probabilities.copy()
    errors[rows, truth] -= 1
    counts, confidence, accuracy = bins(truth, probabilities)
    return Quality(
        loss=float(-np.log(probabilities[rows, truth].clip(eps, 1 - eps)).mean()),
        brier=float((errors**2).sum(axis=1).mean()),
        ece=float((counts * np.abs(accuracy - confidence)).sum() / len(truth)),
    )


def bins(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Images, mean confidence and accuracy of each bin, (BINS,) each; the latter two are 0 in an empty bin."""
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    # Bins are open below and closed above, as Guo et al. have them; no confidence is 0.
    where = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(where, minlength=BINS)
    full = np.maximum(counts, 1)
    return (
        counts,
        np.bincount(where, confidence, minlength=BINS) / full,
        np.bincount(where, right, minlength=BINS) / full,
    )
