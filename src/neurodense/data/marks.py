"""Marks that were put onto an image and are no part of the patient: letters and frames.

Both are found by their shape alone, without reading: letters are small, sharp, equally tall, and stand in a line
outside the head; a frame is a bright even line along an edge. A network can learn either as the sign of a collection.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LARGEST_SIDE = 768
"""Larger images are thinned out to this: letters on them are as large in proportion."""
_MOST = 65535


def frame(pixels: NDArray[np.float32]) -> float:
    """How much brighter the brightest line along an edge is than what lies further in; 0 where nothing is.

    Lines are looked for in the outer 6% of each side and must be bright over 85% of their length. They are compared
    with the brighter fifth of the pixels at 12 to 18% of the way in, which a head that reaches the edge fills too.
    """
    brightest = 0.0
    for side in (pixels, pixels[::-1], pixels.T, pixels.T[::-1]):
        width = max(1, round(0.06 * len(side)))
        lines = np.sort(side[:width], axis=1)[:, int(0.15 * side.shape[1])]
        inside = np.sort(side[2 * width : 3 * width], axis=None)
        brightest = max(brightest, float(lines.max() - inside[int(0.8 * inside.size)]))
    return brightest


def glyphs(pixels: NDArray[np.float32], threshold: float) -> int:
    """How many marks stand in the longest line of marks that look like letters; less than 3 is chance.

    Args:
        pixels: float32 (H, W), range [0, 1].
        threshold: A letter is brighter than this.
    """
    from scipy import ndimage

    step = -(-max(pixels.shape) // _LARGEST_SIDE)
    bright = pixels[::step, ::step] > threshold
    labels, count = ndimage.label(bright, np.ones((3, 3)))
    if count < 3:
        return 0
    height = bright.shape[0]
    area = np.bincount(labels.ravel())
    area[0] = 0
    box = np.array([(b[0].start, b[0].stop, b[1].start, b[1].stop) for b in ndimage.find_objects(labels)])
    tall, wide = box[:, 1] - box[:, 0], box[:, 3] - box[:, 2]
    solid = _enclosed((area > 0.01 * bright.size)[labels])  # the head, with what lies inside it
    centre = (box[:, 0] + box[:, 1]) // 2, (box[:, 2] + box[:, 3]) // 2
    letter = (tall >= 4) & (tall <= max(6, 0.08 * height)) & (wide <= 1.6 * tall) & ~solid[centre]
    letter &= area[1:] >= np.maximum(4, 0.2 * tall * wide)
    longest = 0
    found = np.flatnonzero(letter)[:500]  # noise gives thousands, and no line of letters is far down the list
    for i in found:
        level = np.abs(box[found, 1] - box[i, 1]) <= max(1, 0.25 * tall[i])
        line = found[level & (np.abs(tall[found] - tall[i]) <= max(1, 0.3 * tall[i]))]
        line = line[np.argsort(box[line, 2], kind="stable")]
        gaps = box[line[1:], 2] - box[line[:-1], 3]
        run = 1
        for close in (gaps >= -1) & (gaps <= 1.5 * tall[i]):
            run = run + 1 if close else 1
            longest = max(longest, run)
    return min(longest, _MOST)


def _enclosed(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What lies between the first and the last True of its row or of its column."""
    return _within_rows(mask) | _within_rows(mask.T).T


def _within_rows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    width = mask.shape[1]
    first, last = mask.argmax(axis=1, keepdims=True), width - 1 - mask[:, ::-1].argmax(axis=1, keepdims=True)
    place = np.arange(width)
    within: NDArray[np.bool_] = (place >= first) & (place <= last) & mask.any(axis=1, keepdims=True)
    return within
