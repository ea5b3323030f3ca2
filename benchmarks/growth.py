"""How time, memory and disk grow with a folder: filling the cache and one head epoch, and predicting it.

The folder holds changed copies of real images (turned, shifted, brighter or darker, compressed anew), no two the same.
Each is worked on by a process of its own, whose peak memory is VmHWM. The one that fills the cache of the largest
folder is killed half-way and started again: rows that are there are not made twice. The last look at the numbers is a
line through them: seconds an image should not depend on how many there are, and memory neither.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import describe
from neurodense import atomic
from neurodense.data.catalogue import Catalogue, scan_folder

_FILL = """
import json, sys, time
from pathlib import Path
from benchmarks.growth import peak_mib
from neurodense.data.catalogue import scan_folder
from neurodense.data.split import split_records
from neurodense.inference.threads import usable_cores
from neurodense.screen import Screen
from neurodense.training.activations import Activations
from neurodense.training.checkpoint import Checkpoint, Position
from neurodense.training.dataset import ImageRecords
from neurodense.training.execute import seed_everything
from neurodense.training.fit import Fit, Setting
from neurodense.training.journal import Journal
from neurodense.training.memory import keep_freed_memory
from neurodense.training.network import new_network
from neurodense.training.precision import choose
from neurodense.training.recipe import load_recipe
from neurodense.training.views import Views

class Heard(Screen):
    said = []
    def say(self, text):
        self.said.append(text)

data, room, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
recipe = load_recipe("notebook")
head = recipe.stage[0].model_copy(update={"epochs": 1})
recipe = recipe.model_copy(update={"stage": (head,), "image_size": size})
arithmetic, start = choose("auto", "auto"), time.perf_counter()
catalogue = scan_folder(data)
read = time.perf_counter()
split = split_records(catalogue, seed=0)
seed_everything(0)
keep_freed_memory()
network = new_network(len(catalogue.classes), recipe).to(arithmetic.device)
parts = split.parts
images = ImageRecords(data, catalogue.classes, (*parts["train"], *parts["validation"]), recipe.preprocess)
views = Views(0, recipe.augment, recipe.lesions)
activations = Activations(room / "cache", network, recipe.preprocess, arithmetic, views, Heard())
setting = Setting(images, len(parts["train"]), 0, arithmetic, usable_cores(), room / "checkpoints")
journal = Journal(room, 0, 0)
fit = Fit(network, recipe, setting, activations, journal, Heard())
fit.run(Checkpoint(Position(), network.state_dict()))
journal.close()
epoch = next(json.loads(x) for x in (room / "log.jsonl").read_text().splitlines() if '"event": "epoch"' in x)
end = time.perf_counter()
print(json.dumps({
    "images": len(images), "reading_s": read - start, "fill_and_epoch_s": end - read, "head_epoch_s": epoch["seconds"],
    "peak_mib": peak_mib(), "announced": next(x for x in Heard.said if x.startswith("activations: ")),
}))
"""

_PREDICT = """
import json, sys, time
from pathlib import Path
from benchmarks.growth import peak_mib
from neurodense.inference.predictor import MANY, Predictor
from neurodense.scans.study import find_studies
start = time.perf_counter()
count = sum(1 for _ in Predictor("brain", streams=MANY).predict(find_studies([Path(sys.argv[1])])))
print(json.dumps({"images": count, "seconds": time.perf_counter() - start, "peak_mib": peak_mib()}))
"""


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measure(data: Path, sizes: Sequence[int], size: int, out: Path) -> None:
    """Measure every size, smallest first, print a line for each, write `out` after each."""
    catalogue = scan_folder(data)
    rows: list[dict[str, Any]] = []
    for count in sorted(sizes):
        with tempfile.TemporaryDirectory() as room:
            folder = Path(room)
            write_copies(catalogue, count, folder / "data")
            words = (folder / "data", folder, size)
            killed = None
            if rows and count == max(sizes):
                last = rows[-1]["training"]
                half = last["disk_bytes"] / last["images"] * count * 0.4
                killed = _killed(folder / "cache", half, _FILL, *words)
            filled = _child(_FILL, *words)
            disk = _bytes(folder / "cache")
            shutil.rmtree(folder / "cache")
            predicted = _child(_PREDICT, folder / "data")
        rows.append(
            {"files": count, "training": {**filled, "disk_bytes": disk, "killed": killed}, "predict": predicted}
        )
        print(
            f"{count:>8,} files: reading {filled['reading_s']:.1f} s; "
            f"cache and head epoch {filled['fill_and_epoch_s']:.1f} s "
            f"({1000 * filled['fill_and_epoch_s'] / filled['images']:.1f} ms an image), {filled['peak_mib']:.0f} MiB, "
            f"{_again(killed)}{disk / 1e6:.1f} MB on disk ({filled['announced']}); "
            f"predict {predicted['seconds']:.1f} s "
            f"({1000 * predicted['seconds'] / count:.1f} ms an image), {predicted['peak_mib']:.0f} MiB",
            flush=True,
        )
        atomic.write_json(out, {"machine": describe(), "size": size, "rows": rows})


def write_copies(catalogue: Catalogue, count: int, folder: Path) -> None:
    """Write `count` changed copies of images, taken in turn from all of them, in their class folders."""
    records, rng = catalogue.records, np.random.default_rng(0)
    for number in range(count):
        record = records[number * len(records) // count if count < len(records) else number % len(records)]
        with Image.open(catalogue.root / record.path) as image:
            grey = image.convert("L")
        shift = tuple(rng.integers(-6, 7, 2).tolist())
        turned = grey.rotate(float(rng.uniform(-12, 12)), Image.Resampling.BILINEAR, translate=shift)
        bright = turned.point(
            [min(255, round(value * gain)) for gain in (float(rng.uniform(0.8, 1.2)),) for value in range(256)]
        )
        target = folder / record.label / f"{number:06d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        bright.save(target, quality=int(rng.integers(80, 96)))


def _killed(cache: Path, enough: float, code: str, *words: object) -> dict[str, float]:
    """Start a child and kill it when the cache holds `enough` bytes; how long it ran, and what it left."""
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-c", code, *map(str, words)], stdout=subprocess.DEVNULL)
    while child.poll() is None and _bytes(cache) < enough:
        time.sleep(0.2)
    if child.poll() is not None:
        raise RuntimeError("the child ended before it could be killed")
    child.kill()
    child.wait()
    return {"seconds": time.perf_counter() - start, "disk_bytes": _bytes(cache)}


def _again(killed: dict[str, float] | None) -> str:
    if killed is None:
        return ""
    return f"after a kill at {killed['seconds']:.1f} s that left {killed['disk_bytes'] / 1e6:.1f} MB; "


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _child(code: str, *words: object) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
