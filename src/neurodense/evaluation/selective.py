"""Does abstaining buy accuracy? How right a model is about the images that it answers, by how many it answers.

The risk-coverage curve of El-Yaniv and Wiener ("On the foundations of noise-free selective classification", JMLR 11,
2010): the images are answered from the surest down, sure meaning the probability of the most probable class. Beside it
stand the rules that the model goes by itself: what is in distribution, and of that what has a set of one class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.shares import Share, Shares

COVERAGES: Final = tuple(k / 20 for k in range(1, 21))
"""Shares of the images that are answered, on the curve."""


@dataclass(frozen=True)
class Rule:
    """One way to decide which images are answered.

    Attributes:
        name: In words.
        answered: Share of the images that are.
        accuracy: On those.
        gain: That less the accuracy on all, paired.
    """

    name: str
    answered: Share
    accuracy: Share
    gain: Share


@dataclass(frozen=True)
class Selective:
    """Accuracy by how many images are answered.

    Attributes:
        accuracy: On all images.
        rules: Those that the model has, the most generous first.
        curve: Accuracy on the surest images, for each of COVERAGES.
    """

    accuracy: Share
    rules: tuple[Rule, ...]
    curve: tuple[Share, ...]

    def as_dict(self) -> dict[str, Any]:
        """The shape of metrics.json."""
        points = zip(COVERAGES, self.curve, strict=True)
        return {
            "accuracy": self.accuracy.as_dict(),
            "rules": [asdict(rule) for rule in self.rules],
            "curve": [{"answered": answered, "accuracy": point.as_dict()} for answered, point in points],
        }

    def sentences(self) -> list[str]:
        """What the rules buy."""
        said = []
        for rule in self.rules:
            if rule.answered.value == 1:
                continue
            if rule.accuracy.value is None:
                said.append(f"None of the images is {rule.name}.")
                continue
            low, high = rule.gain.interval or (0.0, 0.0)
            buys = "abstaining buys accuracy" if low > 0 else "that abstaining buys accuracy is not shown"
            buys = "abstaining costs accuracy" if high < 0 else buys
            said.append(
                f"Of the {rule.answered.value:.1%} of images that are {rule.name}, {rule.accuracy} are right, against "
                f"{self.accuracy} of all (difference {rule.gain.signed}): {buys}."
            )
        return said


def selective(
    predictions: Predictions, known: NDArray[np.bool_] | None, inside: Mapping[float, NDArray[np.bool_]]
) -> Selective:
    """Measure what abstaining buys.

    Args:
        predictions: N of them.
        known: (N,): whether each image is in distribution; None where the model rejects nothing.
        inside: Error rate -> (N, L): the labels in each prediction set.
    """
    n = len(predictions.truth)
    everything, right = np.ones(n, dtype=bool), predictions.predicted == predictions.truth
    rules = [] if known is None else [("in distribution", known)]
    for error, sets in sorted(inside.items(), reverse=True):
        single = sets.sum(axis=1) == 1
        name = f"given one class at an error of {error:.0%}"
        rules.append((name, single) if known is None else (f"in distribution and {name}", single & known))
    order = np.argsort(-predictions.probabilities.max(axis=1), kind="stable")
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    answered = [everything, *(those for _, those in rules), *(place < max(1, round(c * n)) for c in COVERAGES)]
    accuracies = Shares(predictions.units, [those & right for those in answered], answered)
    shares = Shares(predictions.units, answered[: len(rules) + 1], [everything] * (len(rules) + 1))
    return Selective(
        accuracy=accuracies[0],
        rules=tuple(
            Rule(name, shares[k], accuracies[k], accuracies.difference(k, 0)) for k, (name, _) in enumerate(rules, 1)
        ),
        curve=tuple(accuracies[k] for k in range(len(rules) + 1, len(accuracies))),
    )
