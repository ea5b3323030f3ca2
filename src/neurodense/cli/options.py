"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)


class _Place(click.Path):
    """A file or folder to be written: refused at once where that cannot be, and not after the work for it."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        there = path.absolute()
        while not os.path.lexists(there):
            there = there.parent
        if not os.access(there, os.W_OK):
            self.fail(f"{there} cannot be written to. Give a place in a folder that you may write to.", param, ctx)
        if there != path.absolute() and not there.is_dir():
            self.fail(f"{there} is no folder, so {path} cannot be made in it. Give another place.", param, ctx)
        return path


PLACE = _Place(path_type=Path)

CHANGED = click.Path(path_type=Path, writable=True)
"""A model folder that a command adds to."""

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


def kept_graphs() -> Path:
    """Where OpenVINO keeps what it made of graphs, so that the next command starts sooner."""
    from platformdirs import user_cache_path

    return user_cache_path("neurodense", appauthor=False) / "openvino"


def training_options(command: Command) -> Command:
    """What a training is made of: the options that `train` and `sweep` share."""
    for option in reversed(
        (
            click.option(
                "--recipe", default="finetune", show_default=True, metavar="NAME|FILE", help="See `neurodense recipes`."
            ),
            click.option(
                "--weights",
                metavar="imagenet|brain|none|FILE",
                help="Starting weights; what the recipe says if left out.",
            ),
            click.option(
                "--groups", type=PATH, metavar="CSV", help="path,group (or patient): whole groups stay in one part."
            ),
            click.option(
                "--split",
                type=PATH,
                metavar="CSV",
                help="path,part: the parts to use, such as RUN/split.csv.",
            ),
            click.option(
                "--split-by",
                type=click.Choice(["group", "image"]),
                help="Image by image is how the notebook does it.",
            ),
            click.option(
                "--leave-out",
                metavar="COLUMN=VALUE|REGEX",
                help="Test on one source, by a column of --groups or path.",
            ),
            click.option(
                "--partial",
                multiple=True,
                metavar="FOLDER=CLASS,CLASS",
                help="Train on this folder too: each of its images is of one of these classes. May be given several "
                "times.",
            ),
            click.option(
                "--teacher",
                type=PATH,
                metavar="FILE.onnx",
                help="Learn from what this classifier says, too; it is not needed afterwards.",
            ),
            click.option(
                "--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of everything random."
            ),
            click.option(
                "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda", "mps"])
            ),
            click.option(
                "--precision", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16", "fp16"])
            ),
            click.option(
                "--cache", type=PATH, metavar="FOLDER", help="Activation cache; the user's cache folder if left out."
            ),
            click.option("--workers", type=click.IntRange(0, 64), help="Processes that decode images."),
        )
    ):
        command = option(command)
    return command


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
