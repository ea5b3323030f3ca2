"""A study in an archive: its MR series is fetched, predicted, and the results go back into the study."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from neurodense.errors import PacsError
from neurodense.inference.predictor import Predictor
from neurodense.scans.series import find_series
from neurodense.serving.dicom_results import Results, dicom_results, encoded
from neurodense.serving.dicomweb import Archive, Listed, checked_uid


def chosen_series(archive: Archive, study: str, wanted: str | None) -> Listed:
    """The MR series with a UID or a Series Number; where none is asked for, the only one of the study.

    Raises:
        PacsError: There is none, or there are several; or the archive cannot be asked.
    """
    listed = archive.mr_series(checked_uid(study, "--study"))
    there = f"The study has {', '.join(map(str, listed))}"
    if wanted is None:
        fits = listed
    elif "." in wanted:
        fits = [one for one in listed if one.uid == checked_uid(wanted, "--series")]
    else:
        fits = [one for one in listed if str(one.number) == wanted.strip()]
    if not fits:
        raise PacsError(f"No MR series of the study is the one of --series. {there}.", "Give --series NUMBER or UID.")
    if len(fits) > 1:
        raise PacsError(f"{there}; one is looked at at a time.", "Give --series NUMBER, or the UID.")
    return fits[0]


def predict_study(
    archive: Archive, study: str, predictor: Predictor, series: str | None = None, slices: str = "brain"
) -> Iterator[Results]:
    """The results for each volume of a series that an archive has. Nothing is stored, neither there nor on disk.

    Raises:
        PacsError: The archive cannot be asked, or gives something else than it was asked for.
        ScanError: The series cannot be read.
    """
    one = chosen_series(archive, study, series)
    files = archive.fetch(study, one.uid)
    volumes, errors = find_series(files)
    if errors or not volumes:
        reason = f": {errors[0][1].message}" if errors else "."
        raise PacsError(f"{len(errors)} of the {len(files)} images of the series cannot be read{reason}")
    name = str(replace(one, images=None))
    for number, volume in enumerate(volumes, 1):
        label = name if len(volumes) == 1 else f"{name}, volume {number} of {len(volumes)}"
        results = dicom_results(replace(volume, source=label), predictor, slices)
        if results.report.StudyInstanceUID != study:
            raise PacsError(f"{archive.name} gave images of another study than it was asked for.")
        yield results


def send(archive: Archive, study: str, results: Results) -> None:
    """Store the report and the heat maps in the study that they are of.

    Raises:
        PacsError: The archive refuses one, or cannot be asked.
    """
    archive.store(study, {str(made.SOPInstanceUID): encoded(made) for made in (results.report, results.heat_maps)})
