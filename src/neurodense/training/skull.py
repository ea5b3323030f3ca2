"""Where the brain ends in a picture of a head, as seen from its middle: a rough look of a third of a millisecond.

The picture is averaged down to 32 x 32 cells; of the head is what has foreground on all four sides. The skin is where
steps from the middle first leave that. Bone is the darkest ring below the skin, and the skull's inside a little within.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Plane = NDArray[np.float32]

_CELLS = 32  # a side
_ANGLES = 64  # around the head's centre, evenly spaced from -pi
_RADII = 48  # steps from the centre to the picture's far corner
_INNER = (0.78, 0.96)  # where bone is looked for, as a share of the way from the centre to the skin


@dataclass(frozen=True)
class Skull:
    """The inside of a skull, in pixels of the picture."""

    centre: tuple[float, float]  # x, y
    skin: Plane  # (_ANGLES,) distance of the skin from the centre in each direction
    inner: float  # distance of the skull's inside over that of the skin
    brain: float  # median grey level of the brain

    @property
    def radius(self) -> float:
        """Mean distance of the skin from the centre."""
        return float(self.skin.mean())

    def towards(self, angle: float) -> float:
        """Distance of the skull's inside from the centre."""
        return self.inner * float(self.skin[int((angle + np.pi) / (2 * np.pi) * _ANGLES) % _ANGLES])

    def depth(self, x: Plane, y: Plane) -> Plane:
        """Pixels below the inside of the skull, negative outside of it."""
        dx, dy = x - self.centre[0], y - self.centre[1]
        turn = (np.arctan2(dy, dx) + np.pi) * (_ANGLES / (2 * np.pi))
        skin = self.skin[turn.astype(np.int32) % _ANGLES]
        return np.asarray(self.inner * skin - np.hypot(dx, dy), dtype=np.float32)


def find_skull(pixels: Plane) -> Skull:
    """Find a skull by the rule at the top of this file; where there is no head, a disc in the middle counts as one.

    Args:
        pixels: float32 (S, S) in [0, 1].
    """
    side = len(pixels)
    cells = np.asarray(Image.fromarray(pixels).resize((_CELLS, _CELLS), Image.Resampling.BOX))
    air = float(np.partition(cells.ravel(), 50)[50])
    bright = cells > (air + cells.mean()) / 2
    bright[[0, -1]] = bright[:, [0, -1]] = False  # a frame
    grow = np.logical_or.accumulate
    hull = grow(bright, 0) & grow(bright[::-1], 0)[::-1] & grow(bright, 1) & grow(bright[:, ::-1], 1)[:, ::-1]
    if hull.sum() < 0.05 * hull.size:
        ticks = np.arange(_CELLS) - (_CELLS - 1) / 2
        hull = np.hypot(ticks, ticks[:, None]) < 0.4 * _CELLS
    rows, columns = np.nonzero(hull)
    cx, cy = (columns.mean() + 0.5) / _CELLS * side, (rows.mean() + 0.5) / _CELLS * side
    angles = ((np.arange(_ANGLES) + 0.5) * (2 * np.pi / _ANGLES) - np.pi).astype(np.float32)
    radii = np.linspace(0, 0.75 * side, _RADII, dtype=np.float32)
    x = (cx + np.cos(angles)[:, None] * radii).astype(np.int32)
    y = (cy + np.sin(angles)[:, None] * radii).astype(np.int32)
    known = (x >= 0) & (x < side) & (y >= 0) & (y < side)
    x, y = x.clip(0, side - 1), y.clip(0, side - 1)
    ours = hull[y * _CELLS // side, x * _CELLS // side] & known
    skin = radii[np.where(ours.all(1), _RADII - 1, (~ours).argmax(1).clip(1))]  # the first step out of it
    skin = np.convolve(np.pad(skin, 2, mode="wrap"), np.full(5, 0.2, np.float32), "valid")
    shares = np.linspace(*_INNER, 10)
    at = shares * skin[:, None]
    along = pixels[
        (cy + np.sin(angles)[:, None] * at).astype(np.int32).clip(0, side - 1),
        (cx + np.cos(angles)[:, None] * at).astype(np.int32).clip(0, side - 1),
    ]
    inner = float(shares[np.median(along, 0).argmin()]) - 0.03
    brain = float(np.median(pixels[y, x][radii < 0.6 * skin[:, None]]))
    return Skull((float(cx), float(cy)), skin.astype(np.float32), inner, max(brain, 0.05))
