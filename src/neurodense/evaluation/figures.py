"""Metrics and training history as PNG figures, 150 dots an inch on white.

Drawn with matplotlib's object interface on the Agg canvas, never with pyplot: no window, no global state, so it works
in a thread of a server as well. Class names come from folder names, so text is never read as mathematics (`$`).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neurodense.atomic import replacing
from neurodense.errors import MissingExtra
from neurodense.evaluation.colours import BLUE, FAINT, GREEN, ORANGE, VERMILION, readable_on, white_to_blue
from neurodense.evaluation.decision import DecisionCurve
from neurodense.evaluation.metrics import Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import Locator

DPI: Final = 150
POINTS_PER_INCH: Final = 72
CHARACTER_EM: Final = 0.58
"""Mean width of a character of the default font, in units of its size: enough to see whether a name fits."""


def confusion_figure(metrics: Metrics, path: str | Path, *, shares: bool, title: str) -> None:
    """Draw the confusion matrix, rows true and columns predicted, to a PNG file.

    Args:
        metrics: What `measure` returned.
        path: The file to write, whole or not at all.
        shares: Whether to show each cell as a share of its row, in percent, instead of the number of images.
        title: In plain text.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    counts, names = metrics.confusion_matrix, [_wrapped(name, 26) for name in metrics.labels]
    n_classes = len(names)
    support = counts.sum(axis=1, keepdims=True)
    # float64 (C, C): what is coloured and printed. A class without images has no shares: NaN.
    values = np.divide(100 * counts, support, out=np.full(counts.shape, np.nan), where=support > 0)
    values = values if shares else counts.astype(np.float64)
    texts = [[_cell(value, shares) for value in row] for row in values]

    cell_inches = float(np.clip(4.4 / n_classes, 0.5, 1.1))
    side = cell_inches * n_classes
    figure = blank(side + 0.5, side)
    axes = figure.add_axes((0, 0, side / (side + 0.5), 1))
    top = 100.0 if shares else max(float(values.max()), 1.0)
    image = axes.imshow(values, cmap=white_to_blue(), vmin=0, vmax=top, aspect="auto")
    beside = figure.add_axes(((side + 0.15) / (side + 0.5), 0, 0.16 / (side + 0.5), 1))
    bar = figure.colorbar(image, cax=beside, ticks=_whole_numbers())
    bar.set_label("% of the true class" if shares else "images", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)

    longest = max(len(text) for row in texts for text in row)
    size = min(11.0, 0.85 * cell_inches * POINTS_PER_INCH / (CHARACTER_EM * longest))
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            colour = readable_on(image.to_rgba(values[i, j])[:3]) if counts[i, j] else FAINT
            axes.text(j, i, text, ha="center", va="center", fontsize=size, color=colour)

    # Below the columns upright where every name fits the width of a cell, words unbroken; else on the slant.
    fitting = int(0.95 * cell_inches * POINTS_PER_INCH / (CHARACTER_EM * 9))
    columns = ["\n".join(textwrap.wrap(name, fitting, break_long_words=False)) for name in metrics.labels]
    upright = all(_width(name, 9) < cell_inches and name.count("\n") < 3 for name in columns)
    axes.set_xticks(range(n_classes), columns if upright else names, fontsize=9, parse_math=False)
    if not upright:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", va="top", rotation_mode="anchor")
    axes.set_yticks(range(n_classes), names, fontsize=9, parse_math=False)
    axes.set(xlabel="predicted", ylabel="true")
    # Lines between the cells, so that a row of whites can be followed.
    axes.set_xticks(np.arange(n_classes - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n_classes - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="#d0d0d0", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_title(_wrapped(title, int(max(30, side * 12))), loc="left", fontsize=11, parse_math=False)
    save(figure, path)


def curves_figure(history: Sequence[Mapping[str, Any]], path: str | Path, title: str) -> None:
    """Draw loss, accuracy and macro F1 over the epochs of a run, with its stages and the kept epoch, to a PNG file.

    Args:
        history: One mapping an epoch, in order: `stage` (str), `epoch` (int, counted over the whole run from 1),
            `train_loss`, `validation_loss` (nats), `validation_accuracy`, `validation_macro_f1` (in [0, 1]),
            `kept` (bool: the model of this epoch is the one that was kept).
        path: The file to write, whole or not at all.
        title: In plain text.

    Raises:
        ValueError: `history` is empty.
        MissingExtra: matplotlib is not installed.
    """
    if not history:
        raise ValueError("history must hold at least one epoch. Got none.")
    panel, height, gap = 4.6, 3.0, 0.75
    figure = blank(2 * panel + gap, height)
    width = panel / (2 * panel + gap)
    left, right = figure.add_axes((0, 0, width, 1)), figure.add_axes((1 - width, 0, width, 1))
    _curves(left, history, {"train_loss": ("training", BLUE, "--"), "validation_loss": ("validation", VERMILION, "-")})
    scores = {"validation_accuracy": ("accuracy", GREEN, "-"), "validation_macro_f1": ("macro F1", ORANGE, "--")}
    _curves(right, history, scores)
    if np.isfinite(left.dataLim.ymax):  # a run that diverged from the start has no finite loss
        left.set_ylim(0, 1.08 * left.dataLim.ymax or 1)

    stages = [(name, [row["epoch"] for row in rows]) for name, rows in groupby(history, key=lambda row: row["stage"])]
    first, last = history[0]["epoch"], history[-1]["epoch"]
    per_epoch = panel / (last - first + 1)
    named = all(_width(name, 8) < 0.95 * per_epoch * len(epochs) for name, epochs in stages)
    heads = "Loss (nats per image)", "Accuracy and macro F1 on the validation images"
    for axes, head in zip((left, right), heads, strict=True):
        axes.set_title(head, loc="left", fontsize=10, pad=18)
        axes.set(xlabel="epoch", xlim=(first - 0.5, last + 0.5), axisbelow=True)
        axes.xaxis.set_major_locator(_whole_numbers())
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
        for number, (name, epochs) in enumerate(stages, 1):
            if number > 1:
                axes.axvline(epochs[0] - 0.5, color="#707070", linewidth=0.8, linestyle=":")
            middle, label = (epochs[0] + epochs[-1]) / 2, name if named else str(number)
            place = axes.get_xaxis_transform()
            axes.text(middle, 1.02, label, transform=place, ha="center", fontsize=8, color="#404040", parse_math=False)
        axes.legend(fontsize=8, framealpha=0.9)
    if not named:
        key = "Stages: " + ", ".join(f"{number} {name}" for number, (name, _) in enumerate(stages, 1))
        figure.text(0, -0.19, _wrapped(key, 150), fontsize=8, color="#404040", va="top", parse_math=False)
    figure.text(0, 1.16, _wrapped(title, 110), fontsize=12, va="bottom", parse_math=False)
    save(figure, path)


def decision_figure(curve: DecisionCurve, path: str | Path, title: str) -> None:
    """Draw a decision curve with its interval, beside calling every image and calling none, to a PNG file.

    Args:
        curve: What `decision_curve` returned.
        path: The file to write, whole or not at all.
        title: In plain text.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = blank(6.4, 3.4)
    axes = figure.add_axes((0, 0, 1, 1))
    percent = 100 * curve.thresholds
    known = np.array([bounds is not None for bounds in curve.bounds])
    if known.any():
        low, high = np.array([bounds for bounds in curve.bounds if bounds is not None]).T
        axes.fill_between(percent[known], low, high, color=BLUE, alpha=0.18, linewidth=0, label="95% interval")
    axes.plot(percent, curve.model, color=BLUE, linewidth=1.8, label="the model")
    axes.plot(percent, curve.everyone, "--", color=VERMILION, linewidth=1.4, label="calling every image a tumour")
    axes.axhline(0, color="#404040", linewidth=1.2, linestyle=":", label="calling none")
    top = max(curve.prevalence, 0.05)
    axes.set(xlim=(0, 100), ylim=(-0.25 * top, 1.1 * top), axisbelow=True)
    axes.set(xlabel="threshold probability of a tumour, %", ylabel="net benefit\n(found tumours an image)")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="upper left", bbox_to_anchor=(-0.01, -0.16))
    head = f"{title}: a tumour is any class but {curve.healthy}"
    axes.set_title(_wrapped(head, 80), loc="left", fontsize=11, parse_math=False)
    save(figure, path)


def _curves(axes: Axes, history: Sequence[Mapping[str, Any]], series: Mapping[str, tuple[str, str, str]]) -> None:
    """Draw series of `history`, key -> (label, colour, line), and ring the kept epochs on those of validation."""
    epochs = [row["epoch"] for row in history]
    # A line through one point is invisible, and dots on sixty are noise.
    marker = "o" if len(history) <= 20 else ""
    for key, (label, colour, line) in series.items():
        values = [row[key] for row in history]
        axes.plot(epochs, values, line, color=colour, marker=marker, markersize=4, linewidth=1.6, label=label)
    kept = [row for row in history if row["kept"]]
    rings = [(row["epoch"], row[key]) for row in kept for key in series if key.startswith("validation")]
    if rings:
        label = "kept: epoch " + ", ".join(str(row["epoch"]) for row in kept)
        ring: dict[str, Any] = {"mfc": "none", "mec": "black", "ms": 10, "mew": 1.4, "clip_on": False, "zorder": 4}
        axes.plot(*zip(*rings, strict=True), "o", label=label, **ring)


def _cell(value: float, shares: bool) -> str:
    if np.isnan(value):
        return "–"
    if not shares or value in {0, 100}:
        return f"{value:.0f}{'%' if value and shares else ''}"
    # Never rounded to "none" or "all": one image of a large class still shows.
    return "<0.1%" if value < 0.05 else ">99.9%" if value >= 99.95 else f"{value:.1f}%"


def _wrapped(text: str, width: int) -> str:
    """Break `text` into at most three lines of about `width` characters, after underscores as well as at spaces."""
    broken = textwrap.fill(text.replace("_", "_ "), width, max_lines=3, placeholder=" …")
    return broken.replace("_ ", "_")


def _width(text: str, points: float) -> float:
    """Return about how wide `text` is, in inches, at a font size in points."""
    return max(map(len, text.splitlines()), default=0) * CHARACTER_EM * points / POINTS_PER_INCH


def blank(width_inches: float, height_inches: float) -> Figure:
    """An empty figure on white.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "report") from error
    figure = Figure(figsize=(width_inches, height_inches), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _whole_numbers() -> Locator:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=10, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    # "tight" lets labels of any length hang over the edge of the figure, so the cells keep their size.
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, bbox_inches="tight", pad_inches=0.12)
