"""The report of `neurodense evaluate --out`: a model on labelled images, which may be of another collection."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.flow import Box, Row
from neurodense.evaluation.metrics import HEADLINE
from neurodense.evaluation.mistakes import Mistake
from neurodense.evaluation.report import write_report
from neurodense.evaluation.write import Figure
from neurodense.inference.card import Card, model_notes


def report_evaluation(
    evaluation: Evaluation,
    card: Card,
    out: Path,
    *,
    data: str,
    figures: Sequence[Figure],
    mistakes: Sequence[Mistake],
    command: str,
) -> None:
    """Write OUT/report/index.html.

    Args:
        evaluation: What was measured.
        card: Of the model.
        out: The folder of the evaluation.
        data: Name of what was measured, such as "OTHER" or "DATA, test part".
        figures: As `write_evaluation` returns them.
        mistakes: The worst ones.
        command: What makes the same again.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    metrics = evaluation.metrics
    facts = {"Images": f"{metrics.n:,}", "Groups": f"{evaluation.intervals.units:,}"}
    if not evaluation.intervals.grouped:
        facts["Groups"] = "not known"
    facts |= {HEADLINE[name]: evaluation.spoken(name) for name in ("accuracy", "macro.f1", "loss")}
    facts |= {"Model": card.name, "Trained on": card.data.name, "Recipe": str(card.recipe["name"])}
    write_report(
        out / "report" / "index.html",
        title=f"{card.name} on {data}",
        summary=[_reached(evaluation, data), *drop_sentence(evaluation), *certainty_sentence(evaluation)],
        warnings=_warnings(evaluation, card),
        facts=facts,
        evaluation=evaluation,
        history=[],
        figures=figures,
        commands=[command],
        flow=_flow(evaluation, data),
        mistakes=mistakes,
    )


def _reached(evaluation: Evaluation, data: str) -> str:
    of = f" of {evaluation.intervals.units:,} groups" if evaluation.intervals.grouped else ""
    present = [name for name, one in evaluation.metrics.per_class.items() if one.support]
    if len(present) == 1:
        return (
            f"{data} holds {evaluation.metrics.n:,} images{of}, all of them {present[0]}; the share that the model "
            f"calls so is {evaluation.spoken(f'per_class.{present[0]}.recall')}, with its 95% interval."
        )
    return (
        f"On {data} ({evaluation.metrics.n:,} images{of}) the model has an accuracy of {evaluation.spoken('accuracy')} "
        f"and a macro F1 of {evaluation.spoken('macro.f1')}, each with its 95% interval."
    )


def drop_sentence(evaluation: Evaluation) -> list[str]:
    """What changed against the model's own test part, where that can be said in one figure."""
    first = next((drop for drop in evaluation.drops if drop.name == "accuracy"), None)
    if first is None:
        return []
    low, high = first.change.interval or (0.0, 0.0)
    how = "worse" if high < 0 else "better" if low > 0 else "neither shown to be better nor worse"
    return [f"On its own test part the accuracy was {first.inside}: here it is {how} ({first.change.signed})."]


def certainty_sentence(evaluation: Evaluation) -> list[str]:
    """Whether the model knows when it does not know, in one sentence; nothing of a model that names a class always."""
    found = evaluation.certainty
    if found is None or not found.selective.rules:
        return []
    rules = [rule for rule in found.selective.rules if "10%" in rule.name] or list(found.selective.rules[-1:])
    rule = rules[0]
    if rule.answered.value is None or rule.accuracy.value is None:
        return ["It is sure of none of them."]
    return [
        f"It is sure of {rule.answered.value:.0%} of them ({rule.name}), and right for {rule.accuracy} of these; "
        "the others it calls uncertain or unknown."
    ]


def _warnings(evaluation: Evaluation, card: Card) -> list[str]:
    said = [*model_notes(card), *evaluation.warnings]
    if evaluation.shift is not None and evaluation.shift.alarm:
        said.append(evaluation.shift.sentence)
    if card.data.groups is None:
        said.append("The model was trained without knowing which images are of one patient.")
    return said


def _flow(evaluation: Evaluation, data: str) -> list[Row]:
    unread, omitted = len(evaluation.failures), sum(evaluation.left_out.values())
    left = [f"{count:,} of {name}, which the map does not name" for name, count in evaluation.left_out.items()]
    left += [f"{unread:,} that could not be read"] if unread else []
    found = Box(f"Images and studies in {data}", (f"{evaluation.metrics.n + unread + omitted:,}",))
    return [Row((found,), Box("Left out", tuple(left)) if left else None), *answered(evaluation)]


def answered(evaluation: Evaluation, under: int | None = None) -> list[Row]:
    """The rows of a diagram for what was measured: images, and what the model made of them.

    Args:
        evaluation: What was measured.
        under: Which box of the row above was measured.
    """
    n, units = evaluation.metrics.n, evaluation.intervals
    groups = (f"{units.units:,} groups",) if units.grouped else ()
    unread = len(evaluation.failures)
    lost = Box("Left out", (f"{unread:,} that could not be read",)) if unread and under is not None else None
    right = int(evaluation.metrics.confusion_matrix.trace())
    outcome = Box("Named right / wrong", (f"{right:,} / {n - right:,}",))
    rows = [Row((Box("Measured", (f"{n:,} images", *groups)),), lost, under), Row((outcome,), under=0)]
    found = evaluation.certainty
    sets = [one for one in found.coverage if one.error == 0.1] if found else []
    if sets:
        none, one, several = sets[0].sizes[0], sets[0].sizes[1], sum(sets[0].sizes[2:])
        words = (f"one class {one:,}", f"several {several:,}", f"none {none:,}")
        rows.append(Row((Box("Prediction sets, error 10%", words),), under=0))
    return rows
