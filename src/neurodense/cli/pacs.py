"""`neurodense pacs`: a study of an archive, and the results back into it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from neurodense.cli.options import MODEL, PATH, SLICES, engine_options

_PASSWORD = "NEURODENSE_PACS_PASSWORD"  # noqa: S105  (the name of a variable)


@click.command()
@click.option(
    "--source", required=True, metavar="URL", help="Where DICOMweb begins: https://pacs.example.org/dicom-web"
)
@click.option("--study", required=True, metavar="UID", help="Study Instance UID.")
@click.option("--series", metavar="NUMBER|UID", help="Of several MR series, the one to look at.")
@MODEL
@SLICES
@click.option(
    "--send/--dry-run", default=True, show_default=True, help="Store report and heat maps in the study, or only look."
)
@click.option("--token-file", type=PATH, metavar="FILE", help="Its first line is sent as Bearer token.")
@click.option("--user", metavar="NAME", help=f"For basic authentication; the password is ${_PASSWORD}, or asked for.")
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(1, 3600), metavar="SECONDS",
              help="How long the archive may keep silent.")  # fmt: skip
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
@engine_options(precision="auto")
def pacs(
    source: str,
    study: str,
    series: str | None,
    model: Path,
    slices: str,
    send: bool,
    token_file: Path | None,
    user: str | None,
    timeout: float,
    form: str,
    **engine: Any,
) -> None:
    """Predict an MR series of a study in an archive, and store the results in the same study, all by DICOMweb.

    The images are fetched into memory; nothing is written to disk. What goes back is a structured report and the heat
    maps, as `neurodense dicom` makes them; sent twice, they are there once.
    """
    from contextlib import closing

    from rich.console import Console

    from neurodense.inference.predictor import Predictor
    from neurodense.inference.table import print_answers
    from neurodense.scans.slices import Slices
    from neurodense.screen import Screen
    from neurodense.serving import pacs as serving
    from neurodense.serving.dicom_results import need_highdicom
    from neurodense.serving.dicomweb import Archive, checked_uid
    from neurodense.serving.token import read_token

    if token_file is not None and user is not None:
        raise click.UsageError("--token-file and --user exclude each other.")
    need_highdicom()
    chosen = str(Slices.parse(slices))
    checked_uid(study, "--study")
    token = None if token_file is None else read_token(token_file)
    login = None
    if user is not None:
        login = user, os.environ.get(_PASSWORD) or click.prompt("Password", hide_input=True, err=True)
    screen = Screen.on_stderr()
    with closing(Archive(source, token=token, user=login, timeout=timeout)) as archive:
        if source.lower().startswith("http:") and not archive.is_local:
            screen.warn("http is not encrypted: images and password can be read on the way. https can not.")
        predictor = Predictor(model, **engine)
        for results in serving.predict_study(archive, study, predictor, series, chosen):
            if form == "table":
                print_answers([results.answer], predictor.card, Console(highlight=False), None)
            if send:
                serving.send(archive, study, results)
            if form == "json":
                click.echo(json.dumps({**results.answer.as_dict(), "stored": send}, ensure_ascii=False))
            screen.say("stored report and heat maps in the study" if send else "dry run: nothing was stored")
