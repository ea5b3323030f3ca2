"""The notebook recipe, 23 epochs: neurodense with its cache against the plain loop on the same images, in one run.

The plain loop would take hours, so each kind of epoch is timed (head, block 4, evaluation) and summed as the recipe
has them: 10 head + 13 block 4 + 23 evaluations. neurodense is run whole, from cold cache to the last checkpoint, with
its logging and checkpoints. Listing the folder, export and report are left out, as the plain loop has none of them.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.plain import PlainLoop
from neurodense import atomic
from neurodense.data.catalogue import Catalogue, scan_folder
from neurodense.data.split import split_records
from neurodense.training.precision import PrecisionName
from neurodense.training.run import train


def measure(data: Path, images: int, out: Path) -> None:
    """Time both, print a table, write `out`."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        catalogue = copy_some(scan_folder(data), images, folder / "data")
        split = split_records(catalogue, seed=0)
        for part in ("train", "validation"):
            for record in split.parts[part]:
                target = folder / "plain" / part / record.path
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(catalogue.root / record.path, target)
        counts = {part: len(records) for part, records in split.parts.items()}
        print(f"{counts['train']} training and {counts['validation']} validation images", flush=True)

        precisions: tuple[PrecisionName, ...] = ("fp32", "auto")
        ours = {precision: [_ours(folder, precision, 0)] for precision in precisions}
        loop = PlainLoop(folder / "plain", len(catalogue.classes))
        kinds = {"head": loop.epoch("head"), "block 4": loop.epoch("block 4"), "evaluation": loop.evaluation()}
        for precision, times in ours.items():  # again, after the plain loop, so that drift of the machine shows
            times.append(_ours(folder, precision, 1))
    epochs = {"head": 10, "block 4": 13, "evaluation": 23}
    plain = sum(epochs[kind] * seconds for kind, seconds in kinds.items())
    print(f"plain loop, fp32: {plain:8.1f} s  (" + ", ".join(f"{k} epoch {s:.1f} s" for k, s in kinds.items()) + ")")
    for precision, times in ours.items():
        best, worst = min(times), max(times)
        print(
            f"neurodense, {precision:>4}: {best:7.1f} to {worst:.1f} s  ratio {plain / worst:.1f} to {plain / best:.1f}"
        )
    atomic.write_json(
        out, {"machine": describe(), "images": counts, "plain_epoch_s": kinds, "plain_s": plain, "neurodense_s": ours}
    )


def _ours(folder: Path, precision: PrecisionName, number: int) -> float:
    """Seconds of the whole notebook recipe from a cold cache, from the first decoded image to the last checkpoint."""
    run, cache = folder / f"run-{precision}-{number}", folder / f"cache-{precision}-{number}"
    train(folder / "data", run, recipe="notebook", weights="none", precision=precision, workers=2, cache=cache)
    shutil.rmtree(cache)
    events = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    times = {event["event"]: event["time"] for event in events if "time" in event}
    return float(times["trained"] - times["start"])


def copy_some(catalogue: Catalogue, images: int, target: Path) -> Catalogue:
    """Copy every k-th image, so that classes keep their shares."""
    step = max(1, len(catalogue.records) // images)
    for record in catalogue.records[::step]:
        path = target / record.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(catalogue.root / record.path, path)
    return scan_folder(target)
