"""From logits to probabilities: the softmax, after the scaling that the card has.

One temperature divides all logits (Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML
2017); vector scaling gives each class a factor and an offset. Both are affine in each logit, so they commute with the
mean over slices and with the mean over the places of an activation map.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.inference.card import Card

Floats = NDArray[np.float64]


def softmax(logits: NDArray[np.floating[Any]]) -> Floats:
    """Softmax of the rows of logits (N, C): float64, rows sum to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def calibrated(card: Card, logits: NDArray[np.floating[Any]]) -> Floats:
    """Logits, or maps of them, as the card scales them; float64.

    Args:
        card: Its temperature, or its vector scaling, or neither.
        logits: (N, C), or (N, C, h, w).
    """
    vector = card.calibration.chosen if card.calibration else None
    if vector is None:
        return np.asarray(logits.astype(np.float64) / (card.temperature or 1.0))
    shape = (-1, *(1,) * (logits.ndim - 2))
    scale, shift = np.reshape(vector.scale, shape), np.reshape(vector.shift, shape)
    return np.asarray(logits.astype(np.float64) * scale + shift)
