"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

MODEL = click.option(
    "--model",
    default="brain",
    show_default=True,
    type=PATH,
    help="Model folder, such as RUN/model; brain is the one that comes with the package.",
)

SLICES = click.option(
    "--slices",
    default="brain",
    show_default=True,
    metavar="brain|all|middle|every:N|range:A-B",
    help="Slices of a volume or series to look at, numbered from 1.",
)


def engine_options(precision: str, ray: bool = False) -> Callable[[Command], Command]:
    """The options --engine, --precision and --threads; `precision` is the default of the second.

    With `ray`, --engine names this too: it says where the work runs, and the workers choose the engine.
    """

    def add(command: Command) -> Command:
        command = click.option(
            "--threads", type=click.IntRange(1, 1024), help="The cores that may be used, if left out."
        )(command)
        command = click.option(
            "--precision",
            default=precision,
            show_default=True,
            type=click.Choice(["auto", "fp32", "bf16", "int8"]),
            help="auto is int8 on OpenVINO where the model has passed its gate, else fp32.",
        )(command)
        return click.option(
            "--engine",
            default="auto",
            show_default=True,
            metavar="auto|openvino|onnxruntime|cuda|coreml|directml" + ("|ray" if ray else ""),
            help="What runs the model; auto is the fastest one that is installed."
            + (" ray: all cores, or a cluster, for archives; needs --out." if ray else ""),
        )(command)

    return add
