"""What an image looks like, in numbers that a network trained to tell tumours apart has no use for, and drops.

A pyramid of 2 x 2 Haar steps over the picture, 128 x 128 (Mallat, A Theory for Multiresolution Signal Decomposition,
IEEE PAMI 11, 1989), says where it is bright, where it has how much detail of which size, and, over the whole, how often
detail of each strength comes at each size and direction, as well as how often each grey does. Drawings, pages,
photographs and scans differ in these; a linear rule on them, `Appearance`, tells one from the other.

`serving/browser/appearance.js` is the same in the browser, operation by operation in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]

SIDE: Final = 128
"""Pixels a side of the picture that is described."""
GRID: Final = 16
"""Places a side at which grey and detail are told."""
GREYS: Final = 16
OCTAVES: Final = 11
"""Strengths of detail: below 2^-9, then doubling, to 2^-1 and above."""
LEVELS: Final = 5
_LOCAL: Final = 3
"""Levels that are told by place: after as many the picture is as small as the grid."""
_LEAST: Final = 116  # the exponent, as float32 has it, of all detail that is too weak to tell
_FAINT: Final = np.float32(0.002)
_FAINT_IN_ALL: Final = np.float32(0.01)

NUMBERS: Final = (2 + _LOCAL) * GRID**2 + GREYS + LEVELS * 3 * OCTAVES

CLIP: Final = 8.0
"""Standard deviations at which a number is cut: what lies outside is rarely normal."""


@dataclass(frozen=True, eq=False)
class Appearance:
    """The rule, fitted by `evaluation/fit_appearance.py`.

    Attributes:
        centre: float32 (NUMBERS,), the means of the numbers over known images.
        scale: float32 (NUMBERS,), one over their standard deviations.
        weights: float32 (NUMBERS,).
        offset: float32 (1,).
    """

    centre: Floats
    scale: Floats
    weights: Floats
    offset: Floats

    def strangeness(self, numbers: Floats) -> NDArray[np.float64]:
        """Of numbers (N, NUMBERS): float64 (N,), at least 0.

        It is the loss of logistic regression, ln(1 + e^x), of an image that is taken for known: near 0 where the rule
        is sure that it is, and growing evenly where it is sure that it is not.
        """
        shown = ((numbers - self.centre) * self.scale).clip(-CLIP, CLIP)
        return np.asarray(np.logaddexp(0.0, np.einsum("nd,d->n", shown.astype(np.float64), self.weights) + self.offset))


def pictures(pixels: Floats) -> Floats:
    """Network inputs (N, 1, S, S) as they are described: float32 (N, SIDE, SIDE)."""
    if pixels.shape[-1] == SIDE:
        return pixels[:, 0]
    small = [Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for one in pixels[:, 0]]
    return np.stack([np.asarray(one) for one in small])


def describe(shown: Floats) -> Floats:
    """Pictures (N, SIDE, SIDE) in [0, 1] to numbers: float32 (N, NUMBERS).

    In this order: of each place the mean grey, the logarithm of its contrast, and of its detail at each of three sizes;
    the roots of the shares of the greys; of each size and direction those of the strengths of detail.
    """
    shares = [_shares((shown * np.float32(GREYS)).astype(np.int32).clip(0, GREYS - 1), GREYS)]
    squares, local, quarter = _means(shown * shown), [], np.float32(0.25)
    for level in range(LEVELS):
        top, bottom = shown[:, ::2], shown[:, 1::2]
        p, r = top[:, :, ::2] + top[:, :, 1::2], top[:, :, ::2] - top[:, :, 1::2]
        q, s = bottom[:, :, ::2] + bottom[:, :, 1::2], bottom[:, :, ::2] - bottom[:, :, 1::2]
        shown, details = (p + q) * quarter, ((r + s) * quarter, (p - q) * quarter, (r - s) * quarter)
        shares.append(_octaves(np.stack(details, axis=1)))
        if level < _LOCAL:
            strength = np.sqrt(details[0] ** 2 + details[1] ** 2 + details[2] ** 2)
            local.append(np.log(_means(strength) + _FAINT))
        if level == _LOCAL - 1:
            greys = shown.reshape(len(shown), -1)
    contrast = np.log(np.sqrt((squares - greys**2).clip(0)) + _FAINT_IN_ALL)
    return np.concatenate([greys, contrast, *local, *shares], axis=1, dtype=np.float32)


def _means(values: Floats) -> Floats:
    """Means of (N, S, S) over the GRID x GRID places: float32 (N, GRID^2)."""
    while values.shape[1] > GRID:
        rows = values[:, ::2] + values[:, 1::2]
        values = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return values.reshape(len(values), -1)


def _octaves(details: Floats) -> Floats:
    """The roots of the shares of the strengths of details (N, 3, S, S): float32 (N, 3 * OCTAVES).

    All exponents are counted, and those beyond the ends added up: pixel by pixel nothing is cut.
    """
    rows = details.reshape(3 * len(details), -1)
    exponents = (rows.view(np.int32) >> 23) & 255
    exponents += np.arange(len(rows), dtype=np.int32)[:, np.newaxis] * 256
    found = np.bincount(exponents.ravel(), minlength=len(rows) * 256).reshape(len(rows), 256)
    last = _LEAST + OCTAVES - 1
    found[:, _LEAST] += found[:, :_LEAST].sum(axis=1)
    found[:, last] += found[:, last + 1 :].sum(axis=1)
    return np.sqrt(found[:, _LEAST : last + 1] / rows.shape[1]).astype(np.float32).reshape(len(details), -1)


def _shares(bins: NDArray[np.int32], count: int) -> Floats:
    """The roots of how often each of `count` numbers comes in each row (N, ...): float32 (N, count)."""
    rows = bins.reshape(len(bins), -1)
    offset = np.arange(len(rows), dtype=np.int32)[:, np.newaxis] * count
    found = np.bincount((rows + offset).ravel(), minlength=len(rows) * count).reshape(len(rows), count)
    return np.sqrt(found / rows.shape[1]).astype(np.float32)
