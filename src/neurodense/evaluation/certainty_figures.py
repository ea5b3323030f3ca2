"""Figures of certainty: reliability before and after calibration, and accuracy by how many images are answered."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.bootstrap import Floats
from neurodense.evaluation.certainty import Certainty
from neurodense.evaluation.colours import BLUE, ORANGE, VERMILION
from neurodense.evaluation.figures import blank, save
from neurodense.evaluation.reliability import bins
from neurodense.evaluation.scores import ECE_BINS
from neurodense.evaluation.selective import COVERAGES, Selective
from neurodense.evaluation.shares import Share

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL, _GAP, _HISTOGRAM = 3.2, 0.8, 0.9  # inches
_MARKERS = "osD^v"


def reliability_figure(certainty: Certainty, path: str | Path, title: str) -> None:
    """Draw how often the model is right for each degree of confidence, with the images of each bin, to a PNG file.

    DeGroot and Fienberg (1983), in the form of Guo et al. (2017): on the diagonal the model is as often right as it
    says.

    Args:
        certainty: What was measured.
        path: The file to write, whole or not at all.
        title: In plain text.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    width, height = 2 * _PANEL + _GAP, _PANEL + 0.25 + _HISTOGRAM
    figure = blank(width, height)
    changes = certainty.calibration
    panels = (
        ("before calibration", certainty.before, {name: one.before for name, one in changes.items()}),
        ("after", certainty.predictions.probabilities, {name: one.after for name, one in changes.items()}),
    )
    for k, (head, probabilities, scores) in enumerate(panels):
        left = k * (_PANEL + _GAP) / width
        upper = figure.add_axes((left, 1 - _PANEL / height, _PANEL / width, _PANEL / height))
        lower = figure.add_axes((left, 0, _PANEL / width, _HISTOGRAM / height), sharex=upper)
        _reliability(upper, lower, certainty.predictions.truth, probabilities, scores)
        upper.set_title(head, loc="left", fontsize=10)
    figure.text(0, 1.09, title, fontsize=12, va="bottom", parse_math=False)
    save(figure, path)


def selective_figure(selective: Selective, path: str | Path, title: str) -> None:
    """Draw accuracy by the share of images that are answered, with the model's own rules, to a PNG file.

    Args:
        selective: What was measured.
        path: The file to write, whole or not at all.
        title: In plain text.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = blank(5.6, 3.6)
    axes = figure.add_axes((0, 0, 1, 1))
    answered = np.array(COVERAGES)
    accuracy = np.array([np.nan if one.value is None else one.value for one in selective.curve])
    ends = [one.interval or (one.value, one.value) for one in selective.curve]
    low, high = np.array(ends, dtype=np.float64).T
    axes.fill_between(answered, low, high, color=BLUE, alpha=0.18, linewidth=0, label="95% interval")
    axes.plot(answered, accuracy, "-", color=BLUE, linewidth=1.6, label="the surest images")
    for rule, marker in zip(selective.rules, _MARKERS, strict=False):
        if rule.accuracy.value is not None and rule.answered.value is not None:
            axes.plot(rule.answered.value, rule.accuracy.value, marker, color=VERMILION, mec="black", label=rule.name)
            if rule.accuracy.interval is not None:
                axes.vlines(rule.answered.value, *rule.accuracy.interval, color=VERMILION, linewidth=1)
    if selective.accuracy.value is not None:
        axes.axhline(selective.accuracy.value, color=ORANGE, linestyle="--", linewidth=1.2, label="all images")
    floor = np.nanmin([*low, *accuracy, 0.9])
    axes.set(xlim=(0, 1.02), ylim=(max(0.0, floor - 0.05), 1.01), axisbelow=True)
    axes.set(xlabel="share of the images that are answered", ylabel="share of these that is right")
    axes.set_title(title, loc="left", fontsize=11, parse_math=False)
    axes.legend(fontsize=7.5, framealpha=0.9, loc="upper left", bbox_to_anchor=(1.02, 1))
    _tidy(axes)
    save(figure, path)


def _reliability(
    upper: Axes, lower: Axes, truth: NDArray[np.int64], probabilities: Floats, scores: dict[str, Share]
) -> None:
    counts, confidence, accuracy = bins(truth, probabilities)
    some = counts > 0
    middles = (np.arange(ECE_BINS) + 0.5) / ECE_BINS
    upper.plot([0, 1], [0, 1], ":", color="#707070", linewidth=1)
    upper.bar(middles[some], accuracy[some], width=0.9 / ECE_BINS, color=BLUE, label="accuracy")
    upper.plot(confidence[some], confidence[some], "o", color=VERMILION, markersize=4, label="mean confidence")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="share that is right", axisbelow=True)
    upper.text(0.04, 0.96, f"ECE {scores['ece']}\nlog loss {scores['loss']}", fontsize=7.5, va="top")
    upper.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0, 0.84), framealpha=0.9)
    lower.bar(middles, counts, width=0.9 / ECE_BINS, color="#8c8c8c")
    lower.set(xlabel="confidence in the most probable class", ylabel="images")
    for axes in (upper, lower):
        _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
