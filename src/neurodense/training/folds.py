"""K folds: each trained as a run of its own, then brought together; `--final` trains one more model, on all images.

RUN/
    fold-1/ ...    a run each: see `run.py`. `neurodense train --resume RUN/fold-2` works on it as on any other
    final/         a run without a test part, where --final asked for it
    run.json       what was asked for
    folds.json     each figure: of all predictions together, mean and standard deviation over the folds, of each fold
    evaluation/    the out-of-fold predictions together: metrics.json, predictions.csv, figures
    report/        index.html

All folds start from the same weights with the same seed, and differ in their split alone. So what runs before the
first layer that trains is the same function of an image in every fold, and the activation cache holds its values from
the fold that met the image first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from neurodense import atomic
from neurodense.data.groups import sources
from neurodense.evaluation.certainty import Certainty, read_certainty
from neurodense.evaluation.evaluate import named_sources
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.intervals import Intervals
from neurodense.evaluation.metrics import Metrics, measure
from neurodense.evaluation.mistakes import Mistake, draw_mistakes, worst
from neurodense.evaluation.operating import healthy_class
from neurodense.evaluation.partial import Called, Calls, calls_as_dict, facts_of, pool_calls
from neurodense.evaluation.predictions import Predictions, read_predictions
from neurodense.evaluation.write import write_evaluation
from neurodense.inference.predictor import Predictor
from neurodense.scans.study import Failure
from neurodense.screen import Screen
from neurodense.training.execute import Push, execute
from neurodense.training.folds_report import report_folds
from neurodense.training.plan import FINAL
from neurodense.training.prepare import check_files, locked, recorded_split
from neurodense.training.sheet import RunSheet, read_sheet


def run_folds(run: Path, sheet: RunSheet, push: Push, screen: Screen, *, checked: bool = False) -> Path:
    """Train what is left of the folds, and bring together what they give.

    Args:
        run: The folder of all folds, each of them begun.
        sheet: Its run.json.
        push: Called when there is something new to copy.
        screen: Told what happens.
        checked: True where the files were read just now, and need not be compared with their hashes.

    Returns:
        `run`.
    """
    sheet.save(run)
    names = [f"fold-{number}" for number in range(1, (sheet.folds or 0) + 1)]
    for name in (*names, *((FINAL,) if sheet.final else ())):
        with locked(run / name):
            own = read_sheet(run / name)
            if own.finished:
                screen.say(f"{name} is finished")
                continue
            screen.say(
                f"---- {name} of {sheet.folds} folds ----" if name != FINAL else "---- one model on all images ----"
            )
            split = recorded_split(run / name, own)
            if not checked:  # the folds part the same files
                check_files(run, Path(sheet.data), split, sheet.partial, screen)
                checked = True
            own = replace(
                own,
                data=sheet.data,
                device=sheet.device,
                workers=sheet.workers,
                cache=sheet.cache,
                partial=sheet.partial,
                teacher=sheet.teacher,
            )
            execute(run / name, own, split, push, screen, int8=name == FINAL)  # of a fold nobody asks for speed
    _together(run, sheet, names, screen)
    replace(sheet, finished=True).save(run)
    return run


def _together(run: Path, sheet: RunSheet, names: Sequence[str], screen: Screen) -> None:
    """Write RUN/evaluation, RUN/folds.json and RUN/report from the evaluations of the folds."""
    each = [read_predictions(run / name / "evaluation" / "predictions.csv") for name in names]
    metrics = [measure(one.labels, one.truth, one.probabilities) for one in each]
    pooled = pool(each)
    measured = measure(pooled.labels, pooled.truth, pooled.probabilities)
    whole = Evaluation(
        pooled,
        measured,
        _failures(run, names),
        healthy=healthy_class(pooled.labels),
        certainty=_pooled_certainty(run, names, pooled),
        source_of=named_sources(sources(run / names[0] / "split.csv"), pooled),  # a split lists all images
    )
    figures = compare(whole.metrics, whole.intervals, metrics)
    atomic.write_json(
        run / "folds.json",
        {
            "folds": list(names),
            "final": FINAL if sheet.final else None,
            "split_by": sheet.split_by,
            "seed": sheet.seed,
            "images": [len(one.sources) for one in each],
            "figures": figures,
        },
    )
    calls = _pooled_calls(run, sheet, names)
    if sheet.partial:
        atomic.write_json(run / "evaluation" / "partial.json", calls_as_dict(sheet.partial, calls))
    note = "synthetic images" if sheet.synthetic else ""
    subject = f"{len(names)} folds, each image tested once"
    drawn = write_evaluation(whole, run / "evaluation", subject=subject, note=note)
    mistakes = _pooled_mistakes(run, sheet, names, pooled)
    report_folds(run, sheet, names, whole, figures, drawn, calls, mistakes)
    screen.say(f"{len(names)} folds, {whole.metrics.n:,} images, each tested once:")
    for line in table(figures, whole.metrics.labels):
        screen.say(line)
    for title, fact in facts_of(sheet.partial, calls).items():
        screen.say(f"  {title}: {fact}")
    screen.say(f"figures: {run / 'folds.json'}   report: {run / 'report' / 'index.html'}")


def _pooled_calls(run: Path, sheet: RunSheet, names: Sequence[str]) -> Calls:
    """What the folds together call the images whose class is only partly known, each image by the fold it tests."""
    if not sheet.partial:
        return {}
    each = [json.loads((run / name / "evaluation" / "partial.json").read_text(encoding="utf-8")) for name in names]
    tested = {
        one.name: [fold[one.name]["parts"]["test"] for fold in each if "test" in fold[one.name]["parts"]]
        for one in sheet.partial
    }
    return {name: {"test": pool_calls(map(Called.from_dict, found))} if found else {} for name, found in tested.items()}


def _pooled_certainty(run: Path, names: Sequence[str], pooled: Predictions) -> Certainty | None:
    """What the models of the folds said of their certainty, each of the images that it tested; None where one did not.

    An error rate that not every fold could promise is left out, and one is of each class where every fold's was.
    """
    folders = [run / name / "evaluation" for name in names]
    found = [json.loads((one / "metrics.json").read_text(encoding="utf-8")).get("certainty") for one in folders]
    if None in found:
        return None
    promised = [{one["error"]: one["each_class"] for one in each["sets"]} for each in found]
    shared = sorted(set.intersection(*map(set, promised)))
    each_class = {error: all(one[error] for one in promised) for error in shared}
    return read_certainty([folder / "certainty.csv" for folder in folders], pooled, each_class)


def _pooled_mistakes(run: Path, sheet: RunSheet, names: Sequence[str], pooled: Predictions) -> list[Mistake]:
    """The worst mistakes of all folds, each with the heat map of the model that made it."""
    made = {
        source: name for name in names for source in read_predictions(run / name / "evaluation/predictions.csv").sources
    }
    rows = worst(pooled).tolist()
    models = {made[pooled.sources[row]] for row in rows}
    predictors = {name: Predictor(run / name / "model", precision="fp32") for name in models}
    return draw_mistakes(pooled, lambda source: predictors[made[source]], Path(sheet.data), run / "evaluation")


def pool(folds: Sequence[Predictions]) -> Predictions:
    """The predictions of all folds as one, ordered by the images' names."""
    grouped = any(one.groups is not None for one in folds)
    sources = [source for one in folds for source in one.sources]
    groups = [group for one in folds for group in one.groups or one.sources]  # an image without a group is its own
    order = sorted(range(len(sources)), key=sources.__getitem__)
    return Predictions(
        labels=folds[0].labels,
        sources=tuple(sources[k] for k in order),
        truth=np.concatenate([one.truth for one in folds])[order],
        probabilities=np.concatenate([one.probabilities for one in folds])[order],
        groups=tuple(groups[k] for k in order) if grouped else None,
    )


def compare(pooled: Metrics, intervals: Intervals, folds: Sequence[Metrics]) -> dict[str, dict[str, Any]]:
    """Each figure of the pooled predictions and its interval, its mean and standard deviation over the folds, and each.

    The interval is by the bootstrap over groups, as that of any other predictions. The sample standard deviation is
    over the folds; it and the mean are None where a figure has no value in a fold.

    The folds share most of their training images, so the deviation says how much the figure depends on the split, and
    is no standard error of the mean (Bengio and Grandvalet, JMLR 5, 2004: it has no unbiased estimate).
    """
    each = [one.figures for one in folds]
    figures: dict[str, dict[str, Any]] = {}
    for name, value in pooled.figures.items():
        values = [one[name] for one in each]
        known = [one for one in values if one is not None]
        complete = len(known) == len(values)
        figures[name] = {
            "pooled": value,
            "interval": intervals.bounds.get(name),
            "mean": float(np.mean(known)) if complete else None,
            "sd": float(np.std(known, ddof=1)) if complete else None,
            "folds": values,
        }
    return figures


def table(figures: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> list[str]:
    """Lines of a table of the main figures."""
    main = {"accuracy": "accuracy", "macro F1": "macro.f1", "loss": "loss"}
    main |= {f"recall of {label}": f"per_class.{label}.recall" for label in labels}
    count = len(figures["accuracy"]["folds"])
    width = max(map(len, main))
    head = f"  {'':<{width}}  pooled  {'95% interval':<16}    mean      sd  "
    lines = [head + "".join(f"  fold {k}" for k in range(1, count + 1))]
    for title, name in main.items():
        row = figures[name]
        values = "".join(f"  {value:{len(f'fold {k}')}.4f}" for k, value in enumerate(row["folds"], 1))
        bounds = "{:.4f} to {:.4f}".format(*row["interval"]) if row["interval"] else "-"
        numbers = f"{row['pooled']:.4f}  {bounds:<16}  {row['mean']:.4f}  {row['sd']:.4f}"
        lines.append(f"  {title:<{width}}  {numbers}  {values}")
    return lines


def _failures(run: Path, names: Sequence[str]) -> tuple[Failure, ...]:
    """The images that could not be read when their fold was tested."""
    found = []
    for name in names:
        metrics = json.loads((run / name / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
        found += [Failure(row["source"], **row["error"]) for row in metrics["unreadable"]]
    return tuple(found)
