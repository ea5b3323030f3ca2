"""Several processes: they give what one gives, one of them speaks, and whatever ends them, the run goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
    pytest.skip("this torch trains in one process only", allow_module_level=True)

from neurodense.training import checkpoint as checkpoints
from neurodense.training import processes
from tests.processes_job import carry_out, in_doubles

# Batches of 23 images, which two processes share unevenly, and of 1, of which one has none; everything
# random; everything that is a mean over the batch.
RECIPE = """
name = "all sorts"
summary = "Everything that several processes have to share."
image_size = 64
batch_size = 23
keep = "best"
weights = "none"
views = 2
label_smoothing = 0.1
class_weights = "balanced"
balance = "root"

[augment]
flip = true
gamma = 0.2

[[stage]]
name = "all"
trainable = ["all"]
optimizer = "adamw"
learning_rate = 1e-3
epochs = 1
ema = 0.9
mixup = 0.4

[[stage]]
name = "block 4"
trainable = ["denseblock4", "norm5", "classifier"]
learning_rate = 1e-4
epochs = 1
"""
HEAD = """
name = "head"
summary = "The head alone."
image_size = 64
keep = "last"
weights = "none"

[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-3
epochs = 1
"""


def start(*steps: dict[str, Any], count: int = 2) -> subprocess.CompletedProcess[str]:
    """Run steps one after the other in a job of several processes."""
    job = Path(__file__).with_name("processes_job.py")
    words = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), job, *map(json.dumps, steps)]
    root = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,  # a busy machine takes its time to import torch three times
        start_new_session=True,  # Ctrl-C goes to a whole group of processes, and this one is not of it
    )


def losses(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "batch"]


def assert_same(run: Path, other: Path) -> None:
    """The loss of every batch, and all weights, averages and moments, but for rounding and its growth."""
    assert losses(run) == pytest.approx(losses(other), rel=1e-6)
    for name in ("last", "best"):
        ours, theirs = (checkpoints.load(one / "checkpoints" / f"{name}.safetensors") for one in (run, other))
        assert ours.position.best == pytest.approx(theirs.position.best, rel=1e-6)
        for part in ("network", "optimizer", "ema"):
            torch.testing.assert_close(getattr(ours, part), getattr(theirs, part), rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def settings(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("processes")
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "head.toml").write_text(HEAD)
    return {"data": str(phantoms), "recipe": str(folder / "recipe.toml"), "cache": str(folder / "cache")}


@pytest.fixture(scope="module")
def doubles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, in_doubles(patch):
        yield


@pytest.fixture(scope="module")
def alone(settings: dict[str, Any], doubles: None) -> Path:
    """A run of one process."""
    folder = Path(settings["recipe"]).parent
    carry_out({**settings, "cache": str(folder / "cache-alone"), "out": str(folder / "alone")})
    return folder / "alone"


@pytest.fixture(scope="module")
def job(settings: dict[str, Any]) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Runs of two processes: with the cache, without it, and of folds; then one into a folder that is taken."""
    folder = Path(settings["recipe"]).parent
    cached = {**settings, "out": str(folder / "cached")}
    plain = {**settings, "out": str(folder / "plain"), "cache": False}
    folds = {**settings, "out": str(folder / "folds"), "recipe": str(folder / "head.toml"), "folds": 2}
    return folder, start(cached, plain, folds, cached)


def test_two_processes_train_what_one_does(job: tuple[Path, subprocess.CompletedProcess[str]], alone: Path) -> None:
    """With trainable BatchNorm, dropout, mixup, drawn batches, class weights and moving averages."""
    folder, result = job
    assert len(losses(alone)) == 4, "24 images: two batches an epoch"
    assert (folder / "folds").exists(), result.stderr
    assert_same(folder / "cached", alone)
    assert_same(folder / "plain", alone)


def test_one_process_speaks_and_writes(job: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, result = job
    assert result.stderr.count("training on cpu fp32 (2 processes") == 2 + 2, "two runs, and one of two folds"
    assert result.stderr.count("stage 'block 4'") == 2
    assert "warning" not in result.stderr.lower().replace("warning: groups", "")
    for run in ("cached", "plain"):
        events = [json.loads(line) for line in (folder / run / "log.jsonl").read_text().splitlines()]
        assert [event["event"] for event in events] == ["start", *["batch", "batch", "epoch"] * 2, "trained"]
        assert events[0]["processes"] == 2
        assert len(list((folder / run / "tensorboard").iterdir())) == 1


def test_folds_train_one_after_the_other(job: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    for fold in ("fold-1", "fold-2"):
        run = job[0] / "folds" / fold
        assert json.loads((run / "run.json").read_text())["finished"]
        assert checkpoints.load(run / "checkpoints" / "last.safetensors").position.total_epoch == 1
    assert json.loads((job[0] / "folds" / "run.json").read_text())["finished"]


def own_lines(text: str) -> list[str]:
    """What the processes said, without torchrun's own report."""
    before = text.partition("Traceback (most recent call last)")[0]
    return [line for line in before.splitlines() if "torch/distributed/" not in line]


def test_a_run_survives_a_killed_process_and_ctrl_c(settings: dict[str, Any], alone: Path) -> None:
    """Kill -9 of one of two in the second epoch; resumed by two, who are interrupted; resumed by one."""
    run = Path(settings["recipe"]).parent / "killed"
    killed = start({**settings, "out": str(run), "at": 3, "do": "die"})
    assert killed.returncode != 0
    assert killed.stderr.count("error: ") == 1, killed.stderr
    assert "A process of this job has died" in killed.stderr
    assert f"neurodense train --resume {run}" in killed.stderr
    assert "neurodense/training" not in killed.stderr, "no traceback of ours"

    interrupted = start({"out": str(run), "at": 1, "do": "interrupt"})
    assert interrupted.returncode != 0
    assert interrupted.stderr.count("stopped; whole epochs are kept") == 1, interrupted.stderr
    assert "error: " not in interrupted.stderr
    assert own_lines(interrupted.stderr)[-1].startswith("stopped; whole epochs are kept")

    shutil.copytree(run, run.with_name("resumed"))
    carry_out({"out": str(run.with_name("resumed"))})
    assert_same(run.with_name("resumed"), alone)


def test_an_error_is_said_once(job: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Of the first process, which alone looks at the run folder; the others wait for it meanwhile."""
    assert job[1].returncode != 0
    assert job[1].stderr.count("error: ") == 1, job[1].stderr
    assert "cached already holds a run" in job[1].stderr
    assert "neurodense/training" not in job[1].stderr, "no traceback of ours"


def test_one_process_shares_with_nobody() -> None:
    rows = torch.rand(5, 3)
    assert processes.size() == 1
    assert processes.first()
    assert processes.share(5) == slice(0, 5)
    assert processes.gather(rows, 5) is rows
    assert torch.equal(processes.total(rows), rows)
    assert processes.told({"one": 1}) == {"one": 1}
    assert processes.parallel(network := torch.nn.Linear(3, 2)) is network


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9])
def test_shares_are_the_whole_in_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "size", lambda: 4)
    parts = []
    for rank in range(4):
        monkeypatch.setattr(processes.distributed, "get_rank", lambda rank=rank: rank)
        parts.append(list(range(count))[processes.share(count)])
    assert [k for part in parts for k in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
