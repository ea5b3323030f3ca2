"""How the pixels lie in a DICOM file, checked against the bytes that are there (Part 3, C.7.6.3; Part 5, A.4, 8)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurodense.errors import ScanError
from neurodense.scans.dicom_header import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, UNDEFINED, Header
from neurodense.scans.read import MAX_PIXELS, MIN_SIDE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

GREY = ("MONOCHROME1", "MONOCHROME2")
PALETTE = "PALETTE COLOR"
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")

NATIVE = (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED)
"""Transfer syntaxes with plain pixels."""

DECODERS = {  # transfer syntax -> pydicom's plugins in the order of trust; one of them must be there
    "1.2.840.10008.1.2.4.50": ("pillow",),
    "1.2.840.10008.1.2.4.51": ("pillow",),  # of 8 bits
    "1.2.840.10008.1.2.4.57": ("gdcm",),
    "1.2.840.10008.1.2.4.70": ("gdcm",),
    "1.2.840.10008.1.2.4.80": ("pyjpegls",),
    "1.2.840.10008.1.2.4.81": ("pyjpegls",),
    "1.2.840.10008.1.2.4.90": ("pylibjpeg", "pillow"),
    "1.2.840.10008.1.2.4.91": ("pylibjpeg", "pillow"),
    "1.2.840.10008.1.2.4.201": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.202": ("pylibjpeg",),
    "1.2.840.10008.1.2.4.203": ("pylibjpeg",),
    "1.2.840.10008.1.2.5": ("pydicom",),  # pylibjpeg-rle panics over damaged data
}
"""Transfer syntaxes with compressed frames."""

_MAX_FRAGMENTS = 4096  # of a frame, on average; each costs a seek


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
    if layout.syntax in NATIVE:
        _check_native(layout, header, source)
    elif layout.syntax in DECODERS:
        _check_encapsulated(layout, header, source)
    else:
        name = header.syntax.name  # pydicom names a UID that it does not know by itself
        raise ScanError(f"{source} is compressed in a way that is not read: {name if name != header.syntax else '?'}.")
    return layout


def _whole(ds: Dataset, keyword: str, source: str, default: int | None = None) -> int:
    value = ds.get(keyword)
    if value is None or value == "":
        value = default
    if not isinstance(value, int):  # as pydicom gives US and IS
        raise ScanError(f"{source} is damaged: its {keyword} is missing or no number.")
    return int(value)


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
        return f"has pixels of {at.stored} bits, the highest number {at.high}, in {at.allocated}; that is not read."
    if at.allocated == 1 and (at.samples > 1 or at.syntax not in NATIVE or at.syntax == BIG_ENDIAN):
        return "has single bits that are in colour, compressed or big-endian; that is not read."
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
        if (fragments == 0 and length > 4 * at.frames) or fragments > _MAX_FRAGMENTS * at.frames:
            raise ScanError(f"{source} is damaged: its compressed pixels are in more pieces than frames can have.")
    if fragments < at.frames:
        raise ScanError(f"{source} is truncated or damaged: {at.frames} frames, {max(fragments, 0)} are there.")
    if at.offsets and not _within(at.offsets, at.frames, header):
        raise ScanError(f"{source} is damaged: its extended offset table points out of the file.")


def _within(tables: tuple[bytes, bytes], frames: int, header: Header) -> bool:
    if len(tables[0]) != 8 * frames or len(tables[1]) != 8 * frames:
        return False
    offsets, lengths = (np.frombuffer(table, "<u8").astype(np.float64) for table in tables)
    return bool((header.offset + offsets + lengths).max() < header.size)
