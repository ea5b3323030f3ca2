"""Whether many images, taken together, come from where the model's do: an alarm for a whole collection.

A single image of another scanner may pass the gate of `rejection.py`, and all of them may. What tells is that they
differ together. The features of the batch are compared with those of the validation part by the energy distance

    E(X, Y) = 2 mean |x - y| - mean |x - x'| - mean |y - y'|    (Szekely and Rizzo, J. Stat. Plan. Inference 143, 2013)

whose p-value comes from permutations: how often a random division of the same images is as far apart (with one added to
both counts: Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010). Images are compared within the class that the
model calls them, and permuted within it, so that a batch with more tumours is not another collection for that.

The unit is the group: one image of each is drawn, on both sides, since images of one patient are alike and a
permutation of images would find any two patients different. Where groups are not known, a few images stand for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ALARM: Final = 0.01
"""The p below which a batch is called different: one in a hundred that are not will be."""
FEWEST: Final = 10
"""Units of a batch below which nothing is said."""
UNGROUPED: Final = 30
"""Images that are compared at most where groups are not known. Many images of few patients differ from any reference by
what these patients are; thirty that lie far apart in the order of their names are more often of thirty patients."""
_MOST = 500  # units a side, drawn where there are more: the distances of all pairs are kept
_PERMUTATIONS = 999
_SEED = 0


@dataclass(frozen=True)
class Shift:
    """How far a batch is from the validation part.

    Attributes:
        p: How often a random division of the same images is as far apart, in (0, 1].
        distance: The energy distance over its largest value: 0 the same, 1 apart.
        usual: The distance that 95 of 100 random divisions stay below.
        units: Groups, or images, of the batch that were compared.
        reference: Those of the validation part.
        grouped: Whether the groups of the batch are known.
    """

    p: float
    distance: float
    usual: float
    units: int
    reference: int
    grouped: bool

    @property
    def alarm(self) -> bool:
        """Whether the batch is called different."""
        return self.p < ALARM

    def as_dict(self) -> dict[str, Any]:
        """The shape of metrics.json."""
        return {**asdict(self), "alarm": self.alarm}

    @property
    def sentence(self) -> str:
        """The finding in words."""
        what = f"{self.units:,} {'groups' if self.grouped else 'images'}"
        facts = (
            f"p = {self.p:.3f}, distance {self.distance:.3f} where 95 of 100 batches like the validation part stay "
            f"below {self.usual:.3f}"
        )
        alone = "" if self.grouped else " Each of these counts as a patient; where several are of one, p is too small."
        if self.alarm:
            return (
                f"As a whole these images are not like those of the validation part ({what} compared; {facts}): what "
                f"was measured on the model's own data does not hold for them.{alone}"
            )
        return (
            f"As a whole these images do not stand out from those of the validation part ({what} compared; {facts}); "
            f"that does not prove them alike."
        )


def one_of_each(groups: Sequence[str], sources: Sequence[str]) -> NDArray[np.intp]:
    """Rows of one image of each group, drawn by a fixed seed whatever the order of the images; (G,), by group."""
    order = sorted(range(len(groups)), key=lambda row: (groups[row], sources[row]))
    rng, names = np.random.default_rng(_SEED), np.array([groups[row] for row in order], dtype=object)
    starts = np.concatenate([[0], np.flatnonzero(names[1:] != names[:-1]) + 1, [len(names)]])
    return np.array([order[rng.integers(first, last)] for first, last in pairwise(starts.tolist())])


def far_apart(sources: Sequence[str]) -> NDArray[np.intp]:
    """Rows of at most UNGROUPED images, spread evenly over the order of their names."""
    order = np.array(sorted(range(len(sources)), key=sources.__getitem__), dtype=np.intp)
    if len(order) <= UNGROUPED:
        return order
    return order[np.linspace(0, len(order) - 1, UNGROUPED).round().astype(np.intp)]


def shift(
    features: Floats, called: NDArray[np.int64], reference: Floats, reference_called: NDArray[np.int64], grouped: bool
) -> Shift | None:
    """Compare a batch with a reference, one row a unit.

    Args:
        features: float32 (N, R) of the batch, in coordinates of equal weight.
        called: (N,): the class that the model calls each.
        reference: float32 (M, R).
        reference_called: (M,).
        grouped: Whether the rows of the batch stand for known groups.

    Returns:
        None where fewer than FEWEST rows of the batch are called a class that the reference has.
    """
    rng = np.random.default_rng(_SEED)
    shared = np.isin(called, reference_called)
    rows, others = (_some(rng, np.flatnonzero(those)) for those in (shared, np.isin(reference_called, called)))
    if len(rows) < FEWEST or not len(others):
        return None
    points = np.concatenate([features[rows], reference[others]]).astype(np.float64)
    classes = np.concatenate([called[rows], reference_called[others]])
    ours = np.arange(len(points)) < len(rows)
    energy, largest = np.zeros(_PERMUTATIONS + 1), np.zeros(_PERMUTATIONS + 1)
    for name in np.unique(classes):
        among = np.flatnonzero(classes == name)
        n = int(ours[among].sum())
        m = len(among) - n
        between = _distances(points[among])
        # bool (1 + permutations, units): which are the batch; the first row is how it was.
        taken = np.zeros((_PERMUTATIONS + 1, len(among)))
        taken[0] = ours[among]
        for row in taken[1:]:
            row[rng.permutation(len(among))[:n]] = 1
        rest = 1 - taken
        near, far = taken @ between, rest @ between
        across = (near * rest).sum(axis=1) / (n * m)
        within = (near * taken).sum(axis=1) / n**2 + (far * rest).sum(axis=1) / m**2
        weight = n * m / (n + m)
        energy += weight * (2 * across - within)
        largest += weight * 2 * across
    distances = energy / np.maximum(largest, np.finfo(np.float64).tiny)
    return Shift(
        p=float((energy >= energy[0] * (1 - 1e-12)).sum() / len(energy)),
        distance=float(distances[0]),
        usual=float(np.quantile(distances[1:], 0.95)),
        units=len(rows),
        reference=len(others),
        grouped=grouped,
    )


def _some(rng: np.random.Generator, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    return rows if len(rows) <= _MOST else np.sort(rng.choice(rows, _MOST, replace=False))


def _distances(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances of all pairs, (N, N)."""
    squares = (points**2).sum(axis=1)
    found = np.sqrt((squares[:, None] + squares - 2 * points @ points.T).clip(0))
    np.fill_diagonal(found, 0)
    return np.asarray(found)
