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
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from neurodense.data.catalogue import Catalogue, Record, scan_folder
from neurodense.data.groups import apply_groups, read_groups, read_table
from neurodense.data.split import PARTS, Split, read_split, split_records, write_split
from neurodense.errors import DataError, RunError
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training.cache import default_cache
from neurodense.training.checkpoint import Checkpoint, Position
from neurodense.training.execute import close_mirror, execute, seed_everything
from neurodense.training.mirror import Mirror
from neurodense.training.network import new_network
from neurodense.training.precision import DeviceName, PrecisionName, choose
from neurodense.training.recipe import Recipe, load_recipe
from neurodense.training.sheet import RunSheet, read_sheet
from neurodense.training.weights import load_weights


def train(
    data: str | Path,
    out: str | Path,
    *,
    recipe: str | Path | Recipe = "finetune",
    weights: str | Path | None = None,
    groups: str | Path | None = None,
    split: str | Path | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    cache: str | Path | Literal[False] | None = None,
    workers: int | None = None,
    mirror: str | None = None,
    screen: Screen | None = None,
) -> Path:
    """Train on a folder of images, one sub-folder a class, and measure the result on images kept apart.

    Args:
        data: The folder.
        out: The run folder to make; it must not hold a run yet.
        recipe: A recipe's name, a .toml file, or a `Recipe`.
        weights: "imagenet", "none" or a file; what the recipe says where None.
        groups: CSV of path, label and group or patient; whole groups then stay in one part.
        split: CSV of path and part, such as an earlier run's split.csv.
        seed: Of the split, the initial weights, the order of images, augmentation and dropout.
        device: auto, cpu, cuda or mps.
        precision: auto, fp32, bf16 or fp16, of matrix products; weights are float32.
        cache: Folder of the activation cache; False runs the frozen layers in every epoch; None takes the user's
            cache folder.
        workers: Processes that decode images; one less than there are cores, at most 8, where None.
        mirror: URL or folder that checkpoints and results are copied to.
        screen: Told what happens; None is quiet.

    Returns:
        The model folder, OUT/model.

    Raises:
        NeurodenseError: Its kinds are those of `neurodense.errors`.
    """
    screen, run = screen or Screen(), Path(out)
    if (run / "run.json").exists():
        raise RunError(f"{run} already holds a run.", f"neurodense train --resume {run}, or another --out.")
    if isinstance(groups, str | Path) and split is not None and not Path(split).exists():
        raise DataError(f"{split} does not exist.")
    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    choose(device, precision)  # a device that is not there should stop the run before the images are read
    destination = _new_mirror(run, mirror, screen) if mirror else None
    table = read_groups(groups) if groups is not None else None

    with screen.bar("reading images", 1, "images") as bar:
        catalogue = scan_folder(data, bar.reach)
    if table is not None:
        catalogue, unlisted = apply_groups(catalogue, table)
        if unlisted:
            screen.warn(f"{table.source} does not list {unlisted:,} images; each is taken as a group of its own")
    _say_catalogue(catalogue, screen)
    parts = split_records(catalogue, seed) if split is None else read_split(split, catalogue, seed)
    _check_parts(parts, catalogue)
    write_split(parts, run / "split.csv")
    _say_split(parts, catalogue, screen)

    seed_everything(seed)
    network = new_network(len(catalogue.classes), plan)
    origin = load_weights(network, weights if weights is not None else plan.weights)
    screen.say(f"starting weights: {origin}")
    sheet = RunSheet(
        data=str(Path(data).resolve()),
        classes=catalogue.classes,
        synthetic=catalogue.synthetic,
        unreadable=catalogue.unreadable,
        split_by=parts.by,
        grouped=parts.grouped,
        seed=seed,
        weights_origin=origin,
        device=device,
        precision=precision,
        cache=None if cache is False else str(default_cache() if cache is None else Path(cache).resolve()),
        workers=max(0, min(8, (os.cpu_count() or 1) - 1)) if workers is None else workers,
        mirror=_absolute(mirror) if mirror else None,
        recipe=plan.model_dump(mode="json"),
    )
    # The start is a checkpoint as well, so that a resumed run needs no weights file and no download.
    checkpoints.save(run / "checkpoints" / "last.safetensors", Checkpoint(Position(), network.state_dict()))
    return execute(run, sheet, parts, destination, screen)


def resume(
    run: str | Path, *, continue_epochs: int = 0, data: str | Path | None = None, screen: Screen | None = None
) -> Path:
    """Go on with a run that was stopped, or train a finished one for more epochs.

    Args:
        run: The run folder.
        continue_epochs: Epochs to add to the last stage, with its optimiser's state, as the notebook does.
        data: Where the images are now, if they were moved.
        screen: Told what happens; None is quiet.

    Returns:
        The model folder.

    Raises:
        RunError: There is no run in the folder.
    """
    screen, run = screen or Screen(), Path(run)
    sheet = read_sheet(run)
    if data is not None:
        sheet = replace(sheet, data=str(Path(data).resolve()))
    if continue_epochs:
        plan = Recipe.model_validate(sheet.recipe).continue_for(continue_epochs)
        sheet = replace(sheet, recipe=plan.model_dump(mode="json"), finished=False)
    destination = Mirror(run, sheet.mirror, warn=screen.warn) if sheet.mirror else None
    if sheet.finished:
        screen.say(f"{run} is finished; --continue-epochs N trains it further")
        close_mirror(destination, sheet, run, screen)
        return run / "model"
    return execute(run, sheet, _recorded_split(run, sheet), destination, screen)


def _new_mirror(run: Path, mirror: str, screen: Screen) -> Mirror:
    """The mirror of a new run: a place that holds no run yet, and an address that may be written down."""
    if re.search(r"//[^/@]*:[^/@]*@", mirror):
        raise RunError(
            "The address that --mirror was given holds a password, which would be written to run.json.",
            "Give the credentials the way the storage's own tools take them, such as environment variables.",
        )
    destination = Mirror(run, _absolute(mirror), warn=screen.warn)
    if destination.holds_run():
        raise RunError(
            f"{mirror} already holds a run, and two runs would be mixed.",
            "Give another --mirror, or copy that run back and go on with it: neurodense.training.mirror.restore",
        )
    return destination


def _absolute(mirror: str) -> str:
    """A folder by its full path, so that a resumed run finds it from anywhere; a URL as it is."""
    return mirror if "://" in mirror else str(Path(mirror).resolve())


def _recorded_split(run: Path, sheet: RunSheet) -> Split:
    """The split as it was written, without reading the images again."""
    rows = read_table(run / "split.csv")
    parts = {
        part: tuple(Record(r["path"], r["label"], r["group"], r["sha256"]) for r in rows if r["part"] == part)
        for part in PARTS
    }
    root = Path(sheet.data)
    if not root.is_dir():
        raise DataError(f"{root}, which the run trains on, is not there.", "neurodense train NEW_PLACE --resume RUN")
    return Split(parts, sheet.split_by)


def _check_parts(split: Split, catalogue: Catalogue) -> None:
    counts = split.counts(catalogue.classes)
    for part in PARTS:
        if empty := [name for name, count in counts[part].items() if not count]:
            raise DataError(
                f"The {part} part holds no image of {', '.join(map(repr, empty))}.",
                "Each class needs images in training, validation and test.",
            )


def _say_catalogue(catalogue: Catalogue, screen: Screen) -> None:
    counts = ", ".join(f"{name} {count:,}" for name, count in catalogue.counts.items())
    kind = "synthetic images" if catalogue.synthetic else "images"
    screen.say(f"{len(catalogue.records):,} {kind} in {len(catalogue.classes)} classes: {counts}")
    if catalogue.ignored:
        screen.say(f"{catalogue.ignored:,} files that are no images by their name were passed over")
    if catalogue.unreadable:
        screen.warn(f"{len(catalogue.unreadable):,} unreadable images are left out:")
        for _, reason in catalogue.unreadable[:20]:
            screen.warn(f"  {reason}")
        if len(catalogue.unreadable) > 20:
            screen.warn(f"  and {len(catalogue.unreadable) - 20:,} more; run.json lists all")


def _say_split(split: Split, catalogue: Catalogue, screen: Screen) -> None:
    counts = split.counts(catalogue.classes)
    for part in PARTS:
        groups = len({record.group for record in split.parts[part]})
        detail = ", ".join(f"{name} {count:,}" for name, count in counts[part].items())
        of = f" in {groups:,} groups" if split.grouped else ""
        screen.say(f"  {part:<10} {len(split.parts[part]):6,}{of}: {detail}")
    if not split.grouped:
        screen.warn(
            "no groups are known: slices of one patient may be on both sides, and the score is then too good. "
            "--groups CSV keeps patients together"
        )
