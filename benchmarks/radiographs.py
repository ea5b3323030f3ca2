"""Radiographs and sections drawn from a seed: no patient's, and near enough in shape and grey to be taken for one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Drawn = Image.Image
Rng = np.random.Generator
Floats = NDArray[np.float64]

SIDE = 256
COUNT = 24


def chests(rng: Rng) -> Iterator[Drawn]:
    """Two dark lungs, ribs across them, spine and heart."""
    for _ in range(COUNT):
        body = _ellipses([(0, 0.1, 0.95, 1.1, 0.75)])
        for side in (-1, 1):
            lung = (side * rng.uniform(0.38, 0.44), -0.05, rng.uniform(0.26, 0.32), rng.uniform(0.55, 0.7), -0.45)
            body += _ellipses([lung])
        body += _ellipses([(0.12, 0.25, rng.uniform(0.25, 0.38), 0.3, 0.25)])
        body += 0.18 * (np.abs(_x()) < 0.08)
        ribs = Image.new("L", (SIDE, SIDE), 0)
        draw = ImageDraw.Draw(ribs)
        for k in range(9):
            y = 20 + 24 * k
            for side in (0, 1):
                draw.arc((10 + 118 * side, y, 128 + 118 * side, y + 60), 180, 360, fill=40, width=5)
        yield _finished(body + np.asarray(ribs) / 255, rng)


def hands(rng: Rng) -> Iterator[Drawn]:
    """Five fingers of three bones, soft tissue around them."""
    for _ in range(COUNT):
        soft, bones = Image.new("L", (SIDE, SIDE), 0), Image.new("L", (SIDE, SIDE), 0)
        draw_soft, draw = ImageDraw.Draw(soft), ImageDraw.Draw(bones)
        draw_soft.ellipse((80, 130, 180, 250), fill=90)
        for finger in range(5):
            angle = np.pi * (0.12 + 0.19 * finger) + rng.normal(0, 0.03)
            start, reach = np.array([130, 200.0]), rng.uniform(120, 170) * (0.8 if finger in (0, 4) else 1)
            way = np.array([-np.cos(angle), -np.sin(angle)])
            draw_soft.line([*(start + 20 * way), *(start + reach * way)], fill=90, width=24)
            for a, b in ((0.1, 0.45), (0.48, 0.7), (0.73, 0.86), (0.89, 0.98)):
                draw.line([*(start + a * reach * way), *(start + b * reach * way)], fill=130, width=9)
        both = np.asarray(soft.filter(ImageFilter.GaussianBlur(3))) + np.asarray(bones.filter(ImageFilter.BLUR)) * 1.0
        yield _finished(both / 255, rng)


def skulls(rng: Rng) -> Iterator[Drawn]:
    """A skull from the side: bright vault, orbit, jaw, teeth and neck."""
    for _ in range(COUNT):
        a, b = rng.uniform(0.6, 0.72), rng.uniform(0.52, 0.6)
        head = _ellipses([(0, -0.25, a, b, 0.9), (0, -0.25, a - 0.07, b - 0.07, -0.45)])
        head += _ellipses([(-0.5, 0.02, 0.14, 0.12, -0.2), (-0.35, 0.3, 0.3, 0.25, 0.35), (-0.3, 0.5, 0.32, 0.12, 0.3)])
        head += 0.35 * ((np.abs(_x() - 0.15) < 0.12) & (_y() > 0.2))
        head += 0.25 * ((np.abs(_y() - 0.42) < 0.05) & (np.abs(_x() + 0.42) < 0.16) & (np.sin(60 * _x()) > 0))
        yield _finished(head if rng.random() < 0.5 else head[:, ::-1], rng)


def bodies(rng: Rng) -> Iterator[Drawn]:
    """A section of a trunk: fat, muscle, liver or lungs, spine."""
    for k in range(COUNT):
        width, height = rng.uniform(0.8, 0.92), rng.uniform(0.55, 0.7)
        body = _ellipses([(0, 0, width, height, 0.25), (0, 0, width - 0.08, height - 0.08, 0.25)])
        body += _ellipses([(0, 0.4 * height, 0.13, 0.12, 0.45), (0, 0.62 * height, 0.04, 0.1, 0.3)])
        if k % 2:
            body += _ellipses([(side * 0.42, -0.05, 0.28, 0.38, -0.42) for side in (-1, 1)])
            body += _ellipses([(0.08, -0.1, 0.2, 0.2, 0.15)])
        else:
            body += _ellipses([(-0.35, -0.05, 0.35, 0.32, 0.18), (0.45, -0.02, 0.2, 0.2, 0.1)])
            body += _ellipses([(side * 0.4, 0.28, 0.12, 0.1, 0.25) for side in (-1, 1)])
        yield _finished(body, rng)


SHEPP_LOGAN = (
    (0, 0, 0.69, 0.92, 1.0), (0, 0.0184, 0.6624, 0.874, -0.8), (0.22, 0, 0.11, 0.31, -0.2),
    (-0.22, 0, 0.16, 0.41, -0.2), (0, -0.35, 0.21, 0.25, 0.1), (0, -0.1, 0.046, 0.046, 0.1),
    (0, 0.1, 0.046, 0.046, 0.1), (-0.08, 0.605, 0.046, 0.023, 0.1), (0.06, 0.605, 0.023, 0.046, 0.1),
)  # fmt: skip
"""Ellipses (x, y, half width, half height, grey), with the contrast of Toft (1996), not tilted."""


def shepp_logan(rng: Rng, side: int) -> Drawn:
    """The head phantom, its inner ellipses moved and scaled."""
    inner = [
        (x + rng.normal(0, 0.04), y + rng.normal(0, 0.04), a * rng.uniform(0.8, 1.3), b * rng.uniform(0.8, 1.3), grey)
        for x, y, a, b, grey in SHEPP_LOGAN[2:]
    ]
    return _grey(_ellipses([*SHEPP_LOGAN[:2], *inner])).resize((side, side))


def _finished(values: Floats, rng: Rng) -> Drawn:
    """Blurred a little, with grain, moved and scaled in brightness."""
    grain = values * rng.uniform(0.75, 1.1) + rng.normal(0, 0.02, values.shape)
    picture = _grey(grain).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.5, 2))))
    return picture.rotate(float(rng.normal(0, 5)), translate=(int(rng.integers(-10, 11)), int(rng.integers(-10, 11))))


def _ellipses(shapes: list[tuple[float, float, float, float, float]]) -> Floats:
    """The sum of ellipses (x, y, half width, half height, grey), on a square from -1 to 1."""
    total = np.zeros((SIDE, SIDE))
    for x, y, a, b, grey in shapes:
        total += grey * (((_x() - x) / a) ** 2 + ((_y() - y) / b) ** 2 < 1)
    return total


def _x() -> Floats:
    return np.asarray(np.linspace(-1, 1, SIDE)[np.newaxis])


def _y() -> Floats:
    return np.asarray(np.linspace(-1, 1, SIDE)[:, np.newaxis])


def _grey(values: Floats) -> Drawn:
    return Image.fromarray((255 * np.clip(values, 0, 1)).round().astype(np.uint8))
