"""The reliability diagram: how often the model is right, for each degree of confidence, before and after calibration.

DeGroot and Fienberg (1983), in the form of Guo et al. (2017): on the diagonal the model is as often right as it says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.certainty import Certainty
from neurodense.evaluation.colours import BLUE, VERMILION
from neurodense.evaluation.figures import _figure, _save
from neurodense.evaluation.reliability import BINS, bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from neurodense.inference.card import Quality

_PANEL, _GAP, _HISTOGRAM = 3.2, 0.8, 0.9  # inches


def reliability_figure(certainty: Certainty, path: str | Path, title: str) -> None:
    """Draw the diagram before and after calibration, with the images of each bin below, to a PNG file.

    Args:
        certainty: What was measured.
        path: The file to write, whole or not at all.
        title: In plain text.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    width, height = 2 * _PANEL + _GAP, _PANEL + 0.25 + _HISTOGRAM
    figure = _figure(width, height)
    panels = (
        ("before calibration", certainty.uncalibrated, certainty.before),
        ("after", certainty.probabilities, certainty.after),
    )
    for k, (head, probabilities, scores) in enumerate(panels):
        left = k * (_PANEL + _GAP) / width
        upper = figure.add_axes((left, 1 - _PANEL / height, _PANEL / width, _PANEL / height))
        lower = figure.add_axes((left, 0, _PANEL / width, _HISTOGRAM / height), sharex=upper)
        _panel(upper, lower, certainty.truth, probabilities, scores)
        upper.set_title(head, loc="left", fontsize=10)
    figure.text(0, 1.09, title, fontsize=12, va="bottom", parse_math=False)
    _save(figure, path)


def _panel(
    upper: Axes, lower: Axes, truth: NDArray[np.int64], probabilities: NDArray[np.float64], scores: Quality
) -> None:
    counts, confidence, accuracy = bins(truth, probabilities)
    some = counts > 0
    middles = (np.arange(BINS) + 0.5) / BINS
    upper.plot([0, 1], [0, 1], ":", color="#707070", linewidth=1)
    upper.bar(middles[some], accuracy[some], width=0.9 / BINS, color=BLUE, label="accuracy")
    upper.plot(confidence[some], confidence[some], "o", color=VERMILION, markersize=4, label="mean confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right", axisbelow=True)
    said = f"ECE {scores.ece:.3f}\nlog loss {scores.loss:.3f}\nBrier {scores.brier:.3f}"
    upper.text(0.04, 0.96, said, fontsize=8, va="top")
    upper.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.78), framealpha=0.9)
    lower.bar(middles, counts, width=0.9 / BINS, color="#8c8c8c")
    lower.set(xlabel="confidence in the most probable class", ylabel="images")
    for axes in (upper, lower):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
