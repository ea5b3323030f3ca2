"""Is acting on the model better than treating everyone, or no one? Decision curves.

Vickers and Elkin, "Decision curve analysis", Medical Decision Making 26, 2006.

A threshold probability t says how many false alarms a found tumour is worth: whoever acts at t = 0.1 accepts nine.

    net benefit = true positives / n  -  false positives / n  x  t / (1 - t)

It is counted in found tumours an image, after the false alarms were paid for. It depends on how frequent tumours are
among the images, and a folder that was put together for training says nothing of that. So the interval holds the
frequency fixed, and is of the shares of tumours and of healthy images that are called (as for a case-control study:
Kerr et al., Journal of Clinical Oncology 34, 2016).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense.atomic import replacing
from neurodense.evaluation.bootstrap import LEVEL, Bounds, Floats, bca, draws, left_out, numbered
from neurodense.evaluation.operating import Finding
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.ranking import share

THRESHOLDS: Final = np.arange(1, 100) / 100


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit of calling a tumour, in true positives an image.

    Attributes:
        healthy: The class that is no tumour.
        thresholds: float64 (T,), in (0, 1).
        model: float64 (T,): of calling the images whose probability of a tumour is the threshold or more.
        bounds: Its interval at each threshold, `prevalence` held fixed; None where it has none.
        everyone: float64 (T,): of calling every image. Calling none has 0 throughout.
        prevalence: Share of the images that show a tumour.
    """

    healthy: str
    thresholds: Floats
    model: Floats
    bounds: tuple[Bounds | None, ...]
    everyone: Floats
    prevalence: float


def decision_curve(predictions: Predictions, healthy: str) -> DecisionCurve:
    """The decision curve for "tumour or not", its interval by the bootstrap over groups.

    Args:
        predictions: With images of the healthy class and of others.
        healthy: The class that is no tumour.
    """
    finding, groups = Finding(healthy, rest=True), numbered(predictions.units)
    scores, present = finding.scores(predictions), finding.present(predictions)
    n_groups, n_thresholds = int(groups.max()) + 1, len(THRESHOLDS)
    odds = THRESHOLDS / (1 - THRESHOLDS)
    reached = np.searchsorted(THRESHOLDS, scores, side="right")  # thresholds at or below each score, 0..T

    def called(images: NDArray[np.bool_]) -> Floats:
        """Of each threshold and group the images that are called, float64 (T, G)."""
        cells = np.bincount(groups * (n_thresholds + 1) + reached, images, n_groups * (n_thresholds + 1))
        return np.asarray(np.cumsum(cells.reshape(n_groups, -1)[:, ::-1], axis=1)[:, -2::-1].T)

    prevalence = float(present.mean())
    sides = [
        (called(images), np.bincount(groups, images, n_groups), factor)
        for images, factor in ((present, prevalence), (~present, -(1 - prevalence) * odds[:, None]))
    ]

    def under(weights: Floats) -> Floats:
        """Net benefit under B weightings of the groups, float64 (T, B)."""
        benefit = [factor * share(hits @ weights, images @ weights) for hits, images, factor in sides]
        return np.asarray(sum(benefit))

    shape = n_groups, len(groups)
    values, jackknife = (
        np.concatenate([under(weights) for weights in blocks], axis=1) for blocks in (draws(*shape), left_out(*shape))
    )
    model = under(np.ones((n_groups, 1)))[:, 0]
    return DecisionCurve(
        healthy=healthy,
        thresholds=THRESHOLDS,
        model=model,
        bounds=tuple(bca(row, point, parts, LEVEL) for row, point, parts in zip(values, model, jackknife, strict=True)),
        everyone=prevalence - (1 - prevalence) * odds,
        prevalence=prevalence,
    )


def write_decision_curve(curve: DecisionCurve, path: Path) -> None:
    """Write the curve as CSV: threshold, model, low, high, everyone, no_one; whole or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("threshold", "model", "low", "high", "everyone", "no_one"))
        for threshold, model, bounds, everyone in zip(
            curve.thresholds.tolist(), curve.model.tolist(), curve.bounds, curve.everyone.tolist(), strict=True
        ):
            writer.writerow((threshold, model, *(bounds or ("", "")), everyone, 0))
