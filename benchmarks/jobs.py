"""The jobs of `python -m benchmarks all`: each runs neurodense and its peer in turns, and says which work it needs.

A training's seconds are those from the first decoded image to the last checkpoint, with its log, as log.jsonl has them;
the peers have no search for twins, export, calibration and report. Where those are part of the job, it says "whole".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import numpy as np

from benchmarks.floors import Work, macs_between, row_values
from benchmarks.plain import PlainLoop, plain_evaluation, plain_loader
from benchmarks.recipe import copy_some
from neurodense.data.catalogue import Catalogue, scan_folder
from neurodense.data.folds import fold_records
from neurodense.data.split import split_records
from neurodense.data.split_table import write_split
from neurodense.inference.engine import Outputs
from neurodense.inference.pipeline import run_through
from neurodense.inference.predictor import Predictor
from neurodense.inference.threads import usable_cores
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.slices import Slices
from neurodense.training import execute
from neurodense.training.precision import choose
from neurodense.training.recipe import STEPS, Recipe, Stage, load_recipe
from neurodense.training.run import train
from neurodense.training.weights import read_state

SIZE = 224


@dataclass(frozen=True)
class Setting:
    """What the jobs run on: a folder of images, an empty one to work in, how much and where."""

    data: Path
    room: Path
    images: int
    rounds: int
    device: Literal["cpu", "cuda"]
    quick: bool

    @property
    def precision(self) -> str:
        """What `--precision auto` trains in."""
        return choose(self.device, "auto").precision

    def some(self, name: str, share: float) -> Catalogue:
        """A folder with this share of `images` of the data, every class as large as it is there."""
        return copy_some(scan_folder(self.data), max(16, round(self.images * share)), self.room / name)


@dataclass
class Times:
    """Seconds of both, a value a round, and what ours cannot do without; `others` are further peers, by name."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    others: dict[str, list[float]] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    about: dict[str, Any] = field(default_factory=dict)

    def take_turns(self, rounds: int, ours: Callable[[], float], peer: Callable[[], float]) -> None:
        """Run both so many times; who comes first changes from round to round, so that drift tells on both."""
        for number in range(rounds):
            for times, job in ((self.ours, ours), (self.peer, peer))[:: -1 if number % 2 else 1]:
                times.append(job())


@dataclass(frozen=True)
class Trained:
    """What a run's log tells: seconds to the last checkpoint, to the best epoch's, and of each stage's epochs."""

    seconds: float
    to_best: float
    best: int
    epochs: dict[str, list[float]]
    whole: float


def _train(setting: Setting, data: Path, recipe: Recipe, *, finished: bool, **options: Any) -> Trained:
    """Train and read the log; the run folder goes away, the cache stays. Export and report are made if `finished`."""
    run = setting.room / "run"
    options = {"weights": "none", "device": setting.device, "workers": usable_cores(), **options}
    start = time.perf_counter()
    with nullcontext() if finished else mock.patch.object(execute, "finish", lambda run, *_: run / "model"):
        train(data, run, recipe=recipe, **options)
    whole = time.perf_counter() - start
    seconds, to_best, best, epochs = _read_log(run)
    shutil.rmtree(run)
    return Trained(seconds, to_best, best, epochs, whole)


def quick_train(data: Path, run: Path, recipe: Recipe, split: Path, cache: Path, seed: int) -> float:
    """Train from nothing on the CPU without export and report; gives the last epoch's validation macro F1."""
    with mock.patch.object(execute, "finish", lambda run, *_: run / "model"):
        train(
            data,
            run,
            recipe=recipe,
            weights="none",
            device="cpu",
            workers=usable_cores(),
            split=split,
            cache=cache,
            seed=seed,
        )
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    shutil.rmtree(run)
    return float([row for row in rows if row["event"] == "epoch"][-1]["validation_macro_f1"])


def _read_log(run: Path) -> tuple[float, float, int, dict[str, list[float]]]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    times = {event["event"]: event["time"] for event in events if "time" in event}
    rows = [event for event in events if event["event"] == "epoch"]
    best = max(rows, key=lambda row: (row["validation_macro_f1"], -row["validation_loss"]))["epoch"]
    seconds = float(times["trained"] - times["start"])
    epochs: dict[str, list[float]] = {}
    for row in rows:
        epochs.setdefault(row["stage"], []).append(row["seconds"])
    return seconds, seconds - sum(row["seconds"] for row in rows if row["epoch"] > best), best, epochs


def _work(setting: Setting, recipe: Recipe, train_images: int, others: int, epochs: int | None = None) -> Work:
    """A cached training up to its epoch `epochs`: the prefix once for each view, then the suffixes.

    An image that trains costs the suffix three times (forwards, and the gradients of inputs and of weights), in
    validation once.
    """
    size, left = recipe.image_size, recipe.epochs if epochs is None else epochs
    views = recipe.views if recipe.augmented else 1
    highest = max(stage.cut for stage in recipe.stage)
    macs = (train_images * views + others) * macs_between(0, highest, size)
    moved = 0.0
    for stage in recipe.stage:
        now = min(stage.epochs, left)
        left -= now
        macs += now * (3 * train_images + others) * macs_between(stage.cut, len(STEPS), size)
        itemsize = 4 if setting.precision == "fp32" else 2
        moved += now * (train_images + others) * row_values(stage.cut, size) * itemsize
    return Work({setting.precision: macs}, moved, train_images + others)


def _less_epochs(recipe: Recipe, epochs: int) -> Recipe:
    """The same recipe with that many epochs a stage."""
    return recipe.model_copy(update={"stage": tuple(s.model_copy(update={"epochs": epochs}) for s in recipe.stage)})


def _split(setting: Setting, name: str, share: float) -> tuple[Catalogue, Path, dict[str, int]]:
    """A folder, its split as a file (which spares looking for twins), and how many images each part has."""
    catalogue = setting.some(name, share)
    split = split_records(catalogue, seed=0)
    write_split(split, setting.room / f"{name}.csv")
    for part in ("train", "validation"):  # as ImageFolder wants them
        for record in split.parts[part]:
            target = setting.room / f"{name}-plain" / part / record.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to((catalogue.root / record.path).resolve())
    return catalogue, setting.room / f"{name}.csv", {part: len(records) for part, records in split.parts.items()}


def notebook(setting: Setting) -> Times:
    """The notebook recipe: 10 head epochs and 13 of block 4, each with a validation."""
    catalogue, split, counts = _split(setting, "notebook", 1)
    recipe = load_recipe("notebook")
    loop = PlainLoop(setting.room / "notebook-plain", len(catalogue.classes), setting.device)
    kinds: list[dict[str, float]] = []

    def ours() -> float:
        found = _train(setting, catalogue.root, recipe, finished=False, split=split, cache=setting.room / "cache")
        shutil.rmtree(setting.room / "cache")
        return found.seconds

    def peer() -> float:
        kind = {name: loop.epoch(name, counts["train"] // 3) for name in ("head", "block 4")}
        kinds.append(kind | {"evaluation": loop.evaluation()})
        return 10 * kind["head"] + 13 * kind["block 4"] + 23 * kinds[-1]["evaluation"]

    times = Times(
        work=_work(setting, recipe, counts["train"], counts["validation"]),
        about={"images": counts, "peer_epoch_s": kinds},
    )
    times.take_turns(setting.rounds, ours, peer)
    return times


def finetune(setting: Setting) -> Times:
    """The default recipe until its best epoch, from the shipped model's weights; the peer is it without the cache.

    Epochs of one kind take the same time, so two of each are run without the cache, and the median is summed.
    """
    catalogue, split, counts = _split(setting, "finetune", 0.5)
    recipe = load_recipe("finetune")
    best: list[int] = []
    whole_recipe: list[dict[str, float]] = []

    def ours() -> float:
        cache = setting.room / "cache"
        found = _train(setting, catalogue.root, recipe, finished=False, weights="brain", split=split, cache=cache)
        shutil.rmtree(cache)
        best.append(found.best)
        whole_recipe.append({"ours": found.seconds})
        return found.to_best

    def peer() -> float:
        few = _less_epochs(recipe, 2)
        found = _train(setting, catalogue.root, few, finished=False, weights="brain", split=split, cache=False)
        each = {name: float(np.median(seconds)) for name, seconds in found.epochs.items()}
        whole_recipe.append({"peer": sum(each[stage.name] * stage.epochs for stage in recipe.stage)})
        return _until(recipe, each, best[0] if best else recipe.epochs)

    times = Times(about={"images": counts, "best_epoch": best, "whole_recipe_s": whole_recipe})
    times.take_turns(setting.rounds, ours, peer)
    times.work = _work(setting, recipe, counts["train"], counts["validation"], best[0])
    return times


def _until(recipe: Recipe, each: dict[str, float], epoch: int) -> float:
    """Seconds of the first `epoch` epochs, where one of a stage takes what `each` says."""
    stages: list[Stage] = [stage for stage in recipe.stage for _ in range(stage.epochs)]
    return sum(each[stage.name] for stage in stages[:epoch])


def second(setting: Setting) -> Times:
    """A head on augmented views, then another one (rate, dropout) on the same images, whose rows are in the cache."""
    catalogue, split, counts = _split(setting, "second", 0.5)
    first = load_recipe("finetune")
    first = first.model_copy(update={"stage": first.stage[:1]})
    head = first.stage[0].model_copy(update={"learning_rate": 3e-3})
    other = first.model_copy(update={"dropout": 0.5, "stage": (head,)})
    whole: list[tuple[float, float]] = []
    times = Times(
        work=Work(moved=_work(setting, other, counts["train"], counts["validation"]).moved),
        about={"images": counts, "whole_s": whole},
    )
    for _ in range(setting.rounds):  # the one makes what the other finds, so their order cannot change
        cache = setting.room / "cache"
        one, two = (_train(setting, catalogue.root, r, finished=True, split=split, cache=cache) for r in (first, other))
        shutil.rmtree(cache)
        times.peer.append(one.seconds)
        times.ours.append(two.seconds)
        whole.append((one.whole, two.whole))
    return times


def folds(setting: Setting) -> Times:
    """Five folds that share the cache, whole with all reports, against five runs that each fill one of their own.

    A run of the five is run, and counts five times. What of it a run without the cache has too, and one epoch of each
    kind without it, make up the five runs with --no-cache. The work is that of the training alone.
    """
    number, recipe = (2 if setting.quick else 5), load_recipe("notebook")
    catalogue = setting.some("folds", 0.25)
    records = catalogue.records
    split = fold_records(catalogue, number, seed=0)[0]
    write_split(split, setting.room / "fold.csv")
    table = ["path,group", *(f"{record.path},{record.path}" for record in records)]
    (setting.room / "groups.csv").write_text("\n".join(table), encoding="utf-8")
    plain: list[float] = []
    parts: list[dict[str, float]] = []

    def ours() -> float:
        start, run, cache = time.perf_counter(), setting.room / "run", setting.room / "cache"
        options: dict[str, Any] = {"weights": "none", "device": setting.device, "workers": usable_cores()}
        groups = setting.room / "groups.csv"
        train(catalogue.root, run, recipe=recipe, groups=groups, folds=number, cache=cache, **options)
        seconds = time.perf_counter() - start
        shutil.rmtree(run)
        shutil.rmtree(cache)
        return seconds

    def peer() -> float:
        cache, one = setting.room / "cache", setting.room / "fold.csv"
        found = _train(setting, catalogue.root, recipe, finished=True, split=one, cache=cache)
        shutil.rmtree(cache)
        without = _train(setting, catalogue.root, _less_epochs(recipe, 1), finished=True, split=one, cache=False)
        each = {name: float(np.median(seconds)) for name, seconds in without.epochs.items()}
        parts.append({"whole": found.whole, "to_last_checkpoint": found.seconds})
        plain.append(number * (found.whole - found.seconds + _until(recipe, each, recipe.epochs)))
        return number * found.whole

    counts = {part: len(split.parts[part]) for part in ("train", "validation", "test")}
    each = _work(setting, recipe, counts["train"], counts["validation"])
    prefix = macs_between(0, STEPS.index("classifier"), SIZE)
    met = counts["train"] + counts["validation"]
    macs = number * (each.macs[setting.precision] - met * prefix) + len(records) * prefix
    tested = len(records) * macs_between(0, len(STEPS), SIZE)
    times = Times(
        work=Work({setting.precision: macs, "fp32": tested}, number * each.moved, len(records)),
        about={"images": len(records), "one_run_s": parts},
        others={f"{number} runs with --no-cache": plain},
    )
    times.take_turns(min(setting.rounds, 2), ours, peer)
    return times


def _no_graph(pixels: np.ndarray) -> Outputs:
    """Nothing but shapes: what is left is reading, decoding and preprocessing, in the pipeline's own threads."""
    nothing = np.empty((len(pixels), 1), np.float32)
    return Outputs(nothing, nothing, nothing)


def decode(setting: Setting) -> Times:
    """Every picture of a folder to the network's input, by the pipeline of `predict`; the peer keeps three channels."""
    folder = _links(setting, "decode", setting.images * 6)
    paths = sorted(path for path in folder.rglob("*") if not path.is_dir())
    preprocess = Preprocess(size=SIZE)

    def ours() -> float:
        start = time.perf_counter()
        found = run_through(_no_graph, usable_cores(), preprocess, paths, Slices(), 4, keep=False)
        count = sum(1 for _ in found)
        assert count == len(paths)
        return time.perf_counter() - start

    def peer() -> float:
        start = time.perf_counter()
        count = sum(len(batch) for batch, _ in plain_loader(folder, SIZE, normalise=False))
        assert count == len(paths)
        return time.perf_counter() - start

    times = Times(work=Work(pictures=len(paths)), about={"images": len(paths)})
    times.take_turns(setting.rounds, ours, peer)
    return times


def evaluate(setting: Setting) -> Times:
    """`neurodense evaluate --precision auto --out`, whole, with the shipped model; intervals and report are in it.

    Of both the start of Python and the imports count, from bytecode that is there, as an installed package has it.
    """
    folder = _links(setting, "evaluate", 5000)
    predictor = Predictor("brain", precision="auto")
    size, weights = predictor.card.preprocess.size, read_state(predictor.folder / "model.safetensors")
    count = sum(1 for path in folder.rglob("*") if not path.is_dir())
    out, starts = setting.room / "evaluation", []
    imports = "import benchmarks.plain, matplotlib.figure, sklearn.metrics"

    def ours(data: Path = folder) -> float:
        words = ["-m", "neurodense", "evaluate", str(data), "--precision", "auto", "--out", str(out)]
        seconds = _python(setting, *words)
        assert (out / "report" / "index.html").exists()
        shutil.rmtree(out)
        return seconds

    def peer() -> float:
        starts.append(_python(setting, "-c", imports))
        return starts[-1] + plain_evaluation(folder, weights, size, setting.room / "peer", setting.device, count // 8)

    ours(_links(setting, "evaluate-few", 16))
    _python(setting, "-c", imports)
    macs = count * macs_between(0, len(STEPS), size)
    about = {
        "images": count,
        "size": size,
        "precision": predictor.precision,
        "engine": predictor.engine,
        "peer_start_s": starts,
    }
    times = Times(work=Work({predictor.precision: macs}, pictures=count), about=about)
    times.take_turns(setting.rounds, ours, peer)
    return times


def _python(setting: Setting, *words: str) -> float:
    """Seconds of a Python process; what it compiles is kept, whatever this process was told."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(setting.room / "bytecode")
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=env)
    return time.perf_counter() - start


def _links(setting: Setting, name: str, most: int) -> Path:
    """A folder of links to images of the data, evenly taken; as many as there are, where they are fewer."""
    catalogue = scan_folder(setting.data)
    wanted = 60 if setting.quick else most
    folder = setting.room / name
    for record in _spread(catalogue.records, wanted):
        link = folder / record.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to((catalogue.root / record.path).resolve())
    return folder


def _spread(records: Sequence[Any], wanted: int) -> Iterable[Any]:
    count = min(wanted, len(records))
    return (records[k * len(records) // count] for k in range(count))
