"""What `twins` needs of a picture: two thumbnails of 64 x 64, and a short description of each that is quick to compare.

The first thumbnail shows the whole picture, the second the head alone, cut out along the edges of what is brighter
than the background and scaled to full contrast: a border that was added or taken away changes the first and leaves
the second as it was. Both are stretched to a square, so they do not depend on the size of the file or its aspect.

The description is the low frequencies of the cosine transform of the equalised thumbnail, each weighted with its
frequency, since the lowest ones are much the same in all heads. Flips change the signs of odd frequencies and a
transposition swaps the two axes (`turned_description`), so one transform serves all eight turns.
"""

from __future__ import annotations

from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE: Final = 64
"""Side of a thumbnail in pixels."""
WHOLE, HEAD = 0, 1
"""Which thumbnail is which, on axis 1 of an array of thumbnails."""
TURNS: Final = 8
"""The turns of a square: see `turned`."""

_CUT_OFF: Final = 10  # cycles of the cosine transform, in half periods across the picture; finer ones suffer from JPEG
_LIMIT: Final = 4.0  # no grey level counts for more than this many times its even share: else the background decides

Floats = NDArray[np.float32]
Thumbs = NDArray[np.uint8]
_Scalar = TypeVar("_Scalar", bound=np.generic)


def thumb_of(pixels: NDArray[np.float32]) -> Thumbs:
    """Draw the two thumbnails of one picture.

    Args:
        pixels: float32 (H, W) in [0, 1], as `Scan.pixels`.

    Returns:
        uint8 (2, SIDE, SIDE), 8 KiB: the whole picture, 0 black and 255 white, and the head, stretched to 0 and 255.
    """
    top, bottom, left, right = head_box(pixels)
    whole, head = _stretched(pixels), _stretched(pixels[top:bottom, left:right])
    low, high = head.min(), head.max()
    head = (head - low) / max(high - low, 1 / 255)
    return np.stack([np.clip(whole, 0, 1) * 255 + 0.5, head * 255 + 0.5]).astype(np.uint8)


def head_box(pixels: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Where the head lies: first row, row after the last, first column, column after the last.

    Borders of one colour are taken off, whatever the colour. Of what is left, rows and columns count as head in which
    at least an eighth as many pixels are bright as in the fullest one: letters in a corner and noise are too few. The
    whole picture where this leaves next to nothing.
    """
    rows, columns = pixels.shape
    whole = (0, rows, 0, columns)
    box = _without_border(pixels)
    top, bottom, left, right = box
    if bottom - top < 8 or right - left < 8:
        return whole
    inner = pixels[top:bottom, left:right]
    low, high = np.percentile(_stretched(inner), (10, 99))  # the background, noise and all, and the brightest fat
    bright = inner > low + 0.15 * (high - low)
    high_rows = _counting(bright.sum(1))
    high_columns = _counting(bright.sum(0))
    if high_rows[1] - high_rows[0] < 8 or high_columns[1] - high_columns[0] < 8:
        return whole
    return top + high_rows[0], top + high_rows[1], left + high_columns[0], left + high_columns[1]


def _counting(counts: NDArray[np.intp]) -> tuple[int, int]:
    """From the first to behind the last line that counts."""
    lines = np.flatnonzero(counts * 8 >= max(int(counts.max()), 1))
    return (int(lines[0]), int(lines[-1]) + 1) if lines.size else (0, 0)


def _without_border(pixels: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """The box that is left when lines of one value are taken off all four sides, over and over."""
    top, bottom, left, right = 0, pixels.shape[0], 0, pixels.shape[1]
    tolerance = 0.06 * float(pixels.max() - pixels.min())
    for _ in range(4):  # a frame within a frame within a frame
        before = (top, bottom, left, right)
        top += _plain_lines(pixels[top:bottom, left:right], tolerance)
        bottom -= _plain_lines(pixels[top:bottom, left:right][::-1], tolerance)
        left += _plain_lines(pixels[top:bottom, left:right].T, tolerance)
        right -= _plain_lines(pixels[top:bottom, left:right].T[::-1], tolerance)
        if before == (top, bottom, left, right):
            break
    return top, bottom, left, right


def _plain_lines(lines: NDArray[np.float32], tolerance: float) -> int:
    """How many lines from the first on have the value of the first, but for 2 % of their pixels."""
    if not lines.size:
        return 0
    value = np.median(lines[0])
    step = 16  # most pictures end at once: do not look at all their lines
    for start in range(0, len(lines), step):
        differs = np.mean(np.abs(lines[start : start + step] - value) > tolerance, axis=1) > 0.02
        if differs.any():
            return start + int(differs.argmax())
    return len(lines)


def _stretched(pixels: NDArray[np.float32]) -> Floats:
    """A picture as float32 (SIDE, SIDE): each pixel the mean of what it covers, weighted as a triangle."""
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def turned(pictures: NDArray[_Scalar], turn: int) -> NDArray[_Scalar]:
    """Turn pictures (..., N, N) as `turn` says: 4 swaps rows and columns, then 1 turns upside down, 2 mirrors."""
    if turn & 4:
        pictures = np.swapaxes(pictures, -1, -2)
    if turn & 1:
        pictures = pictures[..., ::-1, :]
    if turn & 2:
        pictures = pictures[..., ::-1]
    return pictures


def equalised(thumbs: Thumbs, limit: float = _LIMIT) -> Floats:
    """Replace grey levels by their rank, so that brightness, contrast and gamma cancel out: float32, range [0, 1].

    Args:
        thumbs: uint8 (N, rows, columns).
        limit: In units of 1/256 of the pixels: what exceeds it of one grey level is not counted.
    """
    flat = thumbs.reshape(len(thumbs), -1)
    row = np.arange(len(flat))[:, None] * 256
    counts = np.bincount((row + flat).ravel(), minlength=256 * len(flat)).reshape(-1, 256).astype(np.float32)
    return np.asarray(ranks(counts, limit).ravel()[row + flat].reshape(thumbs.shape))


def ranks(counts: Floats, limit: float) -> Floats:
    """From histograms (N, 256) to the rank of each grey level, in [0, 1]."""
    counts = np.minimum(counts, counts.sum(1, keepdims=True) * np.float32(limit / 256))
    summed = np.cumsum(counts, axis=1)
    return np.asarray((summed - counts / 2) / np.maximum(summed[:, -1:], np.float32(1e-6)), np.float32)


def describe(pictures: Floats) -> Floats:
    """Describe equalised pictures (N, SIDE, SIDE) by unit vectors, float32 (N, D).

    A picture of one grey gets zeros. The similarity of two pictures is the inner product of their descriptions.
    """
    rows, columns = _KEPT
    coefficients = (_COSINES @ pictures @ _COSINES.T * _WEIGHTS)[:, rows, columns]
    length = np.linalg.norm(coefficients, axis=1, keepdims=True)
    return np.asarray(np.where(length > 1e-3, coefficients / np.maximum(length, 1e-3), 0), np.float32)


def turned_description(descriptions: Floats, turn: int) -> Floats:
    """The descriptions of the turned pictures, from those of the pictures."""
    rows, columns = _KEPT
    if turn & 4:  # coefficients are kept in the order of rows: find where (column, row) stands
        place = np.zeros((_CUT_OFF, _CUT_OFF), np.intp)
        place[rows, columns] = np.arange(len(rows))
        descriptions = descriptions[:, place[columns, rows]]
    return descriptions * FLIPS[:, turn & 3]


def best_turn_bounds(descriptions: Floats) -> tuple[Floats, Floats]:
    """Vectors a, b of each: a1 @ a2 + |b1 @ b2| is at least the inner product of two descriptions in their best turn.

    No flip changes a description without its signs, and no inner product is more than that of the values without
    signs; what is even in rows and columns keeps its sign. A transposition swaps entries: it leaves the sum of two
    that swap as it is, and changes the sign of their difference.
    """
    rows, columns = _KEPT
    sure = np.where((rows | columns) & 1, np.abs(descriptions), descriptions)
    swapped = turned_description(sure, 4)
    upper, half = rows < columns, np.float32(0.5**0.5)
    total = np.concatenate([(sure + swapped)[:, upper] * half, sure[:, rows == columns]], axis=1)
    return total, (sure - swapped)[:, upper] * half


def _cosines() -> tuple[Floats, Floats]:
    """The first rows of the orthonormal DCT-II matrix, and the weight of each coefficient, 0 where it is not kept."""
    k, n = np.arange(_CUT_OFF), np.arange(SIDE)
    matrix = np.sqrt(2 / SIDE) * np.cos(np.pi * (2 * n + 1) * k[:, None] / (2 * SIDE))
    frequency = np.hypot(k[:, None], k)
    weights = np.where(frequency < _CUT_OFF, frequency, 0)  # 0 for the mean grey
    return matrix.astype(np.float32), weights.astype(np.float32)


_COSINES, _WEIGHTS = _cosines()
_KEPT = np.nonzero(_WEIGHTS)

FLIPS: Final = np.stack([(-1.0) ** (_KEPT[0] * (t & 1) + _KEPT[1] * (t >> 1)) for t in range(4)], 1).astype(np.float32)
"""float32 (D, 4): the signs that each of the turns 0 to 3 gives the entries of a description."""
