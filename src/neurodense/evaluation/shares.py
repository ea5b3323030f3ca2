"""Shares of images with their intervals: what is right of what counts, by the bootstrap over groups.

A share is the sum of `right` over the sum of `counts`, where an image may weigh less than 1: with 1 / (images of its
group) each group counts once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    SEED,
    Bounds,
    Floats,
    bca,
    draws,
    interval,
    left_out,
    numbered,
)
from neurodense.evaluation.intervals import spoken
from neurodense.evaluation.ranking import share

Rows = Sequence[NDArray[np.bool_] | Floats]


@dataclass(frozen=True)
class Share:
    """A share, or a difference of two, with its interval; None where it has no value, or no interval."""

    value: float | None
    interval: Bounds | None = None

    def __str__(self) -> str:
        return spoken(self.value, self.interval)

    @property
    def signed(self) -> str:
        """A difference with its sign: "-0.120 (-0.171 to -0.068)"."""
        bounds = " ({:+.3f} to {:+.3f})".format(*self.interval) if self.interval else ""
        return "–" if self.value is None else f"{self.value:+.3f}{bounds}"

    def as_dict(self) -> dict[str, Any]:
        """The share as JSON takes it."""
        return asdict(self)


class Shares:
    """S shares of the same N images, under the same resamples.

    Args:
        units: N names of what is drawn: groups, or images.
        right: S rows of N: what counts as right.
        counts: S rows of N: what counts at all.
    """

    def __init__(self, units: Sequence[str], right: Rows, counts: Rows) -> None:
        groups = numbered(units)
        n_groups = int(groups.max()) + 1
        # float64 (S, G): of each group what is right, and of what.
        part, whole = (
            np.stack([np.bincount(groups, row, n_groups) for row in rows]) if rows else np.zeros((0, n_groups))
            for rows in (right, counts)
        )

        def under(blocks: Any) -> Floats:
            return np.concatenate([share(part @ weights, whole @ weights) for weights in blocks], axis=1)

        size = n_groups, len(groups)
        self._point = under([np.ones((n_groups, 1))])[:, 0]
        self._values, self._jackknife = under(draws(*size, RESAMPLES, SEED)), under(left_out(*size))
        self._trials = (whole > 0).sum(axis=1).tolist()

    def __len__(self) -> int:
        return len(self._point)

    def __getitem__(self, k: int) -> Share:
        """The share of row k."""
        value = float(self._point[k])
        if math.isnan(value):
            return Share(None)
        return Share(value, interval(self._values[k], value, self._jackknife[k], LEVEL, self._trials[k]))

    def difference(self, k: int, less: int) -> Share:
        """Row k less row `less`, paired: both under the same resamples."""
        value = float(self._point[k] - self._point[less])
        if math.isnan(value):
            return Share(None)
        parts = self._jackknife[k] - self._jackknife[less]
        return Share(value, bca(self._values[k] - self._values[less], value, parts, LEVEL))


def once_each(units: Sequence[str], among: NDArray[np.bool_]) -> Floats:
    """Weights float64 (N,) under which each group counts once: 1 / (images of its group among `among`), else 0."""
    groups = numbered(units)
    sizes = np.bincount(groups, among)
    return np.where(among, 1 / np.maximum(sizes, 1)[groups], 0.0)
