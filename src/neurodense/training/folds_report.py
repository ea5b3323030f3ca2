"""The report of folds together: report/index.html."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodense.data.partial import options_of
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.evaluation_report import answered, certainty_sentence
from neurodense.evaluation.flow import Box, Row
from neurodense.evaluation.metrics import HEADLINE
from neurodense.evaluation.mistakes import Mistake
from neurodense.evaluation.partial import Calls, facts_of
from neurodense.evaluation.report import write_report
from neurodense.training.caveats import caveats
from neurodense.training.sheet import RunSheet


def report_folds(
    run: Path,
    sheet: RunSheet,
    names: Sequence[str],
    whole: Evaluation,
    figures: Mapping[str, Mapping[str, Any]],
    drawn: Sequence[tuple[str, Path, str]],
    calls: Calls,
    mistakes: Sequence[Mistake],
) -> None:
    """Write RUN/report/index.html.

    Args:
        run: The folder of all folds.
        sheet: Its run.json.
        names: Of the folds.
        whole: On the images of all of them.
        figures: As folds.json has them.
        drawn: Figures of the evaluation.
        calls: What the models call images whose class is partly known.
        mistakes: The worst of all folds.
    """
    metrics = whole.metrics
    accuracy, macro = figures["accuracy"], figures["macro.f1"]
    summary = [
        f"{len(names)} models were trained, each tested on the images that it did not see, so that each of the "
        f"{metrics.n:,} {'synthetic ' if sheet.synthetic else ''}images was tested once.",
        f"Together the accuracy is {whole.spoken('accuracy')} and the macro F1 {whole.spoken('macro.f1')}, each with "
        f"its 95% interval; over the folds {accuracy['mean']:.3f} ± {accuracy['sd']:.3f} and {macro['mean']:.3f} ± "
        f"{macro['sd']:.3f} (mean ± standard deviation).",
    ]
    summary += certainty_sentence(whole)
    if sheet.final:
        summary.append("One more model was trained on all images: nothing is left to measure it on.")
    facts = {
        HEADLINE[name]: f"{whole.spoken(name)}; {figures[name]['mean']:.3f} ± {figures[name]['sd']:.3f}"
        for name in ("accuracy", "macro.f1", "loss")
    }
    facts |= facts_of(sheet.partial, calls)
    for k, name in enumerate(names):
        facts[name] = f"accuracy {accuracy['folds'][k]:.4f}, macro F1 {macro['folds'][k]:.4f}"
    facts |= {
        "Recipe": str(sheet.recipe["name"]),
        "Starting weights": sheet.weights_origin,
        **sheet.taught,
        "Split by": sheet.split_by,
        "Seed": str(sheet.seed),
    }
    given = f"--seed {sheet.seed} --weights {shlex.quote(sheet.weights)} --precision {sheet.precision}"
    extra = " --final" if sheet.final else ""
    extra += " --groups CSV" if sheet.groups_from == "table" else ""
    extra += " --split-by image" if sheet.split_by == "image" else ""
    extra += options_of(sheet.partial) + sheet.teacher_option
    write_report(
        run / "report" / "index.html",
        title=f"neurodense: {run.resolve().name}, {len(names)} folds"
        + (" (synthetic images)" if sheet.synthetic else ""),
        summary=summary,
        warnings=caveats(sheet, whole),
        facts=facts,
        evaluation=whole,
        history=[],
        figures=drawn,
        commands=[f"neurodense train DATA --out NEW_RUN --recipe RUN/recipe.toml --folds {len(names)}{extra} {given}"],
        flow=_flow(sheet, names, whole),
        mistakes=mistakes,
    )


def _flow(sheet: RunSheet, names: Sequence[str], whole: Evaluation) -> list[Row]:
    """From the folder over the folds to what their models named right and wrong."""
    lost, unread = len(sheet.unreadable), len(whole.failures)
    found = Box(f"Images in {Path(sheet.data).name}", (f"{whole.metrics.n + lost + unread:,}",))
    aside = Box("Left out", (f"{lost:,} that could not be read",)) if lost else None
    dealt = Box(f"{len(names)} folds", ("each tested by a model that", "was trained on the others"))
    return [Row((found,), aside), Row((dealt,)), *answered(whole)]
