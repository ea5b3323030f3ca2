"""Four scores of how unlike the known images an image is, by the graph's outputs; larger is further away.

- energy: -log sum exp of the logits (Liu, Wang, Owens and Li, Energy-based Out-of-distribution Detection, NeurIPS 2020)
- kNN: distance of the normalised features to the k-th nearest known image (Sun, Ming, Zhu and Li, Out-of-Distribution
  Detection with Deep Nearest Neighbors, ICML 2022)
- Mahalanobis: `inference/rejection.py` (Lee et al., NeurIPS 2018), with all directions or the widest
- relative Mahalanobis: its square less that to all known images as one class (Ren et al., A Simple Fix to Mahalanobis
  Distance for Improving Near-OOD Detection, 2021); both covariances are shrunk by the same amount, else the difference
  is ruled by the directions in which nothing was seen
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.fit_rejection import fit_rejection, ledoit_wolf

Floats = NDArray[np.float64]
Score = Callable[[NDArray[np.float32], NDArray[np.float32]], Floats]
"""Features (N, D) and logits (N, C) to scores (N,)."""
Fit = Callable[[NDArray[np.float32], NDArray[np.int64]], Score]
"""Features and classes of the known images to a score."""


def energy(_features: NDArray[np.float32], _truth: NDArray[np.int64]) -> Score:
    return lambda _, logits: -np.logaddexp.reduce(logits.astype(np.float64), axis=1)


def nearest(k: int) -> Fit:
    def fit(features: NDArray[np.float32], _truth: NDArray[np.int64]) -> Score:
        known = _normalised(features)

        def score(features: NDArray[np.float32], _logits: NDArray[np.float32]) -> Floats:
            squares = 2 - 2 * _normalised(features) @ known.T
            return np.asarray(np.sqrt(np.partition(squares, k - 1, axis=1)[:, k - 1].clip(0)))

        return score

    return fit


def mahalanobis(components: int) -> Fit:
    def fit(features: NDArray[np.float32], truth: NDArray[np.int64]) -> Score:
        rejection = fit_rejection(features, truth, components)
        return lambda features, _: rejection.scores_of(features)

    return fit


def mahalanobis_normalised(components: int) -> Fit:
    """On features of length 1 (Mueller and Hein, Mahalanobis++, 2025)."""

    def fit(features: NDArray[np.float32], truth: NDArray[np.int64]) -> Score:
        rejection = fit_rejection(_normalised(features).astype(np.float32), truth, components)
        return lambda features, _: rejection.scores_of(_normalised(features).astype(np.float32))

    return fit


def relative_mahalanobis(features: NDArray[np.float32], truth: NDArray[np.int64]) -> Score:
    known = np.unique(truth)
    values = features.astype(np.float64)
    means = np.stack([values[truth == label].mean(axis=0) for label in known])
    centre = values.mean(axis=0)
    off = values - means[np.searchsorted(known, truth)]
    within, among = (x.T @ x / len(x) for x in (off, values - centre))
    shrinkage = ledoit_wolf(off)
    floor = shrinkage * np.trace(within) / len(within) * np.eye(len(within))
    near, far = (np.linalg.inv((1 - shrinkage) * one + floor) for one in (within, among))

    def square(off: Floats, inverse: Floats) -> Floats:
        return np.asarray(((off @ inverse) * off).sum(axis=1))

    def score(features: NDArray[np.float32], _logits: NDArray[np.float32]) -> Floats:
        nearest = np.min([square(features - mean, near) for mean in means], axis=0)
        return np.asarray(nearest - square(features - centre, far))

    return score


def _normalised(features: NDArray[np.float32]) -> Floats:
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), dtype=np.float64)


SCORES: dict[str, Fit] = {
    "energy": energy,
    "kNN, k 1": nearest(1),
    "kNN, k 10": nearest(10),
    "relative Mahalanobis": relative_mahalanobis,
    "Mahalanobis, all": mahalanobis(10_000),
    "Mahalanobis, 256": mahalanobis(256),
    "Mahalanobis, 128": mahalanobis(128),
    "Mahalanobis, 64": mahalanobis(64),
    "Mahalanobis, 32": mahalanobis(32),
    "Mahalanobis, 128, length 1": mahalanobis_normalised(128),
}
