"""Predictions as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neurodense.inference.card import Card
from neurodense.inference.predictor import Failure, Prediction
from neurodense.notice import NOTICE


def print_answers(answers: Sequence[Prediction | Failure], card: Card, console: Console) -> int:
    """Print one row an image, the count of each class, and the notice; gives the number of failures."""
    table = Table("source", "label", *(escape(name) for name in card.classes))
    table.columns[0].overflow = "fold"  # a path that is cut off names no file
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    called: Counter[str] = Counter()
    for answer in answers:
        if isinstance(answer, Failure):
            table.add_row(Text(answer.source), Text(f"error: {answer.message}", style="red"))
            continue
        called[answer.label] += 1
        shares = (f"{value:.3f}" for value in answer.probabilities.values())
        table.add_row(Text(answer.source), Text(answer.label, style="bold"), *shares)
    console.print(table)
    failed = len(answers) - called.total()
    if len(answers) > 1:
        counts = ", ".join(f"{name} {called[name]:,}" for name in card.classes)
        console.print(Text(f"{len(answers):,} images: {counts}" + (f", unreadable {failed:,}" if failed else "")))
    for note in model_notes(card):
        console.print(Text(note))
    console.print(Text(NOTICE))
    return failed


def model_notes(card: Card) -> list[str]:
    """What must be said of a model wherever its answers are shown."""
    if card.data.synthetic:
        return ["The model was trained on synthetic images: its answers mean nothing for patients."]
    return []
