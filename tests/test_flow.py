"""From a folder to predictions: what a run leaves behind, and that torch, the graph, the API and the CLI agree."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import neurodense
from neurodense.data.split_table import read_split
from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.predictions import read_predictions
from neurodense.inference.card import read_card
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.inference.scaling import softmax
from neurodense.inference.table import csv_columns
from neurodense.scans.read import read_scan
from neurodense.training.network import Network
from neurodense.training.weights import read_state


def test_a_run_folder_holds_what_it_promises(finished_run: Path) -> None:
    files = {path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*") if path.is_file()}
    assert {
        "split.csv", "run.json", "recipe.toml", "log.jsonl",
        "checkpoints/last.safetensors", "checkpoints/best.safetensors",
        "model/model.safetensors", "model/model.onnx", "model/card.json", "model/README.md",
        "evaluation/metrics.json", "evaluation/predictions.csv", "evaluation/curves.png",
        "evaluation/confusion-counts.png", "evaluation/confusion-shares.png", "report/index.html",
        "evaluation/decision-curve.csv", "evaluation/decision-curve.png",
    } <= files  # fmt: skip
    left = [name for name in files if name.split("/")[-1].startswith(".") and name != ".lock"]
    assert not left, "no temporary is left"
    assert json.loads((finished_run / "run.json").read_text())["finished"] is True


def test_the_card_tells_the_truth(finished_run: Path, phantoms: Path) -> None:
    model = finished_run / "model"
    card = read_card(model)
    assert card.classes == ("glioma", "meningioma", "notumor", "pituitary")
    assert card.data.synthetic
    assert card.preprocess.size == 64
    for name, digest in card.files.items():
        assert hashlib.sha256((model / name).read_bytes()).hexdigest() == digest
    catalogue = neurodense.scan_folder(phantoms)
    assert card.data.manifest_sha256 == catalogue.manifest_sha256
    assert sum(sum(counts.values()) for counts in card.data.counts.values()) == len(catalogue.records)
    assert card.data.groups is not None
    assert sum(card.data.groups.values()) == 20
    assert sum(row["kept"] for row in card.history) == 1
    assert card.metrics == {
        key: value
        for key, value in json.loads((finished_run / "evaluation" / "metrics.json").read_text()).items()
        if key not in ("unreadable", "hardest")
    }


def test_the_figures_of_a_run_have_intervals_and_operating_points(finished_run: Path) -> None:
    card = read_card(finished_run / "model")
    assert card.metrics is not None
    found = card.metrics["intervals"]
    predictions = read_predictions(finished_run / "evaluation" / "predictions.csv")
    assert predictions.groups is not None
    assert (found["drawn"], found["units"]) == ("groups", len(set(predictions.groups)))
    assert {name: tuple(row) for name, row in found["figures"].items()} == intervals(predictions).bounds
    assert card.thresholds is not None
    assert card.thresholds.images == sum(card.data.counts["validation"].values())
    assert card.metrics["operating"]["healthy"] == "notumor"
    first = card.metrics["operating"]["points"][0]
    assert (first["finding"], first["aimed"]) == ("any class but notumor", 0.9)
    assert first["threshold"] == card.thresholds.of_any_other["notumor"][0]
    low, high = found["figures"]["accuracy"]
    said = f"{card.metrics['accuracy']:.3f} ({low:.3f} to {high:.3f})"
    assert said in (finished_run / "report" / "index.html").read_text(encoding="utf-8")
    assert said in (finished_run / "model" / "README.md").read_text(encoding="utf-8")


def test_a_card_from_before_intervals_loads_and_evaluates(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(finished_run / "model", model)
    card = json.loads((model / "card.json").read_text(encoding="utf-8"))
    del card["thresholds"]
    for name in ("intervals", "operating", "mcc", "kappa", "brier", "ece", "balanced_accuracy"):
        del card["metrics"][name]
    (model / "card.json").write_text(json.dumps(card), encoding="utf-8")
    where: dict[str, Any] = {"split": finished_run / "split.csv", "part": "test"}
    older = neurodense.evaluate(phantoms, model, **where)
    assert older.as_dict()["operating"] is None
    assert older.decision is not None
    newer = neurodense.evaluate(phantoms, finished_run / "model", healthy="glioma", **where)
    assert newer.intervals == older.intervals
    assert newer.operating[0].finding == "any class but glioma"
    with pytest.raises(neurodense.DataError, match="the healthy class is 'nothing'"):
        neurodense.evaluate(phantoms, model, healthy="nothing", **where)


def test_the_card_follows_its_written_schema() -> None:
    from neurodense.inference.card import Card

    written = Path(__file__).parents[1] / "docs" / "card.schema.json"
    assert json.loads(written.read_text(encoding="utf-8")) == Card.model_json_schema()


def test_the_split_keeps_groups_together_and_can_be_given_back(finished_run: Path, phantoms: Path) -> None:
    catalogue = neurodense.scan_folder(phantoms)
    split = read_split(finished_run / "split.csv", catalogue, seed=99)
    sides: dict[str, set[str]] = {}
    for part, records in split.parts.items():
        for record in records:
            sides.setdefault(record.group, set()).add(part)
    assert len(sides) == 20
    assert all(len(parts) == 1 for parts in sides.values())


def test_torch_and_the_graph_agree(finished_run: Path, phantoms: Path) -> None:
    predictor = Predictor(finished_run / "model", precision="fp32")
    network = Network(4, 0.3)
    network.load_state_dict(read_state(finished_run / "model" / "model.safetensors"))
    network.eval()
    paths = sorted(phantoms.rglob("*.png"))[:8]
    pixels = np.stack([predictor.card.preprocess(read_scan(path)) for path in paths])
    with torch.inference_mode():
        logits, maps, features = network.explain(torch.from_numpy(pixels))
    ours = predictor.outputs(pixels)
    np.testing.assert_allclose(softmax(ours.logits), torch.softmax(logits.double(), 1), atol=1e-4)
    np.testing.assert_allclose(ours.activation_maps, maps, atol=1e-3)
    np.testing.assert_allclose(ours.activation_maps.mean((2, 3)), ours.logits, atol=1e-4)
    np.testing.assert_allclose(ours.features, features, atol=1e-3)
    assert predictor.outputs(pixels[:1]).logits.shape == (1, 4), "any number of images"


def test_predict_is_the_same_from_api_and_command_line(
    finished_run: Path, phantoms: Path, command: list[str], tmp_path: Path
) -> None:
    image = next(iter(sorted(phantoms.rglob("*.png"))))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"\x89PNG no")
    model = finished_run / "model"
    api = next(Predictor(model).predict([image]))
    assert isinstance(api, Prediction)
    assert sum(api.probabilities.values()) == pytest.approx(1, abs=1e-12)
    inputs = [str(image), str(bad), str(tmp_path / "gone.png")]
    result = subprocess.run(
        [*command, "predict", *inputs, "--model", str(model), "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert rows[0] == api.as_dict()
    assert rows[1]["error"]["type"] == "ScanError"
    assert "bad.png" in rows[1]["error"]["message"]
    assert "does not exist" in rows[2]["error"]["message"]


def test_predict_csv_and_table(finished_run: Path, phantoms: Path, command: list[str]) -> None:
    model = str(finished_run / "model")
    out = subprocess.run(
        [*command, "predict", str(phantoms), "--model", model, "--format", "csv"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = list(csv.DictReader(out.splitlines()))
    assert len(rows) == 40
    assert list(rows[0]) == csv_columns(("glioma", "meningioma", "notumor", "pituitary"))
    table = subprocess.run(
        [*command, "predict", str(phantoms / "glioma"), "--model", model], capture_output=True, text=True, check=True
    ).stdout
    assert "synthetic images" in table
    assert "not a medical device" in table
    assert "10 images:" in table


def test_evaluate_repeats_the_runs_own_figures(
    finished_run: Path, phantoms: Path, command: list[str], tmp_path: Path
) -> None:
    result = subprocess.run(
        [*command, "evaluate", str(phantoms), "--model", str(finished_run / "model"), "--split",
         str(finished_run / "split.csv"), "--part", "test", "--out", str(tmp_path / "e"), "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    own = json.loads((finished_run / "evaluation" / "metrics.json").read_text())
    assert json.loads(result.stdout) == own
    assert json.loads((tmp_path / "e" / "metrics.json").read_text()) == own
    for name in ("predictions.csv", "confusion-counts.png", "confusion-shares.png", "curves.png"):
        assert (tmp_path / "e" / name).stat().st_size > 0
    assert (tmp_path / "e" / "predictions.csv").read_text() == (
        finished_run / "evaluation" / "predictions.csv"
    ).read_text()


@pytest.mark.parametrize("name", ["predict", "evaluate"])
def test_no_training_library_is_needed(finished_run: Path, phantoms: Path, name: str) -> None:
    """With every library of the `train` extra out of reach, predicting and evaluating go on."""
    absent = ["torch", "torchvision", "sklearn", "onnx", "fsspec", "filelock", "tensorboard", "tomli_w",
              "matplotlib", "jinja2"]  # fmt: skip
    words = ["neurodense", name, str(phantoms), "--model", str(finished_run / "model"), "--format", "json"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({absent})); sys.argv = {words}\n"
        "from neurodense.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 40 if name == "predict" else answers[0]["n"] == 40


def test_without_matplotlib_the_numbers_are_written_and_the_extra_named(
    finished_run: Path, phantoms: Path, tmp_path: Path
) -> None:
    words = ["neurodense", "evaluate", str(phantoms), "--model", str(finished_run / "model"), "--out", str(tmp_path)]
    code = f"import sys; sys.modules['matplotlib'] = None; sys.argv = {words}\nfrom neurodense.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'neurodense[report]'" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json", "predictions.csv", "certainty.csv", "decision-curve.csv"
    }  # fmt: skip


def test_evaluate_goes_on_past_a_bad_file_and_says_so(
    finished_run: Path, phantoms: Path, command: list[str], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for name in ("glioma", "notumor"):
        (data / name).mkdir(parents=True)
        for image in sorted((phantoms / name).iterdir())[:2]:
            (data / name / image.name).write_bytes(image.read_bytes())
    (data / "glioma" / "broken.png").write_bytes(b"nothing")
    result = subprocess.run(
        [*command, "evaluate", str(data), "--model", str(finished_run / "model")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "broken.png" in result.stderr
    assert "macro" in result.stdout
    assert "rows true" in result.stdout


def test_evaluate_refuses_classes_the_model_does_not_know(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    for name in ("glioma", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(next((phantoms / "glioma").iterdir()).read_bytes())
    with pytest.raises(neurodense.DataError, match=r"'other'.*'glioma', 'meningioma'"):
        neurodense.evaluate(tmp_path, finished_run / "model")


def test_synthetic_is_said_wherever_it_shows(finished_run: Path) -> None:
    assert "synthetic" in (finished_run / "report" / "index.html").read_text(encoding="utf-8")
    assert "synthetic" in (finished_run / "model" / "README.md").read_text(encoding="utf-8")
    assert "not a medical device" in (finished_run / "model" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("damage", ["no card", "no graph", "other graph", "newer", "not json", "not onnx"])
def test_a_damaged_model_folder_is_an_error(finished_run: Path, tmp_path: Path, damage: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(finished_run / "model", model)
    card = json.loads((model / "card.json").read_text())
    if damage == "no card":
        (model / "card.json").unlink()
    elif damage == "no graph":
        (model / "model.onnx").unlink()
    elif damage == "other graph":
        card["files"]["model.onnx"] = "0" * 64
        (model / "card.json").write_text(json.dumps(card))
    elif damage == "not onnx":
        (model / "model.onnx").write_bytes(b"not a graph")
    elif damage == "newer":
        card["schema_version"] = 99
        (model / "card.json").write_text(json.dumps(card))
    else:
        (model / "card.json").write_text("{")
    with pytest.raises(neurodense.ModelError):
        Predictor(model, precision="fp32")
