"""The same head in the grey levels of another sequence, scanner or window: one random curve from grey to grey a view.

What a class looks like should not hang on how the scanner and the program that saved the picture draw tissue, so the
curve need neither rise nor be anything that a scanner makes: after Zhou et al., Models Genesis (MedIA 2021), whose
curve is a Bezier one, and Billot et al., SynthSeg (MedIA 2023), who draw a grey level for each tissue. A curve cannot
set apart what the picture does not, nor move an edge: anatomy stays where it is.

Curves are tables of `_STEPS` entries over [0, 1], so that several changes cost one look-up of the pixels. They hold
inside the head; the air around it stays air. A window is of the whole picture, as a viewer's is.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from neurodense.training.variation import Augment

_STEPS = 128
_PIECES = 6  # straight ones of a random curve, evenly spaced from black to the head's brightest
_STEEP = 1.2  # log of the largest slope of a piece over the usual one
_FALLING = 0.25  # chance of a piece to fall
_TOP = 0.98  # quantile of the head's grey levels that counts as its brightest
_CELLS = 40  # the head is looked for on a grid of about as many cells a side
_DARKEST = 0.2  # of the head's grey levels, the share that a window of full strength may cut off below ...
_BRIGHTEST = 0.15  # ... and above
_WIDEST = 2.5  # ... or its upper end over the head's brightest

_NARROWEST = 0.05  # window

DRAWN = 5 + 2 * _PIECES
"""Uniform numbers that `regrey` takes for each picture."""


def head_mask(pixels: Tensor) -> Tensor:
    """Where the head is: (N, 1, S, S) from 0 to 1, its edge a little inside the skin.

    A cell is of the head where foreground, brighter than the middle of air and the picture's mean, lies to all four
    sides of it.
    """
    side = pixels.shape[-1]
    cells = functional.avg_pool2d(pixels, max(1, side // _CELLS), ceil_mode=True)
    air = cells.flatten(1).quantile(0.05, 1).view(-1, 1, 1, 1)
    bright = (cells > (air + cells.mean((2, 3), keepdim=True)) / 2).float()
    sides = [way for axis in (2, 3) for way in (bright.cummax(axis)[0], bright.flip(axis).cummax(axis)[0].flip(axis))]
    hull = functional.avg_pool2d(torch.stack(sides).amin(0), 3, 1, 1)
    soft = functional.interpolate(hull, (side, side), mode="bilinear", align_corners=False)
    return (2 * soft - 1).clamp(0, 1)


def regrey(pixels: Tensor, u: Tensor, augment: Augment) -> Tensor:
    """Draw heads in other grey levels, as `remap`, `equalise`, `invert` and `window` of the recipe say.

    Args:
        pixels: (N, 1, S, S) in [0, 1].
        u: (N, DRAWN) uniform in [0, 1).
        augment: How much may change.

    Returns:
        (N, 1, S, S) in [0, 1].
    """
    mask = head_mask(pixels).flatten(1)
    flat = pixels.flatten(1).clamp(0, 1)
    steps = torch.linspace(0, 1, _STEPS, device=pixels.device).expand(len(flat), -1)
    count = torch.zeros_like(steps).scatter_add_(1, (flat * (_STEPS - 1)).round().long(), mask)
    share = count / count.sum(1, keepdim=True).clamp(min=1)
    top = _quantile(steps, share, torch.full_like(u[:, :1], _TOP)).clamp(min=2 / _STEPS)

    curve = torch.lerp(steps, top * (share.cumsum(1) - share / 2), augment.equalise * u[:, :1])
    curve = top * _look_up(_random_curve(u[:, 5:], augment.remap * u[:, 1:2]), curve / top)
    curve = torch.where(u[:, 2:3] < augment.invert, (top - curve).clamp(min=0), curve)
    flat = torch.lerp(flat, _look_up(curve, flat), mask)
    if augment.window:
        low, high = _ends(curve, share, u[:, 3:5], augment.window)
        flat = ((flat - low) / (high - low)).clamp(0, 1)
    return flat.view_as(pixels)


def _random_curve(u: Tensor, strength: Tensor) -> Tensor:
    """Knots (N, _PIECES + 1) of curves that fill [0, 1] and are nowhere level, so that no contrast is lost.

    Args:
        u: (N, 2 x _PIECES) uniform.
        strength: (N, 1) from 0, which gives the straight line, to 1.
    """
    steep, falling = u.chunk(2, 1)
    slopes = torch.exp(_STEEP * strength * (2 * steep - 1)) * torch.where(falling < _FALLING * strength, -1.0, 1.0)
    knots = functional.pad(slopes.cumsum(1), (1, 0))
    low, high = knots.amin(1, keepdim=True), knots.amax(1, keepdim=True)
    return (knots - low) / (high - low)


def _ends(curve: Tensor, share: Tensor, u: Tensor, window: float) -> tuple[Tensor, Tensor]:
    """What becomes black and what white, (N, 1) each: half of the time nothing is cut off below, or above."""
    away, inwards = (window * (2 * u - 1)).clamp(min=0), (window * (1 - 2 * u)).clamp(min=0)
    low = _quantile(curve, share, _DARKEST * inwards[:, :1]) * (inwards[:, :1] > 0)
    high = _quantile(curve, share, 1 - _BRIGHTEST * inwards[:, 1:]) * (1 + (_WIDEST - 1) * away[:, 1:])
    return low, torch.maximum(high, low + _NARROWEST)


def _quantile(values: Tensor, share: Tensor, q: Tensor) -> Tensor:
    """The value (N, 1) that a share q of the head lies below; values and shares (N, T), values in any order."""
    ordered, order = values.sort(1)
    below = share.gather(1, order).cumsum(1)
    return ordered.gather(1, torch.searchsorted(below, q).clamp(max=values.shape[1] - 1))


def _look_up(table: Tensor, at: Tensor) -> Tensor:
    """Values (N, P) of tables (N, T) over [0, 1] at (N, P), linear between the entries."""
    last = table.shape[1] - 1
    place = at.clamp(0, 1) * last
    left = place.floor().clamp(max=last - 1)
    first = left.long()
    return torch.lerp(table.gather(1, first), table.gather(1, first + 1), place - left)
