"""The loop: stages of epochs of batches, validated after each epoch, checkpointed, and able to go on after a kill.

Everything random is a function of (seed, stage, epoch, batch): the order of images, the views, dropout. So a run that
was killed and resumed does the same arithmetic as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neurodense.errors import Diverged
from neurodense.evaluation.metrics import Metrics, measure
from neurodense.screen import Screen, duration
from neurodense.training import checkpoint as checkpoints
from neurodense.training import processes
from neurodense.training.activations import Activations, shared_cuts
from neurodense.training.augment import generator_of
from neurodense.training.batches import CachedSource, PlainSource, Source, epoch_order, shares, view_of_epoch
from neurodense.training.checkpoint import Checkpoint, Position
from neurodense.training.dataset import ImageRecords
from neurodense.training.journal import Log
from neurodense.training.loss import Loss
from neurodense.training.network import Network, trainable_parameters, training_mode
from neurodense.training.optimise import MovingAverage, learning_rate, moving_tensors, new_optimizer
from neurodense.training.precision import Arithmetic
from neurodense.training.recipe import STEPS, Recipe, Stage
from neurodense.training.teacher import Teacher
from neurodense.training.views import Views

_SAY_EVERY = 50  # batches between two printed losses where no bar is drawn, as in the notebook


@dataclass(frozen=True)
class Setting:
    """What a fit needs besides network and recipe.

    Attributes:
        images: Training images, then validation images; of these each is of one class.
        train_count: How many of them are training images.
        seed: Of everything random.
        arithmetic: Device and precision.
        workers: Processes that decode.
        folder: Where checkpoints go; None keeps none.
        teacher: Whose answers are learnt too.
    """

    images: ImageRecords
    train_count: int
    seed: int
    arithmetic: Arithmetic
    workers: int
    folder: Path | None
    teacher: Teacher | None = None


class Fit:
    """Trains a network by a recipe, alone or as one of several processes."""

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        setting: Setting,
        activations: Activations | None,
        journal: Log,
        screen: Screen,
        after_checkpoint: Callable[[], None] = lambda: None,
    ) -> None:
        self.network, self.recipe, self.setting = network, recipe, setting
        self.activations, self.journal, self.screen = activations, journal, screen
        self.after_checkpoint = after_checkpoint
        self._keeper = checkpoints.Keeper(setting.folder) if setting.folder is not None else None
        self.position = Position()
        self.steps_an_epoch = math.ceil(setting.train_count / recipe.batch_size)

    def run(self, start: Checkpoint) -> None:
        """Train from `start` to the end of the recipe; leaves checkpoints/last and best."""
        self.network.load_state_dict(start.network)
        self.position = start.position
        if self._keeper is not None:
            self._keeper.mend(start)
        state = start.optimizer
        for index in range(self.position.stage, len(self.recipe.stage)):
            stage = self.recipe.stage[index]
            parameters = trainable_parameters(self.network, stage.trainable)
            optimizer = new_optimizer(stage, parameters)
            if stage.continued or self.position.epoch:
                checkpoints.restore_optimizer(optimizer, state, parameters)
            state = self._stage(index, stage, parameters, optimizer, start.ema if self.position.epoch else {})

    def _stage(
        self,
        index: int,
        stage: Stage,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        averaged: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Train one stage from `self.position` on; gives the optimiser's state at its end.

        Args:
            index: Of the stage.
            stage: The stage.
            parameters: What trains, by name.
            optimizer: Its optimiser, with its state.
            averaged: The moving average at `self.position`, where the stage has begun before.
        """
        trained = sum(parameter.numel() for parameter in parameters.values())
        self.screen.say(
            f"stage {stage.name!r}: {', '.join(stage.trainable)} ({trained:,} parameters), {stage.epochs} epochs"
        )
        source = self._source(index, stage)
        suffix = self.network.between(stage.cut, len(STEPS))
        trained_together = processes.parallel(suffix)
        ema = MovingAverage(moving_tensors(self.network, parameters), stage.ema) if stage.ema else None
        if ema is not None:
            for name, tensor in averaged.items():
                ema.shadow[name].copy_(tensor)
        scaler = torch.amp.GradScaler(
            self.setting.arithmetic.device.type,
            init_scale=self.position.loss_scale,
            enabled=self.setting.arithmetic.precision == "fp16",
        )
        names: dict[Tensor, str] = {parameter: name for name, parameter in parameters.items()}
        for epoch in range(self.position.epoch, stage.epochs):
            started = time.monotonic()
            training_mode(self.network, stage.trainable, still=stage.batch_norm == "still")
            train_loss, view = self._epoch(index, stage, epoch, source, trained_together, optimizer, scaler, ema)
            self.network.eval()
            with ema.applied() if ema is not None else nullcontext():
                metrics = self._validate(source, suffix)
            is_best = self._log_epoch(stage, epoch, train_loss, metrics, view, time.monotonic() - started)
            last = epoch + 1 == stage.epochs
            if last and ema is not None:
                ema.take_over()
            self.position = Position(
                stage=index + last,
                epoch=0 if last else epoch + 1,
                total_epoch=self.position.total_epoch,
                best=self.position.best,
                log_bytes=self.journal.flush(),
                loss_scale=scaler.get_scale() if scaler.is_enabled() else self.position.loss_scale,
            )
            state = checkpoints.optimizer_tensors(optimizer, names)
            running = ema.shadow if ema is not None and not last else {}
            if self._keeper is not None:
                here = Checkpoint(self.position, self.network.state_dict(), state, running)
                if self._keeper.epoch(here, is_best=is_best, must=last):
                    self.after_checkpoint()
        if processes.first() and self.activations is not None and self._is_private(index):
            self.activations.drop(stage.cut)
        return state

    def abandon(self) -> None:
        """Delete the activations that no other run can use, of a training that nobody goes on with."""
        if self.activations is not None and (index := self.position.stage) < len(self.recipe.stage):
            for cut in shared_cuts(self.recipe.stage, index):
                if self._is_trained(index, cut):
                    self.activations.drop(cut)

    def _is_private(self, index: int) -> bool:
        """True when an earlier stage trained the prefix of this one, and the next one does not go on with it."""
        stages = self.recipe.stage
        following = stages[index + 1].cut if index + 1 < len(stages) else None
        return self._is_trained(index, stages[index].cut) and following != stages[index].cut

    def _is_trained(self, index: int, cut: int) -> bool:
        """True when a stage before `index` trained some of what comes before `cut`."""
        return any(stage.cut < cut for stage in self.recipe.stage[:index])

    def _source(self, index: int, stage: Stage) -> Source:
        """Where the stage's batches come from; fills the activation cache first."""
        setting, recipe = self.setting, self.recipe
        views = Views(setting.seed, recipe.augment, recipe.lesions)
        if self.activations is None:
            return PlainSource(setting.images, self.network, stage.cut, views, setting.arithmetic, setting.workers)
        numbers = range(1, recipe.views + 1) if recipe.augmented else range(1)
        cuts = shared_cuts(recipe.stage, index)
        # With nothing frozen, views are made on the fly from view 0.
        train_views = numbers if any(cuts) else range(1)
        wanted = [(i, view) for i in range(setting.train_count) for view in train_views]
        wanted += [(i, 0) for i in range(setting.train_count, len(setting.images))]
        self.activations.fill(cuts, setting.images, wanted, batch=recipe.batch_size, workers=setting.workers)
        return CachedSource(setting.images, self.activations, stage.cut)

    def _epoch(
        self,
        index: int,
        stage: Stage,
        epoch: int,
        source: Source,
        suffix: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        ema: MovingAverage | None,
    ) -> tuple[float, int]:
        """One epoch of training: mean loss over images, and the view it was trained on."""
        setting, recipe, total_epoch = self.setting, self.recipe, self.position.total_epoch
        groups = setting.images.groups[: setting.train_count]
        known = setting.images.targets[: setting.train_count]
        order = epoch_order(known, groups, recipe.batch_size, recipe.balance, setting.seed, "order", index, epoch)
        view = view_of_epoch(total_epoch, stage.cut, recipe.views, recipe.augmented)
        loss_of = Loss(recipe, stage, known, setting.images.allowed, setting.arithmetic, setting.teacher)
        total, seen = 0.0, 0
        title = f"epoch {total_epoch + 1}/{recipe.epochs}"
        with self.screen.bar(title, len(order), "batches") as bar:
            for number, (x, targets) in enumerate(shares(source, order, view)):
                done = epoch * len(order) + number
                rate = learning_rate(stage, done / (stage.epochs * len(order)))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                torch.manual_seed(generator_of(setting.seed, "dropout", index, epoch, number).initial_seed())
                loss = loss_of(suffix, x, targets, setting.seed, index, epoch, number)
                value = processes.total(loss).item()
                if not math.isfinite(value):
                    raise Diverged(
                        f"The loss is {value} at stage {stage.name!r}, epoch {epoch + 1}, batch {number + 1}.",
                        "Lower the stage's learning_rate, or train in --precision fp32.",
                    )
                # The gradients of several processes are averaged, and theirs are to be added.
                scaler.scale(loss * processes.size()).backward()  # type: ignore[no-untyped-call]
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                if ema is not None:
                    ema.update(done + 1)
                total += value * len(targets)
                seen += len(targets)
                self.journal.batch(total_epoch * len(order) + number + 1, stage.name, total_epoch + 1, value, rate)
                bar.advance(1, f"loss {total / seen:.4f}")
                if not self.screen.live and (number + 1) % _SAY_EVERY == 0:
                    self.screen.say(f"  {title}, batch {number + 1}/{len(order)}: loss {value:.4f}")
        return total / seen, view

    def _validate(self, source: Source, suffix: nn.Sequential) -> Metrics:
        """Metrics of the validation images, through the suffix in eval mode."""
        first, last, size = self.setting.train_count, len(self.setting.images), 2 * self.recipe.batch_size
        order = [list(range(k, min(k + size, last))) for k in range(first, last, size)]
        logits, truth = [], []
        with torch.no_grad():
            for x, targets in shares(source, order, 0):
                with self.setting.arithmetic.autocast():
                    own = suffix(x).double().cpu() if x.device.type != "mps" else suffix(x).cpu().double()
                logits.append(processes.gather(own, len(targets)))
                truth.append(targets.cpu())
        scores = torch.cat(logits)
        if not scores.isfinite().all():
            raise Diverged(
                f"The network gives values that are not finite after epoch {self.position.total_epoch + 1}.",
                "Lower the stage's learning_rate, or train in --precision fp32.",
            )
        probabilities = torch.softmax(scores, 1).numpy()
        return measure(self.setting.images.classes, torch.cat(truth).numpy().astype(np.int64), probabilities)

    def _log_epoch(
        self, stage: Stage, epoch: int, train_loss: float, metrics: Metrics, view: int, seconds: float
    ) -> bool:
        """Log and print one epoch; True when it is the best so far."""
        number = self.position.total_epoch + 1
        macro = metrics.macro.f1
        best, is_best = self.position.best, False
        if best is None or (macro, -metrics.loss) > best[:2]:
            best, is_best = (macro, -metrics.loss, number), True
        event = {
            "stage": stage.name,
            "epoch": number,
            "train_loss": train_loss,
            "validation_loss": metrics.loss,
            "validation_accuracy": metrics.accuracy,
            "validation_macro_f1": macro,
            "seconds": seconds,
            "view": view,
        }
        self.journal.epoch(number * self.steps_an_epoch, event)
        left = seconds * (stage.epochs - epoch - 1)
        self.screen.say(
            f"epoch {number}/{self.recipe.epochs} ({stage.name}): train loss {train_loss:.4f}, "
            f"validation loss {metrics.loss:.4f}, accuracy {metrics.accuracy:.4f}, macro F1 {macro:.4f}"
            f"{' *' if is_best else ''}  [{duration(seconds)}; stage ends in {duration(left)}]"
        )
        self.position = Position(
            self.position.stage, self.position.epoch, number, best, self.position.log_bytes, self.position.loss_scale
        )
        return is_best
