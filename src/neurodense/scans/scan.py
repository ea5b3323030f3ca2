"""A scan: one image, read, before anything was done to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scan:
    """One slice as a grey image.

    Attributes:
        pixels: float32, shape (H, W), rows from top to bottom, range [0, 1], 0 black.
        source: Where it came from, as the caller named it.
        bit_depth: Bits a sample had in the file: 1, 8, 12, 16, or 32; 8 where Pillow gives 8 of more.
    """

    pixels: NDArray[np.float32]
    source: str
    bit_depth: int
