"""`neurodense audit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from neurodense.cli.options import PATH, PLACE


@click.command()
@click.argument("data", type=PATH)
@click.option("--against", type=PATH, metavar="OTHER", help="Another folder, such as a test set: what is in both?")
@click.option("--groups", type=PATH, metavar="CSV", help="path,group (or patient): what is known to belong together.")
@click.option("--split", type=PATH, metavar="CSV", help="path,part, such as RUN/split.csv: what is on both sides?")
@click.option("--sources", metavar="CSV|COLUMN", help="path,source, or a column of --groups: where images come from.")
@click.option("--out", type=PLACE, metavar="DIR", help="Write audit.html, audit.json and groups.csv there.")
@click.option("--cache", type=PATH, metavar="FOLDER", help="Where looks at images are kept; the user's cache folder.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of samples and shuffles."
)
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def audit(data: Path, form: str, **options: Any) -> None:
    """Ask what would make a score on DATA too good, and which files need a person's eye.

    \b
    neurodense audit DATA --out AUDIT
    neurodense train DATA --groups AUDIT/groups.csv --out RUN
    neurodense audit DATA --split RUN/split.csv --against TESTSET
    """  # noqa: D301  (a backspace is how click is told to keep lines)
    from rich.console import Console

    from neurodense.data.audit.run import audit as look_through
    from neurodense.data.audit.table import print_audit
    from neurodense.screen import Screen

    screen = Screen.on_stderr()
    found = look_through(data, screen=screen, **options).audit
    if form == "json":
        click.echo(found.model_dump_json())
    else:
        print_audit(found, Console(highlight=False))
    if found.unreadable:
        screen.warn("left out:\n  " + "\n  ".join(found.unreadable[:20]))
        sys.exit(1)
