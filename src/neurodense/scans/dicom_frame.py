"""One frame of a DICOM file as the values that are stored in it (Part 5, section 8 and annex A).

The layout of the pixels is checked against the bytes that are there before anything is decoded. A compressed frame
must be of the size that the header says, so that a small file cannot ask for a large image. Frames are found by their
offset; the others are not read.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.scans.dicom_header import DEFLATED, UNDEFINED, Header
from neurodense.scans.read import MAX_PIXELS, MIN_SIDE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_422", "YBR_PARTIAL_420")

_DECODERS = {  # transfer syntax -> pydicom's plugins in the order of trust; one of them must be there
    "1.2.840.10008.1.2.4.50": ("pillow",),
    "1.2.840.10008.1.2.4.51": ("pillow",),
    "1.2.840.10008.1.2.4.57": ("gdcm",),
    "1.2.840.10008.1.2.4.70": ("gdcm",),
    "1.2.840.10008.1.2.4.80": ("pyjpegls",),
    "1.2.840.10008.1.2.4.81": ("pyjpegls",),
    "1.2.840.10008.1.2.4.90": ("pylibjpeg", "pillow"),
    "1.2.840.10008.1.2.4.91": ("pylibjpeg", "pillow"),
    "1.2.840.10008.1.2.4.201": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.202": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.203": ("pylibjpeg",),
    "1.2.840.10008.1.2.5": ("pylibjpeg", "pydicom"),
}
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True)
class Layout:
    """How the pixels lie in a file, checked.

    Attributes:
        syntax: UID of the transfer syntax.
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData.
        vr: VR of the pixels.
        offset: Of the first byte of their value.
        frames: Number of frames, at least 1.
        rows: Height in pixels.
        columns: Width in pixels.
        samples: 1 or 3.
        photometric: One of `GREY`, `COLOUR` or `PALETTE`.
        planar: 1 where the three samples are planes.
        allocated: Bits that a sample takes.
        stored: Bits of them that hold it.
        high: The highest of these, from 0.
        signed: Whether samples are in two's complement.
        offsets: Extended offset table and its lengths, or None.
    """

    syntax: str
    keyword: str
    vr: str
    offset: int
    frames: int
    rows: int
    columns: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    high: int
    signed: bool
    offsets: tuple[bytes, bytes] | None

    @property
    def inflated(self) -> bool:
        """True where `offset` counts in the data set written out, which is deflated in the file."""
        return self.syntax == DEFLATED


def read_layout(header: Header, source: str) -> Layout:
    """The layout of the pixels, which must be there in full.

    Raises:
        ScanError: It is none that is read, or the file is too short for it.
    """
    ds = header.dataset
    real = {"FloatPixelData": 32, "DoubleFloatPixelData": 64}.get(header.keyword)
    allocated = real or _whole(ds, "BitsAllocated", source)
    stored = real or _whole(ds, "BitsStored", source, allocated)
    tables = (ds.get("ExtendedOffsetTable"), ds.get("ExtendedOffsetTableLengths"))
    layout = Layout(
        syntax=str(header.syntax),
        keyword=header.keyword,
        vr=header.vr,
        offset=header.offset,
        frames=_whole(ds, "NumberOfFrames", source, 1) or 1,
        rows=_whole(ds, "Rows", source),
        columns=_whole(ds, "Columns", source),
        samples=_whole(ds, "SamplesPerPixel", source, 1),
        photometric=str(ds.get("PhotometricInterpretation", "")).strip().upper(),
        planar=_whole(ds, "PlanarConfiguration", source, 0),
        allocated=allocated,
        stored=stored,
        high=real - 1 if real else _whole(ds, "HighBit", source, stored - 1),
        signed=real is None and _whole(ds, "PixelRepresentation", source, 0) == 1,
        offsets=tables if all(isinstance(table, bytes) for table in tables) else None,
    )
    if problem := _problem(layout):
        raise ScanError(f"{source} {problem}")
    (_check_encapsulated if header.syntax.is_encapsulated else _check_native)(layout, header, source)
    return layout


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
    from pydicom.encaps import encapsulate, get_frame
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

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
    decoder = get_decoder(layout.syntax)
    file.seek(layout.offset)
    if not UID(layout.syntax).is_encapsulated:
        options |= {"number_of_frames": layout.frames, "correct_unused_bits": False}
        return _used_bits(decoder.as_array(file, index=frame, **options)[0], layout)

    data = get_frame(file, frame, number_of_frames=layout.frames, extended_offsets=layout.offsets)
    if layout.syntax != _RLE and codestream_size(data) != (layout.rows, layout.columns, layout.samples):
        raise ScanError(f"{source} is damaged: a compressed frame is not of the size that the header says.")
    wanted = _DECODERS[layout.syntax]
    plugin = next((name for name in wanted if name in decoder.available_plugins), None)
    if plugin is None:
        name = UID(layout.syntax).name
        raise ScanError(f"{source} is compressed ({name}); its decoder is not installed.", _INSTALL)
    options |= {"number_of_frames": 1, "correct_unused_bits": layout.syntax != _RLE}
    try:
        pixels, _ = decoder.as_array(encapsulate([data]), index=0, decoding_plugin=plugin, **options)
    except Exception:
        pixels = None
    if pixels is None:
        raise ScanError(f"{source} is damaged: a compressed frame cannot be decoded.")
    return _used_bits(pixels, layout) if layout.syntax == _RLE else pixels


_INSTALL = "pip install 'neurodense[dicom]'"


def codestream_size(data: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 codestream says; None where it is none.

    ISO/IEC 10918-1 B.2.2 (frame header), ISO/IEC 15444-1 A.5.1 (SIZ).
    """
    start = data.find(b"\xff\x4f\xff\x51")  # behind the boxes of a JP2 file, if there are any
    if start >= 0 and not data.startswith(b"\xff\xd8"):
        if len(data) < start + 42:
            return None
        width, height, left, top = struct.unpack_from(">4I", data, start + 8)
        return height - top, width - left, struct.unpack_from(">H", data, start + 40)[0]
    position = 2
    while data.startswith(b"\xff\xd8") and position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            rows, columns, components = struct.unpack_from(">HHB", data, position + 5)
            return rows, columns, components
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def _whole(ds: Dataset, keyword: str, source: str, default: int | None = None) -> int:
    value = ds.get(keyword)
    try:
        return int(default if value is None or value == "" else value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ScanError(f"{source} is damaged: its {keyword} is missing or no number.") from None


def _problem(at: Layout) -> str | None:
    """What is impossible or not read in a layout."""
    size = f"{at.columns} x {at.rows} pixels"
    if at.photometric not in (*GREY, *COLOUR, PALETTE):
        return f"has a photometric interpretation that is not read; known are {', '.join((*GREY, PALETTE, *COLOUR))}."
    if at.samples != (3 if at.photometric in COLOUR else 1):
        return f"is damaged: {at.samples} samples a pixel do not go with {at.photometric}."
    if at.rows < MIN_SIDE or at.columns < MIN_SIDE:
        return f"is {size}; each side must have at least {MIN_SIDE}."
    if at.rows * at.columns > MAX_PIXELS:
        return f"is {size}; at most {MAX_PIXELS:,} in all are read."
    if at.frames < 1:
        return f"is damaged: it claims {at.frames} frames."
    if at.allocated not in (1, 8, 16, 32, 64) or not 1 <= at.stored <= at.high + 1 <= at.allocated:
        return f"is damaged: {at.stored} bits stored up to bit {at.high} of {at.allocated} allocated is impossible."
    return None


def _check_native(at: Layout, header: Header, source: str) -> None:
    samples = 2 if at.photometric == "YBR_FULL_422" else at.samples  # two chroma samples serve two pixels
    needed = math.ceil(at.rows * at.columns * samples * at.frames * at.allocated / 8)
    if (there := min(header.length, header.size - header.offset)) < needed:
        raise ScanError(
            f"{source} is truncated or damaged: {at.frames} frames of {at.columns} x {at.rows} need {needed:,} bytes, "
            f"and {max(there, 0):,} are there."
        )


def _check_encapsulated(at: Layout, header: Header, source: str) -> None:
    """Walk over the fragments: each must end within the file, and each frame has at least one."""
    if at.syntax not in _DECODERS:
        name = header.syntax.name if header.syntax.name != header.syntax else "an unknown way"
        raise ScanError(f"{source} is compressed in a way that is not read: {name}.")
    position, fragments = header.offset, -1  # the first item is the basic offset table
    while position + 8 <= header.size:
        header.file.seek(position)
        tag, length = struct.unpack("<II", header.file.read(8))
        if tag != 0xE000FFFE:
            break
        position += 8 + length
        fragments += 1
        if length == UNDEFINED or position > header.size:
            raise ScanError(f"{source} is truncated or damaged: its compressed pixels end before they should.")
    if fragments < at.frames:
        raise ScanError(f"{source} is truncated or damaged: {at.frames} frames, {max(fragments, 0)} are there.")
    if at.offsets and not _within(at.offsets, at.frames, header):
        raise ScanError(f"{source} is damaged: its extended offset table points out of the file.")


def _within(tables: tuple[bytes, bytes], frames: int, header: Header) -> bool:
    if len(tables[0]) != 8 * frames or len(tables[1]) != 8 * frames:
        return False
    offsets, lengths = (np.frombuffer(table, "<u8").astype(np.float64) for table in tables)
    return bool((header.offset + offsets + lengths).max() < header.size)


def _used_bits(pixels: NDArray[Any], at: Layout) -> NDArray[Any]:
    """Integers with the bits outside the stored ones gone, and the sign extended (Part 5, 8.1.1)."""
    if at.keyword != "PixelData" or at.allocated in (at.stored, 1):
        return pixels
    pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    return (pixels << (at.allocated - 1 - at.high)) >> (at.allocated - at.stored)
