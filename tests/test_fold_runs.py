"""Runs in folds, with a source left out, or split by image: what they compute, leave behind and say."""

import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner
from conftest import Ears
from PIL import Image
from safetensors.torch import load_file

import neurodense
from neurodense.cli import cli
from neurodense.data.split import PARTS
from neurodense.errors import DataError, RunError
from neurodense.evaluation.certainty import Certainty, read_certainty, write_certainty
from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.mistakes import worst
from neurodense.evaluation.predictions import Predictions, read_predictions
from neurodense.evaluation.readme import model_readme
from neurodense.inference.card import read_card
from neurodense.inference.predictor import Predictor
from neurodense.training import activations, execute, mirror
from neurodense.training import run as runs
from neurodense.training.caveats import caveats
from neurodense.training.folds import pool
from neurodense.training.plan import Plan
from neurodense.training.recipe import Recipe, parse_recipe
from neurodense.training.run import resume, train
from neurodense.training.sheet import read_sheet

HEAD = """
name = "head"
summary = "One frozen prefix, one head: what folds can share."
image_size = 64
batch_size = 8
keep = "last"
weights = "none"

[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-2
epochs = 2
"""


@pytest.fixture(scope="module")
def head() -> Recipe:
    return parse_recipe(HEAD, "test")


@pytest.fixture(scope="module")
def folds(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two folds and a final model, by the command line; and the hash of each image that the frozen layers saw."""
    folder, rows = tmp_path_factory.mktemp("folds"), []
    real = activations.Activations._pass

    def spy(self: activations.Activations, pairs: list[tuple[int, int]], images: object, *rest: object) -> None:
        rows.extend(images.hashes[index] for index, _ in pairs)  # type: ignore[attr-defined]
        real(self, pairs, images, *rest)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(activations.Activations, "_pass", spy)
        (folder / "head.toml").write_text(HEAD)
        words = ["train", phantoms, "--out", folder / "run", "--recipe", folder / "head.toml", "--seed", 2]
        words += ["--groups", phantoms / "groups.csv", "--folds", 2, "--final", "--precision", "fp32", "--workers", 0]
        words += ["--cache", folder / "cache", "--mirror", folder / "mirror"]
        result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "2 folds, 40 images, each tested once:" in result.output
    return folder / "run", rows


def split_of(run: Path) -> dict[str, set[str]]:
    with (run / "split.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return {part: {row["path"] for row in rows if row["part"] == part} for part in PARTS}


def test_each_image_goes_through_the_frozen_layers_once_for_all_folds(folds: tuple[Path, list[str]]) -> None:
    assert len(folds[1]) == len(set(folds[1])) == 40


def test_the_test_parts_are_all_images(folds: tuple[Path, list[str]]) -> None:
    parts = [split_of(folds[0] / f"fold-{number}") for number in (1, 2)]
    tested = [path for split in parts for path in split["test"]]
    assert len(tested) == len(set(tested)) == 40
    final = split_of(folds[0] / "final")
    assert not final["test"]
    assert final["train"] | final["validation"] == set(tested)


def test_a_fold_is_measured_and_not_made_fast(folds: tuple[Path, list[str]]) -> None:
    assert not list(folds[0].glob("fold-*/model/*int8*"))
    assert [path.parent.parent.name for path in folds[0].glob("*/model/*int8*")] == ["final"]


def test_the_figures_are_those_of_the_predictions(folds: tuple[Path, list[str]]) -> None:
    from sklearn.metrics import accuracy_score, f1_score, log_loss

    run = folds[0]
    pooled = read_predictions(run / "evaluation" / "predictions.csv")
    each = [read_predictions(run / f"fold-{number}" / "evaluation" / "predictions.csv") for number in (1, 2)]
    assert pooled.sources == tuple(sorted(source for one in each for source in one.sources))
    assert pooled.groups is not None
    assert len(set(pooled.groups)) == 20
    row_of = {source: (one, k) for one in each for k, source in enumerate(one.sources)}
    for k, source in enumerate(pooled.sources):
        one, row = row_of[source]
        assert pooled.truth[k] == one.truth[row]
        assert one.labels[pooled.truth[k]] == source.partition("/")[0]
        np.testing.assert_array_equal(pooled.probabilities[k], one.probabilities[row])

    written = json.loads((run / "folds.json").read_text(encoding="utf-8"))
    assert written["folds"] == ["fold-1", "fold-2"]
    assert written["images"] == [len(one.sources) for one in each]
    truths = {
        "accuracy": lambda p: accuracy_score(p.truth, p.predicted),
        "macro.f1": lambda p: f1_score(p.truth, p.predicted, average="macro", labels=range(4), zero_division=0),
        "loss": lambda p: log_loss(p.truth, p.probabilities, labels=range(4)),
    }
    for name, score in truths.items():
        row, values = written["figures"][name], [score(one) for one in each]
        assert row["folds"] == pytest.approx(values, abs=1e-12)
        assert row["pooled"] == pytest.approx(score(pooled), abs=1e-12)
        assert row["mean"] == pytest.approx(statistics.fmean(values), abs=1e-12)
        assert row["sd"] == pytest.approx(statistics.stdev(values), abs=1e-12)
    bounds = intervals(pooled).bounds
    assert set(written["figures"]) == set(measure(pooled.labels, pooled.truth, pooled.probabilities).figures)
    for name, row in written["figures"].items():
        assert (tuple(row["interval"]) if row["interval"] else None) == bounds.get(name)
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["accuracy"] == written["figures"]["accuracy"]["pooled"]
    assert (metrics["intervals"]["drawn"], metrics["intervals"]["units"]) == ("groups", 20)
    assert {name: tuple(row) for name, row in metrics["intervals"]["figures"].items()} == bounds
    assert "2 models were trained" in (run / "report" / "index.html").read_text(encoding="utf-8")


def test_certainty_and_mistakes_are_pooled(folds: tuple[Path, list[str]]) -> None:
    run = folds[0]
    folders = [run / name / "evaluation" for name in ("fold-1", "fold-2")]
    whole, *each = (
        json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (run / "evaluation", *folders)
    )
    for name in ("loss", "brier"):
        for side in ("before", "after"):
            values = [one["certainty"]["calibration"][name][side]["value"] for one in each]
            mean = np.average(values, weights=[one["n"] for one in each])
            assert whole["certainty"]["calibration"][name][side]["value"] == pytest.approx(mean, abs=1e-12)
    promised = [{one["error"]: one for one in side["certainty"]["sets"]} for side in (whole, *each)]
    assert set(promised[0]) == set(promised[1]) & set(promised[2])
    for error, one in promised[0].items():
        assert one["sizes"] == [
            sum(pair) for pair in zip(*(side[error]["sizes"] for side in promised[1:]), strict=True)
        ]
    page = (run / "report" / "index.html").read_text(encoding="utf-8")
    pooled = read_predictions(run / "evaluation" / "predictions.csv")
    for row in worst(pooled):
        assert pooled.sources[row] in page
    assert len(list((run / "evaluation" / "mistakes").iterdir())) == len(worst(pooled)) > 0
    assert "2 folds, each tested by a model that" in page


def test_pooled_certainty_follows_the_order_of_the_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def certainty(names: str) -> Certainty:
        rows = rng.dirichlet(np.ones(2), size=len(names))
        predictions = Predictions(("a", "b"), tuple(names), np.zeros(len(names), dtype=int), rows)
        sets = {0.1: rng.random((len(names), 2)) > 0.5, 0.2: rng.random((len(names), 2)) > 0.5}
        return Certainty(predictions, rows[:, ::-1], sets, {0.1: True, 0.2: False}, rng.random(len(names)) > 0.5)

    parts = [certainty("xz"), certainty("wy")]
    for part, name in zip(parts, "12", strict=True):
        write_certainty(part, tmp_path / name)
    whole = pool([part.predictions for part in parts])
    found = read_certainty([tmp_path / "1", tmp_path / "2"], whole, {0.1: False})
    assert whole.sources == ("w", "x", "y", "z")
    for row, (part, k) in enumerate([(1, 0), (0, 0), (1, 1), (0, 1)]):
        assert found.before[row].tolist() == parts[part].before[k].tolist()
        assert found.inside[0.1][row].tolist() == parts[part].inside[0.1][k].tolist()
        assert found.known is not None
        assert found.known[row] == parts[part].known[k]  # type: ignore[index]
    assert list(found.inside) == [0.1]


def test_a_fold_is_a_run_like_any_other(
    folds: tuple[Path, list[str]], phantoms: Path, head: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same training alone, with the fold's split given back and no shared cache, ends with the same weights."""
    run = folds[0]
    alone = run.parent / "alone"
    monkeypatch.setattr(execute, "finish", lambda run, *_: run)
    train(
        phantoms, alone, recipe=head, split=run / "fold-2" / "split.csv", seed=2, precision="fp32", workers=0,
        cache=run.parent / "own-cache",
    )  # fmt: skip
    assert_same_weights(alone, run / "fold-2")
    card = read_card(run / "fold-2" / "model")
    assert (card.data.split_by, card.data.groups_from, card.data.leaked) == ("group", "table", 0)


def assert_same_weights(run: Path, other: Path) -> None:
    """To what float arithmetic allows: in fp32 a row of the cache depends on its batch by about 1e-6."""
    one, two = (load_file(folder / "checkpoints" / "last.safetensors") for folder in (run, other))
    for name in one:
        torch.testing.assert_close(one[name], two[name], atol=1e-5, rtol=1e-4)


def test_the_final_model_has_no_figures_of_its_own(folds: tuple[Path, list[str]], phantoms: Path) -> None:
    final = folds[0] / "final"
    card = read_card(final / "model")
    assert card.metrics is None
    assert card.data.counts["test"] == dict.fromkeys(card.classes, 0)
    assert len(list(Predictor(final / "model").predict(sorted(phantoms.rglob("*.png"))[:2]))) == 2
    assert not (final / "evaluation").exists()
    assert "none is left to measure it on" in (final / "report" / "index.html").read_text(encoding="utf-8")
    assert "No image was kept to test" in (final / "model" / "README.md").read_text(encoding="utf-8")


def test_a_mirror_holds_all_folds_and_gives_them_back(folds: tuple[Path, list[str]]) -> None:
    run, back = folds[0], folds[0].parent / "back"
    mirror.restore(str(run.parent / "mirror"), back)

    def files(root: Path) -> dict[str, bytes]:
        found = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}

    assert files(back) == files(run)
    order = mirror._in_order(["run.json", "fold-1/run.json", "fold-1/checkpoints/last.safetensors", "fold-2/log.jsonl"])
    assert order == ["fold-2/log.jsonl", "fold-1/checkpoints/last.safetensors", "fold-1/run.json", "run.json"]


def test_more_epochs_are_for_one_fold(folds: tuple[Path, list[str]]) -> None:
    with pytest.raises(RunError, match="holds 2 folds") as caught:
        resume(folds[0], continue_epochs=2)
    assert "fold-1" in str(caught.value)
    assert "--continue-epochs 2" in str(caught.value)


# A process that kills itself with SIGKILL at the n-th call of a function. Predictions stand for export and evaluation.
GO = """
import os, signal, sys
from pathlib import Path
import numpy as np
from neurodense import atomic
from neurodense.evaluation.predictions import Predictions, write_predictions
from neurodense.training import execute, journal, run as runs, store
def finish(run, sheet, split, *_):
    tested = split.parts["test"]
    truth = np.array([sheet.classes.index(record.label) for record in tested])
    every = Predictions(sheet.classes, [record.path for record in tested], truth, np.eye(len(sheet.classes))[truth])
    write_predictions(every, run / "evaluation" / "predictions.csv")
    atomic.write_json(run / "evaluation" / "metrics.json", {"unreadable": []})
    return run
execute.finish = finish
data, out, recipe, cache = map(Path, sys.argv[1:5])
if len(sys.argv) > 5:
    owner, name, count = sys.argv[5:]
    owner = {"Journal": journal.Journal, "RowStore": store.RowStore}[owner]
    real, calls = getattr(owner, name), []
    def die(*arguments, **keywords):
        calls.append(1)
        if len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **keywords)
    setattr(owner, name, die)
if (out / "run.json").exists():
    runs.resume(out)
else:
    runs.train(data, out, recipe=recipe, groups=data / "groups.csv", folds=2, seed=2, precision="fp32", workers=0,
               cache=cache)
"""


def test_killed_folds_go_on_where_they_were(folds: tuple[Path, list[str]], phantoms: Path, tmp_path: Path) -> None:
    script, recipe, out = tmp_path / "go.py", tmp_path / "head.toml", tmp_path / "run"
    script.write_text(GO)
    recipe.write_text(HEAD)

    def go(*kill: object) -> int:
        words = [script, phantoms, out, recipe, tmp_path / "cache", *kill]
        with (tmp_path / "errors.txt").open("ab") as errors:
            process = subprocess.run(
                [sys.executable, *map(str, words)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stderr=errors,
                check=False,
            )
        return process.returncode

    assert go("RowStore", "append", 2) == -signal.SIGKILL, (tmp_path / "errors.txt").read_text()
    assert not read_sheet(out / "fold-1").finished, "killed while it filled the cache for fold 1"
    assert go("Journal", "epoch", 4) == -signal.SIGKILL, (tmp_path / "errors.txt").read_text()
    assert [read_sheet(out / name).finished for name in ("fold-1", "fold-2")] == [True, False], "killed in fold 2"
    done = {path: path.stat().st_mtime_ns for path in (out / "fold-1").rglob("*") if path.is_file()}
    assert go() == 0, (tmp_path / "errors.txt").read_text()
    assert done == {path: path.stat().st_mtime_ns for path in done}, "fold 1 is not done again"
    log = [json.loads(line) for line in (out / "fold-2" / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in log if event["event"] == "resume"] == [1], "fold 2 goes on after its epoch"
    assert read_sheet(out).finished
    for name in ("fold-1", "fold-2"):
        assert_same_weights(out / name, folds[0] / name)
        assert split_of(out / name) == split_of(folds[0] / name)
    assert len(read_predictions(out / "evaluation" / "predictions.csv").sources) == 40
    assert json.loads((out / "folds.json").read_text())["figures"]["accuracy"]["folds"] == [1, 1]


def test_an_interrupted_start_of_folds_can_be_started_again(
    phantoms: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    settings = {"recipe": head, "groups": phantoms / "groups.csv", "folds": 2}
    with monkeypatch.context() as patch:
        patch.setattr(runs.RunSheet, "save", lambda self, run: stop() if self.folds else None)
        with pytest.raises(KeyboardInterrupt):
            train(phantoms, tmp_path / "run", **settings)  # type: ignore[arg-type]
    assert (tmp_path / "run" / "fold-2" / "split.csv").exists()
    monkeypatch.setattr(runs, "run_folds", lambda run, *_, **__: run)
    train(phantoms, tmp_path / "run", **settings)  # type: ignore[arg-type]
    (tmp_path / "other" / "fold-1").mkdir(parents=True)
    (tmp_path / "other" / "fold-1" / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty: it holds fold-1"):
        train(phantoms, tmp_path / "other", **settings)  # type: ignore[arg-type]


# ---- one source left out, and the notebook's way ------------------------------------------------------------------


@pytest.fixture
def sources(phantoms: Path, tmp_path: Path) -> Path:
    """The phantoms' group table with a source: "x" has two patients of two of the four classes."""
    with (phantoms / "groups.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    chosen = {sorted({row["group"] for row in rows if row["label"] == label})[k] for label in ("glioma", "notumor")
              for k in (0, 1)}  # fmt: skip
    table = tmp_path / "sources.csv"
    lines = [f"{row['path']},{row['group']},{'x' if row['group'] in chosen else 'y'}" for row in rows]
    table.write_text("\n".join(["path,group,source", *lines]), encoding="utf-8")
    return table


def test_a_source_is_left_out_by_the_command_line(
    sources: Path, phantoms: Path, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its test part lacks two classes; a model of these classes is measured on it all the same."""
    from sklearn.metrics import f1_score, recall_score

    recipe, run = tmp_path / "head.toml", tmp_path / "run"
    recipe.write_text(HEAD)
    monkeypatch.setattr(runs, "execute", lambda run, *_: run)
    words = ["train", phantoms, "--out", run, "--recipe", recipe, "--groups", sources, "--leave-out", "source=x"]
    result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "left out as the test part: source=x, 8 images" in result.output
    assert "the test part holds no image of meningioma, pituitary" in result.output
    sheet = read_sheet(run)
    assert (sheet.split_by, sheet.left_out, sheet.groups_from, sheet.leaked) == ("source", "source=x", "table", 0)

    evaluation = neurodense.evaluate(phantoms, finished_run / "model", split=run / "split.csv", part="test")
    neurodense.write_evaluation(evaluation, run / "evaluation", subject="Test part")
    predictions = read_predictions(run / "evaluation" / "predictions.csv")
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert [row["support"] for row in metrics["per_class"].values()] == [4, 0, 4, 0]
    settings = {"labels": range(4), "zero_division": 0}
    truth, predicted = predictions.truth, predictions.predicted
    assert metrics["macro"]["f1"] == pytest.approx(f1_score(truth, predicted, average="macro", **settings), abs=1e-12)
    recalls = recall_score(truth, predicted, average=None, **settings)
    assert [row["recall"] for row in metrics["per_class"].values()] == pytest.approx(recalls, abs=1e-12)
    said = " ".join(caveats(sheet, evaluation))
    assert "The test part is one source, source=x" in said
    for name in ("meningioma", "pituitary"):
        assert f"recall of '{name}' is undefined: no image is truly '{name}'" in said
    card = read_card(finished_run / "model")
    card = card.model_copy(update={"data": card.data.model_copy(update={"split_by": "source", "left_out": "source=x"})})
    assert "one source that training did not see: `source=x`" in model_readme(card)


def test_the_parts_of_a_left_out_source_can_be_given_back(
    sources: Path, phantoms: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "execute", lambda run, *_: run)
    train(phantoms, tmp_path / "one", recipe=head, groups=sources, leave_out="source=x", screen=Ears())
    train(phantoms, tmp_path / "two", recipe=head, split=tmp_path / "one" / "split.csv", screen=Ears())
    assert split_of(tmp_path / "two") == split_of(tmp_path / "one")
    assert read_sheet(tmp_path / "two").groups_from == "split"


def test_the_notebooks_split_says_what_it_leaks(
    finished_run: Path, phantoms: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ears, run = Ears(), tmp_path / "run"
    monkeypatch.setattr(runs, "execute", lambda run, *_: run)
    train(phantoms, run, recipe=head, groups=phantoms / "groups.csv", split_by="image", screen=ears)
    with (phantoms / "groups.csv").open(encoding="utf-8") as handle:
        group_of = {row["path"]: row["group"] for row in csv.DictReader(handle)}
    split = split_of(run)
    trained = {group_of[path] for path in split["train"]}
    leaks = sum(group_of[path] in trained for path in split["test"])
    assert leaks > 0
    assert f"split by image, as the notebook does: {leaks} of {len(split['test'])} test images" in ears.text
    sheet = read_sheet(run)
    assert (sheet.split_by, sheet.leaked, sheet.groups_from) == ("image", leaks, "table")
    assert f"{leaks} test images have a twin" in caveats(sheet, None)[1]
    card = read_card(finished_run / "model")
    card = card.model_copy(update={"data": card.data.model_copy(update={"split_by": "image", "leaked": leaks})})
    assert f"Split by image, seed 3.\n{leaks} test images have a twin" in model_readme(card)


def test_without_a_table_twins_are_found_and_stay_together(
    phantoms: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirrored and brightened copies of images, in another format, go where their originals go."""
    data, ears = tmp_path / "data", Ears()
    shutil.copytree(phantoms, data)
    copies = {}
    for original in sorted(data.rglob("*.png"))[::4]:
        copy = original.with_name(f"copy-of-{original.stem}.jpg")
        pixels = np.asarray(Image.open(original).convert("L"))[:, ::-1] * 0.8
        Image.fromarray(pixels.astype(np.uint8)).save(copy, quality=95)
        copies[copy.relative_to(data).as_posix()] = original.relative_to(data).as_posix()
    monkeypatch.setattr(runs, "execute", lambda run, *_: run)
    train(data, tmp_path / "run", recipe=head, cache=tmp_path / "cache", screen=ears)
    part_of = {path: part for part, paths in split_of(tmp_path / "run").items() for path in paths}
    assert len(copies) == 10
    assert all(part_of[copy] == part_of[original] for copy, original in copies.items())
    sheet = read_sheet(tmp_path / "run")
    assert (sheet.split_by, sheet.groups_from, sheet.leaked) == ("group", "twins", 0)
    assert "twins: " in ears.text
    assert any("Slices of one patient that look different" in sentence for sentence in caveats(sheet, None))
    # The notebook's way parts some of them, and says so.
    train(data, tmp_path / "image", recipe=head, cache=tmp_path / "cache", split_by="image", screen=ears)
    assert read_sheet(tmp_path / "image").leaked


def test_the_achieved_shares_are_shown_next_to_their_target(
    phantoms: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ears = Ears()
    monkeypatch.setattr(runs, "run_folds", lambda run, *_, **__: run)
    train(phantoms, tmp_path / "run", recipe=head, groups=phantoms / "groups.csv", folds=5, screen=ears)
    lines = [line.split() for line in ears.said]
    start = next(k for k, line in enumerate(lines) if line[:1] == ["fold-1"])
    assert lines[start] == ["fold-1", "target", "glioma", "meningioma", "notumor", "pituitary", "all", "groups"]
    assert lines[start + 3] == ["test", "20.0%", *["2", "(20.0%)"] * 4, "8", "4"]
    assert sum(line[:1] == ["test"] for line in lines) == 5


# ---- options that contradict ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"split": Path("s.csv"), "folds": 5}, ["--split and --folds exclude each other", "--folds K tests on every"]),
        ({"split": Path("s.csv"), "leave_out": "x"}, ["--split and --leave-out exclude each other"]),
        ({"folds": 5, "leave_out": "x"}, ["--folds and --leave-out exclude each other", "none of them is the split"]),
        ({"split": Path("s.csv"), "split_by": "group"}, ["--split-by is for parts that are drawn", "Leave out one"]),
        ({"leave_out": "x", "split_by": "image"}, ["excludes --split-by image"]),
        ({"final": True}, ["--final goes with --folds K", "RUN/model"]),
        ({"folds": 1}, ["--folds is 1; at least 2"]),
        ({"split_by": "patient"}, ["'patient'", "group, image"]),
    ],
)
def test_options_that_contradict_each_other(
    options: dict[str, object], parts: list[str], phantoms: Path, head: Recipe, tmp_path: Path
) -> None:
    for make in (lambda: Plan(**options), lambda: train(phantoms, tmp_path / "r", recipe=head, **options)):  # type: ignore[arg-type]
        with pytest.raises(DataError) as caught:
            make()
        for part in parts:
            assert part in str(caught.value)
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_the_command_line_refuses_them_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["train", "d", "--out", "r", "--folds", "5", "--leave-out", "x"])
    assert isinstance(result.exception, DataError)
    assert "--folds and --leave-out exclude each other" in str(result.exception)
    result = CliRunner().invoke(cli, ["train", "--resume", "r", "--folds", "5", "--final"])
    assert result.exit_code == 2
    assert "leave out --folds, --final" in result.output
    assert not list(tmp_path.iterdir())
