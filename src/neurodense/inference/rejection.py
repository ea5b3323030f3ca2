"""Whether an image looks like those that the model knows: how far its features are from the nearest class.

    score(x) = min over classes c of sqrt( (f - m_c)' S^-1 (f - m_c) ) / limit        f: the graph's 1024 features

This is the Mahalanobis distance. m_c are the means of the classes and S is the covariance within them, the same for all
(Lee, Lee, Lee and Shin, A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks,
NeurIPS 2018). S is kept as its widest directions and one variance for all others, so that a file of half a megabyte
holds it. Why this score: `docs/uncertainty.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.errors import ModelError

REJECTION: Final = "ood.safetensors"
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rejection:
    """The numbers of the score.

    Attributes:
        means: float32 (classes, D).
        directions: float32 (D, R), orthonormal columns: the widest directions of S.
        variances: float32 (R,), along them.
        rest: float32 (1,), the variance along every other direction.
        limit: float32 (1,), the distance whose score is 1.
        reference: float32 (groups, R), the `coordinates` of one image of each group of the validation part: what a
            batch is compared with, see `shift.py`.
        called: int64 (groups,), the class that the model calls each of these.
    """

    means: Floats
    directions: Floats
    variances: Floats
    rest: Floats
    limit: Floats
    reference: Floats
    called: NDArray[np.int64]

    name = "mahalanobis"

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Scores of features (N, D): float64 (N,), at least 0; 1 is the limit."""
        wide = features.astype(np.float64)
        directions, means, means_along = self._wide
        all_along, squares = wide @ directions, []
        for mean, mean_along in zip(means, means_along, strict=True):
            off, along = wide - mean, (all_along - mean_along) ** 2
            across = np.einsum("nd,nd->n", off, off) - along.sum(axis=1)
            squares.append((along / self.variances).sum(axis=1) + across.clip(0) / self.rest)
        return np.asarray(np.sqrt(np.min(squares, axis=0)) / self.limit)

    @cached_property
    def _wide(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Directions (D, R), means (classes, D) and means along the directions (classes, R), made once: float64."""
        directions, means = self.directions.astype(np.float64), self.means.astype(np.float64)
        return directions, means, means @ directions

    def coordinates(self, features: Floats) -> Floats:
        """Features (N, D) along the widest directions, each scaled to its spread: float32 (N, R)."""
        return np.asarray((features - self.means.mean(axis=0)) @ self.directions / np.sqrt(self.variances))

    def scaled(self, limit: float) -> Rejection:
        """The same with its limit where the score was `limit`."""
        return replace(self, limit=np.float32(limit) * self.limit)

    def save(self, path: Path) -> None:
        """Write `path`, whole or not at all."""
        from safetensors.numpy import save

        with atomic.replacing(path) as temporary:
            temporary.write_bytes(
                save({one.name: np.ascontiguousarray(getattr(self, one.name)) for one in fields(self)})
            )

    @classmethod
    def load(cls, path: Path) -> Rejection:
        """Read what `save` wrote.

        Raises:
            ModelError: It is no such file.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError, TypeError) as error:
            raise ModelError(f"{path} cannot be used: {error}.", "Copy the whole model folder again.") from None
