"""Predictions as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neurodense.inference.card import Card, model_notes
from neurodense.inference.predictor import Prediction
from neurodense.notice import NOTICE
from neurodense.scans.study import Failure

STUDY_RULE = "A study is answered by the softmax of the mean of its slices' logits over the card's temperature."


def print_answers(answers: Sequence[Prediction | Failure], card: Card, console: Console) -> int:
    """Print a row for each input, rows for the slices of a study above its own, the count of each class, and the notes.

    Returns:
        The number of failures.
    """
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
        for one in answer.slices:
            table.add_row(Text(f"  {one.source.removeprefix(answer.source)}"), Text(one.label), *_shares(one))
        name = f"{answer.source} ({len(answer.slices)} of {answer.total} slices)" if answer.slices else answer.source
        table.add_row(Text(name), Text(answer.label, style="bold"), *_shares(answer), end_section=bool(answer.slices))
    console.print(table)
    failed = len(answers) - called.total()
    good = [answer for answer in answers if isinstance(answer, Prediction)]
    studies = any(answer.slices for answer in good)
    if len(answers) > 1:
        counts = ", ".join(f"{name} {called[name]:,}" for name in card.classes)
        kind = "images and studies" if studies else "images"
        console.print(Text(f"{len(answers):,} {kind}: {counts}" + (f", unreadable {failed:,}" if failed else "")))
    for answer in good:
        for note in answer.notes:
            console.print(Text(f"{answer.source}: {note}"))
    for note in (*([STUDY_RULE] if studies else []), *model_notes(card)):
        console.print(Text(note))
    console.print(Text(NOTICE))
    return failed


def _shares(answer: Prediction) -> list[str]:
    return [f"{value:.3f}" for value in answer.probabilities.values()]
