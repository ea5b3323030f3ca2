"""Predictions as tables: for people, and as rows of CSV."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from neurodense.inference.card import Card, Sets, model_notes
from neurodense.inference.prediction import Prediction
from neurodense.inference.shift import Shift
from neurodense.notice import NOTICE
from neurodense.scans.study import Failure

STUDY_RULE = "A study is answered by the softmax of the mean of its slices' logits over the card's temperature."


def print_answers(
    answers: Sequence[Prediction | Failure], card: Card, console: Console, shift: Shift | None = None
) -> int:
    """Print a row for each input, rows for the slices of a study above its own, the count of each class, and the notes.

    Args:
        answers: What to print.
        card: Of the model.
        console: Where to.
        shift: What the answers are taken together, where they are enough to say so.

    Returns:
        The number of failures.
    """
    good = [answer for answer in answers if isinstance(answer, Prediction)]
    # What a model with sets or a limit says in words goes beyond the label.
    words = any(answer.has_verdict for answer in good)
    table = Table("source", "verdict" if words else "label", *(escape(name) for name in card.classes))
    table.columns[0].overflow = "fold"  # a path that is cut off names no file
    for column in table.columns[2:]:
        column.justify, column.no_wrap = "right", True
    called: Counter[str | None] = Counter()
    for answer in answers:
        if isinstance(answer, Failure):
            table.add_row(Text(answer.source), Text(f"error: {answer.message}", style="red"))
            continue
        called[answer.label] += 1
        for one in answer.slices:
            table.add_row(Text(f"  {one.source.removeprefix(answer.source)}"), Text(_said(one, words)), *_shares(one))
        name = f"{answer.source} ({len(answer.slices)} of {answer.total} slices)" if answer.slices else answer.source
        said = Text(_said(answer, words), style="bold")
        table.add_row(Text(name), said, *_shares(answer), end_section=bool(answer.slices))
    console.print(table)
    failed = len(answers) - called.total()
    studies = any(answer.slices for answer in good)
    if len(answers) > 1:
        counts = ", ".join(f"{name} {called[name]:,}" for name in card.classes)
        more = {"no label": called[None], "unreadable": failed}
        kind = "images and studies" if studies else "images"
        rest = "".join(f", {name} {count:,}" for name, count in more.items() if count)
        console.print(Text(f"{len(answers):,} {kind}: {counts}{rest}"))
    for answer in good:
        for note in answer.notes:
            console.print(Text(f"{answer.source}: {note}"))
    promises = [promise(sets) for sets in (card.conformal.sets if card.conformal else ()) if _used(sets, good)]
    alarm = [shift.sentence] if shift else []
    for note in (*([STUDY_RULE] if studies else []), *promises, *alarm, *model_notes(card)):
        console.print(Text(note))
    console.print(Text(NOTICE))
    return failed


def promise(sets: Sets) -> str:
    """What an error rate promises, in a sentence."""
    of = "of each class" if sets.each_class else "of all classes together, not of each"
    return (
        f"Uncertain answers name every class that cannot be ruled out: for images of patients like those of the "
        f"validation part, the true class is left out at most {sets.error:.0%} of the time, {of}."
    )


def _used(sets: Sets, answers: Sequence[Prediction]) -> bool:
    return any(answer.error_rate == sets.error for answer in answers)


def _said(answer: Prediction, words: bool) -> str:
    return answer.verdict if words else answer.label or ""


def _shares(answer: Prediction) -> list[str]:
    return [f"{value:.3f}" for value in answer.probabilities.values()]


def csv_columns(classes: Sequence[str]) -> list[str]:
    """Columns of `predict --format csv`: p: is a class's probability, set: whether it is in the prediction set."""
    shares, sets = ([f"{what}:{name}" for name in classes] for what in ("p", "set"))
    return ["source", "slices", "label", *shares, *sets, "ood_score", "in_distribution", "verdict", "error"]


def csv_row(answer: Prediction) -> dict[str, Any]:
    """A row of `predict --format csv`; what the model has no numbers for is missing. True is 1, False 0."""
    row: dict[str, Any] = {"source": answer.source, "slices": len(answer.slices) or "", "label": answer.label or ""}
    row |= {f"p:{name}": repr(value) for name, value in answer.probabilities.items()}
    if answer.prediction_set is not None:
        row |= {f"set:{name}": int(name in answer.prediction_set) for name in answer.probabilities}
    if answer.in_distribution is not None:
        row |= {"ood_score": repr(answer.ood_score), "in_distribution": int(answer.in_distribution)}
    return row | ({"verdict": answer.verdict} if answer.has_verdict else {})
