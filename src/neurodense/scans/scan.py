"""A scan: one image, read, before anything was done to it. A study: the scans that one input gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Plane = Literal["axial", "coronal", "sagittal"]

_PLANES: dict[frozenset[str], Plane] = {
    frozenset("LRAP"): "axial",
    frozenset("LRSI"): "coronal",
    frozenset("APSI"): "sagittal",
}
_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "S": "I", "I": "S"}


@dataclass(frozen=True)
class Scan:
    """One slice as a grey image.

    Attributes:
        pixels: float32, shape (H, W), rows from top to bottom, range [0, 1], 0 black.
        source: Where it came from, as the caller named it; a slice of a volume has its number behind a `#`, from 1.
        bit_depth: Bits a sample had in the file: 1, 8, 12, 16, 32 or 64; 8 where Pillow gives 8 of more.
        format: What the file is: JPEG, PNG, TIFF, BMP, WEBP, GIF, DICOM or NIfTI.
        spacing: Millimetres between rows and between columns; None where the file does not say.
        orientation: Two letters: where in the patient (Left, Right, Anterior, Posterior, Superior, Inferior) the
            picture's right edge and its lower edge lie, so that "LP" is an axial slice as a radiologist sees it. None
            where the file does not say.
        notes: What a reader of a result should know of the reading, such as "first of 12 frames".
    """

    pixels: NDArray[np.float32]
    source: str
    bit_depth: int
    format: str = ""
    spacing: tuple[float, float] | None = None
    orientation: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def plane(self) -> Plane | None:
        """The plane that the slice lies in, or is nearest to; None where the file does not say."""
        if self.orientation is None:
            return None
        return _PLANES[frozenset(letter for edge in self.orientation for letter in (edge, _OPPOSITE[edge]))]


@dataclass(frozen=True)
class Study:
    """What one input gives: one slice of a picture file, or the chosen slices of a volume or a series.

    Attributes:
        source: The input, as the caller named it.
        scans: The chosen slices, in the order of the volume.
        total: Slices that the input has in all; 1 for a picture.
    """

    source: str
    scans: tuple[Scan, ...]
    total: int

    @property
    def is_volume(self) -> bool:
        """True when the input holds several slices, however many of them were chosen."""
        return self.total > 1
