"""What a model said of its own certainty, held against the truth of labelled images.

Definitions and what is promised: `docs/uncertainty.md`.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.atomic import replacing
from neurodense.evaluation.bootstrap import Floats
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.reliability import Change, changes
from neurodense.evaluation.selective import Selective, selective
from neurodense.evaluation.shares import Share, Shares, once_each
from neurodense.inference.card import Card
from neurodense.inference.sets import members

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Coverage:
    """Prediction sets of one error rate, measured.

    Attributes:
        error: What was promised: how often the true class may be missing.
        each_class: Whether it was promised of each class, or of all together.
        covered: Share of sets that hold the true class, each group counting once: what the promise is about.
        per_class: The same of the images of each class.
        images: Share of the images, each counting once.
        sizes: Images whose set has 0, 1, ... all classes.
        single: Share of the sets of one class that are right.
    """

    error: float
    each_class: bool
    covered: Share
    per_class: dict[str, Share]
    images: Share
    sizes: tuple[int, ...]
    single: Share


@dataclass(frozen=True, eq=False)
class Certainty:
    """Certainty on N labelled images, over L labels.

    Attributes:
        predictions: Of the model as it is.
        before: float64 (N, L): its probabilities without calibration.
        inside: Error rate -> bool (N, L): the labels in each prediction set.
        each_class: Error rate -> whether it was promised of each class, or of all together.
        known: bool (N,): which images are in distribution; None where nothing is rejected.
    """

    predictions: Predictions
    before: Floats
    inside: Mapping[float, Flags]
    each_class: Mapping[float, bool]
    known: Flags | None

    @cached_property
    def calibration(self) -> dict[str, Change]:
        """What calibration changed: loss, brier and ece."""
        after = self.predictions
        return changes(Predictions(after.labels, after.sources, after.truth, self.before, after.groups), after)

    @cached_property
    def coverage(self) -> tuple[Coverage, ...]:
        """Of each error rate that the model has sets for, the smallest error first."""
        return tuple(
            coverage(self.predictions, self.inside[error], error, self.each_class[error])
            for error in sorted(self.inside)
        )

    @cached_property
    def accepted(self) -> Share | None:
        """Share of images that are in distribution, each group counting once; None where nothing is rejected."""
        if self.known is None:
            return None
        once = once_each(self.predictions.units, np.ones(len(self.known), dtype=bool))
        return Shares(self.predictions.units, [once * self.known], [once])[0]

    @cached_property
    def selective(self) -> Selective:
        """How right the model is about those that it answers."""
        return selective(self.predictions, self.known, self.inside)

    def as_dict(self) -> dict[str, Any]:
        """Certainty as metrics.json has it."""
        return {
            "calibration": {name: change.as_dict() for name, change in self.calibration.items()},
            "sets": [asdict(one) for one in self.coverage],
            "accepted": self.accepted and self.accepted.as_dict(),
            "selective": self.selective.as_dict(),
        }

    def sentences(self) -> list[str]:
        """What a reader of the metrics should know."""
        n, once = len(self.predictions.truth), ", each group counting once" if self.predictions.groups else ""
        said = [
            f"Prediction sets with an error of {one.error:.0%} hold the true class of {one.covered} of the images"
            f"{once}; {one.sizes[1]:,} of {n:,} name one class, {one.sizes[0]:,} none."
            for one in self.coverage
        ]
        if self.accepted is not None:
            said.append(f"{self.accepted} of the images{once} look like those that the model knows.")
        return [*said, *self.selective.sentences()]


def certainty(
    card: Card, predictions: Predictions, before: Floats, rows: Floats, known: Flags | None, merged: Flags
) -> Certainty | None:
    """The certainty of N answers; None where the model was never calibrated.

    Args:
        card: Of the model that answered.
        predictions: The answers, over L labels.
        before: float64 (N, L): without calibration.
        rows: float64 (N, C): the probabilities of the model's classes.
        known: (N,): whether each image is in distribution; None where the model rejects nothing.
        merged: (C, L): which classes of the model each label stands for.
    """
    if card.calibration is None:
        return None
    promised = card.conformal.sets if card.conformal else ()
    inside = {
        one.error: members(rows, np.array([one.least[name] for name in card.classes])) @ merged for one in promised
    }
    return Certainty(predictions, before, inside, {one.error: one.each_class for one in promised}, known)


def coverage(predictions: Predictions, inside: Flags, error: float, each_class: bool) -> Coverage:
    """How often sets hold the true label, and how large they are.

    Args:
        predictions: N of them, over L labels.
        inside: (N, L): which labels are in each set.
        error: What was promised.
        each_class: Of each class, or of all together.
    """
    truth, units = predictions.truth, predictions.units
    held, size = inside[np.arange(len(truth)), truth], inside.sum(axis=1)
    everything = np.ones(len(truth), dtype=bool)
    among: Sequence[Flags] = [everything, *(truth == k for k in range(len(predictions.labels)))]
    once = [once_each(units, those) for those in among]
    found = Shares(units, [*(those * held for those in once), held, held & (size == 1)], [*once, everything, size == 1])
    return Coverage(
        error=error,
        each_class=each_class,
        covered=found[0],
        per_class={name: found[k] for k, name in enumerate(predictions.labels, 1)},
        images=found[len(among)],
        sizes=tuple(np.bincount(size, minlength=len(predictions.labels) + 1).tolist()),
        single=found[len(among) + 1],
    )


def write_certainty(certainty: Certainty, path: Path) -> None:
    """Write certainty.csv, a row an image: source, in_distribution, before:CLASS..., and ERROR:CLASS... of the sets."""
    labels, known = certainty.predictions.labels, certainty.known
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        kinds = ("before", *(f"{error:g}" for error in certainty.inside))
        writer.writerow(("source", "in_distribution", *(f"{kind}:{name}" for kind in kinds for name in labels)))
        for row, source in enumerate(certainty.predictions.sources):
            sets = (int(flag) for flags in certainty.inside.values() for flag in flags[row])
            writer.writerow((source, "" if known is None else int(known[row]), *certainty.before[row].tolist(), *sets))


def read_certainty(paths: Sequence[Path], predictions: Predictions, each_class: Mapping[float, bool]) -> Certainty:
    """Read what `write_certainty` wrote of several parts of some images, as the certainty of all.

    Args:
        paths: The files; each image is in one.
        predictions: Of all images.
        each_class: The error rates that every file has.
    """
    rows: dict[str, dict[str, str]] = {}
    for path in paths:
        with path.open(encoding="utf-8", newline="") as handle:
            rows |= {row["source"]: row for row in csv.DictReader(handle)}
    ordered = [rows[source] for source in predictions.sources]

    def column(kind: str) -> Floats:
        return np.array([[float(row[f"{kind}:{name}"]) for name in predictions.labels] for row in ordered])

    known = [row["in_distribution"] for row in ordered]
    return Certainty(
        predictions,
        column("before"),
        {error: column(f"{error:g}").astype(bool) for error in each_class},
        each_class,
        None if "" in known else np.array([one == "1" for one in known]),
    )
