"""The short way into an ordinary JPEG: libjpeg-turbo in one call, during which other threads run.

Pillow reads the headers in Python and takes and leaves the interpreter's lock a dozen times a file; of small files, as
slices are, that costs more than the decoding, and two threads get hardly further than one. The samples are those that
Pillow gives, to the bit. Whatever is not ordinary is left to it: damage of any kind, four components, a block of EXIF.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from neurodense.scans.structure import MAX_PASSES, START_OF_PASS

_COLOURS = {"Gray": "GRAY", "YCbCr": "RGB", "RGB": "RGB"}  # how a file keeps them: what is asked for


def plain_jpeg(data: bytes, min_side: int, max_pixels: int) -> NDArray[np.uint8] | None:
    """Grey samples, uint8 (H, W), of a whole JPEG of one or three components; None where Pillow has to look at it.

    Args:
        data: The file.
        min_side: Pixels of either side, and
        max_pixels: of both together: beyond these nothing is decoded.
    """
    if b"Exif\0" in data or data.count(START_OF_PASS) > MAX_PASSES:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if colours not in _COLOURS or min(height, width) < min_side or height * width > max_pixels:
            return None
        samples: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, _COLOURS[colours])
    except ValueError:  # also where libjpeg only warns
        return None
    return samples[:, :, 0] if samples.shape[2] == 1 else np.asarray(Image.fromarray(samples).convert("L"))
