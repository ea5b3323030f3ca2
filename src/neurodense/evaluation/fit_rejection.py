"""The means and the covariance of `inference/rejection.py`, from features of labelled images. numpy only.

The covariance of D = 1024 features of some thousand images is shrunk towards a round one,

    S* = (1 - d) S + d t I        t = trace(S) / D

with the d of Ledoit and Wolf (A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate
Analysis 88, 2004), which needs no choice. S* has the directions of S. The widest COMPONENTS of them are kept; the mean
of the other variances stands for each of these.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.inference.rejection import Rejection

COMPONENTS: Final = 128
ACCEPTANCE: Final = 0.95
"""Share of images of a new group of the kind that the model knows that are to pass."""
_TINY: Final = float(np.finfo(np.float32).tiny)


def fit_rejection(features: NDArray[np.float32], truth: NDArray[np.int64], components: int = COMPONENTS) -> Rejection:
    """The score, from features (N, D) and classes (N,) of what the model knows; a limit of 1, and no reference yet."""
    known = np.unique(truth)
    means = np.stack([features[truth == label].mean(axis=0, dtype=np.float64) for label in known])
    off = features - means[np.searchsorted(known, truth)]
    covariance = off.T @ off / len(off)
    shrinkage = ledoit_wolf(off)
    values, vectors = np.linalg.eigh(covariance)  # smallest first
    values = (1 - shrinkage) * values.clip(0) + shrinkage * np.trace(covariance) / len(covariance)
    kept = min(components, len(values) - 1)
    return Rejection(
        means=means.astype(np.float32),
        directions=vectors[:, ::-1][:, :kept].astype(np.float32),
        variances=np.maximum(values[::-1][:kept], _TINY).astype(np.float32),
        rest=np.maximum(values[: len(values) - kept].mean(keepdims=True), _TINY).astype(np.float32),
        limit=np.ones(1, dtype=np.float32),
        reference=np.empty((0, kept), dtype=np.float32),
        called=np.empty(0, dtype=np.int64),
    )


def fit_reach(
    rejection: Rejection, features: NDArray[np.float32], numbers: NDArray[np.float32], groups: NDArray[Any]
) -> Rejection:
    """Set what counts as 1 of the distance and of the strangeness, so that each would reject as many.

    Of the validation part, each group counting once, half of 1 - ACCEPTANCE is above it. The limit, which is set
    afterwards on the larger of both, is what keeps ACCEPTANCE.
    """
    assert rejection.appearance is not None
    _, where, sizes = np.unique(groups, return_inverse=True, return_counts=True)

    def high(values: NDArray[np.float64]) -> float:
        order = np.argsort(values, kind="stable")
        mass = np.cumsum(1 / sizes[where[order]]) / len(sizes)
        return max(float(values[order[np.searchsorted(mass, (1 + ACCEPTANCE) / 2 - 1e-9)]]), _TINY)

    reach = high(rejection.distances(features)), high(rejection.appearance.strangeness(numbers))
    return replace(rejection, reach=np.array(reach, dtype=np.float32))


def ledoit_wolf(centred: NDArray[np.float64]) -> float:
    """The weight d of the round covariance, in [0, 1], for rows (N, D) whose mean is 0."""
    n, dimensions = centred.shape
    covariance = centred.T @ centred / n
    squared = (covariance**2).sum()
    distance = squared - np.trace(covariance) ** 2 / dimensions
    error = (((centred**2).sum(axis=1) ** 2).sum() / n - squared) / n
    return float(np.clip(error / distance, 0, 1)) if distance > 0 else 1.0
