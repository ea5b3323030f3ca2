"""Carry out what a run's sheet says: train from the last checkpoint, then finish."""

from __future__ import annotations

import random
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neurodense.data.catalogue import Record
from neurodense.data.split import Split
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training.activations import Activations
from neurodense.training.dataset import ImageRecords
from neurodense.training.finish import finish
from neurodense.training.fit import Fit, Setting
from neurodense.training.journal import Journal, Log
from neurodense.training.memory import keep_freed_memory
from neurodense.training.mirror import Mirror
from neurodense.training.network import new_network
from neurodense.training.precision import choose
from neurodense.training.recipe import Recipe
from neurodense.training.sheet import RunSheet
from neurodense.training.tracking import Tracker, tracking
from neurodense.training.views import Views
from neurodense.versions import versions

Push = Callable[[], None]
"""Called when there is something new to copy to the mirror; returns at once."""


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
    with tracking(run, sheet, split, screen) as tracker:
        model = _execute(run, tracker, split, push, screen, int8)
    replace(tracker.sheet, finished=True).save(run)
    return model


def _execute(run: Path, tracker: Tracker, split: Split, push: Push, screen: Screen, int8: bool) -> Path:
    def after_epoch() -> None:
        push()
        tracker.send()

    sheet = tracker.sheet
    recipe = Recipe.model_validate(sheet.recipe)
    start = checkpoints.load(run / "checkpoints" / "last.safetensors")
    arithmetic = choose(sheet.device, sheet.precision)
    screen.say(
        f"training on {arithmetic} ({torch.get_num_threads()} threads), recipe {recipe.name!r}, seed {sheet.seed}"
    )
    position = start.position
    steps = -(-len(training_records(split)) // recipe.batch_size)
    journal = Journal(run, position.log_bytes, position.total_epoch * steps)
    journal.event(
        "resume" if position.total_epoch else "start",
        time=time.time(),
        epoch=position.total_epoch,
        arithmetic=str(arithmetic),
        threads=torch.get_num_threads(),
        versions=versions(),
    )
    try:
        fit = new_fit(sheet, split, run / "checkpoints", journal, screen, after_epoch)
        fit.run(start)
        journal.event("trained", time=time.time())
    finally:
        journal.close()
    tracker.send(patient=False)  # the model's card names the run, if it has begun
    return finish(run, tracker.sheet, split, fit.network, arithmetic, screen, int8)


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
        push: Called after each epoch.
    """
    recipe = Recipe.model_validate(sheet.recipe)
    arithmetic = choose(sheet.device, sheet.precision)
    seed_everything(sheet.seed)
    keep_freed_memory()
    network = new_network(len(sheet.classes), recipe).to(arithmetic.device)
    training = training_records(split)
    records = (*training, *split.parts["validation"])
    others = [recipe.lesions.classes] if recipe.lesions.share else []
    images = ImageRecords(Path(sheet.data), sheet.classes, records, recipe.preprocess, sheet.partial, others)
    setting = Setting(images, len(training), sheet.seed, arithmetic, sheet.workers, folder)
    cache = Path(sheet.cache) if sheet.cache else None
    views = Views(sheet.seed, recipe.augment, recipe.lesions)
    activations = Activations(cache, network, recipe.preprocess, arithmetic, views, screen) if cache else None
    return Fit(network, recipe, setting, activations, log, screen, push)


def seed_everything(seed: int) -> None:
    """Seed every generator that a library might draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
