"""From a model folder to answers that may be "I don't know": fitted, stored, the same in API, JSON, CSV and table."""

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")  # for the run whose model predicts here
from conftest import head_slices, write_volume
from PIL import Image
from rich.console import Console

import neurodense
from neurodense.data.catalogue import Record
from neurodense.errors import DataError, ModelError
from neurodense.evaluation.calibrate import calibrate, summary
from neurodense.evaluation.certainty import certainty
from neurodense.evaluation.predictions import Predictions
from neurodense.inference.card import Card, read_card, write_card
from neurodense.inference.prediction import UNKNOWN, UNKNOWN_STUDY, Prediction
from neurodense.inference.predictor import Predictor
from neurodense.inference.rejection import REJECTION, Rejection
from neurodense.inference.scaling import calibrated, softmax
from neurodense.inference.table import csv_columns, csv_row, print_answers
from neurodense.screen import Screen

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")


@pytest.fixture(scope="module")
def records(phantoms: Path) -> tuple[Record, ...]:
    """All phantoms with their patients: 40 images of 20 groups, 5 of each class."""
    table = csv.DictReader((phantoms / "groups.csv").read_text(encoding="utf-8").splitlines())
    return tuple(Record(row["path"], row["label"], row["group"], "") for row in table)


@pytest.fixture(scope="module")
def model(finished_run: Path, phantoms: Path, records: tuple[Record, ...], tmp_path_factory: pytest.TempPathFactory):
    """The tiny model, calibrated on all phantoms: few images, but enough groups for all of it."""
    folder = tmp_path_factory.mktemp("calibrated") / "model"
    shutil.copytree(finished_run / "model", folder)
    calibrate(folder, phantoms, records, records)
    return folder


@pytest.fixture
def changed(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the model with another card."""

    def change(**fields: object) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(model, folder)
        write_card(folder, read_card(folder).model_copy(update=fields))
        return folder

    return change


def test_a_training_calibrates_and_says_what_it_cannot_promise(finished_run: Path) -> None:
    card = read_card(finished_run / "model")
    assert card.temperature is not None
    assert card.calibration is not None
    assert card.calibration.images == sum(card.data.counts["validation"].values())
    assert card.conformal is not None
    assert card.conformal.groups == dict.fromkeys(CLASSES, 1)
    assert [(sets.error, sets.each_class) for sets in card.conformal.sets] == [(0.2, False)]
    assert card.out_of_distribution is None, "four groups are too few for 95%"
    said = " ".join(summary(card))
    assert "no prediction sets with an error of 0.05: needs 19 groups, there are: glioma 1" in said
    assert "error of 0.2 of all classes together: of each class it would need 4 groups" in said
    assert "nothing is rejected: that needs 19 groups, there are 4" in said
    for name in ("selective.png", "reliability.png"):
        assert (finished_run / "evaluation" / name).exists()
    assert "Reliability" in (finished_run / "report" / "index.html").read_text(encoding="utf-8")


def test_everything_is_fitted_and_stored(model: Path, phantoms: Path, records: tuple[Record, ...]) -> None:
    card = read_card(model)
    assert card.calibration is not None
    assert card.conformal is not None
    assert card.out_of_distribution is not None
    assert (card.calibration.images, card.calibration.groups, card.calibration.folds) == (40, 20, 5)
    assert [(sets.error, sets.each_class) for sets in card.conformal.sets] == [(0.05, False), (0.1, False), (0.2, True)]
    assert card.out_of_distribution.groups == 20
    assert (model / REJECTION).stat().st_size < 2**20

    predictor = Predictor(model, precision="fp32")
    answers = [one for one in predictor.predict([phantoms / r.path for r in records]) if isinstance(one, Prediction)]
    truth = np.array([CLASSES.index(record.label) for record in records])
    probabilities = np.array([list(one.probabilities.values()) for one in answers])
    plain = np.array([one.uncalibrated for one in answers])
    raw = np.concatenate([predictor.outputs(pixels[None]).logits for pixels in pixels_of(predictor, phantoms, records)])
    np.testing.assert_allclose(probabilities, softmax(raw / card.temperature), atol=1e-5)
    np.testing.assert_allclose(plain, softmax(raw), atol=1e-5)
    inside = np.array([one.in_distribution for one in answers])
    assert inside.mean() >= 0.9, "95% of groups that set the limit"
    groups = tuple(record.group for record in records)
    said = Predictions(CLASSES, tuple(record.path for record in records), truth, probabilities, groups)
    got = certainty(card, said, plain, probabilities, inside, np.eye(4, dtype=bool))
    assert got is not None
    assert got.accepted is not None
    assert got.accepted.value == pytest.approx(inside.mean()), "two images of each group"
    assert all(one.covered.value >= 1 - one.error for one in got.coverage), "on what they were fitted to"  # type: ignore[operator]
    loss = got.calibration["loss"]
    assert loss.change.value == pytest.approx(loss.after.value - loss.before.value)  # type: ignore[operator]
    assert loss.change.value < 1e-3  # type: ignore[operator]
    batch = predictor.shift(answers, groups)
    assert batch is not None
    assert (batch.units, batch.reference, batch.p) == (20, 20, 1.0), "the same images, drawn alike"
    assert predictor.shift(answers[:3]) is None
    reference = Rejection.load(model / REJECTION)
    assert len(reference.reference) == len(reference.called) == 20


def pixels_of(predictor: Predictor, root: Path, records: tuple[Record, ...]) -> list[np.ndarray]:
    return [predictor.card.preprocess(neurodense.read_scan(root / record.path)) for record in records]


def test_a_card_without_these_fields_gives_what_it_always_gave(
    changed: Callable[..., Path], phantoms: Path, records: tuple[Record, ...]
) -> None:
    none = {"temperature": None, "calibration": None, "conformal": None, "out_of_distribution": None}
    old = changed(**none)
    text = json.loads((old / "card.json").read_text())
    for name in none:
        del text[name]
    (old / "card.json").write_text(json.dumps(text))
    (old / REJECTION).unlink()
    (answer,) = Predictor(old).predict([phantoms / records[0].path])
    assert isinstance(answer, Prediction)
    assert set(answer.as_dict()) == {"source", "label", "probabilities"}
    assert answer.label == answer.named
    console = Console(file=io.StringIO(), width=200)
    print_answers([answer], read_card(old), console)
    assert "label" in console.file.getvalue()  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="has none"):
        Predictor(old, error=0.1)
    result = neurodense.evaluate(phantoms, old)
    assert result.certainty is None


@pytest.fixture
def strict(changed: Callable[..., Path]) -> Path:
    """The model with a limit that no image keeps."""
    folder = changed()
    Rejection.load(folder / REJECTION).scaled(1e-3).save(folder / REJECTION)
    card = read_card(folder)
    from neurodense.inference.card import sha256_of

    files = {**card.files, REJECTION: sha256_of(folder / REJECTION)}
    write_card(folder, card.model_copy(update={"files": files}))
    return folder


def test_what_it_does_not_know_gets_no_label(strict: Path, phantoms: Path, records: tuple[Record, ...]) -> None:
    predictor = Predictor(strict)
    (answer,) = predictor.predict([phantoms / records[0].path])
    assert isinstance(answer, Prediction)
    assert answer.label is None
    assert (answer.in_distribution, answer.verdict) == (False, UNKNOWN)
    assert answer.ood_score is not None
    assert answer.ood_score > 1
    assert json.loads(json.dumps(answer.as_dict()))["label"] is None
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    explanation = predictor.explain(phantoms / records[0].path)
    assert explanation.label == answer.named
    assert explanation.notes[0] == f"{UNKNOWN}."


def test_a_damaged_or_missing_file_is_an_error(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / REJECTION).write_bytes(b"another")
    with pytest.raises(ModelError, match="is not the file that"):
        Predictor(folder)
    (folder / REJECTION).unlink()
    with pytest.raises(ModelError, match="cannot be read"):
        Predictor(folder)


def answer(least: dict[str, float], row: list[float], score: float, model: Path) -> Prediction:
    """What the predictor says of given probabilities and a given score."""
    predictor = Predictor.__new__(Predictor)
    card = read_card(model)
    assert card.conformal is not None
    predictor.card = card.model_copy(update={"temperature": None})
    predictor.sets = card.conformal.sets[1].model_copy(update={"least": least})
    return predictor._named(("x",), np.log([row]), np.array([score]))[0]


@pytest.mark.parametrize(
    ("row", "score", "label", "members", "verdict"),
    [
        ([0.9, 0.05, 0.03, 0.02], 0.5, "glioma", ("glioma",), "Glioma likely"),
        (
            [0.3, 0.6, 0.06, 0.04], 1.0, "meningioma", ("meningioma", "glioma"),
            "Uncertain between meningioma and glioma",
        ),
        ([0.24, 0.21, 0.35, 0.2], 0.5, None, (), "No class fits"),
        (
            [0.3, 0.1, 0.27, 0.33], 0.5, "pituitary", ("pituitary", "glioma", "notumor"),
            "Uncertain between pituitary, glioma and notumor",
        ),
        ([0.9, 0.05, 0.03, 0.02], 1.01, None, ("glioma",), UNKNOWN),
    ],
)  # fmt: skip
def test_the_words(
    model: Path, row: list[float], score: float, label: str | None, members: tuple[str, ...], verdict: str
) -> None:
    least = {"glioma": 0.25, "meningioma": 0.5, "notumor": 0.4, "pituitary": 0.5}
    if members[-1:] == ("notumor",):
        least["notumor"] = 0.25
    found = answer(least, row, score, model)
    assert (found.label, found.prediction_set, found.verdict) == (label, members, verdict)
    assert found.error_rate == 0.1
    text = csv_row(found)
    assert [text[f"set:{name}"] for name in CLASSES] == [int(name in members) for name in CLASSES]
    assert set(text) <= set(csv_columns(CLASSES))
    assert (text["label"], text["in_distribution"]) == (label or "", int(score <= 1))


def test_a_study_is_known_if_half_of_its_slices_are(model: Path, tmp_path: Path) -> None:
    path = write_volume(tmp_path / "v.nii.gz", head_slices(8, seed=1))
    predictor = Predictor(model)
    (whole,) = predictor.predict([path])
    assert isinstance(whole, Prediction)
    scores = [one.ood_score for one in whole.slices]
    assert len(scores) == 6
    assert whole.ood_score == sorted(scores)[2]  # type: ignore[type-var]
    assert predictor._rejection is not None
    for limit, known in ((whole.ood_score, True), (whole.ood_score * 0.999, False)):  # type: ignore[operator]
        one = Predictor(model)
        one._rejection = predictor._rejection.scaled(limit * (1 + 1e-6))
        (again,) = one.predict([path])
        assert isinstance(again, Prediction)
        assert again.in_distribution is known
        inside = sum(bool(part.in_distribution) for part in again.slices)
        assert inside >= 3 if known else inside < 3
        assert (again.label is None) is not known or again.prediction_set == ()
        assert known or again.verdict == UNKNOWN_STUDY


def test_the_command_line_says_what_the_api_says(
    model: Path, phantoms: Path, command: list[str], records: tuple[Record, ...], tmp_path: Path
) -> None:
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(noise)
    inputs = [*(phantoms / record.path for record in records[::13]), noise]
    answers = list(Predictor(model, error=0.2).predict(inputs))

    def run(*words: str) -> str:
        every = [*command, "predict", *map(str, inputs), "--model", str(model), *words]
        return subprocess.run(every, capture_output=True, text=True, check=True).stdout

    rows = [json.loads(line) for line in run("--format", "json", "--error", "0.2").splitlines()]
    assert rows == [one.as_dict() for one in answers]
    assert {row["error_rate"] for row in rows} == {0.2}
    flat = list(csv.DictReader(run("--format", "csv").splitlines()))
    default = [one for one in Predictor(model).predict(inputs) if isinstance(one, Prediction)]
    assert [one.error_rate for one in default] == [0.1] * len(inputs)
    assert flat == [{name: str(csv_row(one).get(name, "")) for name in csv_columns(CLASSES)} for one in default]
    table = " ".join(run().split())
    assert "verdict" in table
    assert "left out at most 10% of the time, of all classes together, not of each" in table
    assert "As a whole" not in table, "five images are too few"
    inputs *= 3
    assert "As a whole these images" in " ".join(run().split())


def test_an_error_that_cannot_be_promised_is_refused(
    finished_run: Path, phantoms: Path, records: tuple[Record, ...], command: list[str]
) -> None:
    words = ["predict", str(phantoms / records[0].path), "--model", str(finished_run / "model"), "--error", "0.1"]
    result = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "needs 9 groups in the validation part, which has: glioma 1" in result.stderr


def test_calibrate_from_the_command_line(
    model: Path, finished_run: Path, phantoms: Path, records: tuple[Record, ...], command: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(finished_run / "model", folder)
    split = tmp_path / "split.csv"
    rows = [f"{record.path},{record.group},{part}" for record in records for part in ("train", "validation")]
    split.write_text("\n".join(["path,group,part", *rows]) + "\n")
    words = ["calibrate", str(folder), "--data", str(phantoms), "--split", str(split)]
    result = subprocess.run([*command, *words], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == summary(read_card(model))
    again, before = (read_card(one).model_dump() for one in (folder, model))
    assert again["conformal"] == before["conformal"]
    assert again["calibration"] == before["calibration"]
    assert Predictor(folder).card.files[REJECTION]


def test_what_cannot_be_read_is_left_out_and_nothing_is_an_error(
    finished_run: Path, phantoms: Path, records: tuple[Record, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(finished_run / "model", folder)
    gone = Record("glioma/gone.png", "glioma", "g", "")
    screen = Screen(Console(file=io.StringIO(), width=500))
    card = calibrate(folder, phantoms, records, (gone, *records), screen)
    assert card.calibration is not None
    assert card.calibration.images == 40
    assert "left out" in screen.console.file.getvalue()  # type: ignore[union-attr, attr-defined]
    kept = (folder / "card.json").read_bytes()
    for held, match in (((gone,), "None of the 1 images of the validation part"), (records[:2], "of one group")):
        with pytest.raises(DataError, match=match):
            calibrate(folder, phantoms, records, held)
    with pytest.raises(DataError, match="'cyst' are no classes of the model"):
        calibrate(folder, phantoms, records, (Record("cyst/a.png", "cyst", "g", ""), *records))
    assert (folder / "card.json").read_bytes() == kept


def test_fewer_groups_take_away_what_was_promised_before(
    model: Path, phantoms: Path, records: tuple[Record, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    card = calibrate(folder, phantoms, records, records[::8])
    assert card.out_of_distribution is None
    assert REJECTION not in card.files
    assert not (folder / REJECTION).exists()
    assert [sets.error for sets in card.conformal.sets] == [0.2]  # type: ignore[union-attr]
    assert Predictor(folder).sets is None, "10% is the default"


def test_vector_scaling_where_the_card_has_it(model: Path) -> None:
    card = read_card(model)
    assert card.calibration is not None
    vector = {"scale": (1.0, 2.0, 0.5, 1.0), "shift": (0.0, 1.0, -1.0, 0.0)}
    card = Card.model_validate(
        {**card.model_dump(), "calibration": {**card.calibration.model_dump(), "chosen": vector}}
    )
    maps = np.random.default_rng(0).normal(size=(2, 4, 3, 3)).astype(np.float32)
    logits = maps.mean(axis=(2, 3))
    np.testing.assert_allclose(calibrated(card, maps).mean(axis=(2, 3)), calibrated(card, logits), atol=1e-6)
    np.testing.assert_allclose(calibrated(card, logits), logits * vector["scale"] + vector["shift"])


def test_an_evaluation_holds_the_promises_against_the_truth(model: Path, phantoms: Path, tmp_path: Path) -> None:
    result = neurodense.evaluate(phantoms, model, groups=phantoms / "groups.csv")
    assert any("sets with an error of 10%" in note for note in result.notes)
    assert any("do not stand out from those of the validation part" in note for note in result.notes)
    neurodense.write_evaluation(result, tmp_path, subject="phantoms")
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert result.certainty is not None
    assert written["certainty"] == json.loads(json.dumps(result.certainty.as_dict()))
    assert [sum(sets["sizes"]) for sets in written["certainty"]["sets"]] == [40] * 3
    assert written["shift"]["p"] == 1
    for name in ("reliability.png", "selective.png"):
        with Image.open(tmp_path / name) as figure:
            assert figure.width > figure.height > 400
