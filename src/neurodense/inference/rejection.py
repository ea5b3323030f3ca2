"""Whether an image looks like those that the model knows: to the network, and by itself.

    score(x) = max( distance(x) / reach[0], strangeness(x) / reach[1] ) / limit
    distance(x) = min over classes c of sqrt( (f - m_c)' S^-1 (f - m_c) )             f: the graph's 1024 features

The distance is that of Mahalanobis. m_c are the means of the classes and S is the covariance within them, the same for
all (Lee, Lee, Lee and Shin, A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial
Attacks, NeurIPS 2018). S is kept as its widest directions and one variance for all others, so that a file of half a
megabyte holds it. The strangeness is of the pixels, and needs no network: `appearance.py`. Models that were calibrated
before there was one have the distance alone. Why these: `docs/uncertainty.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.errors import ModelError
from neurodense.inference.appearance import Appearance, describe, pictures

REJECTION: Final = "ood.safetensors"
Floats = NDArray[np.float32]
_APPEARANCE: Final = "appearance."  # before the names of its numbers in the file


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
        reach: float32 (2,), the distance and the strangeness that count as 1 before the limit; None counts as 1, 1.
        appearance: What strangeness goes by; None where the score is the distance.
    """

    means: Floats
    directions: Floats
    variances: Floats
    rest: Floats
    limit: Floats
    reference: Floats
    called: NDArray[np.int64]
    reach: Floats | None = None
    appearance: Appearance | None = None

    @property
    def name(self) -> str:
        """Of the score, as the card has it."""
        return "mahalanobis" if self.appearance is None else "mahalanobis or appearance"

    def scores(self, features: Floats, pixels: Floats) -> NDArray[np.float64]:
        """Scores of features (N, D) and the inputs (N, 1, S, S) they are of: float64 (N,), at least 0; 1 the limit."""
        numbers = None if self.appearance is None else describe(pictures(pixels))
        return self.scores_of(features, numbers)

    def scores_of(self, features: Floats, numbers: Floats | None = None) -> NDArray[np.float64]:
        """The same from what `appearance.describe` gives for the inputs; not needed where there is no `appearance`."""
        found = self.distances(features)
        if self.appearance is not None:
            assert numbers is not None, "the pixels are needed"
            far, strange = (1.0, 1.0) if self.reach is None else self.reach.astype(np.float64)
            found = np.maximum(found / far, self.appearance.strangeness(numbers) / strange)
        return np.asarray(found / self.limit)

    def distances(self, features: Floats) -> NDArray[np.float64]:
        """Distances of features (N, D) to the nearest class: float64 (N,), at least 0."""
        wide = features.astype(np.float64)
        directions, means, means_along = self._wide
        # Row by row: BLAS would take many rows to all cores, which runs of the graph keep busy.
        all_along, squares = (wide[:, np.newaxis] @ directions)[:, 0], []
        for mean, mean_along in zip(means, means_along, strict=True):
            off, along = wide - mean, (all_along - mean_along) ** 2
            across = np.einsum("nd,nd->n", off, off) - along.sum(axis=1)
            squares.append((along / self.variances).sum(axis=1) + across.clip(0) / self.rest)
        return np.asarray(np.sqrt(np.min(squares, axis=0)))

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

        own = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        looks = {} if self.appearance is None else vars(self.appearance)
        own |= {_APPEARANCE + name: value for name, value in looks.items()}
        with atomic.replacing(path) as temporary:
            temporary.write_bytes(save({name: np.ascontiguousarray(value) for name, value in own.items()}))

    @classmethod
    def load(cls, path: Path) -> Rejection:
        """Read what `save` wrote, now or before there was an appearance.

        Raises:
            ModelError: It is no such file.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            read = load_file(path)
            looks = {
                name.removeprefix(_APPEARANCE): read.pop(name) for name in list(read) if name.startswith(_APPEARANCE)
            }
            return cls(**read, appearance=Appearance(**looks) if looks else None)
        except (OSError, SafetensorError, TypeError) as error:
            raise ModelError(f"{path} cannot be used: {error}.", "Copy the whole model folder again.") from None
