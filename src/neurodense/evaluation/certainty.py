"""What a model said of its own certainty, held against the truth of labelled images.

Definitions and what is promised: `docs/uncertainty.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.bootstrap import Floats
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.reliability import Change, changes
from neurodense.evaluation.selective import Selective, selective
from neurodense.evaluation.shares import Share, Shares, once_each
from neurodense.inference.card import Card, Sets
from neurodense.inference.sets import members


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
    """Certainty on N labelled images.

    Attributes:
        predictions: Of the model as it is.
        before: float64 (N, C): its probabilities without calibration.
        coverage: Of each error rate that the model has sets for.
        accepted: Share of images that are in distribution, each group counting once; None where nothing is rejected.
        selective: How right the model is about those that it answers.
    """

    predictions: Predictions
    before: Floats
    coverage: tuple[Coverage, ...]
    accepted: Share | None
    selective: Selective

    @cached_property
    def calibration(self) -> dict[str, Change]:
        """What calibration changed: loss, brier and ece."""
        after = self.predictions
        return changes(Predictions(after.labels, after.sources, after.truth, self.before, after.groups), after)

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
    card: Card,
    predictions: Predictions,
    before: Floats,
    rows: Floats,
    known: NDArray[np.bool_] | None,
    merged: NDArray[np.bool_],
) -> Certainty | None:
    """Measure N answers; None where the model was never calibrated.

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
    inside = {one.error: members(rows, np.array([one.least[name] for name in card.classes])) for one in promised}
    everything = np.ones(len(rows), dtype=bool)
    once = once_each(predictions.units, everything)
    return Certainty(
        predictions=predictions,
        before=before,
        coverage=tuple(coverage(one, predictions, inside[one.error] @ merged) for one in promised),
        accepted=None if known is None else Shares(predictions.units, [once * known], [once])[0],
        selective=selective(predictions, known, {error: found @ merged for error, found in inside.items()}),
    )


def coverage(sets: Sets, predictions: Predictions, inside: NDArray[np.bool_]) -> Coverage:
    """How often sets hold the true label, and how large they are.

    Args:
        sets: What was promised.
        predictions: N of them, over L labels.
        inside: (N, L): which labels are in each set.
    """
    truth, units = predictions.truth, predictions.units
    held, size = inside[np.arange(len(truth)), truth], inside.sum(axis=1)
    everything = np.ones(len(truth), dtype=bool)
    among: Sequence[NDArray[np.bool_]] = [everything, *(truth == k for k in range(len(predictions.labels)))]
    once = [once_each(units, those) for those in among]
    found = Shares(units, [*(those * held for those in once), held, held & (size == 1)], [*once, everything, size == 1])
    return Coverage(
        error=sets.error,
        each_class=sets.each_class,
        covered=found[0],
        per_class={name: found[k] for k, name in enumerate(predictions.labels, 1)},
        images=found[len(among)],
        sizes=tuple(np.bincount(size, minlength=len(predictions.labels) + 1).tolist()),
        single=found[len(among) + 1],
    )
