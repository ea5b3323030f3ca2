"""Temperature and vector scaling, fitted by log loss (Guo, Pleiss, Sun and Weinberger, ICML 2017). numpy only.

With b = 1/T the mean log loss of softmax(b * logits) is convex in b, and its derivative is the mean over images of the
logits' mean under the probabilities less their mean under the truth: one sign change, found by bisection.

Where every validation image is right, log loss alone would have T go to 0 and the model say it is certain. So the truth
of N images is taken as 1 - 1/(N + 2), the rest shared among the other classes: Laplace's rule of succession, as Platt
(1999) does for two classes. N images that are all right then give a confidence of (N + 1)/(N + 2) and not of 1.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.inference.card import Vector
from neurodense.inference.scaling import softmax

Floats = NDArray[np.float64]

COLDEST, WARMEST = 0.01, 100.0
"""What a temperature may be. A model no better than chance is given the warmest."""
_HALVINGS = 60
_STEPS = 50
_PRIOR: Final = 1.0
"""Weight of vector scaling's pull to the temperature, in images: it makes the optimum one point, not a line."""


def fit_temperature(logits: NDArray[np.floating[Any]], truth: NDArray[np.int64]) -> float:
    """The temperature of the smallest log loss for logits (N, C) and true classes (N,)."""
    z, target = logits.astype(np.float64), _targets(truth, logits.shape[1])
    low, high = -np.log(WARMEST), -np.log(COLDEST)  # of ln b
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = ((softmax(np.exp(middle) * z) - target) * z).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def fit_vector(logits: NDArray[np.floating[Any]], truth: NDArray[np.int64], temperature: float) -> Vector:
    """A factor and an offset for each class, by Newton's method from the temperature."""
    z, target = logits.astype(np.float64), _targets(truth, logits.shape[1])
    n, classes = z.shape
    start = np.concatenate([np.full(classes, 1 / temperature), np.zeros(classes)])
    weight = _PRIOR / n

    def loss(theta: Floats) -> float:
        p = softmax(z * theta[:classes] + theta[classes:])
        return float(-(target * np.log(p.clip(1e-300))).sum() / n + weight / 2 * ((theta - start) ** 2).sum())

    theta = start
    for _ in range(_STEPS):
        p = softmax(z * theta[:classes] + theta[classes:])
        slopes = np.concatenate([((p - target) * z).mean(axis=0), (p - target).mean(axis=0)])
        slopes += weight * (theta - start)
        inner = p[:, :, np.newaxis] * (np.eye(classes) - p[:, np.newaxis, :])  # (N, C, C): of logits k and l
        features = np.stack([z, np.ones_like(z)])  # what factors and offsets multiply
        curvature = np.einsum("ank,nkl,bnl->akbl", features, inner, features, optimize=True) / n
        step = np.linalg.solve(curvature.reshape(2 * classes, -1) + weight * np.eye(2 * classes), slopes)
        size = 1.0
        while loss(theta - size * step) > loss(theta) and size > 1e-6:
            size /= 2
        theta = theta - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return Vector(scale=tuple(theta[:classes].tolist()), shift=tuple(theta[classes:].tolist()))


def proves_better(candidate: Floats, current: Floats, groups: NDArray[Any]) -> bool:
    """Whether one log loss of N images is smaller than the other by more than two standard errors.

    The standard error is of sums over whole groups, since images of a group err together.
    """
    gain = current - candidate
    _, where = np.unique(groups, return_inverse=True)
    sums = np.bincount(where, gain - gain.mean())
    return bool(gain.sum() > 2 * np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)))


def _targets(truth: NDArray[np.int64], classes: int) -> Floats:
    rest = 1 / (len(truth) + 2)
    target = np.full((len(truth), classes), rest / (classes - 1))
    target[np.arange(len(truth)), truth] = 1 - rest
    return target
