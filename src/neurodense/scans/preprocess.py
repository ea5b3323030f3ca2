"""The one preprocessing: a `Scan` becomes the network's input, for training, evaluation and prediction alike.

The published recipe stretches every image to 224 x 224, bilinear. The normalisation by ImageNet's mean and standard
deviation is the first step of the network itself (`training/network.py`), so that an exported graph takes plain
pixels in [0, 1] and nobody can forget it.

Two choices take out what tells one source of images from another and says nothing of the patient. `crop` = "head"
shows every head at one size, whatever air an exporter left around it; `intensity` = "percentile" brings every head to
the same range of grey levels, whatever window it was saved in. Where `head.find_head` finds none, the whole picture
counts as one.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from neurodense.scans.head import MARGIN, Box, Head, find_head
from neurodense.scans.scan import Scan

Crop = Literal["none", "head"]
Intensity = Literal["asis", "percentile"]

_NARROW = 0.25  # spacings that make a pixel longer and thinner than this are not believed


class Preprocess(BaseModel):
    """Parameters of the preprocessing; they travel with the model in its card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(224, ge=32, le=1024, description="Side of the square input, in pixels.")
    resize: Literal["stretch"] = Field("stretch", description="Both sides are scaled to `size`, as the recipe does.")
    interpolation: Literal["bilinear"] = Field("bilinear", description="With antialiasing when shrinking.")
    crop: Crop = Field(
        "none", description="none: the whole picture. head: the square around the head, its proportions kept."
    )
    intensity: Intensity = Field(
        "asis", description="percentile: the head's grey levels from the 1st to the 99.5th percentile become 0 to 1."
    )

    def __call__(self, scan: Scan) -> NDArray[np.float32]:
        """Give the network's input for one scan: float32, shape (1, size, size), range [0, 1]."""
        pixels, head = scan.pixels, self._head(scan)
        if self.crop == "head":
            pixels = _cut(pixels, self._around(scan, head), head.air if head else 0.0)
        if pixels.shape != (self.size, self.size):
            image = Image.fromarray(pixels)  # float32 gives mode F: no rounding to 8 bits on the way
            pixels = np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        if head is not None and self.intensity == "percentile":
            low, high = head.levels
            pixels = ((pixels - np.float32(low)) * np.float32(1 / (high - low))).clip(0, 1)
        return pixels[np.newaxis]

    def window(self, scan: Scan) -> Box:
        """The part of the scan's pixels that becomes the input; where it reaches beyond them there is air."""
        return self._around(scan, self._head(scan))

    def _head(self, scan: Scan) -> Head | None:
        return find_head(scan.pixels) if self.crop == "head" or self.intensity == "percentile" else None

    def _around(self, scan: Scan, head: Head | None) -> Box:
        """The square, in millimetres where the file states them, around the head and its margin."""
        height, width = scan.pixels.shape
        if self.crop == "none":
            return 0, 0, height, width
        top, left, bottom, right = head.box if head else (0, 0, height, width)
        rows_mm, columns_mm = scan.spacing or (1.0, 1.0)
        across = min(max(columns_mm / rows_mm, _NARROW), 1 / _NARROW)  # width of a pixel, where its height is 1
        side = max(bottom - top, (right - left) * across) * (1 + 2 * MARGIN if head else 1)
        rows, columns = max(1, round(side)), max(1, round(side / across))
        first, start = round((top + bottom - rows) / 2), round((left + right - columns) / 2)
        return first, start, first + rows, start + columns


def _cut(pixels: NDArray[np.float32], window: Box, air: float) -> NDArray[np.float32]:
    """The window of a picture (H, W), with `air` where it reaches beyond."""
    (height, width), (top, left, bottom, right) = pixels.shape, window
    inside = pixels[max(top, 0) : bottom, max(left, 0) : right]
    edges = (max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0))
    return np.pad(inside, edges, constant_values=np.float32(air)) if any(map(any, edges)) else inside
