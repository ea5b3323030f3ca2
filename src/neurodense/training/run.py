"""A run from a folder of images to a trained, measured, explained model: `train` and `resume`.

RUN/
    split.csv      path,label,group,part,sha256: written first
    run.json       what was asked for, and the recipe; `finished` once all is done
    recipe.toml    the recipe, ready to be given back with --recipe
    log.jsonl      every batch and epoch            tensorboard/   the same for TensorBoard
    checkpoints/   last.safetensors to go on from, best.safetensors
    model/         the model folder
    evaluation/    the test part: metrics.json, predictions.csv, figures
    report/        index.html

With --folds K each fold is such a run, in RUN/fold-1 ..., and RUN itself holds what they give together: see `folds.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from neurodense.data.groups import sources
from neurodense.data.partial import Given, Partial, partial_folders
from neurodense.data.split import Split
from neurodense.data.split_table import write_split
from neurodense.errors import RunError
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training.begin import begin, cache_folder, take_order
from neurodense.training.checkpoint import Checkpoint, Position
from neurodense.training.execute import execute, led, mirroring
from neurodense.training.folds import run_folds
from neurodense.training.mirror import absolute, open_mirror, reopen_mirror, restore
from neurodense.training.mlflow_store import Tool, ask_to_track
from neurodense.training.network import Network
from neurodense.training.plan import Plan
from neurodense.training.precision import DeviceName, PrecisionName
from neurodense.training.prepare import check_files, locked, recorded_split
from neurodense.training.recipe import Recipe
from neurodense.training.sheet import RunSheet, read_sheet
from neurodense.training.teacher import found_again
from neurodense.training.tracking import tracking


@led
def train(
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | Recipe = "finetune",
    weights: str | Path | None = None,
    groups: str | Path | None = None,
    split: str | Path | None = None,
    split_by: Literal["group", "image"] | None = None,
    folds: int | None = None,
    final: bool = False,
    leave_out: str | None = None,
    partial: Given | None = None,
    teacher: str | Path | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    cache: str | Path | Literal[False] | None = None,
    workers: int | None = None,
    mirror: str | None = None,
    track: Tool | None = None,
    tracking_uri: str | None = None,
    screen: Screen | None = None,
) -> Path:
    """Train on a folder of images, one sub-folder a class, and measure the result on images kept apart.

    Args:
        data: The folder.
        out: The run folder to make; it must not hold a run yet.
        recipe: A recipe's name, a .toml file, or a `Recipe`.
        weights: "imagenet", "none" or a file; what the recipe says where None.
        groups: CSV of path, label and group or patient; whole groups then stay in one part. Without one, and without
            `split`, twins are looked for, and each cluster of them is a group.
        split: CSV of path and part, such as an earlier run's split.csv.
        split_by: "group" keeps groups whole; "image" splits image by image, as the notebook does, and counts what
            that leaks. None is "group".
        folds: Train so many times, so that every image is tested once: a cross-validation.
        final: After the folds, train one more model on all images, in OUT/final.
        leave_out: The source that is the test part: COLUMN=VALUE of the group table, or a regular expression that is
            searched in the images' paths.
        partial: Other folders to train on: folder -> classes that each of its images may be of, nobody knows which.
        teacher: An ONNX classifier of the same classes whose answers are learnt too, as `Teacher` of
            `neurodense.training.teacher` takes it.
        seed: Of the split, the initial weights, the order of images, augmentation and dropout.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32, bf16 or fp16, of matrix products; weights are float32.
        cache: Folder of the activation cache; False runs the frozen layers in every epoch; None takes the user's
            cache folder.
        workers: Processes that decode images; one less than there are cores, at most 8, where None.
        mirror: URL or folder that checkpoints and results are copied to.
        track: "mlflow" copies parameters, curves, results and the model folder to MLflow as well.
        tracking_uri: Its store; MLFLOW_TRACKING_URI, else mlflow.db in the folder that holds OUT, where None.
        screen: Told what happens; None is quiet.

    Returns:
        The model folder, OUT/model; of a run with folds, OUT itself.

    Raises:
        NeurodenseError: Its kinds are those of `neurodense.errors`.
    """
    screen, run, data = screen or Screen(), Path(out), Path(data)
    tracked = ask_to_track(run, track, tracking_uri)
    order = take_order(
        data,
        run,
        plan=Plan(Path(split) if split is not None else None, split_by, folds, final, leave_out),
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
    with locked(run):
        destination = open_mirror(run, absolute(mirror), screen) if mirror else None
        sheet, splits, leaks, network = begin(order, screen)
        known = sources(order.table.source if order.table is not None else order.plan.split)
        sheet = replace(sheet, mirror=absolute(mirror) if mirror else None, tracked=tracked)
        for name, parts in splits.items():
            one = replace(sheet, mirror=None, leaked=leaks.get(name), folds=None, final=False) if folds else sheet
            _write(run / name, one, parts, network, known)
        if folds:
            sheet.save(run)
        with mirroring(run, sheet, destination, screen) as push:
            if folds:
                return run_folds(run, sheet, push, screen, checked=True)
            return execute(run, sheet, splits[""], push, screen)


def _write(run: Path, sheet: RunSheet, split: Split, network: Network, known: Mapping[str, str]) -> None:
    """Write what a run needs to go on; run.json last, since it says that the rest is there."""
    write_split(split, run / "split.csv", known)
    # The start is a checkpoint as well, so that a resumed run needs no weights file and no download.
    checkpoints.save(run / "checkpoints" / "last.safetensors", Checkpoint(Position(), network.state_dict()))
    sheet.save(run)


@led
def resume(
    run: str | Path,
    *,
    continue_epochs: int = 0,
    data: str | Path | None = None,
    partial: Given | None = None,
    teacher: str | Path | None = None,
    device: DeviceName | None = None,
    cache: str | Path | Literal[False] | None = None,
    workers: int | None = None,
    mirror: str | None = None,
    screen: Screen | None = None,
) -> Path:
    """Go on with a run that was stopped, or train a finished one for more epochs.

    What was left as None stays as the run has it.

    Args:
        run: The run folder; where it is missing and `mirror` holds the run, it is copied back first.
        continue_epochs: Epochs to add to the last stage, with its optimiser's state, as the notebook does.
        data: Where the images are now, if they were moved.
        partial: Likewise the folders of images whose class is only partly known, with their names and classes.
        teacher: Where the teacher is now, if it was moved.
        device: Another device than the one that the run began on.
        cache: Another folder of the activation cache; False goes on without one.
        workers: Processes that decode images.
        mirror: URL or folder that checkpoints and results are copied to.
        screen: Told what happens; None is quiet.

    Returns:
        The model folder.

    Raises:
        RunError: There is no run in the folder, it is to be continued before it has finished, or its teacher is gone.
    """
    screen, run = screen or Screen(), Path(run)
    if mirror is not None and not (run / "run.json").exists():
        screen.say(f"copying the run back from {mirror}")
        restore(absolute(mirror), run)
    read_sheet(run)  # before the lock makes a folder of a name that was mistyped
    with locked(run):
        sheet = read_sheet(run)
        sheet = replace(
            sheet,
            data=sheet.data if data is None else str(Path(data).resolve()),
            partial=_moved(run, sheet, partial or {}, sheet.data if data is None else data),
            device=device or sheet.device,
            workers=sheet.workers if workers is None else workers,
            mirror=sheet.mirror if mirror is None else absolute(mirror),
            cache=sheet.cache if cache is None else cache_folder(cache),
        )
        if continue_epochs:
            sheet = _continued(run, sheet, continue_epochs)
        if teacher is not None or not sheet.finished:
            sheet = replace(sheet, teacher=found_again(sheet.teacher, teacher, run))
        destination = reopen_mirror(run, sheet.mirror, screen)
        with mirroring(run, sheet, destination, screen) as push:
            if sheet.folds:
                return run_folds(run, sheet, push, screen)
            split = recorded_split(run, sheet)
            if sheet.finished:
                screen.say(f"{run} is finished; --continue-epochs N trains it further")
                if sheet.tracked is not None and not sheet.tracked.whole:
                    with tracking(run, sheet, split, screen) as tracker:
                        pass
                    tracker.sheet.save(run)
                return run / "model"
            check_files(run, Path(sheet.data), split, sheet.partial, screen)
            return execute(run, sheet, split, push, screen)


def _continued(run: Path, sheet: RunSheet, epochs: int) -> RunSheet:
    if sheet.folds:
        raise RunError(
            f"{run} holds {sheet.folds} folds, and more epochs are added to one run.",
            f"neurodense train --resume '{run / 'fold-1'}' --continue-epochs {epochs}, and so on; then "
            f"neurodense train --resume '{run}' brings them together again.",
        )
    if not sheet.finished:
        raise RunError(
            f"{run} has not finished; more epochs are added to a run that has.",
            f"neurodense train --resume '{run}' ends it first.",
        )
    plan = Recipe.model_validate(sheet.recipe).continue_for(epochs)
    return replace(sheet, recipe=plan.model_dump(mode="json"), finished=False)


def _moved(run: Path, sheet: RunSheet, given: Given, data: str | Path) -> tuple[Partial, ...]:
    """The folders of a run whose classes are partly known, those that are given at their new places.

    Raises:
        RunError: One that is given is none of the run's.
    """
    now = {one.name: one for one in partial_folders(given, sheet.classes, Path(data))}
    began = {one.name: one for one in sheet.partial}
    for name, one in now.items():
        if name not in began or began[name].classes != one.classes:
            trained = "; ".join(f"{one.name}={','.join(one.classes)}" for one in sheet.partial)
            raise RunError(
                f"{run} did not begin with --partial {name}={','.join(one.classes)}, but with {trained or 'none'}.",
                "With --resume it says where such a folder is now, under the same name and with the same classes.",
            )
    return tuple(now.get(name, one) for name, one in began.items())
