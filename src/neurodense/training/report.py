"""The report of a run: report/index.html."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurodense.data.partial import either, options_of
from neurodense.data.split import PARTS
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.evaluation_report import answered, certainty_sentence
from neurodense.evaluation.flow import Box, Row
from neurodense.evaluation.metrics import HEADLINE
from neurodense.evaluation.mistakes import Mistake
from neurodense.evaluation.partial import Calls, facts_of
from neurodense.evaluation.report import write_report
from neurodense.evaluation.write import Figure
from neurodense.inference.card import Card
from neurodense.training.caveats import caveats
from neurodense.training.sheet import RunSheet


def report_run(
    run: Path,
    sheet: RunSheet,
    card: Card,
    evaluation: Evaluation | None,
    history: Sequence[dict[str, Any]],
    figures: Sequence[Figure],
    calls: Calls,
    mistakes: Sequence[Mistake],
) -> None:
    """Write RUN/report/index.html.

    Args:
        run: The run folder.
        sheet: Its run.json.
        card: Of the model.
        evaluation: On the test part; None of a model that was trained on all images.
        history: The epochs.
        figures: Of the evaluation.
        calls: What the model calls images whose class is partly known.
        mistakes: The worst on the test part.
    """
    metrics, data = evaluation.metrics if evaluation else None, card.data
    total = {part: sum(data.counts[part].values()) for part in PARTS}
    kind = "synthetic " if data.synthetic else ""
    summary = [
        f"On {metrics.n:,} {kind}test images that no step of the training has seen, "
        f"the model reaches an accuracy of {evaluation.spoken('accuracy')} and a macro F1 of "
        f"{evaluation.spoken('macro.f1')}, each with its 95% interval."
        if evaluation and metrics
        else f"This model was trained on all {kind}images, and none is left to measure it on. What the recipe reaches "
        "on images that it has not seen is in the report of the folds, one folder up.",
        f"It was trained on {total['train']:,} images; {total['validation']:,} more chose the epoch that is kept."
        if card.recipe["keep"] == "best"
        else f"It was trained on {total['train']:,} images; the last epoch is kept.",
    ]
    summary += certainty_sentence(evaluation) if evaluation else []
    summary += [
        f"{one.counts['train']:,} images of {one.name} were trained on too, each known to be {either(one.classes)}."
        for one in data.partial
    ]
    scores = (
        {
            "Test images": f"{metrics.n:,}",
            **{HEADLINE[name]: evaluation.spoken(name) for name in ("accuracy", "macro.f1", "loss")},
        }
        if evaluation and metrics
        else {}
    )
    facts = {
        **scores,
        **facts_of(sheet.partial, calls),
        "Recipe": str(card.recipe["name"]),
        "Kept epoch": f"{card.kept_epoch} of {len(history)}",
        "Starting weights": card.weights_origin,
        **sheet.taught,
        "Split by": data.split_by + (f", {sum(data.groups.values()):,} groups" if data.groups else ""),
        "Seed": str(data.seed),
        "Trained in": card.arithmetic,
    }
    again = [
        "neurodense train DATA --out NEW_RUN --recipe RUN/recipe.toml --split RUN/split.csv "
        f"--weights {shlex.quote(sheet.weights)} --seed {data.seed} --precision {card.arithmetic.split()[1]}"
        + options_of(sheet.partial)
        + sheet.teacher_option,
        "neurodense evaluate DATA --model RUN/model --split RUN/split.csv --part test",
    ]
    write_report(
        run / "report" / "index.html",
        title=f"neurodense: {card.name}" + (" (synthetic images)" if data.synthetic else ""),
        summary=summary,
        warnings=caveats(sheet, evaluation),
        facts=facts,
        evaluation=evaluation,
        history=history,
        figures=figures,
        commands=again if metrics else [],
        flow=_flow(sheet, card, evaluation),
        mistakes=mistakes,
    )


def _flow(sheet: RunSheet, card: Card, evaluation: Evaluation | None) -> list[Row]:
    """From the folder to what the model named right and wrong."""
    data, lost = card.data, len(sheet.unreadable)
    total = {part: sum(data.counts[part].values()) for part in PARTS}
    found = Box(f"Images in {data.name}", (f"{sum(total.values()) + lost:,}",))
    aside = Box("Left out", (f"{lost:,} that could not be read",)) if lost else None
    uses = {"train": "Training", "validation": "Validation", "test": "Test"}
    kept = [part for part in PARTS if total[part]]
    boxes = []
    for part in kept:
        groups = (f"{total[part]:,} images" + (f", {data.groups[part]:,} groups" if data.groups else ""),)
        classes = tuple(f"{name} {count:,}" for name, count in data.counts[part].items())
        more = tuple(f"and {one.counts[part]:,} of {one.name}" for one in data.partial if one.counts[part])
        boxes.append(Box(uses[part], groups + classes + more))
    rows = [Row((found,), aside), Row(tuple(boxes))]
    return rows if evaluation is None else [*rows, *answered(evaluation, under=kept.index("test"))]
