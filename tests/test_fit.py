"""The loop: the cache changes nothing, frozen is frozen, a stopped run ends as one that was not."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from neurodense.errors import RunError
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training import execute, prefix
from neurodense.training import run as runs
from neurodense.training.activations import shared_cuts
from neurodense.training.recipe import STEPS, Recipe, load_recipe, parse_recipe

HEAD_FIRST = """
name = "head first"
summary = "A frozen prefix in both stages, with views."
image_size = 64
batch_size = 8
keep = "last"
weights = "none"
views = 2

[augment]
flip = true
noise = 0.02

[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-3
epochs = 3

[[stage]]
name = "block 4"
trainable = ["denseblock4", "classifier"]
learning_rate = 1e-4
epochs = 2

[[stage]]
name = "block 4, continued"
trainable = ["denseblock4", "classifier"]
learning_rate = 1e-4
epochs = 1
continued = true
"""


@pytest.fixture(autouse=True)
def no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about the loop; export and report have their own."""
    monkeypatch.setattr(execute, "finish", lambda run, *_: run / "model")


@pytest.fixture(scope="module")
def head_first() -> Recipe:
    return parse_recipe(HEAD_FIRST, "test")


def train(data: Path, out: Path, recipe: Recipe, **options: object) -> dict[str, torch.Tensor]:
    """Train in fp32 and give the last weights."""
    settings = {"groups": data / "groups.csv", "seed": 1, "precision": "fp32", "workers": 0, **options}
    runs.train(data, out, recipe=recipe, **settings)  # type: ignore[arg-type]
    return checkpoints.load(out / "checkpoints" / "last.safetensors").network


def losses(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "batch"]


@pytest.fixture(scope="module")
def both(phantoms: Path, head_first: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same training with the cache and without; the frozen layers run on the same engine in both."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix, "engine_of", lambda *_: "torch")
        patch.setattr(execute, "finish", lambda run, *_: run / "model")
        train(phantoms, folder / "cached", head_first, cache=folder / "cache")
        train(phantoms, folder / "plain", head_first, cache=False)
    return folder / "cached", folder / "plain"


def test_cached_equals_uncached(both: tuple[Path, Path]) -> None:
    cached, plain = both
    assert len(losses(cached)) == len(losses(plain)) > 10
    torch.testing.assert_close(torch.tensor(losses(cached)), torch.tensor(losses(plain)), atol=1e-5, rtol=1e-5)
    one, other = (checkpoints.load(run / "checkpoints" / "last.safetensors").network for run in both)
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], atol=1e-5, rtol=1e-4, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_frozen_parameters_and_statistics_do_not_move_by_a_bit(
    both: tuple[Path, Path], phantoms: Path, head_first: Recipe
) -> None:
    for run in both:
        torch.manual_seed(1)
        execute.seed_everything(1)
        start = execute.new_network(4, head_first).state_dict()
        end = checkpoints.load(run / "checkpoints" / "last.safetensors").network
        trained = ("features.denseblock4.", "classifier.")
        moved = {name for name in start if not torch.equal(start[name], end[name])}
        assert moved == {name for name in start if name.startswith(trained)}, "exactly the named parts move"


def test_every_epoch_is_logged(both: tuple[Path, Path], head_first: Recipe) -> None:
    from neurodense.training.journal import read_history

    rows = read_history(both[0])
    assert [row["epoch"] for row in rows] == list(range(1, head_first.epochs + 1))
    assert [row["view"] for row in rows] == [1, 2, 1, 2, 1, 2]
    assert {"train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1", "stage"} <= rows[0].keys()


def test_tensorboard_has_the_same_figures(both: tuple[Path, Path]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(both[0] / "tensorboard")).Reload()
    assert [e.value for e in events.Scalars("batch/loss")] == pytest.approx(losses(both[0]), rel=1e-6)
    assert len(events.Scalars("epoch/validation_macro_f1")) == 6


def test_a_second_run_finds_its_rows(
    phantoms: Path, head_first: Recipe, both: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = both[0].parent / "cache"
    monkeypatch.setattr(prefix, "engine_of", lambda *_: "torch")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("rows.bin")}
    assert len(before) == 2, "one store for each of the two cuts"
    said: list[str] = []

    class Ears(Screen):
        def say(self, text: str) -> None:
            said.append(text)

    train(phantoms, tmp_path / "again", head_first, cache=cache, screen=Ears())
    assert before == {path: path.stat().st_mtime_ns for path in cache.rglob("rows.bin")}
    assert sum("rows are in the cache" in line for line in said) >= 2


def test_one_pass_serves_all_cuts_that_no_stage_in_between_changes() -> None:
    stages = load_recipe("notebook").stage
    assert shared_cuts(stages, 0) == [STEPS.index("denseblock4"), STEPS.index("classifier")]
    demo = load_recipe("demo").stage  # all layers, then the head: the head's prefix changes first
    assert shared_cuts(demo, 0) == [0]
    assert shared_cuts(demo, 1) == [STEPS.index("classifier")]


def test_too_little_room_is_said_before_it_is_used(
    phantoms: Path, head_first: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    real = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=1000))
    with pytest.raises(RunError, match=r"needs .* MB") as caught:
        train(phantoms, tmp_path / "run", head_first, cache=tmp_path / "cache")
    assert "--no-cache" in str(caught.value)
    assert not list((tmp_path / "cache").rglob("rows.bin"))


def test_a_loss_that_is_not_finite_stops_the_run(phantoms: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(HEAD_FIRST.replace("1e-3", "9.0").replace("1e-4", "9.0").replace("adam", "sgd"), "test")
    hot = recipe.model_copy(
        update={
            "stage": (recipe.stage[0].model_copy(update={"trainable": ("all",), "optimizer": "sgd", "epochs": 60}),)
        }
    )
    with pytest.raises(RunError, match=r"The loss is (nan|inf)|not finite"):
        train(phantoms, tmp_path / "run", hot, cache=False)


# A process that kills itself with SIGKILL at a chosen moment: the n-th call of a function, before or after it.
GO = """
import os, signal, sys
from pathlib import Path
from neurodense.training import checkpoint, execute, journal, run as runs, store
execute.finish = lambda run, *_: run / "model"
data, out, recipe, cache = map(Path, sys.argv[1:5])
if len(sys.argv) > 5:
    owner, name, count, when = sys.argv[5:]
    owner = {"Journal": journal.Journal, "checkpoint": checkpoint, "RowStore": store.RowStore}[owner]
    real, calls = getattr(owner, name), []
    def die(*arguments, **keywords):
        calls.append(1)
        if len(calls) == int(count) and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **keywords)
        if len(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, die)
if (out / "run.json").exists():
    runs.resume(out)
else:
    runs.train(data, out, recipe=recipe, groups=data / "groups.csv", seed=1, precision="fp32", workers=0, cache=cache)
"""

KILLS = [
    ("RowStore", "append", 2, "before"),  # while the cache is filled
    ("Journal", "batch", 3, "after"),  # in the middle of the first epoch
    ("checkpoint", "save", 1, "after"),  # between the two checkpoints of the first epoch, which is the best so far
    ("Journal", "batch", 6, "after"),  # in the second epoch, whose moving average was brought back
    ("Journal", "batch", 5, "before"),  # in the second stage
    ("checkpoint", "save", 1, "before"),  # after an epoch's log is on disk, before its checkpoint
]


def test_a_killed_run_ends_as_one_that_was_not(phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    """Kill -9 at six moments of one run; the final weights, the best ones and the log are the same to the bit."""
    import tomli_w

    recipe, script = tmp_path / "tiny.toml", tmp_path / "go.py"
    recipe.write_text(tomli_w.dumps(tiny.model_copy(update={"batch_size": 4}).model_dump(mode="json")))
    script.write_text(GO)

    def go(out: Path, *kill: object) -> int:
        words = [script, phantoms, out, recipe, out.parent / f"cache-{out.name}", *kill]
        with (tmp_path / "errors.txt").open("ab") as errors:
            process = subprocess.run(
                [sys.executable, *map(str, words)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stderr=errors,
                check=False,
            )
        return process.returncode

    assert go(tmp_path / "whole") == 0, (tmp_path / "errors.txt").read_text()
    out = tmp_path / "killed"
    for kill in KILLS:
        assert go(out, *kill) == -signal.SIGKILL, (kill, (tmp_path / "errors.txt").read_text())
    assert go(out) == 0, (tmp_path / "errors.txt").read_text()
    for name in ("last", "best"):
        one, other = (load_file(run / "checkpoints" / f"{name}.safetensors") for run in (tmp_path / "whole", out))
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name
    assert losses(out) == losses(tmp_path / "whole"), "the log tells the epochs once"


def test_continue_epochs_goes_on_with_the_optimiser(phantoms: Path, head_first: Recipe, tmp_path: Path) -> None:
    """A run continued for m epochs equals one whose recipe had them: the notebook's "continue training"."""
    short = head_first.model_copy(update={"stage": head_first.stage[:2]})
    train(phantoms, tmp_path / "short", short, cache=tmp_path / "cache")
    runs.resume(tmp_path / "short", continue_epochs=1)
    whole = train(phantoms, tmp_path / "whole", head_first, cache=tmp_path / "cache")
    more = checkpoints.load(tmp_path / "short" / "checkpoints" / "last.safetensors").network
    assert all(torch.equal(more[name], whole[name]) for name in whole)


def test_a_finished_run_has_nothing_to_do_and_a_missing_one_is_an_error(
    both: tuple[Path, Path], tmp_path: Path
) -> None:
    before = (both[0] / "log.jsonl").read_bytes()
    runs.resume(both[0])
    assert (both[0] / "log.jsonl").read_bytes() == before
    with pytest.raises(RunError, match="holds no run"):
        runs.resume(tmp_path)


def test_a_run_folder_is_not_overwritten(both: tuple[Path, Path], phantoms: Path, head_first: Recipe) -> None:
    with pytest.raises(RunError, match="--resume"):
        train(phantoms, both[0], head_first)


def test_two_processes_do_not_train_one_run(both: tuple[Path, Path]) -> None:
    from filelock import FileLock

    before = (both[0] / "run.json").read_bytes()
    with FileLock(both[0] / ".lock"), pytest.raises(RunError, match="Another process"):
        runs.resume(both[0], continue_epochs=1)
    assert (both[0] / "run.json").read_bytes() == before


def test_checkpoints_are_apart_and_the_best_of_between_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are numbers of their epoch: what is written is what `resume` and `keep = "best"` need."""
    now = 0.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    keeper, live = checkpoints.Keeper(tmp_path), {"weight": torch.zeros(3)}

    def epoch(number: int, *, is_best: bool, must: bool = False) -> bool:
        live["weight"].fill_(number)
        best = (1.0, 0.0, number)
        return keeper.epoch(
            checkpoints.Checkpoint(checkpoints.Position(total_epoch=number, best=best), live),
            is_best=is_best,
            must=must,
        )

    def written() -> tuple[float, float]:
        last, best = (checkpoints.load(tmp_path / f"{name}.safetensors") for name in ("last", "best"))
        assert last.position.total_epoch == last.network["weight"][0]
        assert best.position.total_epoch == best.network["weight"][0]
        return last.position.total_epoch, best.position.total_epoch

    assert epoch(1, is_best=True)
    assert written() == (1, 1)
    now = checkpoints.SECONDS_APART - 1
    assert not epoch(2, is_best=True)
    assert not epoch(3, is_best=False)
    assert written() == (1, 1), "a kill here goes on from the first epoch"
    now = checkpoints.SECONDS_APART
    assert epoch(4, is_best=False)
    assert written() == (4, 2)
    assert not epoch(5, is_best=True)
    assert epoch(6, is_best=True, must=True), "the end of a stage is written whatever the time"
    assert written() == (6, 6)
    assert not epoch(7, is_best=False)
    assert epoch(8, is_best=False, must=True)
    assert written() == (8, 6)
