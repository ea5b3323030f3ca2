"""Read one file as a `Scan`, whatever raster format it is in.

How each kind of sample reaches [0, 1]:

- 8-bit grey: value / 255. 1-bit: 0 or 1.
- 8-bit colour and palette: ITU-R 601 luma (0.299 R + 0.587 G + 0.114 B), as Pillow's `L`, / 255.
- transparency: laid over black, which is what surrounds a head in MRI.
- 16-bit grey: value / 65535, the depth of the file and not the brightest pixel it happens to hold.
- 32-bit integer and float: these formats state no range, so the image's own minimum becomes 0 and its maximum 1.

An EXIF orientation is obeyed. An animation gives its first frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from neurodense.errors import ScanError
from neurodense.scans.scan import Scan

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""What a folder is searched for, in lower case. A file named directly is read whatever its name."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
MAX_PIXELS = 80_000_000  # an 8-bit image of this size takes 80 MB, its float pixels 320 MB
MIN_SIDE = 8  # fewer pixels than this on a side show no anatomy


def read_scan(path: str | Path, source: str | None = None) -> Scan:
    """Read `path` as a grey image in [0, 1].

    Args:
        path: A JPEG, PNG, TIFF, BMP or WebP file; the content decides, not the name.
        source: The name the scan carries; the path where None.

    Raises:
        ScanError: The file is missing, empty, truncated, not one of the formats, or of an impossible size.
    """
    path = Path(path)
    source = str(path) if source is None else source
    if path.is_dir():
        raise ScanError(f"{source} is a folder, not an image file.")
    try:
        if path.stat().st_size == 0:
            raise ScanError(f"{source} is empty (0 bytes).")
        with Image.open(path, formats=FORMATS) as image:
            return _scan(image, source)
    except FileNotFoundError:
        raise ScanError(f"{source} does not exist.") from None
    except UnidentifiedImageError:
        raise ScanError(f"{source} is none of {', '.join(FORMATS)}, whatever its name says.") from None
    except ScanError:
        raise
    except MemoryError:
        raise ScanError(f"{source} does not fit into memory.") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise ScanError(f"{source} cannot be decoded: {error or type(error).__name__}.") from error


def _scan(image: Image.Image, source: str) -> Scan:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ScanError(f"{source} is {width} x {height} pixels; at most {MAX_PIXELS:,} in all are read.")
    if min(width, height) < MIN_SIDE:
        raise ScanError(f"{source} is {width} x {height} pixels; each side must have at least {MIN_SIDE}.")
    image.load()
    upright = ImageOps.exif_transpose(image)
    pixels, bit_depth = _grey(upright, source)
    return Scan(np.ascontiguousarray(pixels, dtype=np.float32), source, bit_depth)


def _grey(image: Image.Image, source: str) -> tuple[NDArray[np.float32], int]:
    """Pixels (H, W) in [0, 1] and the bits a sample had; the rules are the module's docstring."""
    if image.mode.startswith("I;16"):
        samples = np.asarray(image).astype(np.float32)  # I;16B comes big-endian; astype makes it native
        return samples / np.float32(65535), 16
    if image.mode in ("I", "F"):
        samples = np.asarray(image).astype(np.float64)
        if not np.isfinite(samples).all():
            raise ScanError(f"{source} holds values that are not finite.")
        low, high = float(samples.min()), float(samples.max())
        return ((samples - low) / ((high - low) or 1.0)).astype(np.float32), 32
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    bit_depth = 1 if image.mode == "1" else 8
    return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255), bit_depth
