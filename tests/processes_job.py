"""A job of several processes for test_processes.py: trainings in float64, one after the other, without their reports.

In float32 the rounding of another order of sums grows from batch to batch, as fast as a change of the last bit of one
pixel does; in float64 what N processes do and what one does can be told apart from it.

    torchrun ... processes_job.py STEP ...      each STEP a JSON object: see `carry_out`
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neurodense.screen import Screen
from neurodense.training import execute, folds, loss, store
from neurodense.training import run as runs
from neurodense.training.dataset import ImageRecords
from neurodense.training.recipe import load_recipe


@contextmanager
def in_doubles(patch: Any) -> Iterator[None]:
    """Trainings inside the block are in float64, and end with their last checkpoint."""
    read, weigh = ImageRecords.__getitem__, loss.Loss.__init__

    def read_doubles(images: ImageRecords, index: int) -> tuple[torch.Tensor, int]:
        pixels, target = read(images, index)
        return pixels.double(), target

    def weigh_in_doubles(self: loss.Loss, *arguments: Any) -> None:
        weigh(self, *arguments)
        self.worth = self.worth.double()
        self.weights = self.weights if self.weights is None else self.weights.double()

    patch.setattr(torch.Tensor, "float", torch.Tensor.double)
    patch.setattr(ImageRecords, "__getitem__", read_doubles)
    patch.setattr(loss.Loss, "__init__", weigh_in_doubles)
    patch.setitem(store._DTYPES, "float64", torch.float64)
    patch.setattr(execute, "finish", lambda run, *_: run / "model")
    patch.setattr(folds, "_together", lambda *_: None)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def carry_out(step: dict[str, Any]) -> None:
    """Train or resume one run.

    Args:
        step: `out`, and either `data`, `recipe` and `cache` or none of them: then the run is resumed. `folds`. At batch
            number `at` (from 1) `do` happens: "die", to the last process, or "interrupt", as by Ctrl-C, to all.
    """
    calls, real = [], loss.Loss.__call__

    def call(self: loss.Loss, *arguments: Any) -> torch.Tensor:
        calls.append(1)
        rank, count = (int(os.environ.get(name, "0")) for name in ("RANK", "WORLD_SIZE"))
        if len(calls) == step.get("at"):
            if step["do"] == "die" and rank == count - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if step["do"] == "interrupt" and rank == 0:
                os.killpg(os.getpgid(os.getppid()), signal.SIGINT)  # the terminal's own group: torchrun and all of it
        return real(self, *arguments)

    loss.Loss.__call__ = call  # type: ignore[method-assign]
    out, screen = Path(step["out"]), Screen.on_stderr()
    try:
        if "data" not in step:
            runs.resume(out, screen=screen)
            return
        data = Path(step["data"])
        runs.train(
            data, out, recipe=load_recipe(step["recipe"]), groups=data / "groups.csv", seed=1, device="cpu",
            precision="fp32", workers=0, cache=step["cache"], folds=step.get("folds"), screen=screen,
        )  # fmt: skip
    finally:
        loss.Loss.__call__ = real  # type: ignore[method-assign]


if __name__ == "__main__":
    import pytest

    from neurodense import cli

    def carry_out_all(*_: object, **__: object) -> None:
        with pytest.MonkeyPatch.context() as patch, in_doubles(patch):
            for step in sys.argv[1:]:
                carry_out(json.loads(step))

    cli.cli.main = carry_out_all  # type: ignore[method-assign]  # errors end as those of the command line do
    cli.main()
