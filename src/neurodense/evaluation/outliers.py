"""Pictures that are no brain MRI, drawn from a seed, for `fit_appearance.py` to learn from (outlier exposure).

Each family draws another thing that a brain MRI is not: shapes, strokes, writing, waves, mosaics, noise; and brain MRI
that was taken apart: pieces in another order, phases at random, a head filled with something else, a tiny part of one,
its outline, several on a page. Nothing is taken from `benchmarks/probes.py`; which of its kinds are nearest to a family
here is said in `docs/uncertainty.md`. A picture is float64 (SIDE, SIDE), later cut to [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from neurodense.inference.appearance import SIDE

Picture = NDArray[np.float64]
Rng = np.random.Generator
Known = Callable[[Rng], Picture]
"""Gives one of the images that the model knows."""

_AXIS: Final = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
_X: Final[Picture] = _AXIS[np.newaxis]
_Y: Final[Picture] = _AXIS[:, np.newaxis]
_FREQUENCY: Final[Picture] = np.hypot(np.fft.fftfreq(SIDE)[:, np.newaxis], np.fft.fftfreq(SIDE)) * SIDE


def draw_outliers(count: int, known: NDArray[np.floating], seed: int = 0) -> NDArray[np.float32]:
    """Outliers of all families in turn.

    Args:
        count: How many.
        known: (N, SIDE, SIDE): the images that the model knows, as `appearance.pictures` has them.
        seed: The same seed, the same pictures.

    Returns:
        float32 (count, SIDE, SIDE) in [0, 1].
    """
    rng, draws = np.random.default_rng(seed), list(FAMILIES.values())

    def one(rng: Rng) -> Picture:
        return np.asarray(known[rng.integers(len(known))], dtype=np.float64)

    return np.stack([_finished(draws[k % len(draws)](rng, one), rng) for k in range(count)])


def vary(image: NDArray[np.floating], rng: Rng) -> NDArray[np.float32]:
    """A known image (SIDE, SIDE) as another scanner or another export may have it; it is a brain MRI still."""
    drawn, angle = Image.fromarray(image.astype(np.float32)), rng.normal(0, 0.12)
    if rng.random() < 0.5:
        drawn = drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn /= np.exp(rng.normal(0, 0.12, 2))
    move = SIDE / 2 - turn @ np.full(2, SIDE / 2) + rng.normal(0, SIDE / 32, 2)
    matrix = (turn[0, 0], turn[0, 1], move[0], turn[1, 0], turn[1, 1], move[1])
    made = drawn.transform((SIDE, SIDE), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    out = np.asarray(made, dtype=np.float64)
    if rng.random() < 0.5:
        out = blur(out, rng.uniform(0.2, 1))
    out = out.clip(0, 1) ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.15))
    if rng.random() < 0.5:
        where = 1 if rng.random() < 0.5 else out > 0.03  # some exports have air that is quite black
        out = out + rng.normal(size=out.shape) * rng.uniform(0, 0.03) * where
    return np.asarray(out.clip(0, 1), dtype=np.float32)


def blur(picture: NDArray[np.floating], sigma: float) -> Picture:
    """By a Gaussian, sigma in pixels, as if the picture went on on its other side."""
    factor = np.exp(-2 * (np.pi * sigma * _FREQUENCY / SIDE) ** 2)
    return np.asarray(np.fft.ifft2(np.fft.fft2(picture) * factor).real)


def _finished(picture: Picture, rng: Rng) -> NDArray[np.float32]:
    """Some blurred, some with grain, at any brightness."""
    if rng.random() < 0.6:
        picture = blur(picture, rng.uniform(0.2, 3))
    if rng.random() < 0.6:
        grain = rng.normal(size=picture.shape) * np.exp(rng.uniform(np.log(0.003), np.log(0.12)))
        if rng.random() < 0.5:
            grain = blur(grain, rng.uniform(0.3, 1.5)) * 2
        picture = picture + grain * (1 if rng.random() < 0.5 else picture > 0.05)
    return (picture * rng.uniform(0.6, 1.15)).clip(0, 1).astype(np.float32)


def _field(rng: Rng) -> Picture:
    """Noise whose power falls with any power of the frequency, from 0 to 1."""
    weight = np.where(_FREQUENCY > 0, np.maximum(_FREQUENCY, 1) ** (-rng.uniform(0, 3.5) / 2), 0)
    noise = np.fft.ifft2(weight * np.exp(2j * np.pi * rng.random((SIDE, SIDE)))).real
    return np.asarray(((noise - noise.min()) / (np.ptp(noise) + 1e-9)) ** rng.uniform(0.4, 2.5))


def _shape(rng: Rng, size: float, spread: float | None = None, rough: float | None = None) -> Picture:
    """A closed curve around any point, or one near the middle: below 1 inside, 1 on it. Its radius is seven waves."""
    x, y = rng.uniform(-0.6, 0.6, 2) if spread is None else rng.normal(0, spread, 2)
    rough = rng.uniform(0.05, 0.6) if rough is None else rough
    order, stretch = np.arange(1, 8), np.exp(rng.normal(0, 0.2))
    heights, phases = rng.normal(size=7) * rough / order, rng.uniform(0, 2 * np.pi, 7)
    angle = np.arctan2(_Y - y, _X - x)[..., np.newaxis]
    radius = size * (1 + (heights * np.cos(order * angle + phases)).sum(axis=-1)).clip(0.1, 2)
    return np.asarray(np.hypot((_X - x) * stretch, (_Y - y) / stretch) / radius)


def _paint(rng: Rng) -> Picture:
    """What fills a shape: a grey, a gradient, or noise."""
    how = rng.random()
    if how < 0.5:
        return np.full((SIDE, SIDE), rng.random())
    if how < 0.75:
        return np.asarray((0.5 + rng.normal(0, 0.5) * _along(rng) + rng.normal(0, 0.2)).clip(0, 1))
    low, high = np.sort(rng.random(2))
    return np.asarray(low + (high - low) * _field(rng))


def _along(rng: Rng) -> Picture:
    """The coordinate along any direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return np.asarray(np.cos(angle) * _X + np.sin(angle) * _Y)


def _shapes(rng: Rng, _known: Known) -> Picture:
    picture = np.zeros((SIDE, SIDE)) if rng.random() < 0.7 else _paint(rng)
    for _ in range(int(rng.integers(1, 9))):
        shape = _shape(rng, rng.uniform(0.05, 0.7))
        hit = shape < 1 if rng.random() < 0.7 else np.abs(shape - 1) < rng.uniform(0.02, 0.2)
        fill = _paint(rng)
        picture = np.where(hit, fill if rng.random() < 0.6 else picture + rng.choice([-1, 1]) * fill * 0.5, picture)
    return picture


def _nested(rng: Rng, _known: Known) -> Picture:
    """Shapes inside of a large one, as organs in a body."""
    body, picture = _shape(rng, rng.uniform(0.55, 1), 0.05, rng.uniform(0.02, 0.3)), _paint(rng)
    for _ in range(int(rng.integers(0, 10))):
        shape = _shape(rng, rng.uniform(0.04, 0.45), 0.35)
        hit = shape < 1 if rng.random() < 0.75 else np.abs(shape - 1) < rng.uniform(0.03, 0.25)
        fill = rng.uniform(-0.6, 0.6) * (1 if rng.random() < 0.6 else _paint(rng))
        picture = np.where(hit, picture + fill, picture)
    if rng.random() < 0.6:
        picture = np.where(np.abs(body - 1 + rng.uniform(0, 0.15)) < rng.uniform(0.02, 0.15), rng.random(), picture)
    return np.where(body < 1, picture, rng.uniform(0, 0.08) if rng.random() < 0.8 else rng.random())


def _strokes(rng: Rng, _known: Known) -> Picture:
    drawn = Image.new("L", (SIDE, SIDE), 0 if rng.random() < 0.7 else int(rng.integers(256)))
    pen, wide = ImageDraw.Draw(drawn), np.exp(rng.uniform(0, np.log(24)))
    for _ in range(int(rng.integers(1, 30))):
        steps = rng.normal(0, rng.uniform(4, 35), (int(rng.integers(2, 7)), 2))
        points = np.concatenate([rng.uniform(0, SIDE, (1, 2)), steps]).cumsum(axis=0)
        width = max(1, int(wide * rng.uniform(0.5, 1.5)))
        pen.line(points.ravel().tolist(), fill=int(rng.integers(256)), width=width, joint="curve")
    return np.asarray(drawn) / 255


def _writing(rng: Rng, _known: Known) -> Picture:
    """Lines of signs of three strokes."""
    drawn, high, grey = Image.new("L", (SIDE, SIDE), 0), rng.uniform(4, 24), int(rng.integers(100, 256))
    pen = ImageDraw.Draw(drawn)
    for y in np.arange(rng.uniform(0, high), SIDE, high * 1.4):
        if rng.random() < 0.15:
            continue
        for x in np.arange(rng.uniform(0, high), SIDE * rng.uniform(0.4, 1.1), high * 0.7):
            if rng.random() < 0.2:
                continue
            for stroke in rng.uniform(0, 1, (3, 4)) * np.array([0.6, 1, 0.6, 1]) * high:
                pen.line((np.tile([x, y], 2) + stroke).tolist(), fill=grey, width=max(1, int(high / 9)))
    page = np.asarray(drawn) / 255
    return 1 - page if rng.random() < 0.6 else page


def _noise(rng: Rng, _known: Known) -> Picture:
    picture: NDArray[np.floating] = _field(rng)
    if rng.random() < 0.3:
        picture = (picture > np.quantile(picture, rng.uniform(0.1, 0.97))) * rng.uniform(0.3, 1)
    return np.asarray(picture * rng.uniform(0.2, 1) + (rng.uniform(0, 0.5) if rng.random() < 0.3 else 0))


def _waves(rng: Rng, _known: Known) -> Picture:
    total = np.zeros((SIDE, SIDE))
    for _ in range(int(rng.integers(1, 4))):
        where = np.hypot(_X - rng.normal(0, 0.5), _Y - rng.normal(0, 0.5)) if rng.random() < 0.4 else _along(rng)
        total += np.sin(np.pi * np.exp(rng.uniform(0, 3.7)) * where + rng.uniform(0, 2 * np.pi))
    return np.asarray((0.5 + total / 4 if rng.random() < 0.5 else (total > 0) * 1.0) * rng.uniform(0.3, 1))


def _mosaic(rng: Rng, _known: Known) -> Picture:
    points = rng.uniform(-1.1, 1.1, (int(np.exp(rng.uniform(np.log(3), np.log(150)))), 2))
    off = (_X[..., np.newaxis] - points[:, 0]) ** 2 * rng.uniform(0.5, 2) + (_Y[..., np.newaxis] - points[:, 1]) ** 2
    return np.asarray(rng.random(len(points))[off.argmin(axis=-1)])


def _spots(rng: Rng, _known: Known) -> Picture:
    picture = np.zeros((SIDE, SIDE))
    for _ in range(int(np.exp(rng.uniform(0, 4.5)))):
        off = (_X - rng.uniform(-1, 1)) ** 2 + (_Y - rng.uniform(-1, 1)) ** 2
        picture += rng.random() * np.exp(-off / 2 / np.exp(rng.normal(-3, 0.8)) ** 2)
    return picture.clip(0, 1)


def _plain(rng: Rng, _known: Known) -> Picture:
    slope = _along(rng) if rng.random() < 0.6 else np.hypot(_X - rng.normal(0, 0.4), _Y - rng.normal(0, 0.4))
    return np.asarray(rng.random() + rng.normal(0, 0.4) * slope * (rng.random() < 0.7))


def _pieces(rng: Rng, known: Known) -> Picture:
    many = int(rng.choice([2, 4, 8, 16]))
    side = SIDE // many
    pieces = known(rng).reshape(many, side, many, side).transpose(0, 2, 1, 3).reshape(-1, side, side)
    pieces = pieces[rng.permutation(len(pieces))]
    if rng.random() < 0.5:
        pieces = pieces[:, ::-1]
    return pieces.reshape(many, many, side, side).transpose(0, 2, 1, 3).reshape(SIDE, SIDE)


def _phases(rng: Rng, known: Known) -> Picture:
    """The power of an image at each frequency, its phases at random."""
    phases = np.angle(np.fft.fft2(rng.normal(size=(SIDE, SIDE))))
    return np.asarray(np.fft.ifft2(np.abs(np.fft.fft2(known(rng))) * np.exp(1j * phases)).real)


def _close(rng: Rng, known: Known) -> Picture:
    """A tiny part of an image, enlarged."""
    side = int(rng.uniform(0.12, 0.35) * SIDE)
    y, x = rng.integers(SIDE // 4, SIDE - SIDE // 4 - side // 2, 2)
    part = known(rng)[y : y + side, x : x + side].astype(np.float32)
    return np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float64)


def _filled(rng: Rng, known: Known) -> Picture:
    """A head of something else."""
    image = known(rng)
    soft = blur(image, 2)
    other = (_shapes, _noise, _mosaic, _waves, _strokes, _plain)[int(rng.integers(6))](rng, known)
    return np.where(soft > max(0.06, 0.3 * float(soft.mean())), other, image)


def _swapped(rng: Rng, known: Known) -> Picture:
    """A head with something else for a brain."""
    inside = blur((_shape(rng, rng.uniform(0.45, 0.8), 0.05, 0.1) < 1) * 1.0, rng.uniform(0.5, 3))
    other = (_shapes, _noise, _mosaic, _waves, _strokes, _plain, _nested)[int(rng.integers(7))](rng, known)
    return known(rng) * (1 - inside) + inside * other * rng.uniform(0.4, 1)


def _reduced(rng: Rng, known: Known) -> Picture:
    """An image of few greys, one that is all blur, or its edges alone."""
    how, image = rng.random(), known(rng)
    if how < 0.4:
        greys = int(rng.integers(2, 5))
        return np.asarray(np.round(blur(image, rng.uniform(0, 2)) * greys * 1.2) / greys)
    if how < 0.7:
        return blur(image, rng.uniform(4, 12))
    edges = np.hypot(*np.gradient(blur(image, rng.uniform(0, 2))))
    return np.asarray(edges / (edges.max() + 1e-6))


def _several(rng: Rng, known: Known) -> Picture:
    """Two images in one, or a page of them."""
    if rng.random() < 0.4:
        moved = np.roll(known(rng), tuple(rng.integers(20, 100, 2)), (0, 1))
        return np.where(_shape(rng, rng.uniform(0.3, 0.6), 0.3) < 1, moved, known(rng) * (rng.random() < 0.5))
    many = int(rng.integers(2, 4))
    side = SIDE // many
    page = np.zeros((SIDE, SIDE))
    for k in range(many**2):
        y, x = k // many * side, k % many * side
        small = Image.fromarray(known(rng).astype(np.float32)).resize((side, side), Image.Resampling.BOX)
        page[y : y + side, x : x + side] = np.asarray(small)
    return page


def _collage(rng: Rng, known: Known) -> Picture:
    """Two of the others, one through the other or one inside the other."""
    one, other = (_SINGLE[k](rng, known) for k in rng.choice(len(_SINGLE), 2))
    if rng.random() < 0.35:
        share = rng.uniform(0.25, 0.75)
        return share * one + (1 - share) * other
    return np.where(_shape(rng, rng.uniform(0.1, 0.95)) < 1, one, other)


_SINGLE: Final = (
    _shapes, _nested, _strokes, _writing, _noise, _waves, _mosaic, _spots, _plain,
    _pieces, _phases, _close, _filled, _swapped, _reduced, _several,
)  # fmt: skip
FAMILIES: Final[dict[str, Callable[[Rng, Known], Picture]]] = {
    draw.__name__.removeprefix("_"): draw for draw in (*_SINGLE, _collage)
}
"""Name -> what draws one picture."""
