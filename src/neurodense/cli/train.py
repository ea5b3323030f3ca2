"""`neurodense train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from neurodense.cli.options import PATH, PLACE, training_options


@click.command()
@click.argument("data", required=False, type=PATH)
@click.option("--out", type=PLACE, metavar="RUN", help="Run folder to make.")
@training_options
@click.option("--folds", type=click.IntRange(min=2), metavar="K", help="Cross-validation: K runs in RUN/fold-1 ...")
@click.option("--final", is_flag=True, help="With --folds: one more model in RUN/final, trained on all images.")
@click.option("--no-cache", is_flag=True, help="Run the frozen layers in every epoch, as the notebook does.")
@click.option("--mirror", metavar="URL_ORPATH", help="Copy checkpoints and results there as they appear.")
@click.option("--track", type=click.Choice(["mlflow"]), help="Copy curves, results and the model there as well.")
@click.option("--tracking-uri", metavar="URI", help="MLFLOW_TRACKING_URI, else RUN/../mlflow.db, if left out.")
@click.option("--resume", type=PATH, metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--continue-epochs", type=click.IntRange(min=1), metavar="N", help="With --resume: N more epochs.")
def train(
    data: Path | None,
    out: Path | None,
    resume: Path | None,
    continue_epochs: int | None,
    no_cache: bool,
    cache: Path | None,
    partial: tuple[str, ...],
    **options: Any,
) -> None:
    """Train on DATA, one sub-folder a class, and measure the result on images kept apart.

    \b
    neurodense train DATA --out RUN --groups groups.csv
    neurodense train DATA --out RUN --groups groups.csv --folds 5 --final
    neurodense train DATA --out RUN --groups groups.csv --leave-out source=br35h
    neurodense train DATA --out RUN --recipe scratch --split split.csv --teacher teacher.onnx
    neurodense train DATA --out RUN --partial unsorted=glioma,meningioma,pituitary
    neurodense train --resume RUN
    neurodense train --resume RUN --mirror PLACE    (copied back from there first, where RUN is missing)
    neurodense train --resume RUN --continue-epochs 3
    """  # noqa: D301  (a backspace is how click is told to keep lines)
    if no_cache and cache is not None:
        raise click.UsageError("--cache and --no-cache exclude each other.")
    if resume is not None:
        _refuse_with_resume()
    elif continue_epochs is not None:
        raise click.UsageError("--continue-epochs needs --resume RUN: the run to train further.")
    elif data is None or out is None:
        raise click.UsageError("DATA and --out RUN are needed (or --resume RUN).")

    from neurodense.data.partial import parse_partial
    from neurodense.screen import Screen
    from neurodense.training import run

    screen, folders = Screen.on_stderr(), parse_partial(partial)
    if resume is not None:
        changes = {name: options[name] for name in ("workers", "mirror", "teacher")}
        if click.get_current_context().get_parameter_source("device") is click.core.ParameterSource.COMMANDLINE:
            changes["device"] = options["device"]
        kept: Path | Literal[False] | None = False if no_cache else cache
        changes |= {"data": data, "partial": folders, "cache": kept, "screen": screen}
        run.resume(resume, continue_epochs=continue_epochs or 0, **changes)
    elif data is not None and out is not None:
        run.train(data, out, partial=folders, cache=False if no_cache else cache, screen=screen, **options)


def _refuse_with_resume() -> None:
    """A resumed run keeps its own settings; an option that would be ignored is an error instead."""
    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    moved = {"data", "partial", "teacher", "mirror"}
    allowed = moved | {"resume", "continue_epochs", "device", "cache", "no_cache", "workers"}
    options = {p.name: p.opts[0] for p in context.command.params if p.name is not None and p.name not in allowed}
    given = [option for name, option in options.items() if context.get_parameter_source(name) is typed]
    if given:
        raise click.UsageError(f"--resume goes on with what the run began with; leave out {', '.join(given)}.")
