"""N processes of one thread against one process of N threads: the same training, in turns, each from a cold cache.

The seconds are those between the events `start` and `trained` of log.jsonl: from the first decoded image to the last
checkpoint. Reading the folder, export and report are the same work in both, by one process.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.recipe import copy_some
from neurodense import atomic
from neurodense.data.catalogue import scan_folder


def measure(data: Path, images: int, count: int, recipe: str, precision: str, rounds: int, out: Path) -> None:
    """Time both, print a table, write `out`."""
    ways = {f"{count} processes, 1 thread each": (count, 1), f"1 process, {count} threads": (1, count)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    losses: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        copy_some(scan_folder(data), images, folder / "data")
        for _ in range(rounds):
            for way, (processes, threads) in ways.items():
                taken, losses[way] = _train(folder, processes, threads, recipe, precision)
                seconds[way].append(taken)
                print(f"{way}: {taken:.1f} s, last training loss {losses[way]:.4f}", flush=True)
    (ours, theirs), width = seconds.values(), max(map(len, ways))
    for way, times in seconds.items():
        print(f"{way:<{width}}  {min(times):8.1f} to {max(times):.1f} s")
    print(f"{'ratio':<{width}}  {min(theirs) / max(ours):8.2f} to {max(theirs) / min(ours):.2f}")
    about = {"images": images, "recipe": recipe, "precision": precision}
    atomic.write_json(out, {"machine": describe(), **about, "seconds": seconds, "last_train_loss": losses})


def _train(folder: Path, processes: int, threads: int, recipe: str, precision: str) -> tuple[float, float]:
    """Train once: seconds, and the mean training loss of the last epoch."""
    run, cache = folder / "run", folder / "cache"
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
    subprocess.run(
        [
            sys.executable, *launcher, "-m", "neurodense", "train", str(folder / "data"), "--out", str(run),
            "--recipe", recipe, "--weights", "none", "--device", "cpu", "--precision", precision,
            "--cache", str(cache), "--workers", "0",
        ],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        check=True,
        capture_output=True,
    )  # fmt: skip
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    shutil.rmtree(run)
    shutil.rmtree(cache)
    times = {event["event"]: event["time"] for event in events if "time" in event}
    last = [event["train_loss"] for event in events if event["event"] == "epoch"][-1]
    return float(times["trained"] - times["start"]), float(last)
