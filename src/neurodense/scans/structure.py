"""What the structure of a picture file says, before a decoder is trusted with it.

Pillow's decoders pass over some lies and take hours over others; what is looked at here are those that the fuzz
(`benchmarks/fuzz.py`) or a reading of Pillow found.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from neurodense.errors import ScanError

_MAX_PAGES = 100_000  # that are counted
_MAX_TAGS = 1000  # of a TIFF's first page: Pillow takes 13 microseconds for each, and real files have a few dozen
MAX_PASSES = 100  # of a JPEG, as libtiff has it: real files have a dozen, and each may cost a whole decoding
START_OF_PASS = b"\xff\xda"  # T.81, table B.1

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a pixel, by the colour type of a PNG
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: first column and row, steps to the next (PNG 3rd edition, 8.1)."""


class Passes:
    """A JPEG file that ends with an error once it had more passes (scans, T.81 B.2.3) than any real one.

    A pass over a large image takes 14 bytes to ask for and tens of milliseconds to do, so that a small file could
    keep a reader for hours.
    """

    def __init__(self, file: BinaryIO, source: str) -> None:
        self._file, self._source, self._passes = file, source, 0
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """The next bytes, or the error."""
        data = self._file.read(size)
        self._passes += data.count(START_OF_PASS)
        if self._passes > MAX_PASSES:
            raise ScanError(f"{self._source} is a JPEG of more than {MAX_PASSES} passes, no real one has so many.")
        return data


def check_png(file: BinaryIO, most: int) -> None:
    """Compare the check sum of every chunk, and the amount of compressed pixels with the size.

    Pillow passes over the check sums of the pixels, and leaves rows that are not there black.

    Args:
        file: An open PNG.
        most: Pixels beyond which the image will be refused anyway, so that nothing is unpacked.

    Raises:
        OSError: One is wrong; says which.
    """
    file.seek(8)
    inflate = zlib.decompressobj()
    missing, kind = 0, b""
    while kind != b"IEND":
        header = file.read(8)
        if len(header) < 8:
            raise OSError("it is cut off")
        length, kind = struct.unpack(">I4s", header)
        crc = zlib.crc32(kind)
        while length > 0:
            part = file.read(min(length, 2**16))
            if not part:
                raise OSError("it is cut off")
            crc, length = zlib.crc32(part, crc), length - len(part)
            if kind == b"IHDR":
                missing = _inflated(part, most)
            while kind == b"IDAT" and missing > 0 and part and not inflate.eof:
                missing -= len(inflate.decompress(part, 2**20))
                part = inflate.unconsumed_tail
        if file.read(4) != crc.to_bytes(4, "big"):
            raise OSError(f"the check sum of its {kind.decode('latin-1')!r} chunk is wrong")
    if missing > 0:
        raise OSError("it holds fewer pixels than it says")


def _inflated(header: bytes, most: int) -> int:
    """Bytes that the pixels of a PNG have before they are compressed; 0 where it is not to be looked at."""
    if len(header) != 13 or header[9] not in _SAMPLES:
        return 0  # Pillow refuses it
    width, height, bits, kind = struct.unpack(">IIBB", header[:10])
    if width * height > most:
        return 0
    passes = _ADAM7 if header[12] else ((0, 0, 1, 1),)
    sizes = ((-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in passes)
    return sum(rows * (1 + -(-columns * bits * _SAMPLES[kind] // 8)) for columns, rows in sizes if columns > 0)


def count_pages(file: BinaryIO, source: str) -> int:
    """Count the directories of a TIFF, up to the first that cannot be reached, came before or is one too many.

    Pillow's own count reads all that they point to, and takes minutes where a hostile file makes them overlap.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:1] == b"I" else ">"
    big = 43 in head[2:4]
    number, entry, place = ("Q", 20, "Q") if big else ("H", 12, "I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + place, head, 8 if big else 4)
        while at and at < 2**63 and at not in seen and len(seen) < _MAX_PAGES:
            file.seek(at)
            (entries,) = struct.unpack(order + number, file.read(struct.calcsize(number)))
            if entries > _MAX_TAGS and not seen:
                raise ScanError(f"{source} is a TIFF with {entries:,} tags; no more than {_MAX_TAGS:,} are read.")
            seen.add(at)
            file.seek(at + struct.calcsize(number) + entry * entries)
            (at,) = struct.unpack(order + place, file.read(struct.calcsize(place)))
    except (struct.error, OSError, ValueError, OverflowError):
        pass
    return max(1, len(seen))
