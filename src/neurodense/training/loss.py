"""The loss of one training batch: cross-entropy, with what the recipe adds to it, and for labels that are partly known.

Of an image whose class is only known to be one of a set S, the likelihood is the sum of the probabilities of S, and the
loss its negative logarithm, -log sum_{k in S} p_k: the likelihood that Jin and Ghahramani maximise (Learning with
Multiple Labels, NIPS 2002), and the classifier-consistent loss of Feng et al. (Provably Consistent Partial-Label
Learning, NeurIPS 2020). Where S is one class it is cross-entropy.

With a teacher this is the hard part of the loss L of Hinton, Vinyals and Dean (Distilling the Knowledge in a Neural
Network, 2015): L = (1 - w) hard + w T^2 KL(softmax(t / T) || softmax(z / T)), where t are the logits of the teacher and
z those of the student for the same pixels, w the weight and T the temperature; T^2 keeps the gradients of both parts of
one size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from neurodense.training import processes
from neurodense.training.augment import generator_of
from neurodense.training.precision import Arithmetic
from neurodense.training.recipe import Recipe, Stage


class Loss:
    """Cross-entropy with label smoothing, class weights and mixup, each where the recipe has it.

    Mixup (Zhang et al., 2018): every image of a batch is blended with another one of it, x' = s x + (1 - s) x_other,
    with one s from Beta(mixup, mixup) for the whole batch, and the loss is s times that of its own label plus 1 - s
    times that of the other's. Behind a frozen prefix it is feature maps that are blended.

    Args:
        recipe: Says what is added,
        stage: and so does the stage.
        targets: Labels of the training images. Class weights are counted from those that are one class.
        allowed: bool (labels, classes): the classes that each label stands for. The first labels are the classes
            themselves, in order, so that these rows are the identity.
        arithmetic: Device, and the precision of the forward pass.
        teacher: From what enters the network, pixels, to another model's logits (n, classes), where the recipe says
            how they are learnt.
    """

    def __init__(
        self,
        recipe: Recipe,
        stage: Stage,
        targets: Sequence[int],
        allowed: NDArray[np.bool_],
        arithmetic: Arithmetic,
        teacher: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        # A teacher without a say is not asked, so that weight 0 is training without one, to the bit.
        self.teacher = teacher if recipe.teacher is not None and recipe.teacher.weight else None
        self.teaching = recipe.teacher
        self.smoothing, self.mixup, self.arithmetic = recipe.label_smoothing, stage.mixup, arithmetic
        classes = allowed.shape[1]
        self.allowed = torch.tensor(allowed, device=arithmetic.device) if len(allowed) > classes else None
        self.weights = None
        # What each label weighs in a mean: the average over the classes that it may be.
        self.worth = torch.ones(len(allowed), device=arithmetic.device)
        if recipe.class_weights == "balanced":  # N / (classes x n of the class), as scikit-learn has it
            known = [target for target in targets if target < classes]
            weights = len(known) / (classes * np.bincount(known, minlength=classes))
            self.weights = torch.tensor(weights, dtype=torch.float32, device=arithmetic.device)
            worth = (allowed * weights).sum(1) / allowed.sum(1)
            self.worth = torch.tensor(worth, dtype=torch.float32, device=arithmetic.device)

    def __call__(self, network: Callable[[Tensor], Tensor], x: Tensor, targets: Tensor, *key: str | int) -> Tensor:
        """This process's part of the mean loss over the batch: the parts of all processes add up to it.

        Args:
            network: From what enters the suffix to logits (n, classes).
            x: What enters it, n of the batch's N images: this process's share, all of them where there is one process.
            targets: int64 (N,), rows of `allowed`, of the whole batch.
            key: Seeds what is drawn: the same key, the same blend.
        """
        if not self.mixup:
            logits = self._logits(network, x)
            return self._with_teacher(self._of(logits, targets), logits, x, len(targets))
        share_of_batch = processes.share(len(targets))
        generator = generator_of("mixup", *key)
        rng = np.random.default_rng(generator.initial_seed())
        share = float(rng.beta(self.mixup, self.mixup))
        partner = torch.randperm(len(targets), generator=generator).to(targets.device)
        others = processes.gather(x, len(targets))[partner[share_of_batch]]
        x = torch.lerp(others, x, share)
        logits = self._logits(network, x)
        hard = share * self._of(logits, targets) + (1 - share) * self._of(logits, targets[partner])
        return self._with_teacher(hard, logits, x, len(targets))

    def _logits(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        with self.arithmetic.autocast():
            return network(x).float()

    def _with_teacher(self, hard: Tensor, logits: Tensor, x: Tensor, count: int) -> Tensor:
        """This process's part of the loss, from that of its hard part; `count` images are in the whole batch."""
        if self.teacher is None or self.teaching is None:
            return hard
        weight = self.teaching.weight
        if not len(x):  # fewer images than processes
            return (1 - weight) * hard
        soft = distillation(logits, self.teacher(x).to(logits.dtype), self.teaching.temperature)
        return (1 - weight) * hard + weight * soft.sum() / count

    def _of(self, logits: Tensor, targets: Tensor) -> Tensor:
        own = targets[processes.share(len(targets))]
        if not len(own):  # fewer images than processes
            return logits.sum()
        if self.allowed is None:
            loss = functional.cross_entropy(logits, own, weight=self.weights, label_smoothing=self.smoothing)
        else:
            loss = partial_cross_entropy(logits, self.allowed[own], self.weights, self.smoothing)
        return loss * (self.worth[own].sum() / self.worth[targets].sum())


def partial_cross_entropy(logits: Tensor, allowed: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
    """Mean of -log(summed probability of the allowed classes): `cross_entropy` where one class is allowed in each row.

    An image weighs what its allowed classes weigh on average, and the mean is over these weights. Smoothing blends in
    the mean of -log p over all classes, allowed or not, each times its class's weight, as `cross_entropy` does.

    Args:
        logits: Float (N, classes).
        allowed: bool (N, classes), True somewhere in each row.
        weights: Float (classes,), or None for 1 each.
        smoothing: Share of the second term, in [0, 1).
    """
    log_p = functional.log_softmax(logits, 1)  # (N, classes)
    loss = -log_p.masked_fill(~allowed, -torch.inf).logsumexp(1)  # (N,)
    weights = torch.ones_like(log_p[0]) if weights is None else weights
    weight = (allowed * weights).sum(1) / allowed.sum(1)  # (N,)
    loss = (1 - smoothing) * weight * loss - smoothing * (log_p * weights).mean(1)
    return loss.sum() / weight.sum()


def distillation(logits: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """T^2 KL(softmax(taught / T) || softmax(logits / T)) of each image (N,), from logits (N, classes) of both."""
    log_p = functional.log_softmax(taught / temperature, 1)
    log_q = functional.log_softmax(logits / temperature, 1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(1)
