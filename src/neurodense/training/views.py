"""Which views of an image a run sees, and how each is made: lesions where the recipe draws them, then augmentation.

A view is a function of the run's seed, the image and the view's number, so a row of the activation cache is named by
them, and the label of what was drawn is known without a look at the pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurodense.training.augment import augment_views
from neurodense.training.dataset import ImageRecords
from neurodense.training.lesions import lesion_of, paste_lesions
from neurodense.training.variation import Augment, Kind, Lesions


@dataclass(frozen=True)
class Views:
    """How the views of a run are made.

    Attributes:
        seed: The run's.
        augment: What changes.
        lesions: What is drawn into pictures of the healthy class. Such a view may be of any of `lesions.classes`.
    """

    seed: int
    augment: Augment
    lesions: Lesions = field(default_factory=Lesions)

    def lesion(self, images: ImageRecords, index: int, view: int) -> Kind | None:
        """What is drawn into a view; None where nothing is."""
        if not self._healthy(images, index):
            return None
        return lesion_of(images.hashes[index], view, self.seed, self.lesions)

    def name(self, images: ImageRecords, index: int, view: int) -> str:
        """Name of the row of one view; view 0, the image itself, depends on no seed."""
        sha256 = images.hashes[index]
        if view == 0:
            return f"{sha256}:0"
        how = f"{self.seed}:{self.augment.model_dump_json()}"
        if self.lesion(images, index, view) is not None:
            how += f":{self.lesions.model_dump_json()}"
        return f"{sha256}:{view}:{hashlib.sha256(how.encode()).hexdigest()[:12]}"

    def make(self, pixels: Tensor, images: ImageRecords, indices: Sequence[int], view: int) -> Tensor:
        """View number `view` of images, from their pixels (N, 1, S, S) in [0, 1]; of the same shape."""
        hashes = [images.hashes[index] for index in indices]
        if self.lesions.share and view:
            healthy = [self._healthy(images, index) for index in indices]
            pixels = paste_lesions(pixels, hashes, view, self.seed, self.lesions, healthy)
        return augment_views(pixels, hashes, view, self.seed, self.augment)

    def targets(self, images: ImageRecords, indices: Sequence[int], view: int) -> Tensor:
        """Labels (N,) int64 of the views, as `ImageRecords.targets` has them."""
        drawn = images.label_of(self.lesions.classes) if self.lesions.share else 0
        return torch.tensor(
            [images.targets[i] if self.lesion(images, i, view) is None else drawn for i in indices], dtype=torch.int64
        )

    def _healthy(self, images: ImageRecords, index: int) -> bool:
        return bool(self.lesions.share) and images.targets[index] == images.class_to_idx[self.lesions.healthy]
