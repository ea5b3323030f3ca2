"""One frame of a DICOM file as the values that are stored in it (Part 5, section 8 and annex A).

A compressed frame must be of the size that the header says, so that a small file cannot ask for a large image. Frames
are found by their offset; the others are not read.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.scans.codestream import codestream_shape
from neurodense.scans.dicom_layout import DECODERS, NATIVE, Layout
from neurodense.scans.heard import heard

_COMPLAINTS = (
    "Bogus", "Corrupt", "Empty", "Fractional", "Huffman", "Image too big", "Improper", "Inconsistent", "Invalid",
    "Missing", "Not a JPEG", "Premature", "Quantization table", "Requested", "Sorry", "Unexpected", "Unknown",
    "Unsupported",
)  # fmt: skip
_WRONG_BUILD = "Unsupported JPEG data precision"  # of gdcm's libjpeg for 8 bits, before the one for 12 is tried
_EXTENDED, _LOSSLESS, _RLE = "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.5"


def stored_values(layout: Layout, file: BinaryIO, frame: int, source: str) -> NDArray[Any]:
    """Decode one frame.

    Args:
        layout: Of `file`.
        file: The open data set.
        frame: From 0.
        source: The name of the file in errors.

    Returns:
        Integers or floats as stored, shape (rows, columns); of colours RGB, shape (rows, columns, 3). Bits outside the
        stored ones (overlays, Part 5, 8.1.1) are gone.

    Raises:
        ScanError: The frame is damaged, of another size than the header says, or no decoder for it is installed.
    """
    from pydicom.encaps import get_frame
    from pydicom.pixels.decoders.base import get_decoder

    options: dict[str, Any] = {
        "pixel_keyword": layout.keyword,
        "pixel_vr": layout.vr,
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "planar_configuration": layout.planar,
        "bits_allocated": layout.allocated,
        "bits_stored": layout.stored,
        "pixel_representation": int(layout.signed),
    }
    file.seek(layout.offset)
    if layout.allocated == 1:
        return _bits(layout, file, frame)
    if layout.syntax in NATIVE:
        options |= {"number_of_frames": layout.frames, "correct_unused_bits": False}
        pixels, now = get_decoder(layout.syntax).as_array(file, index=frame, **options)
    else:
        data = get_frame(file, frame, number_of_frames=layout.frames, extended_offsets=layout.offsets)
        pixels, now = _decoded(data, layout, options, source)
    if layout.samples == 3 and now["photometric_interpretation"] != "RGB":
        raise ScanError(f"{source} is damaged: {layout.photometric} does not go with its transfer syntax.")
    return _used_bits(pixels, layout) if layout.syntax in (*NATIVE, _RLE) else pixels


def _decoded(
    data: bytes, layout: Layout, options: dict[str, Any], source: str
) -> tuple[NDArray[Any], dict[str, str | int]]:
    """Decode a compressed frame; also gives what it became, by the names of pydicom."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    if layout.syntax != _RLE:
        shape = codestream_shape(data)
        if shape is None or shape[3] > layout.allocated:
            raise ScanError(f"{source} is damaged: a compressed frame has no head that can be read.")
        if shape[:3] != (layout.rows, layout.columns, layout.samples):
            raise ScanError(f"{source} is damaged: a compressed frame is not of the size that the header says.")
    # gdcm decodes 12-bit JPEG Extended, which pydicom's plugin refuses to hand to it under its own name
    syntax = _LOSSLESS if layout.syntax == _EXTENDED and layout.stored > 8 else layout.syntax
    decoder = get_decoder(syntax)
    plugin = next((name for name in DECODERS[syntax] if name in decoder.available_plugins), None)
    if plugin is None:
        raise ScanError(
            f"{source} is compressed as {UID(layout.syntax).name}, and no decoder of that is installed.",
            "pip install 'neurodense[dicom]'",
        )
    options |= {"number_of_frames": 1} | ({"correct_unused_bits": False} if syntax == _RLE else {})
    listening: AbstractContextManager[list[str]] = heard(_is_of_libjpeg) if plugin == "gdcm" else nullcontext([])
    with listening as complaints:
        pixels = decoder.as_array(encapsulate([data]), index=0, decoding_plugin=plugin, **options)
    if damage := next((line for line in complaints if not line.startswith(_WRONG_BUILD)), None):
        raise ScanError(f"{source} is damaged: {damage}.")  # libjpeg fills in what is missing, and says so
    return pixels


def _is_of_libjpeg(line: str) -> bool:
    """Whether a line is one that libjpeg writes of an image: how its messages begin (jerror.h)."""
    return line.startswith(_COMPLAINTS)


def _bits(layout: Layout, file: BinaryIO, frame: int) -> NDArray[np.uint8]:
    """A frame of single bits, which may begin within a byte (Part 5, 8.2; the lowest bit first)."""
    count = layout.rows * layout.columns
    first, skip = divmod(frame * count, 8)
    file.seek(layout.offset + first)
    data = np.frombuffer(file.read((skip + count + 7) // 8), np.uint8)
    return np.unpackbits(data, bitorder="little")[skip : skip + count].reshape(layout.rows, layout.columns)


def _used_bits(pixels: NDArray[Any], at: Layout) -> NDArray[Any]:
    """Integers with the bits outside the stored ones gone, and the sign extended (Part 5, 8.1.1)."""
    if at.keyword != "PixelData" or at.allocated in (at.stored, 1):
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return (pixels << (at.allocated - 1 - at.high)) >> (at.allocated - at.stored)
