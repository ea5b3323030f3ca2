"""Read one file as a `Scan`, whatever raster format it is in.

How each kind of sample reaches [0, 1]:

- 8-bit grey: value / 255. 1-bit: 0 or 1.
- 8-bit colour and palette: ITU-R 601 luma (0.299 R + 0.587 G + 0.114 B), as Pillow's `L`, / 255.
- transparency: laid over black, which is what surrounds a head in MRI.
- 16-bit grey: value / 65535, the depth of the file and not the brightest pixel it happens to hold; 12-bit: / 4095.
  Of 16-bit colour, and of 16-bit grey with transparency, Pillow gives the upper 8 bits.
- signed, 32-bit integer and float: these state no range, so the image's own minimum becomes 0 and its maximum 1.
- a TIFF in which zero is white is inverted.

An EXIF orientation is obeyed; a broken EXIF block is passed over.
An animation and a file of several pages give the first one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from neurodense.errors import ScanError
from neurodense.scans.scan import Scan

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""What a folder is searched for, in lower case. A file named directly is read whatever its name."""

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
MAX_PIXELS = 80_000_000  # an 8-bit image of this size takes 80 MB, its float pixels 320 MB
MIN_SIDE = 8  # fewer pixels than this on a side show no anatomy

_TURNS = {  # EXIF orientation -> what brings the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF 6.0
_WHITE_IS_ZERO, _UNSIGNED = 0, 1  # values of the last two


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
    try:
        if path.is_dir():
            raise ScanError(f"{source} is a folder, not an image file.")
        if path.stat().st_size == 0:
            raise ScanError(f"{source} is empty (0 bytes).")
        # By name, Pillow maps an uncompressed TIFF into memory and then scrambles one that lies on its side.
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            return _scan(image, source)
    except FileNotFoundError:
        raise ScanError(f"{source} does not exist.") from None
    except UnidentifiedImageError:
        raise ScanError(f"{source} is no {', '.join(FORMATS)} that can be read, whatever its name says.") from None
    except ScanError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ScanError(f"{source} claims far more pixels than the {MAX_PIXELS:,} that are read.") from None
    except MemoryError:
        raise ScanError(f"{source} does not fit into memory.") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.strerror:  # the system's own, not a decoder's
            raise ScanError(f"{source} cannot be opened: {error.strerror}.") from error
        raise ScanError(f"{source} cannot be decoded: {error or type(error).__name__}.") from error


def _scan(image: Image.Image, source: str) -> Scan:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ScanError(f"{source} is {width} x {height} pixels; at most {MAX_PIXELS:,} in all are read.")
    if min(width, height) < MIN_SIDE:
        raise ScanError(f"{source} is {width} x {height} pixels; each side must have at least {MIN_SIDE}.")
    image.load()
    pixels, bit_depth = _grey(_upright(image), getattr(image, "tag_v2", {}), source)
    return Scan(np.ascontiguousarray(pixels, dtype=np.float32), source, bit_depth)


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says, or as it is stored where the EXIF block is broken."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's parser raises much; whole pixels are worth more than the note beside them
        return image
    return image if turn is None else image.transpose(turn)


def _grey(image: Image.Image, tags: Mapping[int, Any], source: str) -> tuple[NDArray[np.float32], int]:
    """Pixels (H, W) in [0, 1] and the bits a sample had; the rules are the module's docstring. `tags` are a TIFF's."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
        bit_depth = 1 if image.mode == "1" else 8
        return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255), bit_depth

    bit_depth = tags.get(_BITS, (16 if image.mode.startswith("I;16") else 32,))[0]
    samples = np.asarray(image)
    if image.mode == "I" and bit_depth == 32 and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0] == _UNSIGNED:
        samples = samples.view(np.uint32)  # Pillow has no such mode: it keeps the bits and calls them signed
    samples = samples.astype(np.float64)  # I;16B comes big-endian; this makes it native
    if not np.isfinite(samples).all():
        raise ScanError(f"{source} holds values that are not finite.")
    low, high = (0, 2**bit_depth - 1) if image.mode.startswith("I;16") else (samples.min(), samples.max())
    pixels = (samples - low) / ((high - low) or 1)
    return (1 - pixels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else pixels).astype(np.float32), bit_depth
