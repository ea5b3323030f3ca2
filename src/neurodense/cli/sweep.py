"""`neurodense sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from neurodense.cli.options import PATH, PLACE, training_options


@click.command()
@click.argument("data", type=PATH)
@click.option("--out", required=True, type=PLACE, metavar="DIR", help="Folder to make, or of a sweep to go on with.")
@training_options
@click.option("--space", type=PATH, metavar="FILE", help="TOML of what varies; the recipe's own if left out.")
@click.option(
    "--trials", default=20, show_default=True, type=click.IntRange(min=1), help="Trials to have finished in the end."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), metavar="MIN", help="No trial begins after these minutes."
)
@click.option(
    "--pruner",
    default="median",
    show_default=True,
    type=click.Choice(["median", "hyperband", "none"]),
    help="What ends poor trials early.",
)
@click.option("--storage", metavar="URL", help="Database for several machines; DIR/sweep.db if left out.")
@click.option("--track", type=click.Choice(["mlflow"]), help="Copy the trials there as well.")
@click.option("--tracking-uri", metavar="URI", help="MLFLOW_TRACKING_URI, else DIR/../mlflow.db, if left out.")
def sweep(data: Path, out: Path, partial: tuple[str, ...], **options: Any) -> None:
    """Look for better settings of a recipe on DATA, judged on the validation part; the test part stays unread.

    \b
    neurodense sweep DATA --out DIR --groups groups.csv
    neurodense sweep DATA --out DIR --groups groups.csv          (again: goes on, after a kill or Ctrl-C)
    neurodense sweep DATA --out DIR --recipe scratch --space mine.toml --trials 50 --timeout 480
    neurodense train DATA --out RUN --split DIR/split.csv --recipe DIR/best.toml
    """  # noqa: D301  (a backspace is how click is told to keep lines)
    from neurodense.data.partial import parse_partial
    from neurodense.screen import Screen
    from neurodense.training import sweep as sweeps

    sweeps.sweep(data, out, partial=parse_partial(partial), screen=Screen.on_stderr(), **options)
