"""Lesions drawn into healthy pictures, so that where a picture comes from no longer tells whether it shows a tumour.

Three kinds, each a caricature of what its class looks like, in grey levels relative to those of the brain around it:

    ring    an irregular mass within the brain: a rim, a core, swelling around it that follows no outline (glioma)
    dural   a ball on the inside of the skull, even and sharp, with a cleft towards the brain (meningioma)
    sellar  a small even ball near the middle of the head (pituitary tumour)

Drawn tumours can stand in for real ones: Hu et al., Label-Free Liver Tumor Segmentation (CVPR 2023). The picture's own
noise is laid over what is drawn, and the brain is pushed aside, so that a paste does not show by its edges alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neurodense.data.anatomy import paint, polar, ramp
from neurodense.training.augment import generator_of
from neurodense.training.skull import Plane, Skull, find_skull
from neurodense.training.variation import Kind, Lesions

_TRIES = 8  # to find a place that is about as bright as brain is
_LIKE_BRAIN = (0.6, 1.8)  # over the brain's median
_GRAIN = 0.06  # of the picture that is laid over a lesion: noise, not the edges of what was there


def paste(pixels: Plane, rng: np.random.Generator, kind: Kind) -> Plane:
    """Draw one lesion.

    Args:
        pixels: float32 (S, S) in [0, 1], a head; where none is found, a disc in the middle counts as one.
        rng: Decides over place, size, shape and grey levels.
        kind: See the top of this file.

    Returns:
        float32 (S, S) in [0, 1], a new array that differs from `pixels` near the lesion only.
    """
    skull = find_skull(pixels)
    for _ in range(_TRIES):
        (cx, cy), radius = _place(skull, rng, kind)
        half = max(1, int(0.7 * radius))
        here = pixels[max(0, int(cy) - half) : int(cy) + half + 1, max(0, int(cx) - half) : int(cx) + half + 1]
        level = float(here.mean())
        if _LIKE_BRAIN[0] <= level / skull.brain <= _LIKE_BRAIN[1]:
            break
    around = min(max(level, skull.brain), _LIKE_BRAIN[1] * skull.brain)
    side, reach = len(pixels), 2.6 * radius + 3
    top, left = max(0, int(cy - reach)), max(0, int(cx - reach))
    bottom, right = min(side, int(cy + reach) + 2), min(side, int(cx + reach) + 2)
    y, x = np.mgrid[top:bottom, left:right].astype(np.float32)
    dx, dy = x - np.float32(cx), y - np.float32(cy)
    depth = skull.depth(x, y)
    outline = tuple((rng.normal(0, _LOBES[kind] / k), rng.uniform(0, 2 * np.pi)) for k in (1, 1.5, 2, 3, 4))
    distance = polar(dx, dy, outline) / np.float32(radius)
    edge = rng.uniform(0.8, 2.5) * side / 128
    spot = _Spot(distance, depth, _noise(rng, x.shape, 7), _noise(rng, x.shape, 18), radius, edge)
    # What grows pushes the brain away, but not the skull.
    near = (1 - (dx * dx + dy * dy) / np.float32((2.5 * radius) ** 2)).clip(0)
    pull = np.float32(rng.uniform(0, 0.35)) * near * near * ramp(depth, 0, radius)
    part = _sampled(pixels, x - pull * dx, y - pull * dy)
    mass = _DRAW[kind](part, spot, around, rng)
    seen = pixels[top:bottom, left:right]
    part += rng.uniform(0.5, 1) * mass * (seen - _averaged(seen)).clip(-_GRAIN, _GRAIN)
    out = pixels.copy()
    out[top:bottom, left:right] = part.clip(0, 1)
    return out


def lesion_of(name: str, view: int, seed: int, lesions: Lesions) -> Kind | None:
    """The kind of lesion that view number `view` of a healthy picture gets; None where it gets none.

    A function of its arguments alone, as a view is: whoever reads a cached view knows what was drawn into it. `name` is
    the file's hash; view 0 is the image itself.
    """
    return _drawn(name, view, seed, lesions)[0]


def paste_lesions(
    pixels: Tensor, hashes: Sequence[str], view: int, seed: int, lesions: Lesions, healthy: Sequence[bool]
) -> Tensor:
    """Draw lesions into the healthy pictures of a batch that get one.

    Args:
        pixels: (N, 1, S, S) float32 in [0, 1], before `augment_views` changes them.
        hashes: N file hashes, which name the images.
        view: Number of the view.
        seed: The run's seed.
        lesions: Which, and how many.
        healthy: Whether each of the N is of the healthy class.

    Returns:
        (N, 1, S, S); `pixels` itself where none gets a lesion.
    """
    out = pixels
    for index, (name, is_healthy) in enumerate(zip(hashes, healthy, strict=True)):
        kind, rng = _drawn(name, view, seed, lesions) if is_healthy else (None, None)
        if kind is not None and rng is not None:
            out = pixels.clone() if out is pixels else out
            drawn = paste(pixels[index, 0].cpu().numpy(), rng, kind)
            out[index, 0] = torch.from_numpy(drawn).to(pixels.device)
    return out


def _drawn(name: str, view: int, seed: int, lesions: Lesions) -> tuple[Kind | None, np.random.Generator]:
    rng = np.random.default_rng(generator_of(seed, name, view, "lesion").initial_seed())
    if view == 0 or rng.random() >= lesions.share:
        return None, rng
    return lesions.kinds[int(rng.integers(len(lesions.kinds)))], rng


@dataclass(frozen=True)
class _Spot:
    """Where a lesion lies in the part of the picture that is drawn anew; planes of its shape."""

    distance: Plane  # from the lesion's centre; 1 on its outline
    depth: Plane  # as in `Skull.depth`
    smooth: Plane  # noise, about normal, a few bumps across the lesion
    rough: Plane  # likewise, finer
    radius: float
    edge: float  # pixels from outside to inside

    def inside(self, pixels: Plane) -> Plane:
        """Cover from 0 to 1 of what lies `pixels` inside an outline."""
        return ramp(pixels, -self.edge / 2, self.edge / 2)

    def within(self, share: float | Plane) -> Plane:
        """Cover of the lesion scaled by a share, no further than the skull."""
        return self.inside((share - self.distance) * np.float32(self.radius)) * self.inside(self.depth)


def _ring(part: Plane, spot: _Spot, brain: float, rng: np.random.Generator) -> Plane:
    spot = replace(spot, distance=spot.distance + np.float32(0.07) * spot.smooth + np.float32(0.04) * spot.rough)
    if rng.random() < 0.75:
        _swell(part, spot, rng)
    mass = spot.within(1)
    paint(part, mass, _uneven(_brighter(brain, rng, 1.35, 2.3), spot, rng.uniform(0.04, 0.2)))
    if rng.random() < 0.75:
        core = spot.within(1 - rng.uniform(0.12, 0.5) * (1 + np.float32(0.45) * spot.smooth))
        paint(part, core, _uneven(brain * rng.uniform(0.2, 0.75), spot, rng.uniform(0.05, 0.2)))
    return mass


def _dural(part: Plane, spot: _Spot, brain: float, rng: np.random.Generator) -> Plane:
    if rng.random() < 0.4:
        _swell(part, spot, rng)
    bright = _brighter(brain, rng, 1.3, 2.1)
    paint(part, 0.6 * spot.within(1.12), 0.4 * brain)
    if rng.random() < 0.5:  # the dura beside it enhances
        paint(part, spot.inside(spot.depth) * ramp(spot.depth, 3, 1) * ramp(spot.distance, 1.9, 1.3), bright)
    mass = spot.within(1)
    paint(part, mass, _uneven(bright, spot, rng.uniform(0.02, 0.08)))
    return mass


def _sellar(part: Plane, spot: _Spot, brain: float, rng: np.random.Generator) -> Plane:
    mass = spot.within(1)
    paint(part, mass, _uneven(_brighter(brain, rng, 1.25, 2.0), spot, rng.uniform(0.03, 0.1)))
    if rng.random() < 0.25:
        paint(part, spot.within(rng.uniform(0.3, 0.6)), brain * rng.uniform(0.3, 0.8))
    return mass


_DRAW = {"ring": _ring, "dural": _dural, "sellar": _sellar}
_LOBES = {"ring": 0.13, "dural": 0.06, "sellar": 0.09}


def _swell(part: Plane, spot: _Spot, rng: np.random.Generator) -> None:
    """Oedema: darker than the brain in some sequences, brighter in others."""
    halo = rng.uniform(1.2, 1.9)
    cover = ramp(spot.distance + np.float32(0.3) * spot.smooth, halo, halo - 0.4) * spot.inside(spot.depth - 2)
    change = -rng.uniform(0.15, 0.4) if rng.random() < 0.5 else rng.uniform(0.2, 0.5)
    part *= 1 + np.float32(change) * cover


def _uneven(level: float, spot: _Spot, share: float) -> Plane:
    """A grey level that varies by about a share of itself."""
    return np.asarray(level * (1 + np.float32(share) * (0.7 * spot.smooth + 0.5 * spot.rough)), dtype=np.float32)


def _brighter(brain: float, rng: np.random.Generator, low: float, high: float) -> float:
    """A level that stands out from the brain: brighter, or darker where nothing can be brighter."""
    level = min(brain * rng.uniform(low, high), 1.0)
    return max(level, brain + 0.06) if brain < 0.85 else brain * rng.uniform(0.35, 0.65)


def _place(skull: Skull, rng: np.random.Generator, kind: Kind) -> tuple[tuple[float, float], float]:
    """Centre (x, y) and radius, in pixels."""
    angle = rng.uniform(-np.pi, np.pi)
    room = skull.towards(angle)
    if kind == "ring":
        radius = rng.uniform(0.12, 0.34) * skull.radius
        away = min(rng.uniform(0.2, 0.8) * room, max(room - radius, 0))
    elif kind == "dural":
        radius = rng.uniform(0.12, 0.32) * skull.radius
        away = room - rng.uniform(0.2, 0.8) * radius
    else:
        radius = rng.uniform(0.06, 0.15) * skull.radius
        away = min(abs(rng.normal(0, 0.1)), 0.3) * skull.radius
    radius = max(radius, 2.5)
    return (skull.centre[0] + away * float(np.cos(angle)), skull.centre[1] + away * float(np.sin(angle))), radius


def _noise(rng: np.random.Generator, shape: tuple[int, ...], bumps: int) -> Plane:
    """Smooth noise with a number of bumps across a plane."""
    grid = rng.standard_normal((bumps, bumps), dtype=np.float32)
    return np.asarray(Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


def _averaged(plane: Plane) -> Plane:
    """Means over 3 x 3 pixels."""
    wide = np.pad(plane, 1, mode="edge")
    rows = wide[:-2] + wide[1:-1] + wide[2:]
    return np.asarray((rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / np.float32(9))


def _sampled(pixels: Plane, x: Plane, y: Plane) -> Plane:
    """Bilinear values at coordinates, which are clamped to the picture."""
    last = len(pixels) - 1
    x, y = x.clip(0, last), y.clip(0, last)
    left, top = x.astype(np.int32), y.astype(np.int32)
    across, down = x - left, y - top
    right, bottom = np.minimum(left + 1, last), np.minimum(top + 1, last)
    upper = pixels[top, left] * (1 - across) + pixels[top, right] * across
    lower = pixels[bottom, left] * (1 - across) + pixels[bottom, right] * across
    return np.asarray(upper * (1 - down) + lower * down, dtype=np.float32)
