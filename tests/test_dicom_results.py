"""Answers as DICOM objects: what they say, whom they belong to, and that they are valid for programs of others."""

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

highdicom = pytest.importorskip("highdicom")
import pydicom
from click.testing import CliRunner
from conftest import head_slices, not_there, write_dicom_slice, write_volume
from PIL import Image

from neurodense.cli import cli
from neurodense.errors import ScanError
from neurodense.inference.overlay import draw
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.notice import NOTICE
from neurodense.scans.series import find_series
from neurodense.serving.dicom_heat_maps import MAX_FRAMES, drawn_slices
from neurodense.serving.dicom_report import report
from neurodense.serving.dicom_results import dicom_results, encoded, write_results
from neurodense.serving.dicom_source import read_source
from neurodense.serving.provenance import Provenance

STUDY = "1.2.826.0.1.3680043.8.498.7"
PATIENT = {
    "SpecificCharacterSet": "ISO_IR 100",
    "StudyInstanceUID": STUDY,
    "PatientName": "Müller^Jürgen",
    "PatientID": "PID-4711",
    "PatientBirthDate": "19610203",
    "PatientSex": "M",
    "AccessionNumber": "ACC-0815",
    "StudyDate": "20240506",
    "StudyTime": "070809",
    "StudyID": "S1",
    "ReferringPhysicianName": "Overbeck^Ann",
}


def need(*programs: str) -> None:
    """Skip where a program of Debian is missing; in CI, which installs them, fail."""
    if missing := [name for name in programs if shutil.which(name) is None]:
        not_there(f"{', '.join(missing)} not installed: apt-get install -y dcmtk orthanc orthanc-dicomweb")


def write_series(folder: Path, count: int = 6, series: str = f"{STUDY}.3", **elements: str) -> Path:
    """A synthetic head of one patient, as an archive would export it."""
    for number, pixels in enumerate(head_slices(count), 1):
        write_dicom_slice(folder / f"IM{number}", pixels, 4.0 * number, series, number, **{**PATIENT, **elements})
    return folder


def texts(made: pydicom.Dataset) -> list[tuple[str, str]]:
    """Meaning of the concept and text, of all text items."""

    def walk(item: pydicom.Dataset) -> Iterator[tuple[str, str]]:
        for child in item.get("ContentSequence", ()):
            if child.ValueType == "TEXT":
                yield child.ConceptNameCodeSequence[0].CodeMeaning, child.TextValue
            yield from walk(child)

    return [*walk(made)]


def group(made: pydicom.Dataset) -> highdicom.sr.MeasurementsAndQualitativeEvaluations:
    """The one measurement group, as highdicom's own reader finds it."""
    content = highdicom.sr.ComprehensiveSR.from_dataset(made).content
    (found,) = content.get_image_measurement_groups()
    return found


@pytest.fixture(scope="module")
def predictor(finished_run: Path) -> Predictor:
    return Predictor(finished_run / "model", precision="fp32", threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def series(folder):
    ((one,), ()) = (tuple(part) for part in find_series(sorted(folder.iterdir())))
    return one


@pytest.fixture(scope="module")
def results(series, predictor):
    return dicom_results(series, predictor, "all")


@pytest.fixture(scope="module")
def written(results, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_results(results, tmp_path_factory.mktemp("out") / "new")


def test_they_belong_to_the_patient_and_the_study_of_the_images(written, folder) -> None:
    source = pydicom.dcmread(folder / "IM1")
    for path in written:
        made = pydicom.dcmread(path)
        assert made.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
        assert made.SpecificCharacterSet == "ISO_IR 192"
        for word in PATIENT.keys() - {"SpecificCharacterSet"}:
            assert made[word].value == source[word].value, word
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
    assert str(pydicom.dcmread(written[0]).PatientName) == "Müller^Jürgen"


def test_they_refer_to_the_images_that_they_are_of(written, folder) -> None:
    said, heat = map(pydicom.dcmread, written)
    images = {pydicom.dcmread(path).SOPInstanceUID for path in folder.iterdir()}
    assert {one.ReferencedSOPInstanceUID for one in heat.SourceImageSequence} == images
    (referenced,) = heat.ReferencedSeriesSequence
    assert {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence} == images
    assert referenced.SeriesInstanceUID == f"{STUDY}.3"
    assert {one.referenced_sop_instance_uid for one in group(said).source_images} == images
    listed = [
        one.ReferencedSOPInstanceUID
        for word in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in said.get(word, ())
        for one_series in study.ReferencedSeriesSequence
        for one in one_series.ReferencedSOPSequence
    ]
    assert sorted(listed) == sorted([*images, heat.SOPInstanceUID])


def test_the_report_says_what_predict_says(written, predictor, series, finished_run) -> None:
    said = pydicom.dcmread(written[0])
    (answer,) = predictor.predict([series], "all")
    told = {one.name.meaning: one.value for one in group(said).get_measurements()}
    for name, value in answer.probabilities.items():
        assert told[f"Probability of {name}"] == pytest.approx(value, abs=5.1e-5)
    words = texts(said)
    assert ("Impression", f"{answer.verdict}.") in words
    assert ("Comment", NOTICE) in words
    assert ("Comment", "Looked at 6 of 6 slices.") in words
    assert ("Algorithm Name", f"neurodense {predictor.card.name}") in words
    digest = hashlib.sha256((finished_run / "model" / "model.onnx").read_bytes()).hexdigest()
    assert ("Algorithm Parameters", f"model.onnx sha256 {digest}") in words
    assert (said.VerificationFlag, said.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    root = said.ContentTemplateSequence[0]
    assert (root.MappingResource, root.TemplateIdentifier) == ("DCMR", "1500")


def test_doubt_is_reported_as_doubt(results, series, predictor) -> None:
    shares = {
        "glioma": 0.5,
        "meningioma": 0.4,
        "notumor": 0.06,
        "a class with a name that is longer than its code": 0.04,
    }
    answer = Prediction(
        "x", "glioma", shares, prediction_set=("glioma", "meningioma"), error_rate=0.1, ood_score=0.5,
        in_distribution=True,
    )  # fmt: skip
    provenance = Provenance.of(predictor, "all")

    def made(answer: Prediction) -> pydicom.Dataset:
        return report(read_source(series), answer, [1, 2], provenance, ["A note"], results.heat_maps)

    unsure = made(answer)
    assert ("Impression", "Uncertain between glioma and meningioma.") in texts(unsure)
    assert ("Comment", "A note") in texts(unsure)
    left = [one for one in group(unsure).get_qualitative_evaluations() if one.name.meaning == "Cannot be ruled out"]
    assert [one.value.meaning for one in left] == ["glioma", "meningioma"]
    assert any("in 90%" in text for _, text in texts(unsure))

    strange = made(replace(answer, label=None, ood_score=1.7, in_distribution=False))
    assert group(strange).finding_type is None
    assert group(unsure).finding_type.meaning == "glioma"
    assert any("does not look like a brain MRI" in text for word, text in texts(strange) if word == "Impression")
    told = {one.name.meaning: one.value for one in group(strange).get_measurements()}
    assert told["Distance from known images (above 1: unlike them)"] == 1.7


def test_a_frame_is_the_picture_that_explain_draws(written, predictor, series) -> None:
    heat = pydicom.dcmread(written[1])
    frames = heat.pixel_array
    assert frames.shape == (6, heat.Rows, heat.Columns, 3)
    assert list(heat.PageNumberVector) == [1, 2, 3, 4, 5, 6]
    assert NOTICE in heat.DerivationDescription
    ((_, maps),) = predictor.explained([series], "all")
    for number, (frame, one) in enumerate(zip(frames, maps, strict=True), 1):
        shown = replace(one, scan=replace(one.scan, source=f"slice {number} of 6"))
        picture = np.asarray(draw(shown))
        np.testing.assert_array_equal(frame[: picture.shape[0], : picture.shape[1]], picture)


def test_the_same_images_and_model_give_the_same_objects(results, series, predictor) -> None:
    again = dicom_results(series, predictor, "all")
    for one, other in ((results.report, again.report), (results.heat_maps, again.heat_maps)):
        assert encoded(one) == encoded(other)
    middle = dicom_results(series, predictor, "middle")
    assert middle.report.SOPInstanceUID != results.report.SOPInstanceUID
    assert middle.heat_maps.NumberOfFrames == 1


def test_a_uid_follows_from_images_and_model(predictor) -> None:
    here = Provenance.of(predictor, "brain")
    uid = here.uid("report", ["1.2", "1.3"])
    assert uid == here.uid("report", ["1.3", "1.2"])
    others = [
        here.uid("heat maps", ["1.2", "1.3"]),
        here.uid("report", ["1.2"]),
        *(
            replace(here, **{word: "x"}).uid("report", ["1.2", "1.3"])
            for word in ("card_sha256", "precision", "slices")
        ),
    ]
    assert len({uid, *others}) == 6
    for one in (uid, *others):
        assert pydicom.uid.UID(one).is_valid
        assert one.startswith("2.25.")


def test_frames_of_one_file_are_referred_to_by_number(tmp_path: Path, predictor) -> None:
    path = write_dicom_slice(tmp_path / "many.dcm", head_slices(5), None, f"{STUDY}.4", **PATIENT)
    ((series,), _) = find_series([path])
    made = dicom_results(series, predictor, "range:2-3")
    (image,) = made.heat_maps.SourceImageSequence
    assert list(image.ReferencedFrameNumber) == [2, 3]
    (image,) = group(made.report).source_images
    assert list(image.referenced_frame_numbers) == [2, 3]


def test_a_single_image_has_a_report_too(tmp_path: Path, predictor) -> None:
    path = write_dicom_slice(tmp_path / "one.dcm", head_slices(3)[1], 0, f"{STUDY}.5", **PATIENT)
    ((series,), _) = find_series([path])
    made = dicom_results(series, predictor)
    assert made.heat_maps.NumberOfFrames == 1
    assert not [text for _, text in texts(made.report) if "slices." in text]


@pytest.mark.parametrize("word", ["StudyInstanceUID", "SOPInstanceUID"])
def test_images_without_a_uid_cannot_be_referred_to(tmp_path: Path, predictor, word: str) -> None:
    path = write_dicom_slice(tmp_path / "one.dcm", head_slices(3)[1], 0, f"{STUDY}.5", **{**PATIENT})
    ds = pydicom.dcmread(path)
    del ds[word]
    if word == "SOPInstanceUID":
        del ds.file_meta.MediaStorageSOPInstanceUID
    ds.save_as(path)
    ((series,), _) = find_series([path])
    with pytest.raises(ScanError, match=f"has no {word}"):
        dicom_results(series, predictor)


def test_many_slices_get_evenly_spaced_frames() -> None:
    assert drawn_slices([4, 5, 6]) == [4, 5, 6]
    numbers = list(range(11, 180))
    drawn = drawn_slices(numbers)
    assert len(drawn) == MAX_FRAMES
    assert (drawn[0], drawn[-1]) == (11, 179)
    assert set(np.diff(drawn)) <= {5, 6}


def test_dcmtk_reads_them(written) -> None:
    need("dsrdump", "dcmdump")
    said, heat = written
    shown = subprocess.run(["dsrdump", "-Er", "+Pl", said], capture_output=True, text=True, check=True)
    assert "Comprehensive SR Document" in shown.stdout
    assert NOTICE in shown.stdout
    assert 'NUM:(,,"Probability of ' in shown.stdout
    assert not [line for line in shown.stderr.splitlines() if line.startswith("E:")]
    for path in (said, heat):
        dump = subprocess.run(["dcmdump", "-Un", path], capture_output=True, check=True)
        assert STUDY.encode() in dump.stdout
        assert dump.stderr == b""


def test_the_command_writes_two_files_for_each_series(folder, finished_run, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(folder, both / "a")
    write_series(both / "b", 3, f"{STUDY}.9")
    (both / "b" / "broken.dcm").write_bytes((both / "b" / "IM1").read_bytes()[:900])
    model = finished_run / "model"
    run = CliRunner().invoke(
        cli, ["dicom", *map(str, (both, "--out", tmp_path / "out", "--model", model, "--slices", "middle"))]
    )
    assert run.exit_code == 1, run.output
    assert "unreadable 1" in " ".join(run.stdout.split())
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["1-heat-maps.dcm", "1-report.dcm", "2-heat-maps.dcm", "2-report.dcm"]
    for secret in ("Müller", "4711", "0815", "19610203", "Overbeck"):
        assert secret not in run.output


def test_what_is_no_dicom_has_no_study_to_report_to(tmp_path: Path) -> None:
    write_volume(tmp_path / "head.nii.gz", head_slices(4))
    Image.new("L", (64, 64), 90).save(tmp_path / "scan.png")
    for name in ("head.nii.gz", "scan.png"):
        run = CliRunner().invoke(cli, ["dicom", str(tmp_path / name), "--out", str(tmp_path / "out")])
        assert isinstance(run.exception, ScanError)
        assert f"{name} is no DICOM file" in str(run.exception)
        assert "neurodense predict" in str(run.exception)
    assert not (tmp_path / "out").exists()


def test_the_real_head(shared_data: Path, predictor, tmp_path: Path) -> None:
    need("dsrdump")
    ((series,), _) = find_series(sorted((shared_data / "dicom-t1").glob("*.dcm")))
    said, heat = write_results(dicom_results(series, predictor, "every:6"), tmp_path)
    assert pydicom.dcmread(heat).pixel_array.shape[0] == 4
    shown = subprocess.run(["dsrdump", "-Er", "+Pl", said], capture_output=True, text=True, check=True)
    assert "Looked at 4 of 24 slices." in shown.stdout
