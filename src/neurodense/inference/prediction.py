"""The answer for one picture or study, as the API, JSON, CSV and the table give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

UNKNOWN: Final = "This does not look like a brain MRI like those the model knows"
UNKNOWN_STUDY: Final = "Most slices do not look like a brain MRI like those the model knows"


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture or one study. What a model has no numbers for is None: see `docs/uncertainty.md`.

    Attributes:
        source: The input, as the caller named it; a slice of a volume has its number behind a `#`, from 1.
        label: The most probable class; None where the model abstains: no class is in the prediction set, or the image
            is out of distribution.
        probabilities: Of each class, in the card's order; they sum to 1. Of a study: the softmax of the mean of its
            slices' calibrated logits, that is of the logits divided by the card's temperature.
        notes: What a reader of the result should know of the reading.
        slices: Of a study: the answer for each chosen slice, in order. Empty for a picture.
        total: Slices that the study has in all; 1 for a picture.
        overlay: Path of the heat map's picture where one was written. Of a study each slice has its own.
        prediction_set: The classes that cannot be ruled out at `error_rate`, the most probable first.
        error_rate: What the prediction set promises, in (0, 1).
        ood_score: How unlike the images that the model knows, at least 0; 1 is the limit. Of a study: the median of its
            slices, of two middle ones the smaller.
        in_distribution: Whether `ood_score` is at most 1; of a study: whether it is for at least half of its slices.
        uncalibrated: The probabilities without the card's temperature, in the order of the classes.
        coordinates: float32 (R,): its features as `Rejection.coordinates` has them, of a study those of the middle one
            of its slices; None where the model rejects nothing.
    """

    source: str
    label: str | None
    probabilities: Mapping[str, float]
    notes: tuple[str, ...] = ()
    slices: tuple[Prediction, ...] = ()
    total: int = 1
    overlay: str | None = None
    prediction_set: tuple[str, ...] | None = None
    error_rate: float | None = None
    ood_score: float | None = None
    in_distribution: bool | None = None
    uncalibrated: tuple[float, ...] = ()
    coordinates: NDArray[np.float32] | None = field(default=None, compare=False, repr=False)

    @property
    def named(self) -> str:
        """The most probable class, also where the model abstains."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def has_verdict(self) -> bool:
        """Whether the model has the numbers to say more than the most probable class."""
        return self.prediction_set is not None or self.in_distribution is not None

    @property
    def verdict(self) -> str:
        """The answer in words, without a full stop."""
        if self.in_distribution is False:
            return UNKNOWN_STUDY if self.slices else UNKNOWN
        if self.prediction_set is None:
            return f"{_capital(self.named)} is the most probable class"
        if not self.prediction_set:
            return "No class fits"
        if len(self.prediction_set) == 1:
            return f"{_capital(self.prediction_set[0])} likely"
        return f"Uncertain between {_listed(self.prediction_set)}"

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that `predict --format json` prints; what is empty or has no numbers is left out."""
        answer: dict[str, Any] = {
            "source": self.source, "label": self.label, "probabilities": dict(self.probabilities),
        }  # fmt: skip
        if self.has_verdict:
            answer["verdict"] = self.verdict
        if self.prediction_set is not None:
            answer |= {"prediction_set": list(self.prediction_set), "error_rate": self.error_rate}
        if self.in_distribution is not None:
            answer |= {"ood_score": self.ood_score, "in_distribution": self.in_distribution}
        if self.notes:
            answer["notes"] = list(self.notes)
        if self.overlay is not None:
            answer["overlay"] = self.overlay
        if self.slices:
            answer |= {"total": self.total, "slices": [one.as_dict() for one in self.slices]}
        return answer


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
