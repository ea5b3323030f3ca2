"""Records as a torch data set, with the attributes that `torchvision.datasets.ImageFolder` has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from neurodense.data.catalogue import Record
from neurodense.data.partial import Partial, file_of, owner
from neurodense.errors import ScanError
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.study import read_image


class ImageRecords(Dataset[tuple[Tensor, int]]):
    """Images of a folder, read and preprocessed on demand.

    Attributes:
        classes: Class names in order.
        class_to_idx: Index of each class name.
        samples: (full path, label) of each image.
        targets: Label of each image: the index of its class, or of a row of `allowed` that follows.
        allowed: bool (labels, classes): the classes that each label stands for; of a class, it alone.
        hashes: sha256 of each image's file.
        groups: Group of each image.
    """

    def __init__(
        self,
        root: Path,
        classes: Sequence[str],
        records: Sequence[Record],
        preprocess: Preprocess,
        partial: Sequence[Partial] = (),
        others: Sequence[Sequence[str]] = (),
    ) -> None:
        self.classes = list(classes)
        self.class_to_idx = {name: index for index, name in enumerate(self.classes)}
        labels: dict[tuple[str, ...], int] = {(name,): index for name, index in self.class_to_idx.items()}
        for names in (*(one.classes for one in partial), *others):
            labels.setdefault(self._in_order(names), len(labels))
        self._labels = labels
        self.allowed = np.array([[name in label for name in classes] for label in labels])
        self.samples: list[tuple[str, int]] = []
        for record in records:
            folder = owner(record, partial)
            label = self.label_of((record.label,) if folder is None else folder.classes)
            self.samples.append((str(file_of(record, root, partial)), label))
        self.targets = [target for _, target in self.samples]
        self.hashes = [record.sha256 for record in records]
        self.groups = [record.group for record in records]
        self._preprocess = preprocess

    def __len__(self) -> int:
        return len(self.samples)

    def label_of(self, names: Sequence[str]) -> int:
        """The label that stands for any one of these classes: of a folder's, or of the `others` that were given."""
        return self._labels[self._in_order(names)]

    def _in_order(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in self.classes if name in names)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Pixels (1, S, S) float32 in [0, 1], and the label.

        Raises:
            ScanError: The file can no longer be read.
        """
        path, target = self.samples[index]
        return torch.from_numpy(self._preprocess(read_image(path)).copy()), target


def image_batches(
    images: ImageRecords, order: Sequence[list[int]], workers: int, *, pin: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Decode images in worker processes: pixels (N, 1, S, S) and labels (N,) for each list in `order`.

    Raises:
        ScanError: A file can no longer be read.
    """
    try:
        yield from DataLoader(images, batch_sampler=order, num_workers=workers, pin_memory=pin)
    except ScanError as error:
        # From a worker process the message comes with that process's traceback; the last part is the error's own.
        message = error.message.rpartition(f"{ScanError.__name__}: ")[2].strip()
        raise ScanError(message, "Bring the file back, then go on with --resume.") from None
