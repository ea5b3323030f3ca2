"""How right and how sure a model is on each source, where a table says which image is of which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.shares import Share


@dataclass(frozen=True)
class OfSource:
    """The images of one source.

    Attributes:
        name: Of the source.
        images: How many.
        accuracy: On them.
        loss: Log loss, nats.
        ece: Expected calibration error.
    """

    name: str
    images: int
    accuracy: Share
    loss: Share
    ece: Share

    def as_dict(self) -> dict[str, Any]:
        """The shape of metrics.json."""
        return asdict(self)


def by_source(predictions: Predictions, source_of: Mapping[str, str]) -> list[OfSource]:
    """Measure each source by itself, the largest first; images without one are left out.

    Args:
        predictions: Of all images.
        source_of: Path of an image -> its source.
    """
    sources = np.array([source_of.get(path, "") for path in predictions.sources], dtype=object)
    found = []
    for name in sorted(set(sources.tolist()) - {""}):
        rows = np.flatnonzero(sources == name)
        part = Predictions(
            predictions.labels,
            tuple(predictions.sources[row] for row in rows),
            predictions.truth[rows],
            predictions.probabilities[rows],
            None if predictions.groups is None else tuple(predictions.groups[row] for row in rows),
        )
        figures = measure(part.labels, part.truth, part.probabilities).figures
        bounds = intervals(part).bounds
        shares = (Share(figures[key], bounds.get(key)) for key in ("accuracy", "loss", "ece"))
        found.append(OfSource(name, len(rows), *shares))
    return sorted(found, key=lambda one: -one.images)
