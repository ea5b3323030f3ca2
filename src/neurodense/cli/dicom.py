"""`neurodense dicom`: answers as DICOM objects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from neurodense.cli.options import MODEL, PATH, PLACE, SLICES, engine_options


@click.command()
@click.argument("source", type=PATH, metavar="INPUT")
@click.option("--out", required=True, type=PLACE, metavar="DIR", help="Where the objects are written to.")
@MODEL
@SLICES
@engine_options(precision="auto")
def dicom(source: Path, out: Path, model: Path, slices: str, **engine: Any) -> None:
    """Write the answer for a DICOM series as DICOM objects: report.dcm, a structured report, and heat-maps.dcm.

    INPUT is a DICOM file, or a folder with the files of a series; of several series, each gets its two objects. They
    belong to the same study as the images, name the patient as these do, and refer to them. The same images and model
    give the same objects, with the same UIDs.
    """
    from rich.console import Console

    from neurodense.errors import ScanError
    from neurodense.inference.predictor import Predictor
    from neurodense.inference.table import print_answers
    from neurodense.scans.slices import Slices
    from neurodense.scans.study import Failure
    from neurodense.screen import Screen
    from neurodense.serving.dicom_results import dicom_results, find_dicom, need_highdicom, write_results

    need_highdicom()
    chosen = str(Slices.parse(slices))
    found = list(find_dicom(source))
    if all(isinstance(one, Failure) for one in found):
        raise ScanError(next(one.message for one in found if isinstance(one, Failure)))
    predictor, screen = Predictor(model, **engine), Screen.on_stderr()
    answers: list[Any] = []
    for number, one in enumerate(found, 1):
        if isinstance(one, Failure):
            answers.append(one)
            continue
        try:
            results = dicom_results(one, predictor, chosen)
        except ScanError as error:
            answers.append(Failure(one.source, ScanError.__name__, error.message))
            continue
        answers.append(results.answer)
        for path in write_results(results, out, f"{number}-" if len(found) > 1 else ""):
            screen.say(f"wrote {path}")
    if print_answers(answers, predictor.card, Console(highlight=False), None):
        sys.exit(1)
