"""Read DICOM files: what a file holds without decoding it, and any frame of it as a `Scan`.

    file = open_dicom("slice.dcm")     header only
    file.frames, file.facts[0].position
    file.read(0)                       decodes this frame and no other

The header is found in `dicom_header.py` and understood in `dicom_facts.py`; a frame is decoded in `dicom_frame.py` and
made grey by the rule of `dicom_grey.py`. Nothing that identifies a patient is taken from the file. Files of one volume
are put together in `series.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.scans.dicom_facts import Facts, digest, number, read_facts
from neurodense.scans.dicom_frame import stored_values
from neurodense.scans.dicom_grey import Look, Window, luma, measured, on_grid
from neurodense.scans.dicom_header import Header, check_values, is_dicom, read_header
from neurodense.scans.dicom_layout import COLOUR, PALETTE, Layout, read_layout
from neurodense.scans.dicom_luts import Lut, read_lut
from neurodense.scans.guard import NO_HEADER, NO_PIXELS, guarded
from neurodense.scans.memory import File, as_file
from neurodense.scans.scan import Scan

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DicomFile", "is_dicom", "open_dicom"]

_NO_PICTURE = {  # objects that do hold pixels, but no picture of a patient
    "1.2.840.10008.5.1.4.1.1.66.4": "Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.481.2": "RT Dose Storage",
}


@dataclass(frozen=True)
class DicomFile:
    """A DICOM file whose header was read.

    Attributes:
        path: Of the file.
        source: Its name in scans and errors.
        layout: How its pixels lie; `layout.rows` and `layout.columns` are the size of a frame.
        facts: What is said of each frame.
        inverted: True where small values are to be shown white.
        padding: Lowest and highest stored value that is no part of the picture, or None.
        palette: Of the colours red, green and blue, or None.
        series: A digest that files of one series share; empty where the file names none.
        instance: A digest that copies of one object share; empty where the file names none.
        series_number: Series Number; None where there is none, or it is so long that it may be a date or an identifier.
        number: Instance Number, or None.
        notes: What a reader of a result should know.
    """

    path: File
    source: str
    layout: Layout
    facts: tuple[Facts, ...] = field(repr=False)
    inverted: bool
    padding: tuple[float, float] | None
    palette: tuple[Lut, ...] | None = field(repr=False)
    series: bytes = field(repr=False)
    instance: bytes = field(repr=False)
    series_number: int | None
    number: int | None = field(repr=False)
    notes: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.layout.frames

    @property
    def colour(self) -> bool:
        """True where the frames are in colour, so that no window applies."""
        return self.palette is not None or self.layout.photometric in COLOUR

    def look(self, frame: int) -> Look | None:
        """What the header makes grey of a frame's values with; None where that must be measured."""
        facts = self.facts[frame]
        if facts.voi or facts.window:
            return facts.voi or facts.window
        plain = facts.modality is None and (facts.slope, facts.intercept) == (1, 0)
        if plain and self.layout.stored <= 8 and not self.layout.signed:
            return Window.of_range(0, 2**self.layout.stored - 1)
        return None

    def read(self, frame: int = 0, look: Look | None = None, source: str | None = None) -> Scan:
        """Decode one frame.

        Args:
            frame: From 0.
            look: What makes grey of its values, where several frames share one; the frame's own where None.
            source: The name the scan carries; the file's where None.

        Raises:
            ScanError: The frame is damaged, there is none of this number, or no decoder for it is installed.
        """
        if not 0 <= frame < self.frames:
            raise ScanError(f"{self.source} has frames 0 to {self.frames - 1}, and no frame {frame}.")
        facts = self.facts[frame]
        notes = [*self.notes, *(["spacing as measured at the detector"] if facts.at_detector else [])]
        if self.colour:
            pixels = self._luma(self._stored(frame))
        else:
            values, shown = self.values(frame)
            look = look or self.look(frame) or measured([on_grid(values, shown)])
            pixels = look.shown(values)
            pixels = np.where(shown, 1 - pixels if self.inverted else pixels, 0)
        return Scan(
            np.ascontiguousarray(pixels, dtype=np.float32),
            self.source if source is None else source,
            self.layout.stored,
            "DICOM",
            facts.spacing,  # type: ignore[arg-type]
            facts.orientation,
            tuple(notes),
        )

    def values(self, frame: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Values of a grey frame behind the modality LUT, and which are of the picture; both (rows, columns)."""
        stored, facts = self._stored(frame), self.facts[frame]
        shown = np.isfinite(stored)
        if self.padding is not None:
            shown &= (stored < self.padding[0]) | (stored > self.padding[1])
        stored = np.where(shown, stored, 0).astype(np.float64)
        return (facts.modality(stored) if facts.modality else stored * facts.slope + facts.intercept), shown

    def _stored(self, frame: int) -> NDArray[Any]:
        def decode() -> NDArray[Any]:
            with self.path.open("rb") as raw:
                file = read_header(raw, self.source).file if self.layout.inflated else raw
                return stored_values(self.layout, file, frame, self.source)

        return guarded(self.source, NO_PIXELS, decode)

    def _luma(self, stored: NDArray[Any]) -> NDArray[np.float64]:
        if self.palette is None:
            return luma(stored, 2**self.layout.stored - 1)
        return luma(np.stack([lut.shown(stored) for lut in self.palette], axis=-1), 1)


def open_dicom(path: str | File, source: str | None = None) -> DicomFile:
    """Read the header of a DICOM file, and check that the pixels it claims are there.

    Args:
        path: The file.
        source: Its name in scans and errors; the path where None.

    Raises:
        ScanError: It cannot be opened, is no DICOM file, holds no image, is damaged or truncated.
    """
    path = as_file(path)
    name = str(path) if source is None else source

    def read() -> DicomFile:
        if not is_dicom(path):
            if path.is_file():
                path.open("rb").close()  # what hinders that says more
            elif path.exists():
                raise ScanError(f"{name} is no file.")
            else:
                raise FileNotFoundError
            raise ScanError(f"{name} is no DICOM file.")
        with path.open("rb") as raw:
            header = read_header(raw, name)
            return _described(header, path, name)

    return guarded(name, NO_HEADER, read)


def _described(header: Header, path: File, source: str) -> DicomFile:
    from pydicom.uid import UID

    ds = header.dataset
    check_values(ds, None, source)
    kind = str(ds.get("SOPClassUID", "")) or header.storage
    if not header.keyword or kind in _NO_PICTURE:
        named = _NO_PICTURE.get(kind, UID(kind).name)  # pydicom names a UID that it does not know by itself
        raise ScanError(f"{source} is a DICOM object without an image: {named if named != kind else 'kind unknown'}.")
    layout = read_layout(header, source)
    check_values(ds, layout.frames, source)
    little = bool(ds.original_encoding[1])
    palette = None
    if layout.photometric == PALETTE:
        palette = tuple(
            lut
            for colour in ("Red", "Green", "Blue")
            if (lut := read_lut(ds, f"{colour}PaletteColorLookupTable", little=little, signed=layout.signed))
        )
        if len(palette) != 3:
            raise ScanError(f"{source} is damaged: its palette is missing or broken.")
    inverse = str(ds.get("PresentationLUTShape", "")).strip().upper() == "INVERSE"
    series_number, instance_number = number(ds, "SeriesNumber"), number(ds, "InstanceNumber")
    return DicomFile(
        path=path,
        source=source,
        layout=layout,
        facts=read_facts(ds, layout.frames, little),
        inverted=layout.photometric == "MONOCHROME1" or inverse,
        padding=_padding(ds, layout),
        palette=palette,
        series=digest(uid) if (uid := ds.get("SeriesInstanceUID")) else b"",
        instance=digest(uid) if (uid := ds.get("SOPInstanceUID")) else b"",
        series_number=None if series_number is None or series_number > 99_999 else int(series_number),
        number=None if instance_number is None else int(instance_number),
        notes=tuple(_notes(ds)),
    )


def _notes(ds: Dataset) -> list[str]:
    notes = []
    if str(ds.get("LossyImageCompression", "")).strip() == "01":
        notes.append("was compressed with loss")
    if str(ds.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        notes.append("has writing burned into the picture, which may name the patient")
    return notes


def _padding(ds: Dataset, layout: Layout) -> tuple[float, float] | None:
    """Lowest and highest padding value (C.7.5.1.1.2), in the sign of the stored values whatever their VR says."""
    ends = []
    for keyword in (
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "FloatPixelPaddingValue",
        "DoubleFloatPixelPaddingValue",
    ):
        if (value := number(ds, keyword)) is not None:
            if layout.keyword == "PixelData":
                half = 2 ** (layout.allocated - 1)
                value += 2 * half * ((not layout.signed and value < 0) - (layout.signed and value >= half))
            ends.append(value)
    return (min(ends), max(ends)) if ends else None
