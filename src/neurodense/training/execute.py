"""Carry out what a run's sheet says: train from the last checkpoint, then finish; with several processes, together."""

from __future__ import annotations

import platform
import random
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec

import numpy as np
import torch

from neurodense.data.catalogue import Record
from neurodense.data.split import Split
from neurodense.errors import RunError
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training import processes
from neurodense.training.activations import Activations
from neurodense.training.dataset import ImageRecords
from neurodense.training.finish import finish
from neurodense.training.fit import Fit, Setting
from neurodense.training.journal import Journal, Log, NoLog
from neurodense.training.memory import keep_freed_memory
from neurodense.training.mirror import Mirror
from neurodense.training.network import new_network
from neurodense.training.precision import choose
from neurodense.training.prepare import recorded_split
from neurodense.training.recipe import Recipe
from neurodense.training.sheet import RunSheet, read_sheet
from neurodense.training.teacher import open_teacher
from neurodense.training.tracking import tracking
from neurodense.training.views import Views
from neurodense.training.whole_batch import see_whole_batch
from neurodense.versions import versions

Push = Callable[[], None]
"""Called when there is something new to copy to the mirror; returns at once."""

_Arguments = ParamSpec("_Arguments")


def led(begin: Callable[_Arguments, Path]) -> Callable[_Arguments, Path]:
    """Let the first of several processes do this, and the others train with it whatever it comes to train.

    Args:
        begin: Trains by way of `execute`; takes the run folder as `out` or `run`.
    """

    @wraps(begin)
    def led_by_the_first(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Path:
        given = signature(begin).bind(*args, **kwargs).arguments
        with processes.joined(Path(given.get("out", given.get("run", "")))):
            if not processes.first():
                return _follow()
            result = begin(*args, **kwargs)
            processes.told(["done", str(result)])
            return result

    return led_by_the_first


def _follow() -> Path:
    """Train with the first process until it is done; gives what it gives."""
    while True:
        order, place = processes.told(None)
        path = Path(place)
        if order == "done":
            return path
        if not (path / "run.json").exists():
            raise RunError(
                f"A process on {platform.node()} does not see {path}.",
                "The run, DATA and the cache must lie where every machine sees them under the same name.",
            )
        sheet = read_sheet(path)
        _train(path, sheet, recorded_split(path, sheet), lambda: None, Screen())


@contextmanager
def mirroring(run: Path, sheet: RunSheet, destination: Mirror | None, screen: Screen) -> Iterator[Push]:
    """Give what to call when there is something new to copy; at the end wait until the mirror has everything."""
    try:
        yield destination.push if destination else (lambda: None)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            screen.say(f"stopped; whole epochs are kept. Go on with: neurodense train --resume {shlex.quote(str(run))}")
        if destination is not None:
            destination.close(timeout_s=60)
        raise
    if destination is not None and not destination.close():
        screen.warn(f"not everything reached {sheet.mirror}; {run} holds all of it")


def execute(run: Path, sheet: RunSheet, split: Split, push: Push, screen: Screen, *, int8: bool = True) -> Path:
    """Train what is left of the recipe, then finish: the same for a new run, a resumed one and a fold."""
    sheet.save(run)
    processes.told(["train", str(run.resolve())])
    with tracking(run, sheet, split, screen) as tracker:

        def after_epoch() -> None:
            push()
            tracker.send()

        fit = _train(run, tracker.sheet, split, after_epoch, screen)
        tracker.send(patient=False)  # the model's card names the run, if it has begun
        model = finish(run, tracker.sheet, split, fit.network, fit.setting.arithmetic, screen, int8)
    replace(tracker.sheet, finished=True).save(run)
    return model


def _train(run: Path, sheet: RunSheet, split: Split, push: Push, screen: Screen) -> Fit:
    recipe = Recipe.model_validate(sheet.recipe)
    start = checkpoints.load(run / "checkpoints" / "last.safetensors")
    arithmetic = choose(sheet.device, sheet.precision)
    processes.take_device(arithmetic)
    threads = f"{torch.get_num_threads()} threads"
    if processes.size() > 1:
        threads = f"{processes.size()} processes, {threads} each"
    screen.say(f"training on {arithmetic} ({threads}), recipe {recipe.name!r}, seed {sheet.seed}")
    if not processes.first():
        fit = new_fit(sheet, split, None, NoLog(), screen)
        fit.run(start)
        return fit
    position = start.position
    steps = -(-len(training_records(split)) // recipe.batch_size)
    journal = Journal(run, position.log_bytes, position.total_epoch * steps)
    journal.event(
        "resume" if position.total_epoch else "start",
        time=time.time(),
        epoch=position.total_epoch,
        arithmetic=str(arithmetic),
        threads=torch.get_num_threads(),
        processes=processes.size(),
        versions=versions(),
    )
    try:
        fit = new_fit(sheet, split, run / "checkpoints", journal, screen, push)
        fit.run(start)
        journal.event("trained", time=time.time())
    finally:
        journal.close()
    return fit


def training_records(split: Split) -> tuple[Record, ...]:
    """What trains: the images of one class each, then those whose class is only partly known."""
    return (*split.parts["train"], *split.partial["train"])


def new_fit(
    sheet: RunSheet, split: Split, folder: Path | None, log: Log, screen: Screen, push: Push = lambda: None
) -> Fit:
    """What trains a network as the sheet says; it has read nothing yet.

    Args:
        sheet: What was asked for.
        split: The parts; of these training and validation are used.
        folder: Where checkpoints go; None keeps none.
        log: Told each batch and epoch.
        screen: Told what happens.
        push: Called after each checkpoint.
    """
    recipe = Recipe.model_validate(sheet.recipe)
    arithmetic = choose(sheet.device, sheet.precision)
    seed_everything(sheet.seed)
    keep_freed_memory()
    network = new_network(len(sheet.classes), recipe).to(arithmetic.device)
    see_whole_batch(network)
    training = training_records(split)
    records = (*training, *split.parts["validation"])
    others = [recipe.lesions.classes] if recipe.lesions.share else []
    images = ImageRecords(Path(sheet.data), sheet.classes, records, recipe.preprocess, sheet.partial, others)
    teacher = open_teacher(sheet.teacher, sheet.classes)
    setting = Setting(images, len(training), sheet.seed, arithmetic, sheet.workers, folder, teacher)
    cache = Path(sheet.cache) if sheet.cache else None
    views = Views(sheet.seed, recipe.augment, recipe.lesions)
    activations = Activations(cache, network, recipe.preprocess, arithmetic, views, screen) if cache else None
    return Fit(network, recipe, setting, activations, log, screen, push)


def seed_everything(seed: int) -> None:
    """Seed every generator that a library might draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
