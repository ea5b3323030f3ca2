"""Operating points: what is found at a specificity that was fixed beforehand, for a tumour and for each class.

A threshold is chosen on the validation part and only applied to the images that are measured: one that were chosen on
them would fit their noise, and its sensitivity would be too high (Leeflang et al., Clinical Chemistry 54, 2008). So the
specificity reached is not exactly the one that was aimed at, and both are reported, with intervals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import DataError
from neurodense.evaluation.bootstrap import Floats
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.shares import Share, Shares
from neurodense.inference.card import Thresholds

SPECIFICITIES: Final = (0.90, 0.95, 0.99)

_HEALTHY: Final = {
    "notumor", "notumour", "normal", "healthy", "no", "none", "nolesion", "nofinding", "nofindings", "control",
    "controls", "negative",
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What is looked for in an image.

    Attributes:
        name: A class.
        rest: True where any class but `name` is looked for: a tumour, where `name` is the healthy one.
    """

    name: str
    rest: bool = False

    @property
    def title(self) -> str:
        """In words."""
        return f"any class but {self.name}" if self.rest else self.name

    def scores(self, predictions: Predictions) -> Floats:
        """The probability of the finding in each image, float64 (N,)."""
        one = predictions.probabilities[:, predictions.labels.index(self.name)]
        return 1 - one if self.rest else one

    def present(self, predictions: Predictions) -> NDArray[np.bool_]:
        """Which images truly show it, bool (N,)."""
        return np.asarray((predictions.truth == predictions.labels.index(self.name)) != self.rest)


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold finds and what it raises a false alarm for.

    Attributes:
        finding: In words.
        aimed: The specificity for which the threshold was chosen.
        threshold: An image is called at this probability or above; None where the validation part reached no such
            specificity at any, and then nothing is called.
        sensitivity: Share of the images with the finding that are called.
        specificity: Share of the images without it that are not called.
    """

    finding: str
    aimed: float
    threshold: float | None
    sensitivity: Share
    specificity: Share

    def as_dict(self) -> dict[str, Any]:
        """The point as JSON takes it."""
        return asdict(self)


def healthy_class(labels: Sequence[str], named: str | None = None) -> str | None:
    """The class without a tumour: `named`, or the one that its name gives away; None where none or several do.

    Raises:
        DataError: `named` is no class.
    """
    if named is not None and named not in labels:
        raise DataError(f"the healthy class is {named!r}; the model knows {', '.join(map(repr, labels))}.")
    found = [label for label in labels if "".join(filter(str.isalnum, label.casefold())) in _HEALTHY]
    return named or (found[0] if len(found) == 1 else None)


def choose_thresholds(validation: Predictions) -> Thresholds:
    """The lowest thresholds that reach each of SPECIFICITIES on the validation part, for every possible finding.

    A threshold lies halfway between the last image without the finding that must stay below it and the next image.
    """

    def chosen(finding: Finding) -> tuple[float | None, ...]:
        scores, present = finding.scores(validation), finding.present(validation)
        return tuple(_threshold(scores, present, aimed) for aimed in SPECIFICITIES)

    return Thresholds(
        images=len(validation.truth),
        specificities=SPECIFICITIES,
        of_class={name: chosen(Finding(name)) for name in validation.labels},
        of_any_other={name: chosen(Finding(name, rest=True)) for name in validation.labels},
    )


def operating_points(predictions: Predictions, thresholds: Thresholds, healthy: str | None) -> list[OperatingPoint]:
    """Apply thresholds: to the tumour, where a healthy class is known, and to each class that was not merged."""
    findings = [
        (Finding(name), thresholds.of_class[name]) for name in predictions.labels if name in thresholds.of_class
    ]
    if healthy is not None:
        findings.insert(0, (Finding(healthy, rest=True), thresholds.of_any_other[healthy]))
    titles, right, counts = [], [], []
    for finding, limits in findings:
        scores, present = finding.scores(predictions), finding.present(predictions)
        for aimed, threshold in zip(thresholds.specificities, limits, strict=True):
            called = scores >= (np.inf if threshold is None else threshold)
            titles.append((finding.title, aimed, threshold))
            right += [present & called, ~present & ~called]
            counts += [present, ~present]
    found = Shares(predictions.units, right, counts)
    return [OperatingPoint(*title, found[2 * k], found[2 * k + 1]) for k, title in enumerate(titles)]


def _threshold(scores: Floats, present: NDArray[np.bool_], aimed: float) -> float | None:
    """The lowest threshold with a specificity of at least `aimed`; None where there is none."""
    negative = np.sort(scores[~present])
    if not len(negative):
        return None
    below = negative[math.ceil(aimed * len(negative) - 1e-9) - 1]  # must not be called, as all that is not above it
    above = np.append(scores[scores > below], 1.0)
    if below >= 1:
        return None
    return float((below + above.min()) / 2)
