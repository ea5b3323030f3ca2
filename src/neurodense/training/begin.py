"""The beginning of a training, or of a sweep: check what was asked for, read and part the folder, load the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from neurodense.data.catalogue import class_folders
from neurodense.data.groups import GroupTable, read_groups, read_table
from neurodense.data.partial import Given, Partial, partial_folders
from neurodense.data.split import Split, leaked
from neurodense.errors import RecipeError
from neurodense.inference.threads import usable_cores
from neurodense.screen import Screen
from neurodense.training import processes
from neurodense.training.cache import default_cache
from neurodense.training.execute import seed_everything
from neurodense.training.network import Network, new_network
from neurodense.training.plan import Plan
from neurodense.training.precision import DeviceName, PrecisionName, choose
from neurodense.training.prepare import check_free, read_images, read_partial
from neurodense.training.recipe import Recipe, load_recipe
from neurodense.training.sheet import RunSheet, TeacherFile
from neurodense.training.teacher import read_teacher
from neurodense.training.weights import Start, load_weights, read_weights

CacheOption = str | Path | Literal[False] | None
"""Folder of the activation cache; False runs without one, None takes the user's cache folder."""


@dataclass(frozen=True)
class Order:
    """What was asked for, found possible as far as that can be told before the images are read."""

    data: Path
    plan: Plan
    recipe: Recipe
    table: GroupTable | None
    partial: tuple[Partial, ...]
    teacher: TeacherFile | None
    weights: str
    start: Start
    seed: int
    device: DeviceName
    precision: PrecisionName
    cache: CacheOption
    workers: int | None


class Begun(NamedTuple):
    """What a training needs to go on.

    Attributes:
        sheet: What was asked for and found.
        splits: As `Plan.parts` gives them.
        leaks: Of each split, the test images with an image of their group in training; empty without groups.
        network: With its starting weights.
    """

    sheet: RunSheet
    splits: dict[str, Split]
    leaks: Mapping[str, int]
    network: Network


def take_order(
    data: Path,
    out: Path | None,
    *,
    plan: Plan,
    recipe: str | Path | Recipe,
    weights: str | Path | None,
    groups: str | Path | None,
    partial: Given | None,
    teacher: str | Path | None,
    seed: int,
    device: DeviceName,
    precision: PrecisionName,
    cache: CacheOption,
    workers: int | None,
) -> Order:
    """Check what is cheap to check, before thousands of images are read.

    The arguments are those of `train`, but for `out`: it must be free to become a run, or None.

    Raises:
        NeurodenseError: Something is not there, or cannot be.
    """
    steps = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if teacher is not None:
        steps = steps.taught()
    elif steps.teacher is not None:
        raise RecipeError(
            f"recipe {steps.name} has a table [teacher], and no teacher is given.",
            "--teacher FILE.onnx names one; without the table none is needed.",
        )
    choose(device, precision)
    steps.lesions.check(classes := class_folders(data))
    folders = partial_folders(partial or {}, classes, data)
    if out is not None:
        check_free(out, data, folders)
    table = read_groups(groups) if groups is not None else None
    if plan.split is not None:
        read_table(plan.split)
    taught_by = read_teacher(teacher, classes) if teacher is not None else None
    chosen = str(weights) if weights is not None else steps.weights
    start = read_weights(chosen)
    return Order(data, plan, steps, table, folders, taught_by, chosen, start, seed, device, precision, cache, workers)


def begin(order: Order, screen: Screen) -> Begun:
    """Read the images, find out which belong together, part them, and load the starting weights.

    Raises:
        DataError: The folder cannot be used, or the parts cannot be made as asked for.
        WeightsError: The weights are not DenseNet121's.
    """
    looks = None if order.cache is False or order.cache is None else Path(order.cache)
    catalogue, groups_from, glances = read_images(
        order.data,
        order.table,
        search=order.plan.split is None,
        look=bool(order.partial),
        cache=looks,
        screen=screen,
    )
    images, unreadable = None, catalogue.unreadable
    if glances is not None and order.partial:
        images, lost = read_partial(order.partial, catalogue, glances, order.table, looks, screen)
        unreadable += lost
    splits = order.plan.parts(catalogue, order.table, order.seed, screen, order.partial, images)
    if groups_from is None and any(parts.grouped for parts in splits.values()):
        groups_from = "split"
    leaks = {name: leaked(parts, catalogue) for name, parts in splits.items() if catalogue.grouped}

    seed_everything(order.seed)
    network = new_network(len(catalogue.classes), order.recipe)
    origin = load_weights(network, order.start)
    screen.say(f"starting weights: {origin}")
    sheet = RunSheet(
        data=str(order.data.resolve()),
        classes=catalogue.classes,
        synthetic=catalogue.synthetic,
        unreadable=unreadable,
        split_by=next(iter(splits.values())).by,
        seed=order.seed,
        weights=order.weights,
        weights_origin=origin,
        device=order.device,
        precision=order.precision,
        cache=cache_folder(order.cache),
        workers=_decoders() if order.workers is None else order.workers,
        mirror=None,
        recipe=order.recipe.model_dump(mode="json"),
        groups_from=groups_from,
        leaked=sum(leaks.values()) if leaks else None,
        left_out=order.plan.leave_out,
        folds=order.plan.folds,
        final=order.plan.final,
        partial=order.partial,
        teacher=order.teacher,
    )
    return Begun(sheet, splits, leaks, network)


def _decoders() -> int:
    """Processes that decode: the cores that are left of this process's share of the machine, at most 8."""
    return max(0, min(8, usable_cores() // processes.on_this_machine() - 1))


def cache_folder(cache: CacheOption) -> str | None:
    """The folder of the activation cache, by its full path; None runs without."""
    if cache is False:
        return None
    return str(default_cache() if cache is None else Path(cache).resolve())
