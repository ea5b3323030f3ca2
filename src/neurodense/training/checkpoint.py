"""A checkpoint is one safetensors file: weights, optimiser state and moving average as tensors, the rest as metadata.

The order of images, the augmented views and dropout are functions of (seed, stage, epoch, batch), so no state of a
random number generator has to be kept: see `fit.py`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn

from neurodense.atomic import replacing
from neurodense.errors import RunError

SECONDS_APART = 5.0
"""Between two checkpoints within a stage, at least."""


@dataclass(frozen=True)
class Position:
    """Where a run stands after a whole number of epochs.

    Attributes:
        stage: Index of the stage that the next epoch belongs to.
        epoch: Epochs of that stage that are done.
        total_epoch: Epochs of the run that are done.
        best: Validation macro F1, minus validation loss, and total_epoch (from 1) of the best epoch so far.
        log_bytes: Length of log.jsonl at this point.
        loss_scale: Of the gradient scaler, used in fp16 only.
    """

    stage: int = 0
    epoch: int = 0
    total_epoch: int = 0
    best: tuple[float, float, int] | None = None
    log_bytes: int = 0
    loss_scale: float = 65536.0


@dataclass
class Checkpoint:
    """Everything that is needed to go on."""

    position: Position
    network: dict[str, Tensor]
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, group in (
            ("network", checkpoint.network), ("optimizer", checkpoint.optimizer), ("ema", checkpoint.ema)
        )
        for name, tensor in group.items()
    }  # fmt: skip
    with replacing(path) as temporary:
        write_tensors(tensors, temporary, {"position": json.dumps(asdict(checkpoint.position))})


def copy(path: Path, target: Path) -> None:
    """Make `target` the same checkpoint: a second name of the file, until either is replaced by a new one."""
    with replacing(target) as temporary:
        try:
            os.link(path, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(path, temporary)


class Keeper:
    """Writes the checkpoints of a training: last.safetensors, and best.safetensors of the best epoch so far.

    Not after each epoch, which of small trainings takes less time than its checkpoint: at most `SECONDS_APART` and the
    epoch that ends them are lost by a kill, and done again to the bit.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._due = -math.inf
        self._best: Checkpoint | None = None  # that is not written yet

    def mend(self, start: Checkpoint) -> None:
        """Write the best weights if a kill came between the two files of the epoch that `start` goes on from."""
        best, path = start.position.best, self._folder / "best.safetensors"
        if best is None or best[2] != start.position.total_epoch:
            return
        if not path.exists() or load(path).position.total_epoch != best[2]:
            keep_best(self._folder, Checkpoint(start.position, start.network, ema=start.ema))

    def epoch(self, here: Checkpoint, *, is_best: bool, must: bool) -> bool:
        """Take in where an epoch ended; True where it was written.

        Args:
            here: Its tensors may change afterwards.
            is_best: Whether it is the best so far.
            must: Whether it is to be written at once, since what it needs to go on is about to go away.
        """
        if not must and time.monotonic() < self._due:
            if is_best:
                weights = {name: tensor.clone() for name, tensor in {**here.network, **here.ema}.items()}
                self._best = Checkpoint(here.position, weights)
            return False
        if self._best is not None and not is_best:  # before `last`, or after a kill nobody would know of it
            save(self._folder / "best.safetensors", self._best)
        save(self._folder / "last.safetensors", here)
        if is_best:
            keep_best(self._folder, here)
        self._best, self._due = None, time.monotonic() + SECONDS_APART
        return True


def keep_best(folder: Path, here: Checkpoint) -> None:
    """Write best.safetensors, where `here` is what last.safetensors holds."""
    if here.ema:
        save(folder / "best.safetensors", Checkpoint(here.position, {**here.network, **here.ema}))
    else:  # both hold the same weights
        copy(folder / "last.safetensors", folder / "best.safetensors")


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, which whoever may read the folder's other files may read too."""
    path.write_bytes(serialised(tensors, metadata))  # `save_file` writes it for the owner alone


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        RunError: It is missing or damaged.
    """
    groups: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "ema": {}}
    try:
        with safe_open(path, "pt") as handle:
            position = json.loads((handle.metadata() or {})["position"])
            for key in handle.keys():  # noqa: SIM118  (a safetensors handle is no mapping)
                part, _, name = key.partition("/")
                groups[part][name] = handle.get_tensor(key)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged: {error}", "Start the run anew with another --out.") from error
    if position["best"] is not None:
        position["best"] = tuple(position["best"])
    return Checkpoint(Position(**position), groups["network"], groups["optimizer"], groups["ema"])


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: dict[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state as tensors named `<parameter>|<entry>`; what is no tensor is rebuilt from the recipe."""
    return {
        f"{names[parameter]}|{entry}": value
        for parameter, state in optimizer.state.items()
        for entry, value in state.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], parameters: dict[str, nn.Parameter]
) -> None:
    """Put back what `optimizer_tensors` gave, for the parameters that the optimiser has."""
    for key, value in tensors.items():
        name, _, entry = key.partition("|")
        parameter = parameters[name]
        # Adam keeps its step count on the CPU whatever the device of the weights.
        place = (
            value
            if entry == "step"
            else value.to(parameter.device, parameter.dtype).clone(memory_format=torch.preserve_format)
        )
        if entry != "step" and place.ndim == 4:
            place = place.contiguous(memory_format=torch.channels_last)
        optimizer.state[parameter][entry] = place
