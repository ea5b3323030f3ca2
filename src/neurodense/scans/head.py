"""Where the head lies in a picture, and between which grey levels: a rule of less than a millisecond, always the same.

1. The picture is averaged down to 64 x 64 pixels, in which thin lines, letters and noise fade.
2. Air is its 5th percentile: round a head there is air, if only in the corners. Foreground is what lies above the
   middle of air and the threshold of Otsu, as in `slices`: Otsu's own threshold may divide fat from brain.
3. The head is the largest connected piece of the foreground, where gaps of two pixels (the bone between scalp and
   brain) connect as well. What lies apart, such as letters, a ruler or a ring of the coil, is left out, and so are the
   `_EDGE` outermost pixels, where pictures taken of a screen have a frame.
4. Nothing is a head that is no brighter than air or too small: then None is given, and the whole picture counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurodense.scans.slices import otsu

Box = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels; bottom and right are the first row and column that no longer belong to it."""

MARGIN = 0.04
"""Share of the longer side of a head's box that is to be kept around it: the box is exact to a pixel in 64."""

_SIDE = 64
_EDGE = 2  # pixels of the small picture; `MARGIN` gives a head that reaches the edge more than that back
_AIR = 0.05  # quantile
_CONTRAST = 0.02  # least distance of the threshold from air, and of the two levels; 1 is from black to white
_SHARE = 0.03  # least share of the picture that a head takes
_LOW, _HIGH = 1.0, 99.5  # percentiles


@dataclass(frozen=True)
class Head:
    """A head in a picture.

    Attributes:
        box: Around all of the head that is brighter than air.
        air: Grey level of the picture's air, in [0, 1].
        levels: 1st and 99.5th percentile of the grey levels in the box, in [0, 1]; (0, 1) where they hardly differ.
    """

    box: Box
    air: float
    levels: tuple[float, float]


def find_head(pixels: NDArray[np.float32]) -> Head | None:
    """Find the head, by the rule at the top of this file.

    Args:
        pixels: float32 (H, W) in [0, 1].

    Returns:
        None where there is none.
    """
    small = np.asarray(Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX))
    histogram = np.bincount((small * 255).astype(np.uint8).ravel(), minlength=256)
    air = float(np.searchsorted(histogram.cumsum(), _AIR * small.size)) / 255
    threshold = (air + otsu(histogram)) / 2
    if threshold - air < _CONTRAST:
        return None
    mask = small > threshold
    mask[:_EDGE] = mask[-_EDGE:] = mask[:, :_EDGE] = mask[:, -_EDGE:] = False
    found = _largest(mask)
    if found is None:
        return None
    top, left, bottom, right = found
    low, high = np.percentile(small[top:bottom, left:right], (_LOW, _HIGH))
    down, across = pixels.shape[0] / _SIDE, pixels.shape[1] / _SIDE
    box = int(top * down), int(left * across), math.ceil(bottom * down), math.ceil(right * across)
    return Head(box, air, (float(low), float(high)) if high - low >= _CONTRAST else (0.0, 1.0))


def _largest(mask: NDArray[np.bool_]) -> Box | None:
    """The box around the largest piece of a mask whose edge is empty; None where the piece is smaller than a head.

    Every pixel is widened by its neighbours, which closes gaps of two; the runs of each row are joined to those of the
    row above that they touch, by union-find; at last the box is narrowed again.
    """
    down = mask.copy()
    down[1:] |= mask[:-1]
    down[:-1] |= mask[1:]
    wide = down.copy()
    wide[:, 1:] |= down[:, :-1]
    wide[:, :-1] |= down[:, 1:]
    rows, starts = np.nonzero(np.diff(wide, axis=1, prepend=False) & wide)
    stops = np.nonzero(np.diff(wide, axis=1, append=False) & wide)[1] + 1
    runs = list(zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True))
    parent = list(range(len(runs)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    above = 0  # the first run of the row above that may touch
    for now, (row, start, stop) in enumerate(runs):
        while runs[above][0] < row - 1 or (runs[above][0] == row - 1 and runs[above][2] <= start):
            above += 1
        other = above
        while runs[other][0] == row - 1 and runs[other][1] < stop:
            parent[root(other)] = root(now)
            other += 1
    pieces: dict[int, list[int]] = {}
    for index in range(len(runs)):
        pieces.setdefault(root(index), []).append(index)
    sizes = {piece: sum(runs[k][2] - runs[k][1] for k in members) for piece, members in pieces.items()}
    if not sizes or max(sizes.values()) < _SHARE * mask.size:
        return None
    members = [runs[k] for k in pieces[max(sizes, key=lambda piece: sizes[piece])]]
    top, bottom = members[0][0] + 1, members[-1][0]
    return top, min(start for _, start, _ in members) + 1, bottom, max(stop for _, _, stop in members) - 1
