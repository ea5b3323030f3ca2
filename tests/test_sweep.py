"""Sweeps: what a space may say, what trials share and never read, and how a sweep that was killed goes on."""

import csv
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
optuna = pytest.importorskip("optuna", reason="the extra `sweep` is not installed")

from click.testing import CliRunner
from conftest import Ears

from neurodense.cli import cli
from neurodense.data.split import PARTS
from neurodense.errors import Diverged, MissingExtra, RecipeError, RunError
from neurodense.training import activations, fit, trials
from neurodense.training import dataset as datasets
from neurodense.training.recipe import Recipe, load_recipe, parse_recipe, recipe_names
from neurodense.training.space import load_space, parse_space
from neurodense.training.sweep import sweep

HEAD = """
name = "head"
summary = "One frozen prefix, one head."
image_size = 64
batch_size = 8
weights = "none"

[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-2
epochs = 3
"""
SPACE = """
dropout = { low = 0.0, high = 0.6 }
stage.0.learning_rate = { low = 1e-4, high = 1e-1, log = true }
"""


@pytest.fixture(scope="module")
def head() -> Recipe:
    return parse_recipe(HEAD, "test")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.toml"
    path.write_text(SPACE)
    return path


@pytest.fixture
def again(phantoms: Path, head: Recipe, space: Path, tmp_path: Path) -> Callable[..., Ears]:
    """The same sweep each time it is called, but for what it is called with."""

    def call(**changes: object) -> Ears:
        ears = Ears()
        options = {"recipe": head, "space": space, "trials": 2, "pruner": "none", "groups": phantoms / "groups.csv"}
        fixed = {"seed": 5, "precision": "fp32", "workers": 0, "cache": tmp_path / "cache", "screen": ears}
        sweep(phantoms, tmp_path / "out", **{**options, **fixed, **changes})  # type: ignore[arg-type]
        return ears

    return call


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "trials.csv").open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


# ---- the space ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_space_that_fits_it(name: str) -> None:
    recipe = load_recipe(name)
    space = load_space(None, recipe)
    assert {"dropout", "stage.0.learning_rate"} <= space.ranges.keys()
    for pick in (0, -1):
        values = {key: (one.labels or (one.low, one.high))[pick] for key, one in space.ranges.items()}
        changed = space.recipe(values)
        assert changed.dropout == values["dropout"]
        assert changed.stage[0].learning_rate == values["stage.0.learning_rate"]
        assert changed.image_size == recipe.image_size


def test_keys_may_be_written_as_tables_and_choices_may_be_lists(tiny: Recipe) -> None:
    text = '[augment]\ngamma = {low = 0, high = 0.5}\n[stage.1]\ntrainable = {choices = [["classifier"], ["norm5"]]}'
    space = parse_space(text, "x", tiny)
    changed = space.recipe({"augment.gamma": 0.25, "stage.1.trainable": '["norm5"]'})
    assert (changed.augment.gamma, changed.stage[1].trainable) == (0.25, ("norm5",))
    assert changed.stage[0] == tiny.stage[0]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["varies nothing"]),
        ("dropout = [", ["not valid TOML"]),
        ("dropuot = {low = 0, high = 0.5}", ["unknown key 'dropuot'", "did you mean 'dropout'", "label_smoothing"]),
        ("augment.gama = {low = 0, high = 1}", ["'augment.gama'", "allowed of augment are flip", "gamma"]),
        ('keep = {choices = ["best", "last"]}', ["unknown key 'keep'"]),
        ("stage.2.epochs = {low = 1, high = 2}", ["no stage '2'", "0 ('all'), 1 ('block 4')"]),
        (
            "stage.0.rate = {low = 1, high = 2}",
            ["unknown key 'stage.0.rate'", "allowed of stage.N are", "learning_rate"],
        ),
        ("dropout = 0.5", ["'dropout': must be {low = ..., high = ...}", "got 0.5"]),
        ("dropout = {low = 0.1}", ["'dropout': low and high are needed"]),
        ("dropout = {lo = 0.1, high = 1}", ["'dropout': unknown 'lo'", "low, high, log, step, choices"]),
        ("dropout = {low = 0.5, high = 0.5}", ["low must be below high"]),
        ("dropout = {low = 0, high = 0.5, log = true}", ["log needs a low above 0"]),
        ("dropout = {low = 0, high = 0.5, step = 0.3}", ["step 0.3 does not lead from 0 to 0.5"]),
        ("dropout = {low = 0, high = 1.5}", ["'dropout' = 1.5 is refused by recipe 'tiny'", "less than 1"]),
        ('dropout = {low = "a", high = 0.5}', ["'dropout': low: "]),
        ("dropout = {choices = [0.1, 0.1]}", ["must differ"]),
        ("dropout = {choices = [0.1], low = 0}", ["choices excludes low"]),
        ('class_weights = {choices = ["none", "even"]}', ["'class_weights' = 'even' is refused", "'balanced'"]),
        ("class_weights = {low = 0, high = 1}", ["is no number: give choices"]),
        ("batch_size = {low = 4.5, high = 8}", ["is a whole number"]),
        ("views = {low = 0, high = 8}", ["'views' = 0 is refused"]),
    ],
)
def test_an_impossible_space_is_one_clear_error(tiny: Recipe, text: str, parts: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_space(text, "my.toml", tiny)
    assert caught.value.message.startswith("my.toml")
    for part in parts:
        assert part in caught.value.message


def test_nothing_is_made_for_a_space_that_is_refused(again: Callable[..., Ears], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("dropout = {low = 1, high = 2}")
    with pytest.raises(RecipeError, match=r"bad\.toml"):
        again(space=tmp_path / "bad.toml")
    assert not (tmp_path / "out").exists()


# ---- a sweep ------------------------------------------------------------------------------------------------------


def test_trials_share_the_frozen_layers_never_read_the_test_part_and_leave_a_recipe(
    again: Callable[..., Ears], head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes, read = [], set()
    a_pass, reading = activations.Activations._pass, datasets.read_image
    monkeypatch.setattr(
        activations.Activations,
        "_pass",
        lambda self, pairs, *rest: (passes.append(len(pairs)), a_pass(self, pairs, *rest)),
    )
    monkeypatch.setattr(datasets, "read_image", lambda path: (read.add(Path(path).name), reading(path))[1])
    said = again(trials=3).text

    out = tmp_path / "out"
    split = list(csv.DictReader((out / "split.csv").read_text(encoding="utf-8").splitlines()))
    names = {part: {Path(row["path"]).name for row in split if row["part"] == part} for part in PARTS}
    assert passes == [len(names["train"]) + len(names["validation"])], "the second trial ran the prefix again"
    assert read == names["train"] | names["validation"]
    assert names["test"]
    assert not read & names["test"]

    rows = rows_of(out)
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert len({row["dropout"] for row in rows}) == 3
    best = max(rows, key=lambda row: (float(row["validation_macro_f1"]), -float(row["validation_loss"])))
    recipe = load_recipe(out / "best.toml")
    assert recipe.name == "head swept"
    assert recipe.dropout == float(best["dropout"])
    assert recipe.stage[0].learning_rate == float(best["stage.0.learning_rate"])
    unchanged = {"dropout": head.dropout, "name": head.name, "summary": head.summary, "stage": head.stage}
    assert recipe.model_copy(update=unchanged) == head
    for text in (said, (out / "best.toml").read_text()):
        assert f"{float(best['validation_macro_f1']):.4f} of trial {best['trial']}, was chosen out of 3 trials" in text
        assert "optimistic" in text
        assert "test part is still unread" in text
    assert f"--split {out / 'split.csv'}" in said
    assert (out / "trials.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in out.iterdir()} == {
        "split.csv", "sweep.json", "sweep.db", "checkpoints", "best.toml", "trials.csv", "trials.png", ".lock",
    }  # fmt: skip
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["start.safetensors"]

    # A trial is the training that the recipe names: the same curve, to the last digit.
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{out / 'sweep.db'}")
    curve = study.trials[int(best["trial"])].intermediate_values
    assert list(curve) == [1, 2, 3]
    assert max(curve.values()) == float(best["validation_macro_f1"])
    from neurodense.training.run import train

    ears = Ears()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurodense.training.execute.finish", lambda run, *_: run / "model")
        data = json.loads((out / "sweep.json").read_text())["sheet"]["data"]
        train(
            data, tmp_path / "run", recipe=out / "best.toml", split=out / "split.csv", seed=5, precision="fp32",
            workers=0, cache=tmp_path / "cache", screen=ears,
        )  # fmt: skip
    assert f"all {passes[0]} rows are in the cache" in ears.text
    from neurodense.training.journal import read_history

    assert [row["validation_macro_f1"] for row in read_history(tmp_path / "run")] == list(curve.values())


def test_the_same_command_goes_on_and_draws_as_it_would_have(
    again: Callable[..., Ears], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again(trials=3)
    whole = [(row["dropout"], row["validation_macro_f1"]) for row in rows_of(tmp_path / "out")]
    (tmp_path / "out").rename(tmp_path / "whole")

    again(trials=1)
    again(trials=1)  # nothing is left to do
    real, calls = fit.Fit._log_epoch, []

    def interrupted(self: fit.Fit, *arguments: object) -> bool:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fit.Fit, "_log_epoch", interrupted)
        ears = Ears()
        with pytest.raises(KeyboardInterrupt):
            again(trials=3, screen=ears)
    assert "stopped; 1 of 3 trials are kept. The same command goes on" in ears.text
    again(trials=3)
    rows = rows_of(tmp_path / "out")
    assert [row["state"] for row in rows] == ["complete", "failed", "complete", "complete"]
    assert rows[1]["dropout"] == rows[2]["dropout"], "the half trial was not taken up again"
    assert [(row["dropout"], row["validation_macro_f1"]) for row in (rows[0], rows[2])] == whole[:2]


KILLED = """
import os, signal, sys
from neurodense.cli import main
from neurodense.training import fit
real, calls = fit.Fit._log_epoch, []
def dying(self, *arguments):
    calls.append(1)
    if len(calls) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, *arguments)
fit.Fit._log_epoch = dying
sys.argv = ["neurodense", *sys.argv[1:]]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_killed_sweep_keeps_what_was_finished(phantoms: Path, space: Path, tmp_path: Path) -> None:
    (tmp_path / "head.toml").write_text(HEAD)
    words = ["sweep", phantoms, "--out", tmp_path / "out", "--recipe", tmp_path / "head.toml", "--space", space]
    words += ["--groups", phantoms / "groups.csv", "--trials", 2, "--precision", "fp32", "--workers", 0]
    words += ["--cache", tmp_path / "cache"]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], capture_output=True, check=False)
    assert done.returncode == -9
    assert [row["state"] for row in rows_of(tmp_path / "out")] == ["complete"]
    assert tomllib.loads((tmp_path / "out" / "best.toml").read_text())["name"] == "head swept"
    result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    rows = rows_of(tmp_path / "out")
    assert [row["state"] for row in rows] == ["complete", "failed", "complete"]
    assert rows[1]["dropout"] == rows[2]["dropout"]
    assert "The best 2 trials" in result.output


def test_another_sweep_in_the_same_folder_is_refused(again: Callable[..., Ears], tmp_path: Path) -> None:
    again(trials=1)
    with pytest.raises(RunError, match="another --seed, --pruner"):
        again(seed=6, pruner="median")
    (tmp_path / "other.toml").write_text("dropout = {low = 0, high = 0.1}")
    with pytest.raises(RunError, match="another --space"):
        again(space=tmp_path / "other.toml")


def test_poor_trials_are_pruned_and_a_diverged_one_ends_nothing(
    again: Callable[..., Ears], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials 0 to 4 rise; 5 diverges; 6 falls behind their median after the first epoch, which is the warm-up."""
    seen: list[fit.Fit] = []
    real = trials.new_fit

    def scripted(*arguments: object, **named: object) -> fit.Fit:
        made = real(*arguments, **named)  # type: ignore[arg-type]
        seen.append(made)
        return made

    def run(self: fit.Fit, start: object) -> None:
        number = len(seen) - 1
        for epoch in (1, 2, 3):
            score = 0.1 if number == 6 else 0.5 + 0.1 * epoch + 0.01 * number
            if number == 5 and epoch == 2:
                raise Diverged("The loss is nan.")
            values = {"validation_macro_f1": score, "validation_loss": 1 - score, "epoch": epoch}
            self.journal.epoch(epoch, values)
            self.position = fit.Position(stage=0, total_epoch=epoch, best=(score, score - 1, epoch))

    monkeypatch.setattr(trials, "new_fit", scripted)
    monkeypatch.setattr(fit.Fit, "run", run)
    said = again(trials=7, pruner="median").text
    rows = rows_of(tmp_path / "out")
    assert [row["state"] for row in rows] == ["complete"] * 5 + ["diverged", "pruned"]
    assert [row["epochs"] for row in rows] == ["3"] * 5 + ["1", "2"]
    assert "0.8400 of trial 4" in said


def test_activations_that_only_a_pruned_trial_could_use_are_deleted(
    phantoms: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second stage of `tiny` has a prefix that its first stage trained."""
    real = fit.Fit._validate
    epochs: list[int] = []

    def validate(self: fit.Fit, *arguments: object) -> object:
        epochs.append(1)
        if len(epochs) == 3:
            assert any(path.name.startswith("denseblock4") for path in (tmp_path / "cache").iterdir())
            raise Diverged("The network gives values that are not finite.")
        return real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fit.Fit, "_validate", validate)
    (tmp_path / "space.toml").write_text("dropout = {low = 0, high = 0.5}")
    with pytest.raises(RunError, match="None of 1 trials"):
        sweep(
            phantoms, tmp_path / "out", recipe=tiny, space=tmp_path / "space.toml", trials=1, precision="fp32",
            workers=0, cache=tmp_path / "cache", groups=phantoms / "groups.csv",
        )  # fmt: skip
    assert [path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()] == ["pixels"]


def test_a_database_that_cannot_be_opened_is_said_without_its_password(again: Callable[..., Ears]) -> None:
    with pytest.raises(RunError, match="cannot be opened") as caught:
        again(storage="mysql+nothing://me:secret@nowhere/x")
    assert "secret" not in str(caught.value)


def test_without_optuna_the_error_names_the_extra(
    again: Callable[..., Ears], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"pip install 'neurodense\[sweep\]'"):
        again()
    assert not (tmp_path / "out").exists()
