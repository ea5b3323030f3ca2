"""`neurodense evaluate` and `neurodense predict`: what a model folder is put to."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from neurodense.cli.options import MODEL, PATH, PLACE, SLICES, engine_options, kept_graphs
from neurodense.errors import MissingExtra


@click.command()
@click.argument("data", type=PATH)
@MODEL
@click.option("--split", type=PATH, metavar="CSV", help="path,part: with --part, which images to take.")
@click.option("--part", type=click.Choice(["train", "validation", "test"]), help="Part of --split.")
@click.option("--groups", type=PATH, metavar="CSV", help="path,group (or patient): intervals resample whole groups.")
@click.option(
    "--map", "label_map", type=PATH, metavar="TOML", help="Which folder of DATA is which class; others are left out."
)
@click.option("--healthy", metavar="CLASS", help="The class without a tumour; guessed from names such as notumor.")
@SLICES
@engine_options(precision="fp32")
@click.option(
    "--out", type=PLACE, metavar="DIR", help="Write metrics.json, predictions.csv, figures and report/index.html there."
)
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def evaluate(
    data: Path,
    model: Path,
    split: Path | None,
    part: Any,
    groups: Path | None,
    label_map: Path | None,
    healthy: str | None,
    slices: str,
    out: Path | None,
    form: str,
    **engine: Any,
) -> None:
    """Measure MODEL on DATA: one sub-folder a class, named as the model's classes are or as --map says.

    Without --split, DATA is taken for another collection than the model's own, and compared with the model's test part.

    Each figure has a 95% interval by a bootstrap over groups: --groups, or the groups of --split. Thresholds for
    operating points are those of the model's card.

    A volume or a DICOM series counts once, by the softmax of the mean of its slices' logits over the card's
    temperature; slices.csv in --out has a row for each slice.
    """
    from rich.console import Console

    from neurodense.evaluation.evaluate import evaluate as measure
    from neurodense.evaluation.evaluation_report import report_evaluation
    from neurodense.evaluation.mistakes import draw_mistakes
    from neurodense.evaluation.tables import print_evaluation
    from neurodense.evaluation.write import write_evaluation
    from neurodense.inference.card import model_notes
    from neurodense.inference.predictor import MANY, Predictor
    from neurodense.scans.slices import Slices
    from neurodense.screen import Screen

    chosen = Slices.parse(slices)
    screen, predictor = Screen.on_stderr(), Predictor(model, streams=MANY, cache=kept_graphs(), **engine)
    result = measure(
        data, predictor, split=split, part=part, groups=groups, map=label_map, healthy=healthy, slices=chosen,
        screen=screen,
    )  # fmt: skip
    where = f"{data.resolve().name}{f', {part} part' if part else ''}"
    title = f"{where}, model {predictor.card.name}, {predictor.precision}"
    note = "trained on synthetic images" if predictor.card.data.synthetic else ""
    if form == "json":
        click.echo(json.dumps(result.as_dict(), ensure_ascii=False))
    else:
        print_evaluation(result, Console(highlight=False), title, model_notes(predictor.card))
    for failure in result.failures:
        screen.warn(f"left out: {failure.message}")
    if out is not None:
        try:
            figures = write_evaluation(result, out, subject=title, note=note, history=predictor.card.history)
            mistakes = draw_mistakes(result.predictions, lambda _: predictor, data, out)
            command = shlex.join(["neurodense", *sys.argv[1:]])
            report_evaluation(
                result, predictor.card, out, data=where, figures=figures, mistakes=mistakes, command=command
            )
        except MissingExtra as error:
            screen.warn(f"{out} has metrics.json and predictions.csv but no report. {error.message} {error.hint}")
    if result.failures:
        sys.exit(1)


@click.command()
@click.argument("inputs", nargs=-1, required=True, metavar="FILE_OR_FOLDER...")
@MODEL
@SLICES
@engine_options(precision="auto", ray=True)
@click.option(
    "--error",
    type=click.Choice(["0.05", "0.1", "0.2"]),
    help="How often the true class may be missing from an answer's prediction set; 0.1 if the model can promise that.",
)
@click.option("--explain", type=PLACE, metavar="DIR", help="Write heat maps there: what speaks for the class, where.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json", "csv"]))
@click.option("--out", type=PLACE, metavar="DIR", help="--engine ray: write the answers there as Parquet.")
@click.option("--address", metavar="HOST:PORT", help="--engine ray: a running cluster; this machine if left out.")
@click.option("--shard", type=click.IntRange(min=1), help="--engine ray: files written together.  [default: 5000]")
def predict(
    inputs: tuple[str, ...],
    model: Path,
    slices: str,
    error: str | None,
    explain: Path | None,
    form: str,
    out: Path | None,
    address: str | None,
    shard: int | None,
    **engine: Any,
) -> None:
    """Name the class of each image or study, with the probability of every class. A bad file gets an error row.

    A calibrated model may also say that it is uncertain between several classes, that none fits, or that an image does
    not look like those that it knows; --error sets how careful it is. Below the table of ten images or more stands
    whether, taken together, they are like those that it was validated on.

    Images are PNG, JPEG and the like, or single DICOM files. A study is a NIfTI volume, a DICOM file of several
    frames, or the DICOM files of one series in a folder: its slices are predicted one by one, and the study by the
    softmax of the mean of their logits over the card's temperature. With --explain every image, and every slice looked
    at, gets a PNG.

    --engine ray is for archives of up to millions of files, each answered by itself: inputs may also be patterns, URLs
    and @LIST, --threads is the number of workers, and the same command goes on where a killed one ended.
    """
    if engine["engine"] == "ray":
        if out is None or explain is not None or form != "table":
            raise click.UsageError("--engine ray needs --out DIR, and has no --explain and no --format.")
        _predict_archive(inputs, out, model, slices, error, address, shard, **engine)
        return
    if out is not None or address is not None or shard is not None:
        raise click.UsageError("--out, --address and --shard go with --engine ray.")
    from rich.console import Console

    from neurodense.inference.predictor import MANY, Predictor
    from neurodense.inference.table import csv_columns, csv_row, print_answers
    from neurodense.scans.slices import Slices
    from neurodense.scans.study import Failure, find_studies

    chosen = Slices.parse(slices)
    found = find_studies(inputs)
    promised = None if error is None else float(error)
    predictor = Predictor(model, streams=MANY if len(found) > 1 else 1, cache=kept_graphs(), error=promised, **engine)
    if explain is None:
        answers = predictor.predict(found, chosen)
    else:
        from neurodense.inference.overlay import write_overlays

        answers = write_overlays(predictor.explained(found, chosen), explain)
    failed = 0
    if form == "table":
        said = list(answers)
        shift = predictor.shift([one for one in said if not isinstance(one, Failure)])
        failed = print_answers(said, predictor.card, Console(highlight=False), shift)
    else:
        writer = csv.DictWriter(sys.stdout, csv_columns(predictor.card.classes), restval="", lineterminator="\n")
        if form == "csv":
            writer.writeheader()
        for answer in answers:
            failed += isinstance(answer, Failure)
            if form == "json":
                click.echo(json.dumps(answer.as_dict(), ensure_ascii=False))
            elif isinstance(answer, Failure):
                writer.writerow({"source": answer.source, "error": answer.message})
            else:
                writer.writerows(map(csv_row, (*answer.slices, answer)))
    if failed:
        sys.exit(1)


def _predict_archive(
    inputs: tuple[str, ...],
    out: Path,
    model: Path,
    slices: str,
    error: str | None,
    address: str | None,
    shard: int | None,
    *,
    engine: str,
    precision: Any,
    threads: int | None,
) -> None:
    """`predict --engine ray`: count on standard error, the outcome on standard output."""
    from neurodense.inference.archive import SHARD, predict_archive
    from neurodense.screen import Screen

    done = predict_archive(
        inputs, out, model=model, precision=precision, slices=slices, error=None if error is None else float(error),
        address=address, workers=threads, shard=shard or SHARD, screen=Screen.on_stderr(),
    )  # fmt: skip
    click.echo(f"{done.sentence} {out}")
    if done.errors:
        sys.exit(1)
