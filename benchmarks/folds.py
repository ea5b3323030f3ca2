"""K folds that share one activation cache, against K runs that share none: the same trainings, timed whole.

Each of the K runs is given the split of a fold, so that both do the same work but for what the folds share: reading
the folder once, and the rows of the frozen layers. Timed is everything, from the first look at the folder to the last
report. The two take turns, and the order is turned round in each round, so that drift of the machine shows; seconds of
the processors are given as well, which other work on the machine changes less.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.recipe import copy_some
from neurodense import atomic
from neurodense.data.catalogue import scan_folder
from neurodense.data.folds import fold_records
from neurodense.data.split_table import write_split
from neurodense.training.precision import PrecisionName
from neurodense.training.run import train


@dataclass(frozen=True)
class Seconds:
    """On the clock, and of all processors, those of worker processes that have ended included."""

    clock: float
    processors: float

    @classmethod
    def now(cls) -> Seconds:
        """Since some moment in the past."""
        return cls(time.perf_counter(), sum(os.times()[:4]))

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.clock - other.clock, self.processors - other.processors)


def measure(data: Path, images: int, folds: int, recipe: str, precision: PrecisionName, rounds: int, out: Path) -> None:
    """Time both, print each round's ratio, write `out`."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        catalogue = copy_some(scan_folder(data), images, folder / "data")
        for number, split in enumerate(fold_records(catalogue, folds, seed=0), 1):
            write_split(split, folder / f"split-{number}.csv")
        # Each image is a group of its own: the groups make no difference to the time.
        table = ["path,group", *(f"{record.path},{record.path}" for record in catalogue.records)]
        (folder / "groups.csv").write_text("\n".join(table), encoding="utf-8")
        print(f"{len(catalogue.records)} images, {folds} folds, recipe {recipe}, {precision}", flush=True)

        def go(name: str, **options: object) -> Seconds:
            start = Seconds.now()
            train(
                folder / "data", folder / name, recipe=recipe, weights="none", precision=precision, workers=2,
                cache=folder / f"cache-{name}", **options,  # type: ignore[arg-type]
            )  # fmt: skip
            seconds = Seconds.now() - start
            shutil.rmtree(folder / f"cache-{name}")
            shutil.rmtree(folder / name)
            return seconds

        def shared() -> Seconds:
            return go("folds", groups=folder / "groups.csv", folds=folds)

        def separate() -> Seconds:
            each = [go(f"run-{k}", split=folder / f"split-{k}.csv") for k in range(1, folds + 1)]
            return Seconds(sum(one.clock for one in each), sum(one.processors for one in each))

        ways: dict[str, Callable[[], Seconds]] = {"shared": shared, "separate": separate}
        times: dict[str, list[Seconds]] = {name: [] for name in ways}
        for number in range(rounds):
            for name in sorted(ways, reverse=number % 2 == 1):
                times[name].append(ways[name]())
            one, other = times["shared"][-1], times["separate"][-1]
            print(
                f"{folds} folds, shared cache: {one.clock:8.1f} s ({one.processors:.1f} s of processors)   "
                f"{folds} separate runs: {other.clock:8.1f} s ({other.processors:.1f} s)   "
                f"ratio {other.clock / one.clock:.2f} ({other.processors / one.processors:.2f})",
                flush=True,
            )
    atomic.write_json(
        out,
        {
            "machine": describe(),
            "images": len(catalogue.records),
            "folds": folds,
            "recipe": recipe,
            "precision": precision,
            "seconds": {name: [asdict(one) for one in each] for name, each in times.items()},
        },
    )
