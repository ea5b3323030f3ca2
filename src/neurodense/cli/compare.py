"""`neurodense compare`: two models on the same labelled images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from neurodense.cli.options import PATH, PLACE, SLICES, engine_options, kept_graphs


@click.command()
@click.argument("data", type=PATH)
@click.option("--model", "models", required=True, multiple=True, type=PATH, help="Model folder; given twice.")
@click.option("--split", type=PATH, metavar="CSV", help="path,part: with --part, which images to take.")
@click.option("--part", type=click.Choice(["train", "validation", "test"]), help="Part of --split.")
@click.option("--groups", type=PATH, metavar="CSV", help="path,group (or patient): intervals resample whole groups.")
@SLICES
@engine_options(precision="fp32")
@click.option("--out", type=PLACE, metavar="DIR", help="Write comparison.json and differences.csv there.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def compare(
    data: Path,
    models: tuple[Path, ...],
    split: Path | None,
    part: Any,
    groups: Path | None,
    slices: str,
    out: Path | None,
    form: str,
    **engine: Any,
) -> None:
    """Is the second model better than the first on DATA, or is it chance?

    \b
    neurodense compare DATA --model A/model --model B/model --groups groups.csv

    Differences are the second less the first, with a 95% interval by a bootstrap over groups that draws the same groups
    for both. differences.csv in --out lists the images for which the models name different classes.
    """  # noqa: D301  (a backspace is how click is told to keep lines)
    if len(models) != 2:
        raise click.UsageError(f"--model must be given twice, for two models. Got {len(models)}.")

    from rich.console import Console

    from neurodense.evaluation.compare import compare as set_side_by_side
    from neurodense.evaluation.compare import same_classes, write_comparison
    from neurodense.evaluation.evaluate import evaluate
    from neurodense.evaluation.tables import print_comparison
    from neurodense.inference.card import model_notes
    from neurodense.inference.predictor import MANY, Predictor
    from neurodense.screen import Screen

    screen = Screen.on_stderr()
    predictors = [Predictor(model, streams=MANY, cache=kept_graphs(), **engine) for model in models]
    names = (str(models[0]), str(models[1]))
    same_classes(predictors[0].card.classes, predictors[1].card.classes, names)
    results = [
        evaluate(data, predictor, split=split, part=part, groups=groups, slices=slices, screen=screen)
        for predictor in predictors
    ]
    comparison = set_side_by_side(results[0].predictions, results[1].predictions, names)
    if form == "json":
        click.echo(json.dumps(comparison.as_dict(), ensure_ascii=False))
    else:
        notes = dict.fromkeys(note for predictor in predictors for note in model_notes(predictor.card))
        print_comparison(comparison, Console(highlight=False), list(notes))
    failures = {failure.source: failure for result in results for failure in result.failures}
    for failure in failures.values():
        screen.warn(f"left out: {failure.message}")
    if out is not None:
        write_comparison(comparison, out)
    if failures:
        sys.exit(1)
