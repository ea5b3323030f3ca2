"""What a sweep leaves behind: best.toml, trials.csv, a table, a figure, and what the best score is worth."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tomli_w
from rich.table import Table

from neurodense import atomic
from neurodense.errors import MissingExtra
from neurodense.evaluation.colours import BLUE, FAINT, ORANGE
from neurodense.evaluation.figures import blank, save
from neurodense.screen import Screen
from neurodense.training.space import Space

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_SHOWN = 10
"""Trials in the table that is printed; trials.csv has all."""


@dataclass(frozen=True)
class Tried:
    """One trial.

    Attributes:
        number: From 0.
        state: "complete"; "pruned" before its end; "diverged": its numbers were no longer finite; "failed": stopped by
            an error or a kill; "running" or "waiting" elsewhere.
        score: Validation macro F1 of the epoch that is kept, in [0, 1]; of a pruned trial that of its last epoch.
        loss: Validation loss of the same epoch.
        epoch: That epoch, from 1; of a pruned trial its best one.
        epochs: Epochs that were trained.
        seconds: What the trial took.
        values: Its settings.
    """

    number: int
    state: Literal["complete", "pruned", "diverged", "failed", "running", "waiting"]
    score: float | None
    loss: float | None
    epoch: int | None
    epochs: int
    seconds: float | None
    values: Mapping[str, Any]


def tried(trial: FrozenTrial) -> Tried:
    """A trial as the study has it."""
    states: dict[str, Any] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
    facts = trial.user_attrs
    return Tried(
        number=trial.number,
        state="diverged" if "diverged" in facts else states.get(trial.state.name, "waiting"),
        score=trial.value,
        loss=facts.get("validation_loss"),
        epoch=facts.get("epoch"),
        epochs=max(trial.intermediate_values, default=0),
        seconds=facts.get("seconds"),
        values=trial.params,
    )


def write_best(path: Path, best: Tried, space: Space, count: int) -> None:
    """Write the recipe of the best trial, whole or not at all."""
    base = space.base
    name = base.name if base.name.endswith(" swept") else f"{base.name[:54]} swept"
    values = space.recipe(best.values).model_dump(mode="json")
    summary = f"{base.name} with the settings of trial {best.number}, the best of {count} on the validation part."
    text = f"# {optimism(best, count)}\n" + tomli_w.dumps({**values, "name": name, "summary": summary})
    atomic.write_text(path, text)


def optimism(best: Tried, count: int) -> str:
    """What the best score is worth."""
    return (
        f"The best validation macro F1, {best.score:.4f} of trial {best.number}, was chosen out of {count} trials by "
        "the same validation images, and is optimistic by that choice. The test part is still unread."
    )


def write_trials(path: Path, rows: Sequence[Tried], keys: Sequence[str]) -> None:
    """Write one row a trial: trial, state, validation_macro_f1, validation_loss, epoch, epochs, seconds, settings."""
    head = ("trial", "state", "validation_macro_f1", "validation_loss", "epoch", "epochs", "seconds")
    with atomic.replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow((*head, *keys))
        for row in rows:
            facts = (row.number, row.state, row.score, row.loss, row.epoch, row.epochs, row.seconds)
            writer.writerow((*facts, *(row.values.get(key) for key in keys)))


def report_sweep(
    out: Path, rows: Sequence[Tried], best: Tried, importances: Mapping[str, float], screen: Screen
) -> None:
    """Show the best trials, draw all of them, and say what the best one is worth."""
    screen.show(trials_table(rows, best))
    if importances:
        shares = ", ".join(f"{key} {share:.2f}" for key, share in importances.items())
        screen.say(f"what the score depended on, roughly (shares of 1): {shares}")
    try:
        trials_figure(rows, out / "trials.png")
    except MissingExtra as error:
        screen.say(f"no figure: {error}")
    screen.say(optimism(best, sum(row.state in ("complete", "pruned") for row in rows)))


def trials_table(rows: Sequence[Tried], best: Tried) -> Table:
    """The best trials, best first."""
    ended = [row for row in rows if row.state == "complete" and row.score is not None]
    ended.sort(key=lambda row: (row.number != best.number, -(row.score or 0), row.number))
    table = Table("trial", "macro F1", "epoch", *best.values, title=f"The best {min(_SHOWN, len(ended))} trials")
    for row in ended[:_SHOWN]:
        values = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row.values.values()]
        table.add_row(str(row.number), f"{row.score:.4f}", str(row.epoch), *values)
    return table


def trials_figure(rows: Sequence[Tried], path: Path) -> None:
    """Draw the score of each trial, and the best so far, to a PNG file.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure = blank(7, 3.5)
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    ended = [row for row in rows if row.state == "complete" and row.score is not None]
    pruned = [row for row in rows if row.state == "pruned" and row.score is not None]
    numbers, scores = [row.number for row in ended], [row.score or 0 for row in ended]
    axes.step(numbers, list(accumulate(scores, max)), where="post", color=FAINT, label="best so far")
    axes.plot(numbers, scores, "o", color=BLUE, label="complete")
    early = [row.score or 0 for row in pruned]
    axes.plot([row.number for row in pruned], early, "o", mfc="none", color=ORANGE, label="pruned, its last epoch")
    axes.set(xlabel="trial", ylabel="validation macro F1")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    axes.set_title("Trials on the validation part: the best is optimistic by choice", loc="left", fontsize=10)
    save(figure, path)
