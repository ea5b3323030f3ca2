"""Marks that viewers burn into a picture: lines of letters, rulers, frames. They stand in corners and along edges.

A letter is a small random pattern: what is to be overlooked is that there is writing, not what it says.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_MOST = 3  # marks in a picture
_NUMBERS = 6  # that a mark takes
_LINES, _LETTERS = 3, 12  # of a mark, at most
_ROWS, _COLUMNS = 6, 4  # of a letter, with the gaps below and behind it
_PATTERN = _LINES * _ROWS * _LETTERS * _COLUMNS

DRAWN = 2 + _MOST * _NUMBERS + _PATTERN
"""Uniform numbers that `add_marks` takes for each picture."""


def add_marks(pixels: Tensor, u: Tensor, share: float) -> Tensor:
    """Draw one to three marks into some of the pictures.

    Args:
        pixels: (N, 1, S, S).
        u: (N, DRAWN) uniform in [0, 1).
        share: Of the pictures that get any.

    Returns:
        (N, 1, S, S).
    """
    out = pixels.clone()
    numbers = u[:, : 2 + _MOST * _NUMBERS].tolist()
    patterns = (u[:, -_PATTERN:] < 0.6).to(pixels.dtype).view(-1, _LINES, _ROWS, _LETTERS, _COLUMNS)
    patterns[:, :, -1] = patterns[..., -1] = 0
    for picture, pattern, (chance, many, *rest) in zip(out[:, 0], patterns, numbers, strict=True):
        if chance < share:
            for first in range(0, (1 + int(many * _MOST)) * _NUMBERS, _NUMBERS):
                kind, *how = rest[first : first + _NUMBERS]
                if kind < 0.7:
                    _write(picture, pattern, *how)
                elif kind < 0.85:
                    _measure(picture, *how)
                else:
                    _frame(picture, *how)
    return out


def _write(
    picture: Tensor, pattern: Tensor, corner: float, many: float, size: float, long: float, bright: float
) -> None:
    """Up to three lines of up to twelve letters in a corner, or in the middle of the upper or lower edge."""
    side = len(picture)
    lines, letters = 1 + int(many * _LINES), 1 + int(long * _LETTERS)
    height = max(2, round(side * (0.025 + 0.04 * size)))
    width = min(round(0.7 * height * letters), side - 2)
    text = pattern[:lines, :, :letters].reshape(1, 1, lines * _ROWS, letters * _COLUMNS)
    text = functional.interpolate(text, (lines * height, width), mode="bilinear", antialias=True)[0, 0]
    row, column = divmod(int(corner * 6), 3)
    edge = 1 + round(0.02 * side * many)
    top = side - edge - lines * height if row else edge
    left = (edge, (side - width) // 2, side - edge - width)[column]
    _lighten(picture[top : top + lines * height, max(left, 0) : max(left, 0) + width], text, bright)


def _measure(picture: Tensor, edge: float, start: float, length: float, ticks: float, bright: float) -> None:
    """A ruler: a line along an edge, with ticks."""
    side = len(picture)
    ruler = torch.zeros(max(4, round(0.03 * side)), round(side * (0.2 + 0.5 * length)), device=picture.device)
    ruler[0] = 1
    ruler[:, :: max(3, round(side * (0.03 + 0.05 * ticks)))] = 1
    first = round(start * (side - ruler.shape[1]))
    top = 2 if edge % 0.5 < 0.25 else side - 2 - len(ruler)
    lines = picture if edge < 0.5 else picture.T  # drawing into the transpose draws into the picture
    _lighten(lines[top : top + len(ruler), first : first + ruler.shape[1]], ruler, bright)


def _frame(picture: Tensor, edges: float, inset: float, thick: float, _: float, bright: float) -> None:
    """Lines along one edge, or along all four."""
    side, away, width = len(picture), round(0.03 * len(picture) * inset), 1 + int(2 * thick)
    strips = [lines[top : top + width] for lines in (picture, picture.T) for top in (away, side - away - width)]
    for strip in strips if edges < 0.5 else (strips[int(8 * edges) % 4],):
        line = strip[:, away : side - away]
        _lighten(line, torch.ones_like(line), bright)


def _lighten(part: Tensor, cover: Tensor, bright: float) -> None:
    """Draw in light grey to white, in place."""
    part.copy_(torch.maximum(part, cover * (0.5 + 0.5 * bright)))
