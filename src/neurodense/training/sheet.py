"""run.json: what a run was asked to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w

from neurodense import atomic
from neurodense.errors import RunError
from neurodense.training.precision import DeviceName, PrecisionName
from neurodense.versions import versions


@dataclass(frozen=True)
class RunSheet:
    """run.json: what was asked for and what was found, enough to go on without being told again."""

    data: str
    classes: tuple[str, ...]
    synthetic: bool
    unreadable: tuple[tuple[str, str], ...]
    split_by: Literal["group", "image", "file"]
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

    def save(self, run: Path) -> None:
        """Write run.json and recipe.toml."""
        atomic.write_text(run / "recipe.toml", tomli_w.dumps(self.recipe))
        atomic.write_json(run / "run.json", {**asdict(self), "versions": versions()})


def read_sheet(run: Path) -> RunSheet:
    """Read run.json.

    Raises:
        RunError: There is none, or it is not one of ours.
    """
    try:
        values = json.loads((run / "run.json").read_text(encoding="utf-8"))
        values.pop("versions", None)
        values["classes"] = tuple(values["classes"])
        values["unreadable"] = tuple((path, reason) for path, reason in values["unreadable"])
        return RunSheet(**values)
    except FileNotFoundError:
        raise RunError(
            f"{run} holds no run: there is no run.json in it.", "neurodense train DATA --out RUN starts one."
        ) from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{run / 'run.json'} cannot be read: {error}") from error
