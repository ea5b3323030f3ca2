"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

PATH = click.Path(path_type=Path)

SLICES = click.option(
    "--slices",
    default="brain",
    show_default=True,
    metavar="brain|all|middle|every:N|range:A-B",
    help="Slices of a volume or series to look at, numbered from 1.",
)
