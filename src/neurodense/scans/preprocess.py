"""The one preprocessing: a `Scan` becomes the network's input, for training, evaluation and prediction alike.

The published recipe stretches every image to 224 x 224, bilinear. The normalisation by ImageNet's mean and standard
deviation is the first step of the network itself (`training/network.py`), so that an exported graph takes plain
pixels in [0, 1] and nobody can forget it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from neurodense.scans.scan import Scan


class Preprocess(BaseModel):
    """Parameters of the preprocessing; they travel with the model in its card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(224, ge=32, le=1024, description="Side of the square input, in pixels.")
    resize: Literal["stretch"] = Field("stretch", description="Both sides are scaled to `size`, as the recipe does.")
    interpolation: Literal["bilinear"] = Field("bilinear", description="With antialiasing when shrinking.")

    def __call__(self, scan: Scan) -> NDArray[np.float32]:
        """Give the network's input for one scan: float32, shape (1, size, size), range [0, 1]."""
        pixels = scan.pixels
        if pixels.shape != (self.size, self.size):
            image = Image.fromarray(pixels)  # float32 gives mode F: no rounding to 8 bits on the way
            pixels = np.asarray(image.resize((self.size, self.size), Image.Resampling.BILINEAR))
        return pixels[np.newaxis]
