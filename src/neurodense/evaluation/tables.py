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

from neurodense.evaluation.metrics import Metrics, Scores
from neurodense.notice import NOTICE

LISTED_CONFUSIONS: Final = 20
"""How many confusions are listed where the matrix is too wide for the console."""


def print_metrics(metrics: Metrics, console: Console, title: str, notes: Sequence[str] = ()) -> None:
    """Print the headline, the scores of each class, the confusion matrix, what is undefined, `notes` and the notice.

    Args:
        metrics: What to print.
        console: Where to. A matrix that does not fit its width gets numbers for column heads; where that
            does not fit either, the largest confusions are listed instead.
        title: What was measured, in plain text.
        notes: Sentences to print below the tables, in plain text.
    """
    console.print(Text(title, style="bold"))
    console.print(
        Text(
            f"{metrics.n} images: accuracy {metrics.accuracy:.4f}, loss {metrics.loss:.4f}, "
            f"macro F1 {metrics.macro.f1:.4f}"
        )
    )
    for head, table in (("Scores of each class", _scores(metrics)), _confusions(metrics, console)):
        console.print()
        console.print(Text(head))
        console.print(table)
    for sentence in (*metrics.undefined, *notes):
        console.print(Text(f"- {sentence}"))
    console.print(Text(NOTICE, style="italic"))


def _scores(metrics: Metrics) -> Table:
    table = Table("class")
    for head in ("precision", "recall", "F1", "support"):
        table.add_column(head, justify="right", no_wrap=True)

    def add(name: str, scores: Scores, support: int) -> None:
        numbers = (f"{value:.4f}" for value in (scores.precision, scores.recall, scores.f1))
        table.add_row(Text(name, overflow="fold"), *numbers, str(support))

    for name, scores in metrics.per_class.items():
        add(name, scores, scores.support)
    table.add_section()
    add("macro average", metrics.macro, metrics.n)
    add("weighted average", metrics.weighted, metrics.n)
    return table


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
