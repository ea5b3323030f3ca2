"""Two models on the same images: the paired difference of every figure, McNemar's test, and where they differ.

Both models get the same resamples, so what they share cancels: the interval of a difference is that of the difference,
not of two figures side by side.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.errors import DataError
from neurodense.evaluation.bootstrap import LEVEL, RESAMPLES, SEED, Bounds, bca, numbered
from neurodense.evaluation.intervals import distribution
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.scores import Scored


@dataclass(frozen=True)
class Difference:
    """A figure of both models, and the second less the first.

    Attributes:
        first: None where it has no value.
        second: None where it has no value.
        difference: None where one of them has no value.
        interval: None where there is none: no value, or no resample differs from another.
    """

    first: float | None
    second: float | None
    difference: float | None
    interval: Bounds | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two models on the same N images.

    Attributes:
        first: The predictions of one model.
        second: Those of the other, of the same images in the same order, classes in the order of the first.
        names: Of the models.
    """

    first: Predictions
    second: Predictions
    names: tuple[str, str]

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """Of every figure, by the dotted names of `Metrics.figures`."""
        groups = numbered(self.first.units)
        one, two = (Scored(side.labels, side.truth, side.probabilities, groups) for side in (self.first, self.second))
        (values, parts), (others, other_parts) = (distribution(side, RESAMPLES, SEED) for side in (one, two))
        found = {}
        for name, value in one.values.items():
            other = two.values[name]
            found[name] = Difference(
                None if np.isnan(value) else value,
                None if np.isnan(other) else other,
                None if np.isnan(other - value) else other - value,
                bca(others[name] - values[name], other - value, other_parts[name] - parts[name], LEVEL),
            )
        return found

    @property
    def discordant(self) -> tuple[int, int]:
        """Images that only the first model gets right, and that only the second does."""
        right, other = self._right
        return int((right & ~other).sum()), int((other & ~right).sum())

    @property
    def p_value(self) -> float:
        """McNemar's test, exact and two-sided, that both models are right equally often (McNemar, 1947).

        Of the images on which one of them alone is right, each is the better one with probability 1/2. It takes the
        images for independent.
        """
        return binomial_p(*self.discordant)

    @property
    def differing(self) -> NDArray[np.intp]:
        """Rows in which the models name different classes, intp (D,)."""
        return np.flatnonzero(self.first.predicted != self.second.predicted)

    @property
    def notes(self) -> list[str]:
        """What must be said beside the figures."""
        units = len(set(self.first.units))
        what = "images" if self.first.groups is None else "groups"
        said = [
            f"Intervals: {LEVEL:.0%}, BCa bootstrap over {units:,} {what}, {RESAMPLES:,} resamples, the same for both."
        ]
        if self.first.groups is None:
            said.append(
                "No groups are known, so each image counts as a patient of its own. Where several images are of one "
                "patient the intervals are too narrow and McNemar's p is too small: --groups CSV names the patients."
            )
        elif units < len(self.first.truth):
            said.append(
                "McNemar's test takes images for independent. Here groups hold several, so its p is too small: go by "
                "the interval of the difference in accuracy."
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """The comparison as comparison.json has it."""
        first_only, second_only = self.discordant
        return {
            "n": len(self.first.truth),
            "models": list(self.names),
            "differences": {
                name: {
                    "first": one.first, "second": one.second, "difference": one.difference,
                    "interval": None if one.interval is None else list(one.interval),
                }
                for name, one in self.differences.items()
            },
            "mcnemar": {"only_first_right": first_only, "only_second_right": second_only, "p": self.p_value},
            "differing_images": len(self.differing),
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": SEED,
            "drawn": "images" if self.first.groups is None else "groups",
            "units": len(set(self.first.units)),
            "notes": self.notes,
        }  # fmt: skip

    @property
    def _right(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        return self.first.predicted == self.first.truth, self.second.predicted == self.second.truth


def compare(first: Predictions, second: Predictions, names: tuple[str, str] = ("first", "second")) -> Comparison:
    """Set the predictions of two models side by side, on the images that both have.

    Args:
        first: Of one model; its groups are drawn.
        second: Of the other. Its classes may stand in another order.
        names: Of the models.

    Raises:
        DataError: The classes differ, an image is labelled differently, or they have no image in common.
    """
    same_classes(first.labels, second.labels, names)
    row_of = {source: row for row, source in enumerate(second.sources)}
    pairs = [(row, row_of[source]) for row, source in enumerate(first.sources) if source in row_of]
    if not pairs:
        raise DataError("The models have no image in common: none of the first model's was answered by the second.")
    rows, others = (np.array(column) for column in zip(*pairs, strict=True))
    columns = [second.labels.index(label) for label in first.labels]
    truth = np.array([first.labels.index(second.labels[index]) for index in second.truth[others]])
    if (wrong := np.flatnonzero(truth != first.truth[rows])).size:
        raise DataError(f"{first.sources[rows[wrong[0]]]} has one label for {names[0]} and another for {names[1]}.")
    sources = tuple(first.sources[row] for row in rows)
    groups = None if first.groups is None else tuple(first.groups[row] for row in rows)
    return Comparison(
        Predictions(first.labels, sources, truth, first.probabilities[rows], groups),
        Predictions(first.labels, sources, truth, second.probabilities[others][:, columns], groups),
        names,
    )


def same_classes(first: Sequence[str], second: Sequence[str], names: tuple[str, str]) -> None:
    """Hold two models to the same classes, in whatever order.

    Raises:
        DataError: They differ.
    """
    if set(first) != set(second):
        raise DataError(
            f"The models know different classes: {names[0]} has {', '.join(map(repr, first))}; "
            f"{names[1]} has {', '.join(map(repr, second))}.",
            "Compare models of the same classes; their order may differ.",
        )


def binomial_p(one: int, other: int) -> float:
    """Two-sided p of `one` heads and `other` tails from a fair coin: exact, in whole numbers."""
    n, tail, term = one + other, 0, 1
    for k in range(min(one, other) + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, float(2 * tail / 2**n))


def write_comparison(comparison: Comparison, out: str | Path) -> None:
    """Write comparison.json and differences.csv, the images for which the models name different classes."""
    out, one, two = Path(out), comparison.first, comparison.second
    atomic.write_json(out / "comparison.json", comparison.as_dict())
    with (
        atomic.replacing(out / "differences.csv") as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as handle,
    ):
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("source", "true", "group", "first", "second", "right", "p_true_first", "p_true_second"))
        for row in comparison.differing.tolist():
            true, first, second = (int(side[row]) for side in (one.truth, one.predicted, two.predicted))
            right = "first" if first == true else "second" if second == true else "neither"
            named = (one.labels[index] for index in (first, second))
            chances = (float(side.probabilities[row, true]) for side in (one, two))
            group = "" if one.groups is None else one.groups[row]
            writer.writerow((one.sources[row], one.labels[true], group, *named, right, *chances))
