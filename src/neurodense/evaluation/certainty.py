"""What a model said of its own certainty, held against the truth of labelled images: uncertainty.json.

Definitions and what is promised: `docs/uncertainty.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.reliability import quality
from neurodense.inference.card import Card, Quality, Sets
from neurodense.inference.prediction import Prediction
from neurodense.inference.sets import members


@dataclass(frozen=True)
class Coverage:
    """Prediction sets of one error rate, measured.

    Attributes:
        sets: What was promised.
        covered: Share of images whose true class is in the set.
        covered_by_group: The same, each group counting once: what the promise is about.
        per_class: Share of the images of each class; None where there is no image of it.
        sizes: Images whose set has 0, 1, ... all classes.
        accuracy_of_one: Share of the sets of one class that are right; None where there are none.
    """

    sets: Sets
    covered: float
    covered_by_group: float
    per_class: dict[str, float | None]
    sizes: tuple[int, ...]
    accuracy_of_one: float | None


@dataclass(frozen=True, eq=False)
class Certainty:
    """Certainty on N labelled images, after and before calibration.

    Attributes:
        truth: int64 (N,).
        probabilities: float64 (N, C), as the model gives them.
        uncalibrated: float64 (N, C), without its temperature.
        coverage: Of each error rate that the model has.
        accepted: Share of images that are in distribution; None where the model rejects nothing.
    """

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    coverage: tuple[Coverage, ...]
    accepted: float | None

    @property
    def after(self) -> Quality:
        """Of the probabilities as the model gives them."""
        return quality(self.truth, self.probabilities)

    @property
    def before(self) -> Quality:
        """Of the probabilities without its temperature."""
        return quality(self.truth, self.uncalibrated)

    def as_dict(self) -> dict[str, Any]:
        """The shape of uncertainty.json."""
        return {
            "n": len(self.truth),
            "calibration": {"before": self.before.model_dump(), "after": self.after.model_dump()},
            "sets": [
                {
                    "error": one.sets.error,
                    "each_class": one.sets.each_class,
                    "covered": one.covered,
                    "covered_by_group": one.covered_by_group,
                    "per_class": one.per_class,
                    "sizes": list(one.sizes),
                    "accuracy_of_one": one.accuracy_of_one,
                }
                for one in self.coverage
            ],
            "accepted": self.accepted,
        }

    def sentences(self) -> list[str]:
        """What a reader of the metrics should know."""
        said = [
            f"Sets with an error of {one.sets.error:.0%} hold the true class of {one.covered:.1%} of the images "
            f"({one.covered_by_group:.1%} where each group counts once); {one.sizes[1]:,} of {len(self.truth):,} "
            f"name one class and {one.sizes[0]:,} none."
            for one in self.coverage
        ]
        if self.accepted is not None:
            said.append(f"{self.accepted:.1%} of the images look like those that the model knows.")
        return said


def certainty(
    card: Card, truth: NDArray[np.int64], answers: Sequence[Prediction], groups: Sequence[str]
) -> Certainty | None:
    """Measure the answers for N labelled images; None where the model was never calibrated.

    Args:
        card: Of the model that answered.
        truth: (N,), the index of each true class.
        answers: N of them.
        groups: N of them; an image without one is its own.
    """
    if card.calibration is None:
        return None
    probabilities = np.array([[answer.probabilities[name] for name in card.classes] for answer in answers])
    known = [answer.in_distribution for answer in answers]
    return Certainty(
        truth=truth,
        probabilities=probabilities,
        uncalibrated=np.array([answer.uncalibrated for answer in answers]),
        coverage=tuple(
            coverage(card.classes, sets, truth, probabilities, groups)
            for sets in (card.conformal.sets if card.conformal else ())
        ),
        accepted=None if None in known else float(np.mean(np.array(known, dtype=bool))),
    )


def coverage(
    classes: Sequence[str],
    sets: Sets,
    truth: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    groups: Sequence[str],
) -> Coverage:
    """How often the sets hold the true class (N,), and how large they are, for probabilities (N, C)."""
    inside = members(probabilities, np.array([sets.least[name] for name in classes]))
    held = inside[np.arange(len(truth)), truth]
    _, where, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    size = inside.sum(axis=1)
    return Coverage(
        sets=sets,
        covered=float(held.mean()),
        covered_by_group=float((held / counts[where]).sum() / len(counts)),
        per_class={name: _mean(held[truth == k]) for k, name in enumerate(classes)},
        sizes=tuple(np.bincount(size, minlength=len(classes) + 1).tolist()),
        accuracy_of_one=_mean(held[size == 1]),
    )


def _mean(values: NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None
