"""run.json: what a run was asked to do."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from neurodense import atomic
from neurodense.data.partial import Partial
from neurodense.data.split import SplitBy
from neurodense.errors import RunError
from neurodense.training.precision import DeviceName, PrecisionName
from neurodense.versions import versions

GroupsFrom = Literal["table", "twins", "split"]


@dataclass(frozen=True)
class Tracked:
    """Where a run is tracked.

    Attributes:
        uri: Of the MLflow store.
        experiment: Name of the experiment.
        run_id: Of the MLflow run; None until the store has given one.
        whole: True once everything has arrived.
    """

    uri: str
    experiment: str
    run_id: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class TeacherFile:
    """The teacher of a run.

    Attributes:
        path: Full path of the ONNX file.
        sha256: Of the file.
    """

    path: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's name."""
        return Path(self.path).name


@dataclass(frozen=True)
class RunSheet:
    """run.json: what was asked for and what was found, enough to go on without being told again.

    Attributes:
        data: Full path of the folder of images.
        classes: In order.
        synthetic: True when the images were made by a computer.
        unreadable: (path, reason) of each image that was left out.
        split_by: As `Split.by` says it.
        seed: Of everything random.
        weights: What --weights was given, or the recipe's own.
        weights_origin: Where the starting weights come from.
        device: As asked for.
        precision: As asked for.
        cache: Folder of the activation cache; None runs without.
        workers: Processes that decode.
        mirror: Where the run is copied to.
        recipe: The recipe.
        finished: True once all is done.
        groups_from: "table" given with --groups, "twins" that were found, "split" for the group column of --split.
        leaked: Test images that have another image of their group in training; None where groups are not known.
        left_out: The source that is the test part, as --leave-out was given.
        folds: Number of folds, in the run.json of a cross-validation; its trainings are in fold-1, fold-2, ...
        final: True when a model on all images follows the folds, in final.
        partial: Folders of images whose class is only partly known, which train too.
        tracked: Where the run is tracked; None where it is not.
        teacher: Whose answers are learnt too; None where there is none. How much is in the recipe.
    """

    data: str
    classes: tuple[str, ...]
    synthetic: bool
    unreadable: tuple[tuple[str, str], ...]
    split_by: SplitBy
    seed: int
    weights: str
    weights_origin: str
    device: DeviceName
    precision: PrecisionName
    cache: str | None
    workers: int
    mirror: str | None
    recipe: dict[str, Any]
    finished: bool = False
    groups_from: GroupsFrom | None = None
    leaked: int | None = None
    left_out: str | None = None
    folds: int | None = None
    final: bool = False
    partial: tuple[Partial, ...] = ()
    tracked: Tracked | None = None
    teacher: TeacherFile | None = None

    @property
    def taught(self) -> dict[str, str]:
        """The teacher as a fact of a report; empty where there is none."""
        if self.teacher is None:
            return {}
        how = self.recipe["teacher"]
        return {"Teacher": f"{self.teacher.name}, weight {how['weight']:g}, temperature {how['temperature']:g}"}

    @property
    def teacher_option(self) -> str:
        """The same as an option of the command line, with a blank before it."""
        return "" if self.teacher is None else f" --teacher {shlex.quote(self.teacher.name)}"

    def save(self, run: Path) -> None:
        """Write run.json and recipe.toml."""
        atomic.write_text(run / "recipe.toml", tomli_w.dumps(self.recipe))
        atomic.write_json(run / "run.json", {**asdict(self), "versions": versions()})


def sheet_of(values: dict[str, Any]) -> RunSheet:
    """The sheet whose `asdict` was written as JSON."""
    values.pop("versions", None)
    values["classes"] = tuple(values["classes"])
    values["unreadable"] = tuple((path, reason) for path, reason in values["unreadable"])
    values["partial"] = tuple(Partial(**{**one, "classes": tuple(one["classes"])}) for one in values.get("partial", ()))
    if values.get("tracked") is not None:
        values["tracked"] = Tracked(**values["tracked"])
    if values.get("teacher") is not None:
        values["teacher"] = TeacherFile(**values["teacher"])
    return RunSheet(**values)


def read_sheet(run: Path) -> RunSheet:
    """Read run.json.

    Raises:
        RunError: There is none, or it is not one of ours.
    """
    try:
        return sheet_of(json.loads((run / "run.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(
            f"{run} holds no run: there is no run.json in it.", "neurodense train DATA --out RUN starts one."
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{run / 'run.json'} cannot be read: {error}") from error
