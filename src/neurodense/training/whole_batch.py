"""BatchNorm and dropout of a batch that several processes share: what one process computes, to rounding.

torch's own SyncBatchNorm needs a GPU. Here the statistics are those of the whole batch on any device, and the dropout
mask is drawn for the whole batch in every process, from the same seed. Names and tensors are those of torch's layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurodense.training import processes


class _Normalised(torch.autograd.Function):
    """Batch normalisation by given statistics that are themselves those of the rows of all processes.

    With x^ the normalised x, the gradient of the loss with respect to x is
    weight / deviation x (dy - mean of dy - x^ mean of (dy x^)), both means over the rows of all processes
    (Ioffe and Szegedy, ICML 2015, section 3). The first term is that of fixed statistics.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = gradients
        x, weight, mean, variance, count = ctx.saved_tensors
        dx, dw, db = dy, torch.zeros_like(weight), torch.zeros_like(weight)
        if len(x):  # torch's kernel divides by the number of rows
            dx, dw, db = torch.ops.aten.native_batch_norm_backward(
                dy, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        of_all = processes.total(torch.stack([dw, db])) / count
        deviation = torch.sqrt(variance + ctx.eps)
        slope = weight / deviation**2 * of_all[0]
        level = weight / deviation * of_all[1] - slope * mean
        dx = (dx - (level[:, None, None] + slope[:, None, None] * x)).to(x.dtype)
        return dx, dw, db, None, None, None, None


class BatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose batch is that of all processes; a process may have no row of it."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W), this process's share of the batch -> the same shape."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        mean, variance = torch.zeros_like(self.running_mean), torch.zeros_like(self.running_var)
        if len(x):  # the statistics are taken in float32 whatever x is, as those that run are; here they do not move
            moving = self.running_mean.clone(), self.running_var.clone()
            mean, variance = torch.batch_norm_update_stats(x.detach(), *moving, 0.0)
        own = torch.cat([mean, variance, mean.new_tensor([x.numel() // x.shape[1]])])
        every = processes.gather(own[None], processes.size())
        means, variances, counts = every[:, : len(mean)], every[:, len(mean) : -1], every[:, -1:]
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        out: Tensor = _Normalised.apply(x, self.weight, self.bias, mean, variance, count, self.eps)
        return out


class Dropout(nn.Dropout):
    """`nn.Dropout` whose mask is one process's for the whole batch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, features), this process's share of the batch -> the same shape."""
        if not (self.training and self.p):
            return x
        count = int(processes.total(torch.tensor(len(x))))
        mask = functional.dropout(x.new_ones(count, *x.shape[1:]), self.p)
        return x * mask[processes.share(count)]


def see_whole_batch(network: nn.Module) -> None:
    """Replace the network's BatchNorm and dropout layers by those of this file, where there are several processes."""
    if processes.size() == 1:
        return
    for name, module in list(network.named_modules()):
        new: nn.Module
        if isinstance(module, nn.BatchNorm2d):
            new = BatchNorm(module.num_features, module.eps, module.momentum)
            new.load_state_dict(module.state_dict())
        elif isinstance(module, nn.Dropout):
            new = Dropout(module.p)
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, new)
