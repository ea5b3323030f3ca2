"""The loss of one training batch: cross-entropy, with what the recipe adds to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from neurodense.training.augment import generator_of
from neurodense.training.precision import Arithmetic
from neurodense.training.recipe import Recipe, Stage


class Loss:
    """Cross-entropy with label smoothing, class weights and mixup, each where the recipe has it.

    Mixup (Zhang et al., 2018): every image of a batch is blended with another one of it, x' = s x + (1 - s) x_other,
    with one s from Beta(mixup, mixup) for the whole batch, and the loss is s times that of its own class plus 1 - s
    times that of the other's. Behind a frozen prefix it is feature maps that are blended.

    Args:
        recipe: Says what is added,
        stage: and so does the stage.
        targets: Class indices of the training images: what class weights are counted from.
        classes: Number of classes.
        arithmetic: Device, and the precision of the forward pass.
    """

    def __init__(
        self, recipe: Recipe, stage: Stage, targets: Sequence[int], classes: int, arithmetic: Arithmetic
    ) -> None:
        self.smoothing, self.mixup, self.arithmetic = recipe.label_smoothing, stage.mixup, arithmetic
        self.weights = None
        if recipe.class_weights == "balanced":  # N / (classes x n of the class), as scikit-learn has it
            counts = np.bincount(targets, minlength=classes)
            weights = len(targets) / (classes * counts)
            self.weights = torch.tensor(weights, dtype=torch.float32, device=arithmetic.device)

    def __call__(self, network: Callable[[Tensor], Tensor], x: Tensor, targets: Tensor, *key: str | int) -> Tensor:
        """Mean loss over the batch.

        Args:
            network: From what enters the suffix to logits (N, classes).
            x: What enters it.
            targets: int64 (N,).
            key: Seeds what is drawn: the same key, the same blend.
        """
        if not self.mixup:
            return self._of(self._logits(network, x), targets)
        generator = generator_of("mixup", *key)
        rng = np.random.default_rng(generator.initial_seed())
        share = float(rng.beta(self.mixup, self.mixup))
        partner = torch.randperm(len(targets), generator=generator).to(targets.device)
        logits = self._logits(network, torch.lerp(x[partner], x, share))
        return share * self._of(logits, targets) + (1 - share) * self._of(logits, targets[partner])

    def _logits(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self.arithmetic.autocast():
            return network(x).float()

    def _of(self, logits: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(logits, targets, weight=self.weights, label_smoothing=self.smoothing)
