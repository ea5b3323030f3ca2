"""Sound files of every format that is read, ways to damage them, and what reading a damaged one may end in.

`tests/test_fuzz.py` draws a few hundred damages with hypothesis, `python -m benchmarks fuzz` many in processes of
their own. A format is added by one line of `seeds`.
"""

from __future__ import annotations

import gzip
import io
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.volumes import dicom_files, nifti_volume
from neurodense.errors import ScanError
from neurodense.scans.study import read_study


@dataclass(frozen=True)
class Seed:
    """A sound file.

    Attributes:
        name: The line of the table that it counts in.
        content: Its bytes, as they are damaged.
        pack: What makes the file of them: mends check sums, or compresses. Left out for a quarter of the damaged files
            where `content` is a file as it is.
        packed_only: True where `content` is none.
    """

    name: str
    content: bytes = field(repr=False)
    pack: Callable[[bytes], bytes] | None = None
    packed_only: bool = False


def seeds(pixels: NDArray[np.uint8]) -> list[Seed]:
    """Files of every format that show `pixels`, uint8 of shape (H, W)."""
    grey = Image.fromarray(pixels)
    colour = Image.merge("RGB", (grey, grey.point(lambda value: value // 2), grey.rotate(90)))
    clear = Image.merge("LA", (grey, grey.rotate(180)))
    deep = Image.fromarray(pixels.astype(np.uint16) * 16)
    real = Image.fromarray(pixels.astype(np.float32) - 7.5)
    turned = Image.Exif()
    turned[274] = 6
    pages: dict[str, Any] = {"save_all": True, "append_images": [grey.rotate(90), grey.rotate(180)]}
    return [
        Seed("JPEG baseline", _saved(grey, "JPEG", exif=turned)),
        Seed("JPEG baseline", _saved(colour, "JPEG")),
        Seed("JPEG progressive", _saved(colour, "JPEG", progressive=True)),
        Seed("JPEG CMYK", _saved(colour.convert("CMYK"), "JPEG")),
        Seed("PNG 8 bit", _saved(grey, "PNG", exif=turned), png_sums),
        Seed("PNG 8 bit", _saved(colour, "PNG"), png_sums),
        Seed("PNG 8 bit", _saved(clear, "PNG"), png_sums),
        Seed("PNG 16 bit", _saved(deep, "PNG"), png_sums),
        Seed("PNG palette", _saved(colour.quantize(16), "PNG", transparency=3), png_sums),
        Seed("PNG 1 bit", _saved(grey.convert("1"), "PNG"), png_sums),
        Seed("PNG interlaced", interlaced(pixels), png_sums),
        Seed("PNG animated", _saved(grey, "PNG", **pages), png_sums),
        Seed("TIFF 8 bit", _saved(grey, "TIFF", exif=turned)),
        Seed("TIFF 8 bit", _saved(colour, "TIFF")),
        Seed("TIFF 16 bit", _saved(deep, "TIFF")),
        Seed("TIFF float", _saved(real, "TIFF")),
        Seed("TIFF float", _saved(real, "TIFF", compression="tiff_lzw")),
        Seed("TIFF LZW", _saved(deep, "TIFF", compression="tiff_lzw")),
        Seed("TIFF deflate", _saved(colour, "TIFF", compression="tiff_adobe_deflate")),
        Seed("TIFF fax", _saved(grey.convert("1"), "TIFF", compression="group4")),
        Seed("TIFF JPEG", _saved(colour, "TIFF", compression="jpeg")),
        Seed("TIFF LAB, YCbCr", _saved(colour.convert("YCbCr"), "TIFF")),
        Seed("TIFF LAB, YCbCr", _saved(Image.merge("LAB", colour.split()), "TIFF")),
        Seed("TIFF pages", _saved(grey, "TIFF", **pages)),
        Seed("BigTIFF", _saved(grey, "TIFF", big_tiff=True)),
        Seed("BMP", _saved(grey, "BMP")),
        Seed("BMP", _saved(colour, "BMP")),
        Seed("BMP", _run_lengths(pixels)),
        Seed("WebP lossy", _saved(colour, "WEBP")),
        Seed("WebP lossless", _saved(clear.convert("RGBA"), "WEBP", lossless=True, exif=turned)),
        Seed("WebP animated", _saved(grey, "WEBP", **pages)),
        Seed("GIF", _saved(colour.quantize(16), "GIF", transparency=3)),
        Seed("GIF", _saved(grey, "GIF", **pages)),
        *(Seed(name, content) for name, content in dicom_files()),
        Seed("NIfTI", nifti_volume(pixels)),
        Seed("NIfTI gzip", nifti_volume(pixels), gzip.compress, packed_only=True),
        Seed("NIfTI gzip", gzip.compress(nifti_volume(pixels))),
    ]


def picture(path: Path | None = None) -> NDArray[np.uint8]:
    """Pixels to make seeds from, 64 x 64, so that a damage often hits a header: of `path`, or drawn."""
    if path is not None:
        with Image.open(path) as image:
            return np.array(image.convert("L").resize((64, 64)), np.uint8)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    head = 200 * (x**2 * 1.5 + y**2 < 0.8) - 90 * (x**2 + y**2 < 0.4) + 25 * np.sin(9 * x) * np.cos(7 * y)
    return np.array(np.clip(head, 0, 255), np.uint8)


def read_or_refuse(path: Path) -> bool:
    """True where `path` gave what reading promises, False where it gave the one error that it may give.

    Raises:
        AssertionError: It gave anything else, or warned.
        Exception: It raised anything else.
    """
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        try:
            result = read_study(path)
        except ScanError as error:
            message, result = error.message, None
    assert result is not None or message.startswith(str(path)), message
    assert not escaped, f"it warned: {escaped[0].message}"
    for scan in () if result is None else result.scans:
        pixels = scan.pixels
        assert pixels.dtype == np.float32, pixels.dtype
        assert pixels.ndim == 2, pixels.shape
        assert pixels.flags.c_contiguous, "not C-contiguous"
        assert 0 <= pixels.min() <= pixels.max() <= 1, f"from {pixels.min()} to {pixels.max()}"
        assert scan.source.startswith(str(path)), scan.source
    return result is not None


def damaged(seed: Seed, chance: random.Random) -> bytes:
    """A file made of the seed's content with one to four damages drawn from `chance`."""
    content = seed.content
    for _ in range(chance.choice((1, 1, 2, 4))):
        damage: Callable[[bytes, random.Random], bytes] = chance.choice(_DAMAGES)
        content = damage(content, chance)
    if seed.pack and (seed.packed_only or chance.random() < 0.75):
        content = seed.pack(content)
    return content


def _flip(content: bytes, chance: random.Random) -> bytes:
    """Turn up to eight bits over."""
    changed = bytearray(content)
    for _ in range(chance.randint(1, 8) if changed else 0):
        changed[_place(content, chance)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _insert(content: bytes, chance: random.Random) -> bytes:
    place = _place(content, chance)
    return content[:place] + chance.randbytes(chance.choice((1, 2, 4, 40))) + content[place:]


def _delete(content: bytes, chance: random.Random) -> bytes:
    place = _place(content, chance)
    return content[:place] + content[place + chance.choice((1, 2, 4, 40)) :]


def _truncate(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randint(0, len(content))]


def _splice(content: bytes, chance: random.Random) -> bytes:
    """Put a number that headers are known to lie with where a field may be."""
    size = chance.choice((1, 2, 4, 8))
    number = chance.choice((0, 1, 2, 3, 7, 8, 64, 127, 128, 255, 256, 8191, 8192, 2**15 - 1, 2**15, 60_000, 2**16 - 1))
    number = chance.choice((number, number, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, len(content)))
    lie: bytes = (number % 256**size).to_bytes(size, chance.choice(("little", "big")))
    place = _place(content, chance)
    return content[:place] + lie + content[place + size :]


def _shuffle(content: bytes, chance: random.Random) -> bytes:
    """Swap two chunks, or repeat one."""
    edges = _edges(content)
    if len(edges) < 4 or chance.random() < 0.3:
        edges = sorted(chance.randint(0, len(content)) for _ in range(5))
    chunks = [content[a:b] for a, b in pairwise(edges)]
    first, second = chance.randrange(len(chunks)), chance.randrange(len(chunks))
    if chance.random() < 0.5:
        chunks[first], chunks[second] = chunks[second], chunks[first]
    else:
        chunks[first:first] = [chunks[second]] * chance.choice((1, 1, 2, 300))
    return content[: edges[0]] + b"".join(chunks) + content[edges[-1] :]


_DAMAGES = (_flip, _insert, _delete, _truncate, _splice, _splice, _splice, _shuffle)


def _place(content: bytes, chance: random.Random) -> int:
    """A position, more often near the beginning, where the headers are, or near the end, where a TIFF has its own."""
    last = max(len(content) - 1, 0)
    low, high = chance.choice(((0, 64), (0, 512), (0, last), (last - 256, last)))
    return chance.randint(max(low, 0), min(high, last))


def _edges(content: bytes) -> list[int]:
    """Where chunks of a PNG, RIFF or JPEG file and entries of a TIFF's directory begin, as far as they follow."""
    edges: list[int] = []
    try:
        if content.startswith((b"II*\0", b"MM\0*")):
            order = "<" if content[:1] == b"I" else ">"
            place = struct.unpack_from(f"{order}I", content, 4)[0]
            return [place + 2 + 12 * k for k in range(struct.unpack_from(f"{order}H", content, place)[0] + 1)]
        place, jpeg = {b"\x89PNG": (8, False), b"RIFF": (12, False)}.get(content[:4], (2, content[:2] == b"\xff\xd8"))
        while place < len(content) and (edges or jpeg or place > 2):
            edges.append(place)
            if content[:4] == b"\x89PNG":
                place += 12 + struct.unpack_from(">I", content, place)[0]
            elif content[:4] == b"RIFF":
                place += 8 + (struct.unpack_from("<I", content, place + 4)[0] + 1) // 2 * 2
            else:
                place += 2 + struct.unpack_from(">H", content, place + 2)[0]
    except struct.error:
        pass
    return edges


def _saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def png_sums(content: bytes) -> bytes:
    """A PNG with the check sums of its chunks put right, as far as the chunks can be followed."""
    mended, place = bytearray(content), 8
    while place + 12 <= len(mended):
        end = place + 8 + struct.unpack_from(">I", mended, place)[0]
        if end + 4 > len(mended):
            break
        struct.pack_into(">I", mended, end, zlib.crc32(mended[place + 4 : end]))
        place = end + 4
    return bytes(mended)


def interlaced(pixels: NDArray[np.uint8]) -> bytes:
    """An 8-bit grey PNG in the seven passes of Adam7 (PNG 3rd edition, 8.1), which Pillow does not write."""
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = (pixels[row::down, column::right] for row, column, down, right in steps)
    lines = b"".join(b"\0" + line.tobytes() for part in passes for line in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 0, 0, 0, 1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(data)) + kind + data + bytes(4) for kind, data in chunks)
    return png_sums(b"\x89PNG\r\n\x1a\n" + body)


def _run_lengths(pixels: NDArray[np.uint8]) -> bytes:
    """An 8-bit BMP in RLE8, which Pillow does not write: each row as runs of one, then the end of line."""
    rows = b"".join(b"".join(bytes((1, value)) for value in row) + b"\0\0" for row in pixels[::-1]) + b"\0\1"
    palette = b"".join(bytes((k, k, k, 0)) for k in range(256))
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, pixels.shape[1], pixels.shape[0], 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + palette + rows
