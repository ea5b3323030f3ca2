"""Optimiser, learning-rate schedule and the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neurodense.training.recipe import Stage


def new_optimizer(stage: Stage, parameters: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    """The stage's optimiser. Weight decay is for weights: norms and biases, which are vectors, have none."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    # One kernel in place of one a tensor. On a GPU it wants Adam's step counts there, and they are kept on the CPU.
    fused = all(parameter.device.type == "cpu" for parameter in parameters.values())
    if stage.optimizer == "adam":
        return torch.optim.Adam(groups, lr=stage.learning_rate, fused=fused)
    if stage.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=stage.learning_rate, fused=fused)
    return torch.optim.SGD(groups, lr=stage.learning_rate, momentum=0.9, nesterov=True, fused=fused)


def learning_rate(stage: Stage, done: float) -> float:
    """Learning rate when the share `done` of the stage's batches is done, 0 <= done < 1.

    One-cycle: Smith & Topin, Super-Convergence, 2018; cosine in both directions, from 1/25 of the peak.
    """
    peak = stage.learning_rate
    if stage.schedule == "constant":
        return peak
    if stage.schedule == "cosine":
        return peak * (1 + math.cos(math.pi * done)) / 2
    rise = 0.2
    if done < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * done / rise)) / 2)
    return peak * (1 + math.cos(math.pi * (done - rise) / (1 - rise))) / 2


class MovingAverage:
    """Exponential moving average of what trains: parameters, and the running statistics that move with them.

    The decay rises from 0.1 to its value over the first batches, so that the average forgets the start.

    Args:
        tensors: The network's own tensors, by name.
        decay: Share of the old average that each batch keeps.
    """

    def __init__(self, tensors: dict[str, Tensor], decay: float) -> None:
        self._live = tensors
        self.decay = decay
        self.shadow = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self, batches: int) -> None:
        """Take in the weights after batch number `batches` (from 1) of the stage."""
        decay = min(self.decay, (1 + batches) / (10 + batches))
        torch._foreach_lerp_(list(self.shadow.values()), [t.detach() for t in self._live.values()], 1 - decay)

    @torch.no_grad()
    def take_over(self) -> None:
        """Make the average the network's own weights."""
        for name, tensor in self._live.items():
            tensor.copy_(self.shadow[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the network has the averaged weights."""
        own = {name: tensor.detach().clone() for name, tensor in self._live.items()}
        self.take_over()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in self._live.items():
                    tensor.copy_(own[name])


def moving_tensors(network: nn.Module, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The parameters that train, and the BatchNorm statistics of the modules they are in."""
    owners = {name.rpartition(".")[0] for name in parameters}
    statistics = {
        name: buffer
        for name, buffer in network.named_buffers()
        if name.rpartition(".")[0] in owners and buffer.is_floating_point()
    }
    return {**parameters, **statistics}
