"""Volumes and series from the command line to the metrics: a row for each slice, one for the study."""

import csv
import io
import json
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")  # for the run whose model predicts here
from conftest import head_slices, write_dicom_slice, write_volume
from rich.console import Console

import neurodense
from neurodense.errors import DataError
from neurodense.evaluation.predictions import read_predictions
from neurodense.inference import pipeline
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.inference.table import print_answers
from neurodense.scans.scan import Study
from neurodense.scans.study import Failure, find_studies, read_study

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@pytest.fixture(scope="module")
def predictor(finished_run: Path) -> Predictor:
    return Predictor(finished_run / "model")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> list[Path]:
    """A picture, a NIfTI volume, a broken file and a folder with a DICOM series."""
    folder = tmp_path_factory.mktemp("inputs")
    write_volume(folder / "v.nii.gz", head_slices(8, seed=1))
    (folder / "broken.nii").write_bytes(b"nothing")
    for k, pixels in enumerate(head_slices(7, seed=2)):
        write_dicom_slice(folder / "series" / f"IM{k}", pixels, 3.0 * k, number=k + 1)
    return [next(iter(sorted(phantoms.rglob("*.png")))), folder / "v.nii.gz", folder / "broken.nii", folder / "series"]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def by_hand(predictor: Predictor, study: Study, temperature: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Probabilities of each slice and of the study."""
    logits = [predictor.outputs(predictor.card.preprocess(s)[None]).logits[0].astype(np.float64) for s in study.scans]
    return [softmax(row / temperature) for row in logits], softmax(
        np.mean([row / temperature for row in logits], axis=0)
    )


# ---- predicting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [None, 2.5])
@pytest.mark.parametrize("batch", [3, 16])
def test_a_study_is_the_softmax_of_the_mean_calibrated_logits(
    predictor: Predictor, inputs: list[Path], temperature: float | None, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = predictor.card.model_copy(update={"temperature": temperature})
    monkeypatch.setattr(predictor, "card", card)
    found = find_studies(inputs)
    picture, volume, broken, series = predictor.predict(found, batch=batch)
    assert isinstance(picture, Prediction)
    assert (picture.slices, picture.total) == ((), 1)
    assert isinstance(broken, Failure)
    for answer, item, total, chosen in ((volume, found[1], 8, range(2, 8)), (series, found[3], 7, range(2, 7))):
        assert isinstance(answer, Prediction)
        study = read_study(item)
        slices, whole = by_hand(predictor, study, temperature or 1)
        assert answer.source == study.source
        assert answer.total == total
        assert [one.source for one in answer.slices] == [f"{study.source}#{number}" for number in chosen]
        for one, wanted in zip(answer.slices, slices, strict=True):
            np.testing.assert_allclose(list(one.probabilities.values()), wanted, atol=1e-5)
            assert one.label == CLASSES[int(wanted.argmax())]
        np.testing.assert_allclose(list(answer.probabilities.values()), whole, atol=1e-5)
        assert answer.label == CLASSES[int(whole.argmax())]
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-12)


def test_what_was_read_already_and_one_slice_of_many(predictor: Predictor, inputs: list[Path]) -> None:
    study = read_study(inputs[1], "middle")
    from_study, from_path, from_scan = predictor.predict([study, inputs[1], study.scans[0]], "middle")
    assert from_study == from_path
    assert isinstance(from_scan, Prediction)
    assert isinstance(from_study, Prediction)
    assert (len(from_study.slices), from_study.total) == (1, 8)
    assert from_scan.slices == ()
    assert list(from_study.probabilities.values()) == pytest.approx(list(from_scan.probabilities.values()), abs=1e-6)
    with pytest.raises(DataError, match="allowed are brain"):
        next(predictor.predict(inputs, "some"))


def test_notes_reach_the_answer(predictor: Predictor, tmp_path: Path) -> None:
    nib = pytest.importorskip("nibabel")
    voxels = np.repeat(head_slices(5).transpose(2, 1, 0)[..., None], 3, axis=-1)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1, -1, 3, 1])), tmp_path / "v.nii")
    (answer,) = predictor.predict([tmp_path / "v.nii"])
    assert isinstance(answer, Prediction)
    assert answer.notes == ("first of 3 volumes",)
    assert answer.as_dict()["notes"] == ["first of 3 volumes"]


def test_the_command_line_says_what_the_api_says(
    predictor: Predictor, finished_run: Path, inputs: list[Path], command: list[str]
) -> None:
    answers = list(predictor.predict(find_studies(inputs), "every:2"))

    def run(form: str) -> str:
        words = ["predict", *map(str, inputs), "--model", str(finished_run / "model"), "--slices", "every:2"]
        result = subprocess.run([*command, *words, "--format", form], capture_output=True, text=True, check=False)
        assert result.returncode == 1, result.stderr
        return result.stdout

    rows = [json.loads(line) for line in run("json").splitlines()]
    assert rows == [answer.as_dict() for answer in answers]
    assert [len(row.get("slices", [])) for row in rows] == [0, 4, 0, 4]
    assert rows[1]["total"] == 8

    flat = list(csv.DictReader(run("csv").splitlines()))
    good = [answer for answer in answers if isinstance(answer, Prediction)]
    each = [row for answer in good for row in (*answer.slices, answer)]
    read = [row for row in flat if not row["error"]]
    assert len(flat) == len(read) + 1
    for row, answer in zip(read, each, strict=True):
        assert (row["source"], row["label"]) == (answer.source, answer.label)
        assert row["slices"] == (str(len(answer.slices)) if answer.slices else "")
        assert {name: float(row[f"p:{name}"]) for name in CLASSES} == answer.probabilities

    console = Console(file=io.StringIO(), width=240)
    assert print_answers(answers, predictor.card, console) == 1
    table = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("#3", "(4 of 8 slices)", "(4 of 7 slices)", "4 images and studies: ", "unreadable 1", "temperature"):
        assert part in table


def test_one_volume_is_read_at_a_time_and_few_wait(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [write_volume(tmp_path / f"{k}.nii", head_slices(5, seed=k)) for k in range(9)]
    lock, now, most, begun, taken = threading.Lock(), 0, 0, 0, 0

    def watched(item: object, slices: object) -> Study:
        nonlocal now, most, begun
        with lock:
            now, begun = now + 1, begun + 1
            most = max(most, now)
            assert begun <= taken + 2 + predictor.streams + pipeline._VOLUMES_AHEAD, "the answers must be taken first"
        time.sleep(0.01)
        study = read_study(item, slices)  # type: ignore[arg-type]
        with lock:
            now -= 1
        return study

    monkeypatch.setattr(pipeline, "read_study", watched)
    for answer in predictor.predict(paths, batch=3):
        assert isinstance(answer, Prediction)
        taken += 1
        time.sleep(0.05)
        assert begun <= taken + predictor.streams + pipeline._VOLUMES_AHEAD
    assert (taken, most) == (9, 1)


# ---- evaluating --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """Class folders with pictures, volumes, series, and files that are none."""
    root = tmp_path_factory.mktemp("mixed")
    for label in ("glioma", "notumor"):
        (root / label).mkdir()
        for image in sorted((phantoms / label).iterdir())[:3]:
            (root / label / image.name).write_bytes(image.read_bytes())
    write_volume(root / "glioma" / "p1" / "t1.nii.gz", head_slices(6, seed=3))
    write_volume(root / "glioma" / "p1" / "t2.nii.gz", head_slices(6, seed=4))
    for k, pixels in enumerate(head_slices(5, seed=5)):
        write_dicom_slice(root / "notumor" / "p2" / f"IM{k}", pixels, 3.0 * k, "1.2.3.4", k + 1)
    write_dicom_slice(root / "notumor" / "single.dcm", head_slices(3)[1], 0, "1.2.3.5")
    (root / "glioma" / "broken.nii").write_bytes(b"nothing")
    return root


def test_a_study_counts_once_and_its_slices_are_written_beside_it(
    predictor: Predictor, mixed: Path, tmp_path: Path
) -> None:
    result = neurodense.evaluate(mixed, predictor)
    pictures = [f"glioma/{path.name}" for path in sorted((mixed / "glioma").glob("*.png"))]
    healthy = [f"notumor/{path.name}" for path in sorted((mixed / "notumor").glob("*.png"))]
    assert result.predictions.sources == (
        *pictures, "glioma/p1/t1.nii.gz", "glioma/p1/t2.nii.gz", *healthy, "notumor/p2", "notumor/single.dcm",
    )  # fmt: skip
    assert result.metrics.n == 10
    assert [failure.source for failure in result.failures] == ["glioma/broken.nii"]
    assert result.predictions.groups is None, "each is a group by itself"
    answers = {
        answer.source: answer for answer in predictor.predict(find_studies([mixed])) if isinstance(answer, Prediction)
    }
    for source, row in zip(result.predictions.sources, result.predictions.probabilities, strict=True):
        np.testing.assert_allclose(row, list(answers[str(mixed / source)].probabilities.values()), atol=1e-5)

    slices = result.slices
    assert slices is not None
    assert slices.sources == (
        *(f"glioma/p1/{name}.nii.gz#{k}" for name in ("t1", "t2") for k in range(2, 6)),
        *(f"notumor/p2#{k}" for k in range(2, 5)),
    )
    assert slices.groups == ("glioma/p1/t1.nii.gz",) * 4 + ("glioma/p1/t2.nii.gz",) * 4 + ("notumor/p2",) * 3
    assert any("3 of the 10 are studies" in note for note in result.notes)

    neurodense.write_evaluation(result, tmp_path, subject="mixed")
    written = read_predictions(tmp_path / "slices.csv")
    assert written.sources == slices.sources
    np.testing.assert_array_equal(written.probabilities, slices.probabilities)
    assert len(read_predictions(tmp_path / "predictions.csv").sources) == 10
    only = neurodense.evaluate(mixed, predictor, slices="middle").slices
    assert only is not None
    assert only.sources == ("glioma/p1/t1.nii.gz#3", "glioma/p1/t2.nii.gz#3", "notumor/p2#3")


def test_without_volumes_there_is_no_table_of_slices(predictor: Predictor, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "slices.csv").write_text("of an earlier evaluation")
    result = neurodense.evaluate(phantoms, predictor, groups=phantoms / "groups.csv")
    assert result.slices is None
    assert not any("are studies" in note for note in result.notes)
    assert result.predictions.groups is not None
    neurodense.write_evaluation(result, tmp_path, subject="phantoms")
    assert not (tmp_path / "slices.csv").exists()


def test_groups_of_a_series_by_its_folder_or_by_its_files(predictor: Predictor, mixed: Path, tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    for rows in ("notumor/p2,two\n", "notumor/p2/IM3,two\nnotumor/p2/IM1,two\n"):
        table.write_text(f"path,patient\nglioma/p1/t1.nii.gz,one\nglioma/p1/t2.nii.gz,one\n{rows}")
        result = neurodense.evaluate(mixed, predictor, groups=table, slices="middle")
        groups = dict(zip(result.predictions.sources, result.predictions.groups or (), strict=True))
        assert groups["glioma/p1/t1.nii.gz"] == groups["glioma/p1/t2.nii.gz"] == "one"
        assert groups["notumor/p2"] == "two"
        assert groups["notumor/single.dcm"] == "notumor/single.dcm"
        assert result.slices is not None
        assert result.slices.groups == ("one", "one", "two")
    table.write_text("path,group\nnotumor/p2/IM3,two\nnotumor/p2/IM1,three\n")
    with pytest.raises(DataError, match="files of one series, notumor/p2, into groups 'three', 'two'"):
        neurodense.evaluate(mixed, predictor, groups=table)
    table.write_text("path,group,label\nnotumor/p2/IM3,two,glioma\n")
    with pytest.raises(DataError, match="labels notumor/p2 as 'glioma', its folder says 'notumor'"):
        neurodense.evaluate(mixed, predictor, groups=table)


def test_evaluate_from_the_command_line(mixed: Path, finished_run: Path, command: list[str], tmp_path: Path) -> None:
    words = ["evaluate", str(mixed), "--model", str(finished_run / "model"), "--slices", "all"]
    result = subprocess.run([*command, *words, "--out", str(tmp_path)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "glioma/broken.nii" in result.stderr
    assert "3 of the 10 are studies, which count once each" in " ".join(result.stdout.split())
    assert len((tmp_path / "slices.csv").read_text().splitlines()) == 1 + 6 + 6 + 5


def test_nothing_to_measure_on(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("glioma", "notumor"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="no image in the class folders"):
        neurodense.evaluate(tmp_path, predictor)
    for name in ("glioma", "notumor"):
        (tmp_path / name / "x.nii").write_bytes(b"nothing")
    with pytest.raises(DataError, match="None of the 2 images could be read"):
        neurodense.evaluate(tmp_path, predictor)
