"""A sweep: many short trainings that differ in settings of their recipe, judged on the validation part alone.

OUT/
    split.csv      the parts, written first: `neurodense train DATA --split OUT/split.csv` tests on what no trial read
    sweep.json     what was asked for
    checkpoints/   the starting weights of every trial
    sweep.db       the study, unless --storage names another place
    best.toml      the best recipe so far            trials.csv, trials.png   every trial

A trial is a `Fit` and no more: no checkpoint, no export, no calibration, no report, and no image of the test part. All
trials start from one network with one seed, so the activation cache holds what the first one computed for all that
vary the head alone.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurodense import atomic
from neurodense.data.partial import Given
from neurodense.data.split import PARTS, Split
from neurodense.data.split_table import write_split
from neurodense.errors import MissingExtra, RunError
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training.begin import Order, begin, cache_folder, take_order
from neurodense.training.checkpoint import Checkpoint, Position
from neurodense.training.mlflow_store import Tool, ask_to_track
from neurodense.training.plan import Plan
from neurodense.training.precision import DeviceName, PrecisionName
from neurodense.training.prepare import check_files, locked, recorded_split
from neurodense.training.recipe import Recipe
from neurodense.training.sheet import RunSheet, sheet_of
from neurodense.training.space import Space, load_space
from neurodense.training.sweep_report import Tried, report_sweep, tried, write_best, write_trials
from neurodense.training.sweep_tracking import SweepTracker
from neurodense.training.trials import (
    PrunerName,
    distributions_of,
    finished,
    give_up_half_trials,
    importances_of,
    open_study,
    sampler_of,
    try_one,
)

if TYPE_CHECKING:
    from optuna import Study

_START = Path("checkpoints", "start.safetensors")


def sweep(
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | Recipe = "finetune",
    space: str | Path | None = None,
    trials: int = 20,
    timeout: float | None = None,
    pruner: PrunerName = "median",
    storage: str | None = None,
    weights: str | Path | None = None,
    groups: str | Path | None = None,
    split: str | Path | None = None,
    split_by: Literal["group", "image"] | None = None,
    leave_out: str | None = None,
    partial: Given | None = None,
    teacher: str | Path | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    cache: str | Path | None = None,
    workers: int | None = None,
    track: Tool | None = None,
    tracking_uri: str | None = None,
    screen: Screen | None = None,
) -> Path:
    """Look for better settings of a recipe by trying many, on training and validation part; the test part is unread.

    A sweep that was stopped goes on when it is called again with the same arguments.

    Args:
        data: The folder of images, one sub-folder a class.
        out: The folder to make, or that of a sweep to go on with.
        recipe: What is varied: a recipe's name, a .toml file, or a `Recipe`.
        space: A .toml file of what varies, and how far; the recipe's own space where None.
        trials: Trials that are to be finished in the end, those of earlier calls and other machines included.
        timeout: Minutes after which no new trial begins.
        pruner: What ends a trial early by its validation macro F1 after each epoch: "median" where it is below the
            median of the trials before, "hyperband", or "none".
        storage: URL of a database for several machines, such as postgresql://host/name; OUT/sweep.db where None.
        weights: As `train` takes it, like all that follows.
        groups: CSV of path, label and group or patient.
        split: CSV of path and part.
        split_by: "group" or "image".
        leave_out: The source that is the test part.
        partial: Other folders to train on.
        teacher: An ONNX classifier whose answers are learnt too.
        seed: Of the split, of every trial's training, and of the settings that are drawn.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32, bf16 or fp16.
        cache: Folder of the activation cache.
        workers: Processes that decode images.
        track: "mlflow" copies the trials to MLflow as well, below a run of the sweep.
        tracking_uri: Its store; MLFLOW_TRACKING_URI, else mlflow.db in the folder that holds OUT, where None.
        screen: Told what happens; None is quiet.

    Returns:
        OUT/best.toml, a recipe for `train`.

    Raises:
        MissingExtra: Optuna is not installed.
        RunError: OUT holds another sweep, or no trial has finished.
        NeurodenseError: As `train`.
    """
    _optuna()
    screen, out, data = screen or Screen(), Path(out), Path(data)
    tracked = ask_to_track(out, track, tracking_uri)
    begun = (out / "sweep.json").exists()
    order = take_order(
        data,
        None if begun else out,
        plan=Plan(Path(split) if split is not None else None, split_by, leave_out=leave_out),
        recipe=recipe,
        weights=weights,
        groups=groups,
        partial=partial,
        teacher=teacher,
        seed=seed,
        device=device,
        precision=precision,
        cache=cache,
        workers=workers,
    )
    varied = load_space(space, order.recipe)
    asked = _asked(order, varied, groups, pruner)
    with locked(out):
        sheet, parts = _recorded(out, order, asked, screen) if begun else _begin(out, order, asked, screen)
        study = open_study(out, storage, _name(sheet, parts, varied), pruner, order.recipe)
        place = f"{platform.node()}:{out.resolve()}"
        give_up_half_trials(study, place, alone=storage is None)
        tracker = SweepTracker(tracked, study, place, out, sheet, parts, screen)
        started, distributions = time.monotonic(), distributions_of(varied)
        start = checkpoints.load(out / _START)
        try:
            while (number := len(finished(study))) < trials:
                if timeout is not None and time.monotonic() - started > 60 * timeout:
                    screen.say(f"{timeout:g} minutes are over; the same command goes on")
                    break
                study.sampler = sampler_of(study, seed, place if storage is not None else "")
                trial = study.ask(distributions)
                trial.set_user_attr("place", place)
                try_one(study, trial, varied, replace(sheet, **_now(order)), parts, start, screen)
                _keep(out, study, varied)
                tracker.send()
                screen.say(f"trial {trial.number} ({number + 1} of {trials}): {_told(study, trial.number)}")
        except KeyboardInterrupt:
            screen.say(f"stopped; {len(finished(study))} of {trials} trials are kept. The same command goes on")
            raise
        best = _keep(out, study, varied)
        if best is None:
            raise RunError(
                f"None of {len(study.trials)} trials came to its end with finite numbers.",
                f"{out / 'trials.csv'} has them: narrow the space, or lower its learning rates.",
            )
        report_sweep(out, [tried(one) for one in study.trials], best, importances_of(study), screen)
        tracker.finish()
        screen.say(f"best recipe: {out / 'best.toml'}   every trial: {out / 'trials.csv'}")
        screen.say(f"train it, and read the test part for the first time: {_command(data, out, order)}")
    return out / "best.toml"


def _optuna() -> None:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise MissingExtra("optuna", "sweep") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def _asked(order: Order, space: Space, groups: str | Path | None, pruner: PrunerName) -> dict[str, Any]:
    """What two calls must share to be one sweep, as JSON gives it back."""
    plan = order.plan
    asked = {
        "DATA": order.data.resolve(),
        "--recipe": order.recipe.model_dump(mode="json"),
        "--space": space.as_dict(),
        "--weights": order.weights,
        "--groups": groups and Path(groups).resolve(),
        "--split": plan.split and plan.split.resolve(),
        "--split-by": plan.split_by,
        "--leave-out": plan.leave_out,
        "--partial": {one.name: one.classes for one in order.partial},
        "--teacher": order.teacher and order.teacher.sha256,
        "--seed": order.seed,
        "--precision": order.precision,
        "--pruner": pruner,
    }
    plain: dict[str, Any] = json.loads(json.dumps(asked, default=str))
    return plain


def _begin(out: Path, order: Order, asked: Mapping[str, Any], screen: Screen) -> tuple[RunSheet, Split]:
    """Read the images and write what a sweep needs to go on; sweep.json last, since it says that the rest is there."""
    sheet, splits, _, network = begin(order, screen)
    write_split(splits[""], out / "split.csv")
    checkpoints.save(out / _START, Checkpoint(Position(), network.state_dict()))
    atomic.write_json(out / "sweep.json", {"asked": asked, "sheet": asdict(sheet)})
    return sheet, _untested(splits[""])


def _recorded(out: Path, order: Order, asked: Mapping[str, Any], screen: Screen) -> tuple[RunSheet, Split]:
    """What `_begin` wrote, its files compared with their hashes.

    Raises:
        RunError: The folder was begun with something else, or sweep.json is damaged.
        DataError: A file is gone or has changed.
    """
    try:
        written = json.loads((out / "sweep.json").read_text(encoding="utf-8"))
        before, sheet = written["asked"], sheet_of(written["sheet"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{out / 'sweep.json'} cannot be read: {error}") from error
    if other := [option for option, value in asked.items() if before.get(option) != value]:
        raise RunError(
            f"{out} holds a sweep with another {', '.join(other)}; trials of both could not be compared.",
            "The command that began it goes on with it; another --out starts a new one.",
        )
    split = _untested(recorded_split(out, sheet))
    check_files(out, order.data, split, order.partial, screen)
    return sheet, split


def _untested(split: Split) -> Split:
    """The split without its test part: what is not there cannot be read."""
    return replace(split, parts={**split.parts, "test": ()}, partial={**split.partial, "test": ()})


def _now(order: Order) -> dict[str, Any]:
    """What may differ from call to call."""
    changes: dict[str, Any] = {"device": order.device, "cache": cache_folder(order.cache), "partial": order.partial}
    changes["teacher"] = order.teacher
    return changes if order.workers is None else {**changes, "workers": order.workers}


def _name(sheet: RunSheet, split: Split, space: Space) -> str:
    """Name of the study: one name, one sweep, so that the machines that share a database share trials of it alone."""
    images = sorted((record.path, record.sha256, part) for part in PARTS for record in split.parts[part])
    images += sorted((record.path, record.sha256, part) for part in PARTS for record in split.partial[part])
    about = [images, sheet.recipe, space.as_dict(), sheet.weights_origin, sheet.seed, sheet.precision]
    about += [sheet.teacher.sha256] if sheet.teacher is not None else []
    return f"{space.base.name} {hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]}"


def _keep(out: Path, study: Study, space: Space) -> Tried | None:
    """Write trials.csv and best.toml; gives the best trial, None where none is complete."""
    rows = [tried(one) for one in study.get_trials(deepcopy=False)]
    write_trials(out / "trials.csv", rows, list(space.ranges))
    complete = [row for row in rows if row.state == "complete" and row.score is not None]
    if not complete:
        return None
    best = max(complete, key=lambda row: (row.score, -row.loss if row.loss is not None else 0, -row.number))
    write_best(out / "best.toml", best, space, sum(row.state in ("complete", "pruned") for row in rows))
    return best


def _told(study: Study, number: int) -> str:
    """One trial in a line."""
    row = tried(study.get_trials(deepcopy=False)[number])
    score = "no score" if row.score is None else f"validation macro F1 {row.score:.4f}"
    at = f" at epoch {row.epoch}" if row.epoch is not None and row.state == "complete" else f", {row.state}"
    values = ", ".join(
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.values.items()
    )
    return f"{score}{at}; {values}  [{row.seconds or 0:.0f} s]"


def _command(data: Path, out: Path, order: Order) -> str:
    words = ["neurodense", "train", data, "--recipe", out / "best.toml", "--split", out / "split.csv"]
    words += ["--weights", order.weights, "--seed", order.seed, "--out", "RUN"]
    for one in order.partial:
        words += ["--partial", f"{one.folder}={','.join(one.classes)}"]
    words += ["--teacher", order.teacher.path] if order.teacher is not None else []
    return shlex.join(map(str, words))
