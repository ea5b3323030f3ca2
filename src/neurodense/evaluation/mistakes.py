"""The worst mistakes, with what the model went by: the images that leave least probability to their true class."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.evaluation.predictions import Predictions
from neurodense.inference.overlay import file_name, panels
from neurodense.inference.predictor import Predictor
from neurodense.scans.study import Failure, find_studies

SHOWN: Final = 6
FOLDER: Final = "mistakes"


@dataclass(frozen=True)
class Mistake:
    """An image that was called another class than its own.

    Attributes:
        source: Its path.
        group: Its group, or its path.
        true: Its class.
        called: What it was called.
        p_true: Probability of its class.
        p_called: Of the other.
        verdict: What the model says of it in words, where it says more than a class.
        picture: PNG file: the image, and beside it where the model saw the class that it named.
    """

    source: str
    group: str
    true: str
    called: str
    p_true: float
    p_called: float
    verdict: str | None
    picture: Path

    @property
    def alt(self) -> str:
        """The picture in words."""
        return f"{self.source}: the image, and the same under a heat map of what speaks for {self.called}."


def worst(predictions: Predictions, count: int = SHOWN) -> NDArray[np.intp]:
    """Rows of the worst mistakes, worst first, one of each group: six slices of one patient are one mistake."""
    rows = np.arange(len(predictions.truth))
    left = predictions.probabilities[rows, predictions.truth]
    wrong = rows[predictions.predicted != predictions.truth]
    seen: dict[str, int] = {}
    for row in wrong[np.argsort(left[wrong], kind="stable")].tolist():
        seen.setdefault(predictions.units[row], row)
    return np.array(list(seen.values())[:count], dtype=np.intp)


def draw_mistakes(
    predictions: Predictions, made_by: Callable[[str], Predictor], root: Path, out: Path
) -> list[Mistake]:
    """Draw the worst mistakes to OUT/mistakes, replacing what is there. Of a study the middle one of its slices.

    Args:
        predictions: Their sources are relative to `root`.
        made_by: The model that predicted a source.
        root: The folder of the images.
        out: The folder of the evaluation.
    """
    folder = out / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    found = []
    for row in worst(predictions).tolist():
        source = predictions.sources[row]
        items = find_studies([root / source])
        result = next(made_by(source).explained(items[:1]))
        if isinstance(result, Failure):  # it could be read a moment ago
            continue
        answer, explanations = result
        drawn = list(explanations)
        path = folder / file_name(source)
        with atomic.replacing(path) as temporary:
            panels(drawn[len(drawn) // 2]).save(temporary, format="PNG")
        true, called = int(predictions.truth[row]), int(predictions.predicted[row])
        found.append(
            Mistake(
                source=source,
                group=predictions.units[row],
                true=predictions.labels[true],
                called=predictions.labels[called],
                p_true=float(predictions.probabilities[row, true]),
                p_called=float(predictions.probabilities[row, called]),
                verdict=answer.verdict if answer.has_verdict else None,
                picture=path,
            )
        )
    return found
