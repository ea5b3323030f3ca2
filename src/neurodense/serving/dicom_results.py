"""A series in, DICOM objects out: the report and the heat maps that belong to the same study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from neurodense.atomic import replacing
from neurodense.errors import MissingExtra, ScanError
from neurodense.inference.card import model_notes
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.scans.guard import guarded
from neurodense.scans.series import Series
from neurodense.scans.study import Failure, find_studies
from neurodense.serving.dicom_heat_maps import drawn_slices, heat_maps
from neurodense.serving.dicom_report import report
from neurodense.serving.dicom_source import Source, read_source
from neurodense.serving.provenance import Provenance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_UNMADE = "gives no DICOM result: highdicom refuses a value of its header, or neurodense has a fault."


@dataclass(frozen=True)
class Results:
    """What is said of a series.

    Attributes:
        answer: The prediction.
        report: Comprehensive SR.
        heat_maps: Multi-frame True Color Secondary Capture.
    """

    answer: Prediction
    report: Dataset = field(repr=False)
    heat_maps: Dataset = field(repr=False)


def need_highdicom() -> None:
    """Say at once that the library for these objects is missing.

    Raises:
        MissingExtra: highdicom is not installed.
    """
    if find_spec("highdicom") is None:
        raise MissingExtra("highdicom", "pacs")


def dicom_results(series: Series, predictor: Predictor, slices: str = "brain") -> Results:
    """Predict a series and make the objects for an archive.

    The same files and model give the same objects, to the byte: their UIDs follow from those of the files and from the
    model, and their date and time are those of the first file's content.

    Raises:
        ScanError: The series cannot be read, or no result can refer to it.
        MissingExtra: highdicom is not installed.
    """
    need_highdicom()
    source = read_source(series)
    (result,) = predictor.explained([series], slices)
    if isinstance(result, Failure):
        raise ScanError(result.message)
    answer, explanations = result
    numbers = [int(one.source.rpartition("#")[2]) for one in answer.slices] or [1]
    wanted = set(drawn_slices(numbers))
    maps = {number: one for number, one in zip(numbers, explanations, strict=True) if number in wanted}
    provenance = Provenance.of(predictor, slices)

    def make() -> tuple[Dataset, Dataset]:
        heat = heat_maps(source, maps, provenance)
        said = report(source, answer, numbers, provenance, model_notes(predictor.card), heat)
        for made in (heat, said):
            _timed_as(made, source)
        return said, heat

    return Results(answer, *guarded(series.source, _UNMADE, make))  # what it warns of may quote the patient


def write_results(results: Results, folder: Path, prefix: str = "") -> tuple[Path, Path]:
    """Write `report.dcm` and `heat-maps.dcm` into `folder`, each whole or not at all, and give their paths."""
    paths = folder / f"{prefix}report.dcm", folder / f"{prefix}heat-maps.dcm"
    for path, made in zip(paths, (results.report, results.heat_maps), strict=True):
        with replacing(path) as temporary:
            temporary.write_bytes(encoded(made))
    return paths


def encoded(made: Dataset) -> bytes:
    """The object as a file of Part 10."""
    buffer = BytesIO()
    guarded("The result", "cannot be written as a DICOM file.", partial(made.save_as, buffer, enforce_file_format=True))
    return buffer.getvalue()


def find_dicom(item: Path) -> Iterator[Series | Failure]:
    """The series of a DICOM file or a folder; whatever else is found is a Failure that says so."""
    for found in find_studies([item]):
        if isinstance(found, Path):
            yield Failure(
                str(found),
                ScanError.__name__,
                f"{found} is no DICOM file, so there is no study that a DICOM report of it would belong to. "
                "neurodense predict FILE --explain DIR takes files of any kind.",
            )
        else:
            yield found


def _timed_as(made: Dataset, source: Source) -> None:
    """Give an object the date and time of the source's content in place of now, so that it is the same every time."""
    first = source.first
    day, time = str(first.get("ContentDate") or first.StudyDate), str(first.get("ContentTime") or first.StudyTime)
    try:
        datetime.strptime(day, "%Y%m%d")
        datetime.strptime(time.partition(".")[0], "%H%M%S")
    except ValueError:
        day, time = "19000101", "000000"  # a value must be there
    made.ContentDate, made.ContentTime = day, time
    for word in ("InstanceCreationDate", "InstanceCreationTime", "SeriesDate", "SeriesTime"):
        if word in made:
            del made[word]
    for equipment in made.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in equipment:
            del equipment.ContributionDateTime
