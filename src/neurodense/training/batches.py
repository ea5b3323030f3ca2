"""Batches for the suffix: rows of the frozen prefix, from the cache or made on the spot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from neurodense.training import processes
from neurodense.training.activations import Activations
from neurodense.training.augment import generator_of
from neurodense.training.dataset import ImageRecords, image_batches
from neurodense.training.network import Network
from neurodense.training.precision import Arithmetic
from neurodense.training.prefix import run_prefix
from neurodense.training.recipe import Balance
from neurodense.training.store import RowStore
from neurodense.training.views import Views

Batch = tuple[Tensor, Tensor]
"""What enters the suffix, on the device; labels (N,) int64 as `ImageRecords.targets` has them, on the device."""


_POWER = {"root": 0.5, "group": 0.0}


class Source(Protocol):
    """Where a stage's batches come from."""

    def batches(self, order: Sequence[list[int]], view: int) -> Iterator[Batch]:
        """One batch for each list of image indices in `order`, of view number `view`."""
        ...


def view_of_epoch(epoch: int, cut: int, views: int, augmented: bool) -> int:
    """The view that an epoch (counted from 0 over the whole run) trains on.

    Behind a frozen prefix the epochs go round a fixed number of views; with nothing frozen each epoch sees a new one.
    """
    if not augmented:
        return 0
    return 1 + (epoch % views if cut else epoch)


def epoch_order(
    targets: Sequence[int], groups: Sequence[str], size: int, balance: Balance, *key: str | int
) -> list[list[int]]:
    """Batches of indices of an epoch: each image once, or as many draws with replacement.

    Args:
        targets: Label of each image.
        groups: Group of each image.
        size: Images in a batch; the last may have fewer.
        balance: "none" takes each image once. Else each place draws a label, with the chance of its share of the
            images, then one of the label's groups, of n images with a chance that grows with n^0.5 ("root") or all with
            the same ("group"), and then one of its images.
        key: Seeds the order.
    """
    count, generator = len(groups), generator_of(*key)
    if balance == "none":
        drawn = torch.randperm(count, generator=generator).tolist()
    else:
        pairs = list(zip(targets, groups, strict=True))
        images_of, label_size = Counter(pairs), Counter(targets)
        weight = {pair: images ** _POWER[balance] for pair, images in images_of.items()}
        total: Counter[int] = Counter()
        for (label, _), share in weight.items():
            total[label] += share
        chance = {pair: label_size[pair[0]] * weight[pair] / total[pair[0]] / images_of[pair] for pair in weight}
        chances = torch.tensor([chance[pair] for pair in pairs], dtype=torch.float64)
        drawn = torch.multinomial(chances, count, replacement=True, generator=generator).tolist()
    return [drawn[first : first + size] for first in range(0, count, size)]


class _Rows(Dataset[Batch]):
    """Rows of a store, fetched a whole batch at a time, with the labels of view number `view`.

    Where nothing is frozen, the rows are the images themselves, from which the view is still to be made.
    """

    def __init__(self, images: ImageRecords, store: RowStore, views: Views, view: int, *, made: bool) -> None:
        self.images, self.store, self.views, self.view, self.kept = images, store, views, view, view if made else 0

    def __getitems__(self, indices: list[int]) -> Batch:
        rows = self.store.read([self.views.name(self.images, i, self.kept) for i in indices])
        return rows, self.views.targets(self.images, indices, self.view)


class CachedSource:
    """Rows of the activation cache; with nothing frozen the rows are pixels, and views are made from them."""

    def __init__(self, images: ImageRecords, activations: Activations, cut: int) -> None:
        self.images, self.cut, self.views = images, cut, activations.views
        self.device = activations.arithmetic.device
        self.store = activations.store(cut)

    def batches(self, order: Sequence[list[int]], view: int) -> Iterator[Batch]:
        """See `Source`."""
        rows = _Rows(self.images, self.store, self.views, view, made=self.cut > 0)
        loader = DataLoader(rows, batch_sampler=order, collate_fn=_as_is, pin_memory=self.device.type == "cuda")
        for indices, (x, targets) in zip(order, loader, strict=True):
            x = x.to(self.device, non_blocking=True)
            if not self.cut:
                x = self.views.make(x, self.images, indices, view)
            yield _laid_out(x), targets.to(self.device, non_blocking=True)
        self.store.release()


class PlainSource:
    """The plain way: every epoch decodes every image and runs the frozen prefix on it."""

    def __init__(
        self, images: ImageRecords, network: Network, cut: int, views: Views, arithmetic: Arithmetic, workers: int
    ) -> None:
        self.images, self.network, self.cut = images, network, cut
        self.views, self.arithmetic, self.workers = views, arithmetic, workers

    def batches(self, order: Sequence[list[int]], view: int) -> Iterator[Batch]:
        """See `Source`."""
        device = self.arithmetic.device
        loader = image_batches(self.images, order, self.workers, pin=device.type == "cuda")
        for indices, (pixels, _) in zip(order, loader, strict=True):
            x = self.views.make(pixels.to(device, non_blocking=True), self.images, indices, view)
            x = run_prefix(self.network, 0, self.cut, x, self.arithmetic)
            yield _laid_out(x), self.views.targets(self.images, indices, view).to(device, non_blocking=True)


def shares(source: Source, order: Sequence[list[int]], view: int) -> Iterator[Batch]:
    """Of each batch in `order`, this process's share of what enters the suffix, and the labels of the whole batch."""
    own = [batch[processes.share(len(batch))] for batch in order]
    # Of a batch with fewer images than processes some have none: these read one, and drop it.
    read = [some or batch[:1] for some, batch in zip(own, order, strict=True)]
    for batch, some, (x, targets) in zip(order, own, source.batches(read, view), strict=True):
        yield x[: len(some)], processes.gather(targets[: len(some)], len(batch))


def _laid_out(x: Tensor) -> Tensor:
    """Feature maps channels last, as the network's weights are, so that cached and fresh ones take the same path."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _as_is(batch: Any) -> Any:
    return batch
