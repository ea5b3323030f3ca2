"""Read one picture file (JPEG, PNG, TIFF, BMP, WebP, GIF) as a `Scan`. Pillow decodes; the rules are here.

How each kind of sample reaches [0, 1]:

- 8-bit grey: value / 255. 1, 2 and 4 bits: value / its largest value.
- 8-bit colour and palette: ITU-R 601 luma (0.299 R + 0.587 G + 0.114 B), as Pillow's `L`, / 255. YCbCr: its Y.
- CMYK: R = (255 - C) (255 - K) / 255 and so on, then as colour. A JPEG of four components is taken as Adobe writes
  it, with all four inverted, as every common reader does; a TIFF as its specification says, not inverted.
- CIELAB: the grey of sRGB that has the pixel's lightness L* (IEC 61966-2-1, CIE 15).
- transparency: laid over black, which is what surrounds a head in MRI.
- 16-bit grey: value / 65535, the depth of the file and not the brightest pixel it happens to hold; 12-bit: / 4095.
  Of 16-bit colour, and of 16-bit grey with an alpha channel, Pillow gives the upper 8 bits.
- signed, 32-bit integer and float: these state no range, so the image's own minimum becomes 0 and its maximum 1.
  Float of 16 and of 64 bits, and integers of 64, Pillow does not read: an error that says so.
- a TIFF in which zero is white is inverted. One that does not say which is white is an error.

An animation and a file of several pages give the first one. An EXIF orientation is obeyed; a broken EXIF block is
passed over. A picture's resolution (dpi) is about paper, so the spacing of its scan is None. `Scan.notes` says what
was done to this file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from neurodense.errors import ScanError
from neurodense.scans.jpeg import plain_jpeg
from neurodense.scans.libtiff import complaints
from neurodense.scans.quiet import quiet
from neurodense.scans.scan import Scan
from neurodense.scans.structure import Passes, check_png, count_pages

logging.getLogger("PIL").addHandler(logging.NullHandler())  # or Python prints its errors where nobody set up logging

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")
MAX_PIXELS = 2**26  # 8192 x 8192
MIN_SIDE = 8  # fewer pixels than this on a side show no anatomy

_BAND = 2**20  # pixels that are worked on at a time in double precision

Array = NDArray[Any]

_TURNS: dict[int, Callable[[Array], Array]] = {  # EXIF orientation -> what brings the stored image upright
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).T,
    8: np.rot90,
}

_STARTS: dict[str, bytes | tuple[bytes, ...]] = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # the last two are BigTIFF
    "BMP": b"BM",
    "GIF": (b"GIF87a", b"GIF89a"),
}
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImageFile,
    "TIFF": TiffImageFile,
    "BMP": BmpImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
}

_TAGS = _BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339  # TIFF 6.0
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2  # values of the second and the last
_WIDTH, _LENGTH, _TILE_WIDTH, _TILE_LENGTH, _PLANES, _SEPARATE = 256, 257, 322, 323, 284, 2  # and a value of the last


def _srgb(lightness: float) -> float:
    """The grey of sRGB, in [0, 1], whose lightness is L* = `lightness`, in [0, 100]."""
    luminance = ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness * (3 / 29) ** 3
    return 12.92 * luminance if luminance <= 0.0031308 else 1.055 * luminance ** (1 / 2.4) - 0.055


_LIGHTNESS = [round(255 * _srgb(value * 100 / 255)) for value in range(256)]


def raster_format(head: bytes) -> str | None:
    """Which of `FORMATS` a file is that begins with `head` (12 bytes); None where it is none of them."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return next((name for name, starts in _STARTS.items() if head.startswith(starts)), None)


def read_raster(file: BinaryIO, source: str) -> Scan:
    """Read an open picture file.

    Raises:
        ScanError: It is none of `FORMATS`, or is of a kind or a size that is not read.
        Exception: What Pillow raises for a damaged file: OSError, SyntaxError, ValueError, struct.error, ...
    """
    format_ = raster_format(file.read(12))
    if format_ is None:
        raise ScanError(f"{source} is no {', '.join(FORMATS)} that can be read, whatever its name says.")
    if format_ == "JPEG" and isinstance(file, BytesIO):  # where the file is in memory anyway
        grey = plain_jpeg(file.getvalue(), MIN_SIDE, MAX_PIXELS)
        if grey is not None:
            return Scan(_scaled(grey, 0, 255, None), source, 8, format_)
    pages = 1
    if format_ == "PNG":
        check_png(file, MAX_PIXELS)
    elif format_ == "TIFF":
        pages = count_pages(file, source)
    file.seek(0)
    notes: list[str] = []
    with quiet("PIL"):
        image = _open(file, format_, source)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ScanError(f"{source} is {width} x {height} pixels; at most {MAX_PIXELS:,} in all are read.")
        if min(width, height) < MIN_SIDE:
            raise ScanError(f"{source} is {width} x {height} pixels; each side must have at least {MIN_SIDE}.")
        tags = _checked_tags(image, source) if isinstance(image, TiffImageFile) else {}
        frames = getattr(image, "n_frames", 1) if format_ in ("PNG", "WEBP") else 1
        with complaints() as said:
            try:
                image.load()
            except OSError:
                if not said:
                    raise
        if said:
            raise OSError(f"libtiff says {said[0]}")
        turn = _turn(image, tags, notes)
        samples, opacity, bit_depth = _samples(image, tags, notes)
        low, high = _range(samples, tags, bit_depth, source, notes)
        del image  # before the pixels are made: it holds up to 16 bytes a pixel
        if format_ == "GIF":
            frames = _gif_frames(file)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        notes.append("inverted: zero is white in the file")
        if samples.dtype != np.uint8:  # those Pillow has inverted
            low, high = high, low
    if max(pages, frames) > 1:
        notes.insert(0, f"first of {frames:,} frames" if pages == 1 else f"first of {pages:,} pages")
    pixels = _scaled(turn(samples), low, high, None if opacity is None else turn(opacity))
    return Scan(pixels, source, bit_depth, format_, notes=tuple(notes))


def _open(file: BinaryIO, format_: str, source: str) -> ImageFile.ImageFile:
    """Read the header. Not by `Image.open`, which keeps to itself why a plugin would not have the file."""
    try:
        if format_ == "JPEG":  # Pillow asks for read, seek and tell, no more
            return JpegImageFile(Passes(file, source))  # type: ignore[arg-type]
        return _PLUGINS[format_](file)
    except SyntaxError as error:
        reason = str(error)
        if reason == "unknown pixel mode":
            reason = f"{_unread(file)}. Samples of 8 or 16 bits and of 32-bit float are"
        raise ScanError(f"{source} is a {format_} that is not read: {reason}.") from error


def _checked_tags(image: TiffImageFile, source: str) -> dict[int, Any]:
    """The tags that the rules ask for, once those of the layout agree with the size.

    Pillow leaves pixels black that no strip or tile has, and libtiff fills a whole tile however small the image is.
    """
    tags = image.tag_v2
    if tags.get(_PHOTOMETRIC) is None:
        raise ScanError(f"{source} is a TIFF that does not say whether zero is black or white.")
    across, down = tags.get(_TILE_WIDTH, 1), tags.get(_TILE_LENGTH, 1)
    if not isinstance(across, int) or not isinstance(down, int) or across * down > MAX_PIXELS:
        raise ScanError(f"{source} is a TIFF in tiles of {across} x {down} pixels; at most {MAX_PIXELS:,} are read.")
    corner = tags[_WIDTH], tags[_LENGTH]
    layers = len(image.getbands()) if tags.get(_PLANES, 1) == _SEPARATE else 1
    by_libtiff = bool(image.tile) and image.tile[0][0] == "libtiff"  # which looks itself
    if not by_libtiff and sum((tile[1] or ())[2:] == corner for tile in image.tile) < layers:
        raise ScanError(f"{source} is a TIFF whose strips or tiles do not cover its {corner[0]} x {corner[1]} pixels.")
    return {tag: tags.get(tag) for tag in _TAGS}


def _unread(file: BinaryIO) -> str:
    """What the samples of a TIFF are that Pillow does not read."""
    file.seek(0)
    head = file.read(8)
    tags = ImageFileDirectory_v2(head + file.read(8) if head[2:4] in (b"+\0", b"\0+") else head)
    file.seek(tags.next)
    tags.load(file)
    kind = {1: "integer", 2: "signed integer", 3: "float"}.get(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0], "other")
    bits = ", ".join(map(str, tags.get(_BITS, (1,))))
    order = "little" if tags.prefix == b"II" else "big"
    return f"its samples are {kind}, {bits} bits, {order}-endian, photometric {tags.get(_PHOTOMETRIC)}"


def _turn(image: ImageFile.ImageFile, tags: Mapping[int, Any], notes: list[str]) -> Callable[[Array], Array]:
    """What brings the stored image upright, by its EXIF orientation. In a TIFF, Pillow has done it already."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # Pillow's parser raises much; whole pixels are worth more than the note beside them
        notes.append("not turned: its EXIF block is broken")
        turn = None
    if turn is not None or tags.get(_ORIENTATION) in _TURNS:
        notes.append("turned as its EXIF orientation says")
    return turn or (lambda stored: stored)


def _samples(
    image: Image.Image, tags: Mapping[int, Any], notes: list[str]
) -> tuple[Array, NDArray[np.uint8] | None, int]:
    """Grey samples (H, W) of the depth they have in Pillow, their opacity if any has less than 255, and their bits."""
    samples: Array
    opacity: NDArray[np.uint8] | None = None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        samples = np.asarray(image)
        bit_depth = int((tags.get(_BITS) or (16 if image.mode.startswith("I;16") else 32,))[0])
        if image.mode == "I" and bit_depth == 32 and not _is_signed(tags):
            samples = samples.view(np.uint32)  # Pillow has no such mode: it keeps the bits and calls them signed
        if isinstance(clear := image.info.get("transparency"), int):  # the one level of a PNG that is transparent
            opacity = np.where(samples == clear, 0, 255).astype(np.uint8)
    else:
        bit_depth = 1 if image.mode == "1" else 8
        if image.mode == "LAB":
            image = image.getchannel(0).point(_LIGHTNESS)
            notes.append("grey of the CIELAB lightness")
        elif image.mode == "La":  # grey times opacity, as it lies over black
            notes.append("transparency laid over black")
            image = image.getchannel(0)
        elif image.has_transparency_data:
            if image.mode not in ("RGBA", "LA"):
                image = image.convert("RGBA")
            opacity = np.asarray(image.getchannel("A"))
        samples = np.asarray(image if image.mode == "L" else image.convert("L"))
        if _is_signed(tags):
            samples = samples.view(np.int8)  # nor has it this one
    if opacity is not None and opacity.min() == 255:
        opacity = None
    if opacity is not None:
        notes.append("transparency laid over black")
    return samples, opacity, bit_depth


def _is_signed(tags: Mapping[int, Any]) -> bool:
    return (tags.get(_SAMPLE_FORMAT) or (_UNSIGNED,))[0] == _SIGNED


def _range(
    samples: Array, tags: Mapping[int, Any], bit_depth: int, source: str, notes: list[str]
) -> tuple[float, float]:
    """The values that become 0 and 1: those of the depth, or the image's own where the kind of sample has no range."""
    if samples.dtype == np.uint8:
        return 0.0, 255.0
    if samples.dtype.kind == "u" and samples.dtype.itemsize == 2:
        return 0.0, 2.0**bit_depth - 1
    low, high = float(samples.min()), float(samples.max())  # not a number, if any sample is not
    if not np.isfinite([low, high]).all():
        raise ScanError(f"{source} holds values that are not finite.")
    notes.append(f"stretched from {low:g} ... {high:g}, the range of its own samples")
    return low, high


def _scaled(samples: Array, zero: float, one: float, opacity: Array | None) -> NDArray[np.float32]:
    """Pixels in [0, 1], of which `zero` becomes 0. In bands, so that double precision takes memory for one only."""
    if samples.dtype == np.uint8 and (zero, one) == (0, 255) and opacity is None:  # single precision gives the same
        return np.divide(samples, np.float32(255), dtype=np.float32, order="C")
    pixels = np.empty(samples.shape, np.float32)
    step = max(1, _BAND // samples.shape[1])
    for row in range(0, samples.shape[0], step):
        rows = slice(row, row + step)
        band = (samples[rows].astype(np.float64) - zero) / ((one - zero) or 1)
        pixels[rows] = band if opacity is None else band * (opacity[rows] / 255)
    return pixels


def _gif_frames(file: BinaryIO) -> int:
    """Frames of a GIF, which has to be read to its end for them. Not by the image that was read: it would move on."""
    file.seek(0)
    try:
        return GifImageFile(file).n_frames
    except Exception:
        return 1
