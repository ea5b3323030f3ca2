"""Metrics as tables in a terminal.

Class names come from folder names and may hold what rich reads as markup (`[red]`, `:brain:`), so every word from
outside goes in as a `Text`, which rich prints as it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from neurodense.evaluation.compare import Comparison
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.metrics import HEADLINE, Metrics
from neurodense.evaluation.operating import OperatingPoint
from neurodense.notice import NOTICE

LISTED_CONFUSIONS: Final = 20
"""How many confusions are listed where the matrix is too wide for the console."""


def print_evaluation(evaluation: Evaluation, console: Console, title: str, notes: Sequence[str] = ()) -> None:
    """Print the headline, the scores, the operating points, the confusion matrix, what must be said, and the notice.

    Args:
        evaluation: What to print.
        console: Where to. A matrix that does not fit its width gets numbers for column heads; where that
            does not fit either, the largest confusions are listed instead.
        title: What was measured, in plain text.
        notes: Sentences to print below the tables, in plain text, after those of the evaluation.
    """
    metrics = evaluation.metrics
    console.print(Text(title, style="bold"))
    console.print(
        Text(
            f"{metrics.n} images: accuracy {metrics.accuracy:.4f}, loss {metrics.loss:.4f}, "
            f"macro F1 {metrics.macro.f1:.4f}"
        )
    )
    tables = [
        ("Scores, with 95% intervals", _headline(evaluation)),
        ("Scores of each class, with 95% intervals", _scores(evaluation)),
        _confusions(metrics, console),
    ]
    if evaluation.operating:
        tables.append(("Operating points: thresholds chosen on the validation part", _operating(evaluation)))
    if evaluation.drops:
        tables.append(("Against the test part of the model's own data", _drops(evaluation)))
    for head, table in tables:
        console.print()
        console.print(Text(head))
        console.print(table)
    for sentence in (*metrics.undefined, *evaluation.notes, *notes):
        console.print(Text(f"- {sentence}"))
    console.print(Text(NOTICE, style="italic"))


def print_comparison(comparison: Comparison, console: Console, notes: Sequence[str] = ()) -> None:
    """Print the differences of two models, where they differ, McNemar's test, what must be said, and the notice.

    Args:
        comparison: What to print.
        console: Where to.
        notes: Sentences to print below, in plain text, after those of the comparison.
    """
    labels, n = comparison.first.labels, len(comparison.first.truth)
    console.print(Text(f"{n} images; difference: second less first", style="bold"))
    for which, name in zip(("first", "second"), comparison.names, strict=True):
        console.print(Text(f"{which}: {name}"))
    table = Table("figure")
    for head in ("first", "second", "difference", "95% interval"):
        table.add_column(head, justify="right", no_wrap=True)
    shown = {name: HEADLINE[name] for name in ("accuracy", "macro.f1", "macro.auroc", "loss")}
    shown |= {f"per_class.{label}.recall": f"recall of {label}" for label in labels}
    for name, title in shown.items():
        one = comparison.differences[name]
        first, second = ("–" if value is None else f"{value:.4f}" for value in (one.first, one.second))
        change = "–" if one.difference is None else f"{one.difference:+.4f}"
        bounds = "–" if one.interval is None else "{:+.4f} to {:+.4f}".format(*one.interval)
        table.add_row(Text(title, overflow="fold"), first, second, change, bounds)
    console.print(table)
    only_first, only_second = comparison.discordant
    console.print(
        Text(
            f"Right: the first alone on {only_first} images, the second alone on {only_second}; McNemar's exact test: "
            f"p = {comparison.p_value:.3g}. They name different classes for {len(comparison.differing)} images."
        )
    )
    for sentence in (*comparison.notes, *notes):
        console.print(Text(f"- {sentence}"))
    console.print(Text(NOTICE, style="italic"))


def _headline(evaluation: Evaluation) -> Table:
    figures, bounds = evaluation.metrics.figures, evaluation.intervals.bounds
    table = Table("figure")
    for head in ("value", "95% interval"):
        table.add_column(head, justify="right", no_wrap=True)
    for name, title in HEADLINE.items():
        value = figures[name]
        table.add_row(title, "–" if value is None else f"{value:.4f}", _range(bounds.get(name)) or "–")
    return table


def _scores(evaluation: Evaluation) -> Table:
    metrics, figures, bounds = evaluation.metrics, evaluation.metrics.figures, evaluation.intervals.bounds
    table = Table("class")
    for head in ("precision", "recall", "F1", "support"):
        table.add_column(head, justify="right", no_wrap=True)

    def add(title: str, prefix: str, support: int) -> None:
        names = [f"{prefix}.{name}" for name in ("precision", "recall", "f1")]
        table.add_row(Text(title, overflow="fold"), *(f"{figures[name]:.4f}" for name in names), str(support))
        table.add_row("", *(Text(_range(bounds.get(name)), style="dim") for name in names), "")

    for name, scores in metrics.per_class.items():
        add(name, f"per_class.{name}", scores.support)
    table.add_section()
    add("macro average", "macro", metrics.n)
    add("weighted average", "weighted", metrics.n)
    return table


def _operating(evaluation: Evaluation) -> Table:
    """The points for a tumour where a healthy class is known, else those of each class."""
    table = Table("finding")
    for head in ("aimed", "from", "sensitivity", "specificity"):
        table.add_column(head, justify="right", no_wrap=True)
    first = evaluation.operating[0].finding
    for point in evaluation.operating:
        if evaluation.healthy is None or point.finding == first:
            table.add_row(Text(point.finding, overflow="fold"), *_point(point))
    return table


def _drops(evaluation: Evaluation) -> Table:
    table = Table("figure")
    for head in ("own data", "here", "difference"):
        table.add_column(head, justify="right", no_wrap=True)
    for drop in evaluation.drops:
        values = (f"{one.value:.4f}" for one in (drop.inside, drop.outside))
        table.add_row(Text(drop.title, overflow="fold"), *values, drop.change.signed)
    return table


def _point(point: OperatingPoint) -> tuple[str, str, str, str]:
    threshold = "–" if point.threshold is None else f"{point.threshold:.4f}"
    return f"{point.aimed:.0%}", threshold, str(point.sensitivity), str(point.specificity)


def _range(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def _confusions(metrics: Metrics, console: Console) -> tuple[str, Table]:
    """Return the widest form of the confusion matrix that fits the console, and the line to print above it."""
    unbounded = console.options.update(max_width=10**6)
    for numbered in (False, True):
        table = _matrix(metrics, numbered)
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            return "Confusion matrix: rows true, columns predicted", table
    return _largest(metrics)


def _matrix(metrics: Metrics, numbered: bool) -> Table:
    table = Table()
    table.add_column("true \\ predicted", no_wrap=True)
    for i, name in enumerate(metrics.labels, 1):
        table.add_column(str(i) if numbered else Text(name), justify="right", no_wrap=True)
    for i, (name, row) in enumerate(zip(metrics.labels, metrics.confusion_matrix.tolist(), strict=True)):
        head = Text(f"{i + 1} {name}" if numbered else name)
        table.add_row(head, *(Text(str(count), style="bold" if i == j else "") for j, count in enumerate(row)))
    return table


def _largest(metrics: Metrics) -> tuple[str, Table]:
    off = metrics.confusion_matrix - np.diag(metrics.confusion_matrix.diagonal())
    cells = [divmod(int(cell), len(off)) for cell in np.argsort(-off, axis=None, kind="stable") if off.flat[cell]]
    n_listed = min(len(cells), LISTED_CONFUSIONS)
    table = Table()
    for head in ("true", "predicted"):
        table.add_column(head, overflow="fold")
    table.add_column("images", justify="right", no_wrap=True)
    for true, predicted in cells[:n_listed]:
        table.add_row(Text(metrics.labels[true]), Text(metrics.labels[predicted]), str(off[true, predicted]))
    if not cells:
        return "Every image was given its true class (the matrix is too wide for this window)", table
    return f"The {n_listed} largest of {len(cells)} kinds of error (the matrix is too wide for this window)", table
