"""Copies of real pictures such as published data sets hold them: turned, re-encoded, rescaled, framed, cropped."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurodense.data.fingerprint import turned

Picture = NDArray[np.float32]
"""float32 (H, W) in [0, 1]."""


def turn(picture: Picture, number: int) -> Picture:
    return np.ascontiguousarray(turned(picture, number), dtype=np.float32)


def scaled(picture: Picture, rows: float, columns: float | None = None) -> Picture:
    """Resample to `rows` times the rows and `columns` times the columns, bicubic."""
    height, width = picture.shape
    size = (round(width * (rows if columns is None else columns)), round(height * rows))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)


def encoded(picture: Picture, quality: int) -> Picture:
    """There and back through JPEG."""
    file = io.BytesIO()
    Image.fromarray((picture * 255 + 0.5).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float32) / np.float32(255)


def greys(picture: Picture, factor: float = 1, plus: float = 0, gamma: float = 1) -> Picture:
    return np.asarray((picture**gamma * factor + plus).clip(0, 1), np.float32)


def contrast(picture: Picture, factor: float) -> Picture:
    mean = picture.mean()
    return greys(picture - mean, factor, mean)


def framed(picture: Picture, share: float, value: float = 0) -> Picture:
    """Add a border of `share` of the picture's sides at each edge."""
    return np.pad(picture, round(picture.shape[0] * share), constant_values=np.float32(value))


def cropped(picture: Picture, share: float) -> Picture:
    """Take `share` of each side away, half of it at either end."""
    rows, columns = (round(side * share / 2) for side in picture.shape)
    return picture[rows : picture.shape[0] - rows, columns : picture.shape[1] - columns].copy()


def shifted(picture: Picture, rows: int, columns: int) -> Picture:
    """Move by pixels; black comes in."""
    height, width = picture.shape
    padded = np.pad(picture, 8)
    return padded[8 - rows : 8 - rows + height, 8 - columns : 8 - columns + width].copy()


PLANTS: dict[str, Callable[[Picture], Picture]] = {
    **{f"turn {number}": lambda p, number=number: turn(p, number) for number in range(1, 8)},  # type: ignore[misc]
    "size 0.5": lambda p: scaled(p, 0.5),
    "size 2": lambda p: scaled(p, 2),
    "size 0.73": lambda p: scaled(p, 0.73),
    "size 1.37": lambda p: scaled(p, 1.37),
    "size 1 x 0.8": lambda p: scaled(p, 1, 0.8),
    "JPEG 50": lambda p: encoded(p, 50),
    "JPEG 30": lambda p: encoded(p, 30),
    "brightness x 0.8": lambda p: greys(p, 0.8),
    "brightness x 1.2": lambda p: greys(p, 1.2),
    "brightness + 0.1": lambda p: greys(p, plus=0.1),
    "contrast x 0.7": lambda p: contrast(p, 0.7),
    "contrast x 1.3": lambda p: contrast(p, 1.3),
    "gamma 0.7": lambda p: greys(p, gamma=0.7),
    "gamma 1.4": lambda p: greys(p, gamma=1.4),
    "turn 5, gamma 0.7, JPEG 30": lambda p: encoded(greys(turn(p, 5), gamma=0.7), 30),
    "turn 3, size 0.5, JPEG 50": lambda p: encoded(scaled(turn(p, 3), 0.5), 50),
    "border 5 %": lambda p: framed(p, 0.05),
    "border 10 %": lambda p: framed(p, 0.1),
    "border 20 %": lambda p: framed(p, 0.2),
    "border 30 %": lambda p: framed(p, 0.3),
    "border 10 %, white": lambda p: framed(p, 0.1, 1),
    "turn 2, border 10 %, JPEG 30": lambda p: encoded(framed(turn(p, 2), 0.1), 30),
    "shift 2 px": lambda p: shifted(p, 2, -2),
    "shift 4 px": lambda p: shifted(p, -4, 4),
    "shift 8 px": lambda p: shifted(p, 8, 8),
    "turn 1, shift 4 px, contrast, JPEG 30": lambda p: encoded(contrast(shifted(turn(p, 1), 4, 4), 0.8), 30),
    "crop 2 %": lambda p: cropped(p, 0.02),
    "crop 5 %": lambda p: cropped(p, 0.05),
    "crop 10 %": lambda p: cropped(p, 0.1),
    "crop 15 %": lambda p: cropped(p, 0.15),
    "crop 20 %": lambda p: cropped(p, 0.2),
    "crop 30 %": lambda p: cropped(p, 0.3),
    "turn 6, crop 5 %, brightness x 1.2": lambda p: greys(cropped(turn(p, 6), 0.05), 1.2),
}
