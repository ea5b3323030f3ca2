"""What the head of a JPEG, JPEG-LS or JPEG 2000 codestream says, before a decoder written in C sees it.

A decoder allocates what the head asks for, and gdcm ends the whole process over a head that is no head. So each marker
segment up to the first scan must be where the one before it says (ISO/IEC 10918-1 B.1, ISO/IEC 14495-1 C).
"""

from __future__ import annotations

import struct

_SOI, _EOI, _SOS, _JPEG_LS = 0xD8, 0xD9, 0xDA, 0xF7
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # DHT, JPG, DAC lie among the frame headers SOF0 to SOF15
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a segment
_J2K = b"\xff\x4f\xff\x51"  # SOC, SIZ

Shape = tuple[int, int, int, int]


def codestream_shape(data: bytes) -> Shape | None:
    """Rows, columns, components and bits a sample; None where the head is broken or of something else."""
    return _jpeg(data) if data[:2] == bytes([0xFF, _SOI]) else _jpeg_2000(data)


def _jpeg(data: bytes) -> Shape | None:
    shape: Shape | None = None
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker in (0x00, _EOI, *_ALONE) or length < 2 or at + 2 + length > len(data):
            return None
        if marker == _SOS:
            return shape
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == _JPEG_LS:
            if shape is not None or length < 8:
                return None
            bits, rows, columns, components = struct.unpack_from(">BHHB", data, at + 4)
            if not 2 <= bits <= 16 or length != 8 + 3 * components:
                return None
            shape = rows, columns, components, bits
        at += 2 + length
    return None


def _jpeg_2000(data: bytes) -> Shape | None:
    """SIZ, ISO/IEC 15444-1 A.5.1."""
    start = data.find(_J2K)  # behind the boxes of a JP2 file, if there are any
    if start < 0 or len(data) < start + 43:
        return None
    width, height, left, top = struct.unpack_from(">4I", data, start + 8)
    components, bits = struct.unpack_from(">HB", data, start + 40)
    return height - top, width - left, components, (bits & 0x7F) + 1
