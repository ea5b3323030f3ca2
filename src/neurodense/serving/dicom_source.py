"""The images that a result is of: their headers, with patient and study, which the result has to carry on.

The readers of `scans` take nothing that identifies a patient. An object for an archive must name the patient, or it
would be filed under nobody, so that the headers are read here once more and in full but for the pixels. What is read
goes into the objects and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from neurodense.errors import ScanError
from neurodense.scans.guard import NO_HEADER, guarded
from neurodense.scans.memory import File
from neurodense.scans.series import Series

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NEEDED: Final = {"StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"}
_MAY_BE_EMPTY: Final = {  # type 2 in the modules Patient and General Study: there, if without a value
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A series and the headers of its files.

    Attributes:
        series: The slices, in order.
        headers: Of each file.
    """

    series: Series
    headers: dict[File, Dataset] = field(repr=False)

    @property
    def first(self) -> Dataset:
        """The header of the first slice's file."""
        return self.headers[self.series.slices[0].file.path]

    @property
    def uids(self) -> list[str]:
        """SOP Instance UID of each file."""
        return [str(header.SOPInstanceUID) for header in self.headers.values()]

    def slice(self, number: int) -> tuple[Dataset, int | None]:
        """Header of the file that slice `number` (from 1) is in, and the frame (from 1) if it has several."""
        one = self.series.slices[number - 1]
        return self.headers[one.file.path], one.frame + 1 if one.file.frames > 1 else None

    def references(self, numbers: Iterable[int]) -> dict[str, tuple[str, list[int]]]:
        """SOP Instance UID -> SOP Class UID and frames (none for the whole) of the slices with these numbers."""
        found: dict[str, tuple[str, list[int]]] = {}
        for header, frame in map(self.slice, numbers):
            _, frames = found.setdefault(str(header.SOPInstanceUID), (str(header.SOPClassUID), []))
            if frame is not None:
                frames.append(frame)
        return found


def read_source(series: Series) -> Source:
    """Read the headers of a series.

    Raises:
        ScanError: A file has no UIDs that could be referred to, or the files are of several studies.
    """
    headers = {path: guarded(series.source, NO_HEADER, partial(_header, path)) for path in series.paths}
    for path, header in headers.items():
        if missing := [word for word in sorted(_NEEDED) if not header.get(word)]:
            raise ScanError(f"{path} has no {missing[0]}, so that no result can refer to it.")
    if len({header.StudyInstanceUID for header in headers.values()}) > 1:
        raise ScanError(f"{series.source} has files of several studies; a result belongs to one.")
    return Source(series, headers)


def _header(path: File) -> Any:
    from pydicom import dcmread

    with path.open("rb") as file:
        header = dcmread(file, stop_before_pixels=True, force=True)
    header.decode()
    for word in _MAY_BE_EMPTY:
        if word not in header:
            setattr(header, word, "")
    return header
