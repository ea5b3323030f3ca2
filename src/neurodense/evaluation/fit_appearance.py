"""The rule of `inference/appearance.py`: logistic regression, known images against drawn ones.

Training against pictures that are surely none of the known kind is outlier exposure (Hendrycks, Mazeika, Dietterich,
Deep Anomaly Detection with Outlier Exposure, ICLR 2019). Known images count as they are and once more as another
scanner may have them, so that the rule asks whether an image is a brain MRI rather than whether it is of this
collection. numpy only.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.outliers import draw_outliers, vary
from neurodense.inference.appearance import CLIP, Appearance, describe, pictures
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.scan import Scan

KNOWN: Final = 2000
"""Known images that the rule is learnt from, at most."""
OUTLIERS: Final = 3400
"""Drawn pictures, at most; two for each known image where these are few."""
PENALTY: Final = 3e-3
_NARROWEST: Final = 1e-3  # a number that never changes is taken to vary by so much
_STEPS, _SMALL = 12, 1e-2
_MANY = 200  # pictures that are described at once


def fit_appearance(known: NDArray[np.floating], preprocess: Preprocess, seed: int = 0) -> Appearance:
    """The rule, from what the model knows.

    Args:
        known: (N, SIDE, SIDE): known images, as `appearance.pictures` has them.
        preprocess: Of the model; drawn pictures pass through it as any others do.
        seed: Of all that is drawn.
    """
    known = known[:: max(1, -(-len(known) // KNOWN))]
    rng = np.random.default_rng(seed)
    varied = np.stack([vary(one, rng) for one in known])
    drawn = draw_outliers(min(2 * len(known), OUTLIERS), known, seed)
    inputs = (preprocess(Scan(one, "drawn", 32))[np.newaxis] for one in drawn)
    outside = np.concatenate([pictures(one) for one in inputs])
    inside = np.concatenate([described(known.astype(np.float32)), described(varied)])
    return fit_rule(inside, described(outside))


def described(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """`describe` for many pictures, some at a time."""
    return np.concatenate([describe(shown[k : k + _MANY]) for k in range(0, len(shown), _MANY)])


def fit_rule(inside: NDArray[np.float32], outside: NDArray[np.float32], penalty: float = PENALTY) -> Appearance:
    """Logistic regression by Newton's method, of numbers (N, D) against (M, D); each side counts half.

    The penalty is on the squares of the weights of the numbers, standardised by those of the known.
    """
    centre, spread = inside.mean(axis=0, dtype=np.float64), inside.std(axis=0, dtype=np.float64)
    scale = 1 / np.maximum(spread, _NARROWEST)
    every = ((np.concatenate([inside, outside]) - centre) * scale).clip(-CLIP, CLIP)
    rows = np.column_stack([every, np.ones(len(every))]).astype(np.float32)
    wanted = np.repeat([0.0, 1.0], [len(inside), len(outside)])
    share = 0.5 / np.repeat([len(inside), len(outside)], [len(inside), len(outside)])
    ridge = np.append(np.full(len(centre), penalty), 1e-6).astype(np.float32)
    weights = np.zeros(len(ridge), dtype=np.float32)
    for _ in range(_STEPS):
        said = 1 / (1 + np.exp(-(rows @ weights).clip(-30, 30).astype(np.float64)))
        bend = (share * np.maximum(said * (1 - said), 1e-6)).astype(np.float32)
        slope = rows.T @ (share * (said - wanted)).astype(np.float32) + ridge * weights
        curve = (rows * bend[:, np.newaxis]).T @ rows
        curve[np.diag_indices(len(curve))] += ridge
        step = np.linalg.solve(curve, slope)
        weights -= step
        if np.abs(step).max() < _SMALL:
            break
    return Appearance(centre.astype(np.float32), scale.astype(np.float32), weights[:-1].copy(), weights[-1:].copy())
