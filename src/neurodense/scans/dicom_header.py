"""The header of a DICOM file: the elements that make its picture, found without reading the pixels.

Nothing but `WANTED` is taken from the file (Part 5, section 7; Part 10, section 7), so that no name, date, number or
place of a patient is ever in memory. UIDs serve to group files; they become digests at once.

What is accepted: Part 10 files; the same without preamble or without File Meta Information; implicit and explicit VR,
both byte orders, deflated. A header is bounded in elements and bytes whatever it claims.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from neurodense.errors import ScanError
from neurodense.scans.memory import File, as_file

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.uid import UID

WANTED = (
    "SpecificCharacterSet ImageType SOPClassUID SOPInstanceUID EchoTime EchoNumbers ImagerPixelSpacing "
    "DiffusionBValue SeriesInstanceUID SeriesNumber InstanceNumber ImagePositionPatient ImageOrientationPatient "
    "TemporalPositionIdentifier SamplesPerPixel PhotometricInterpretation PlanarConfiguration NumberOfFrames Rows "
    "Columns PixelSpacing BitsAllocated BitsStored HighBit PixelRepresentation PixelPaddingValue "
    "PixelPaddingRangeLimit FloatPixelPaddingValue DoubleFloatPixelPaddingValue BurnedInAnnotation "
    "LossyImageCompression WindowCenter WindowWidth VOILUTFunction RescaleIntercept RescaleSlope "
    "ModalityLUTSequence VOILUTSequence PresentationLUTShape RedPaletteColorLookupTableDescriptor "
    "GreenPaletteColorLookupTableDescriptor BluePaletteColorLookupTableDescriptor RedPaletteColorLookupTableData "
    "GreenPaletteColorLookupTableData BluePaletteColorLookupTableData SegmentedRedPaletteColorLookupTableData "
    "SegmentedGreenPaletteColorLookupTableData SegmentedBluePaletteColorLookupTableData "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence ExtendedOffsetTable ExtendedOffsetTableLengths"
)
"""Keywords of Part 6. Nested elements are looked at in the functional groups and LUT sequences of these alone."""

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}

IMPLICIT, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"

UNDEFINED = 0xFFFFFFFF
MAX_READS = 1_000_000  # an element takes two or three; an object of 10,000 frames has some 300,000 elements
MAX_INFLATED = 1 << 29  # bytes of a deflated file, written out
MAX_VALUE = 1 << 20  # bytes of one element; a look-up table has at most 128 KiB
MAX_VALUE_A_FRAME = 1 << 13  # more for each frame: its functional groups, its offset

_PREAMBLE = 132
_FIRST_GROUPS = (0x0002, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028)
_GROWING = {0x52009229, 0x52009230, 0x7FE00001, 0x7FE00002}  # functional groups and extended offset tables
_LONG_VRS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # 7.1.2


@dataclass(frozen=True)
class Header:
    """Where the pixels of an open file are, and what is said of them.

    Attributes:
        file: The data set as a stream; a deflated one is inflated into memory.
        dataset: The wanted elements that are there.
        storage: The media storage SOP class of the File Meta Information, or "".
        syntax: The transfer syntax that the pixels are in.
        keyword: PixelData, FloatPixelData or DoubleFloatPixelData; "" where the object holds no pixels.
        vr: VR of the pixels.
        offset: Of the first byte of their value in `file`.
        length: Bytes of the value by its element; `UNDEFINED` where it is encapsulated.
        size: Bytes of `file`.
    """

    file: BinaryIO
    dataset: Dataset
    storage: str
    syntax: UID
    keyword: str
    vr: str
    offset: int
    length: int
    size: int


def is_dicom(path: str | File) -> bool:
    """Say whether a file is DICOM, by its content.

    That is: `DICM` behind a preamble; or no preamble, and the file begins with three elements in rising order, of the
    groups and with the lengths that a file of Part 10 or a bare data set begins with. A file that cannot be opened is
    not DICOM.
    """
    try:
        path = as_file(path)
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            start = file.read(4096)
            size = file.seek(0, io.SEEK_END)
    except OSError:
        return False
    return start[128:_PREAMBLE] == b"DICM" or any(
        _begins(start, size, order, explicit) for order in "<>" for explicit in (True, False)
    )


def _begins(start: bytes, size: int, order: str, explicit: bool) -> bool:
    """True when `start` begins with three elements, the first of group 0002 or 0008, or is wholly made of fewer."""
    offset, last = 0, -1
    for count in range(3):
        if offset + 8 > len(start):
            return count > 0 and offset == size
        group, element = struct.unpack_from(f"{order}HH", start, offset)
        tag = group << 16 | element
        if group not in _FIRST_GROUPS[: 2 if count == 0 else None] or tag <= last:
            return False
        head = 8
        if explicit:
            vr = start[offset + 4 : offset + 6]
            if not (vr.isalpha() and vr.isupper()):
                return False
            if vr in _LONG_VRS:
                return count > 0  # a sequence or a blob: two plain elements before it are proof enough
            length = struct.unpack_from(f"{order}H", start, offset + 6)[0]
        else:
            length = struct.unpack_from(f"{order}I", start, offset + 4)[0]
            if length == UNDEFINED:
                return count > 0
        offset, last = offset + head + length, tag
        if length % 2 or offset > size:
            return False
    return True


def read_header(file: BinaryIO, source: str) -> Header:
    """Read the header of an open file.

    Args:
        file: Seekable, at its beginning; the header keeps it.
        source: The name of the file in errors.

    Raises:
        ScanError: The header is larger than any picture's.
        Exception: Whatever pydicom raises for a damaged one; see `guarded`.
    """
    from pydicom.filereader import read_dataset
    from pydicom.tag import BaseTag, Tag
    from pydicom.uid import UID

    file.seek(_PREAMBLE if file.read(_PREAMBLE)[128:] == b"DICM" else 0)
    meta = read_dataset(_counted(file, source), False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2)
    syntax = str(meta.get("TransferSyntaxUID", "")) or _guess(file)
    if syntax == DEFLATED:
        file = _inflate(file, source)
    implicit, little = syntax == IMPLICIT, syntax != BIG_ENDIAN

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
        return tag in PIXELS

    dataset = read_dataset(
        _counted(file, source),
        implicit,
        little,
        stop_when=at_pixels,
        specific_tags=[Tag(word) for word in WANTED.split()],
    )
    implicit = bool(dataset.original_encoding[0])  # pydicom finds out where the transfer syntax says the wrong one
    keyword, vr, length = _pixel_element(file.read(12), implicit, little)
    offset = file.tell() - 4 * (implicit and bool(keyword))
    size = file.seek(0, io.SEEK_END)
    storage = str(meta.get("MediaStorageSOPClassUID", ""))
    return Header(file, dataset, storage, UID(syntax), keyword, vr, offset, length, size)


def check_values(dataset: Dataset, frames: int | None, source: str) -> None:
    """Refuse elements so long that to parse them would take minutes.

    Args:
        dataset: With elements that were not parsed yet.
        frames: Number of frames; None leaves out the elements that grow with it.
        source: The name of the file in errors.

    Raises:
        ScanError: An element is longer than a picture's can be.
    """
    from pydicom.dataelem import RawDataElement

    for tag in dataset.keys():  # noqa: SIM118  (a data set iterates over elements, and would parse them)
        most = MAX_VALUE + MAX_VALUE_A_FRAME * (frames or 0) * (tag in _GROWING)
        element = dataset.get_item(tag)
        skipped = frames is None and tag in _GROWING
        if not skipped and isinstance(element, RawDataElement) and len(element.value or b"") > most:
            raise ScanError(f"{source} is damaged: its element {tag} is of {len(element.value or b''):,} bytes.")


class _Counted:
    """A stream that gives up after `MAX_READS`: a header of millions of empty items would take hours and gigabytes."""

    def __init__(self, file: BinaryIO, source: str) -> None:
        self.name = ""  # pydicom would quote it
        self.seek, self.tell = file.seek, file.tell
        self._read, self._left, self._source = file.read, MAX_READS, source
        start = file.tell()
        self._end = file.seek(0, io.SEEK_END)
        file.seek(start)

    def read(self, size: int) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ScanError(f"{self._source} is damaged: its header has more elements than any picture's.")
        return self._read(min(size, max(0, self._end - self.tell())))  # Python makes room for all that is asked for


def _counted(file: BinaryIO, source: str) -> BinaryIO:
    return cast(BinaryIO, _Counted(file, source))


def _guess(file: BinaryIO) -> str:
    """The transfer syntax of a file that says none, from the first element of its data set."""
    start = file.tell()
    first = file.read(6)
    file.seek(start)
    if not (first[4:6].isalpha() and first[4:6].isupper()):
        return IMPLICIT
    return BIG_ENDIAN if struct.unpack("<H", first[:2])[0] >= 0x0400 else EXPLICIT


def _inflate(file: BinaryIO, source: str) -> BinaryIO:
    """The rest of `file` written out (Part 5, section A.5)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(file.read(), MAX_INFLATED + 1)
    if len(data) > MAX_INFLATED:
        raise ScanError(f"{source} inflates to more than the {MAX_INFLATED >> 20} MiB that are read.")
    if not inflater.eof:
        raise ScanError(f"{source} is truncated: its deflated data have no end.")
    return io.BytesIO(data)


def _pixel_element(head: bytes, implicit: bool, little: bool) -> tuple[str, str, int]:
    """Keyword, VR and length of the element that begins with `head`; an empty keyword where it is no pixel element."""
    order = "<" if little else ">"
    if len(head) < 12:  # no pixels have a value of 0 bytes
        return "", "", 0
    group, element = struct.unpack_from(f"{order}HH", head)
    keyword = PIXELS.get(group << 16 | element, "")
    if implicit:
        return keyword, "OW", struct.unpack_from(f"{order}I", head, 4)[0]
    return keyword, head[4:6].decode("latin-1"), struct.unpack_from(f"{order}I", head, 8)[0]
