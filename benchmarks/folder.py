"""A folder through `Predictor.predict`: its rate beside the engine's own, its memory, and the start of the command."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from neurodense import atomic
from neurodense.inference.card import read_card, sha256_of, write_card
from neurodense.inference.predictor import GRAPH, INT8_GRAPH, MANY, Predictor
from neurodense.scans.read import SUFFIXES
from neurodense.scans.study import read_image

_MEMORY = """
import sys
from neurodense.inference.predictor import MANY, Predictor
predictor = Predictor(sys.argv[1], precision=sys.argv[2], streams=MANY)
count = sum(1 for _ in predictor.predict(sys.argv[3:]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss starts at the parent's
print(count, peak.split()[1])
"""


def measure_folder(model: Path, images: Path, files: int, rounds: int, size: int | None, out: Path) -> None:
    """Rates of `files` files in each precision against the engine's own, in turns; then memory and cold start.

    With `size`, the model's weights are exported once more for inputs of that side: what it then answers is not what it
    was validated for, how fast it answers is.
    """
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if size is None:
        _measure(model, found, files, rounds, out)
        return
    with tempfile.TemporaryDirectory() as room:
        _resized(model, found, size, Path(room))
        _measure(Path(room), found, files, rounds, out)


def _resized(model: Path, found: list[Path], size: int, folder: Path) -> None:
    """The model folder for inputs of another size, with an int8 graph that no gate has seen."""
    import onnx

    from neurodense.training.export import export_graph
    from neurodense.training.network import Network
    from neurodense.training.qdq import quantised
    from neurodense.training.quantise import calibrate
    from neurodense.training.weights import read_state

    card = read_card(model)
    preprocess = card.preprocess.model_copy(update={"size": size})
    network = Network(len(card.classes), card.graph.dropout).eval()
    network.load_state_dict(read_state(model / "model.safetensors"))
    export_graph(network, size, folder / GRAPH)
    chosen = found[:: max(1, len(found) // 64)]
    ranges = calibrate(folder / GRAPH, [preprocess(read_image(path))[np.newaxis] for path in chosen])
    (folder / INT8_GRAPH).write_bytes(quantised(onnx.load(folder / GRAPH), ranges).SerializeToString())
    files = {name: sha256_of(folder / name) for name in (GRAPH, INT8_GRAPH)}
    write_card(folder, card.model_copy(update={"preprocess": preprocess, "files": files}))


def _measure(model: Path, found: list[Path], files: int, rounds: int, out: Path) -> None:
    paths = [found[k % len(found)] for k in range(files)]
    rows: dict[str, Any] = {}
    for precision in ("fp32", "bf16", "int8"):
        predictor = Predictor(model, precision=precision, streams=MANY)
        pixels = np.stack([predictor.card.preprocess(read_image(path)) for path in paths[:64]])
        own, whole = [], []
        for number in range(rounds + 1):
            rates = (engine_rate(predictor, pixels, files), _folder_rate(predictor, paths))
            if number:
                own.append(rates[0])
                whole.append(rates[1])
        share = statistics.median(b / a for a, b in zip(own, whole, strict=True))
        rows[precision] = {"engine": statistics.median(own), "folder": statistics.median(whole), "share": share}
        print(f"{precision}: engine {rows[precision]['engine']:.1f} images/s, {files:,} files ", end="")
        print(f"{rows[precision]['folder']:.1f} images/s, share {share:.1%}", flush=True)
    memory = {count: _memory(model, "auto", [found[k % len(found)] for k in range(count)]) for count in (100, 10_000)}
    print("peak memory: " + ", ".join(f"{count:,} files {megabytes:.0f} MiB" for count, megabytes in memory.items()))
    starts = {name: _start(words) for name, words in _commands(model, found[0]).items()}
    for name, seconds in starts.items():
        print(f"{name}: {seconds['median']:.2f} s (best {seconds['best']:.2f} s)")
    record = {
        "machine": describe(),
        "size": read_card(model).preprocess.size,
        "files": files,
        "rounds": rounds,
        "rates": rows,
        "peak_mib": memory,
        "start_s": starts,
    }
    atomic.write_json(out, record)


def engine_rate(predictor: Predictor, pixels: np.ndarray, files: int) -> float:
    """Images a second of the engine alone, from preprocessed pixels, in as many runs at once as it has streams."""
    batches = [pixels[k % 64 : k % 64 + 16] for k in range(0, min(files, 512), 16)]
    start = time.perf_counter()
    with ThreadPoolExecutor(predictor.streams) as pool:
        for _ in pool.map(predictor.outputs, batches):
            pass
    return 16 * len(batches) / (time.perf_counter() - start)


def _folder_rate(predictor: Predictor, paths: list[Path]) -> float:
    start = time.perf_counter()
    count = sum(1 for _ in predictor.predict(paths))
    return count / (time.perf_counter() - start)


def _memory(model: Path, precision: str, paths: list[Path]) -> float:
    """Peak resident memory of a process that predicts these files, MiB."""
    with tempfile.TemporaryDirectory() as room:  # links, as a command line holds no 10,000 long names
        links = [Path(room) / f"{number}{path.suffix}" for number, path in enumerate(paths)]
        for link, path in zip(links, paths, strict=True):
            link.symlink_to(path.resolve())
        code = _MEMORY.replace("sys.argv[3:]", f"sorted(__import__('pathlib').Path({room!r}).iterdir())")
        words = [sys.executable, "-c", code, str(model), precision]
        answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert int(answer[0]) == len(paths)
    return int(answer[1]) / 1024


def _commands(model: Path, image: Path) -> dict[str, list[str]]:
    base = [sys.executable, "-m", "neurodense"]
    one = [*base, "predict", str(image), "--model", str(model)]
    return {
        "--help": [*base, "--help"],
        "predict one image, fp32": [*one, "--precision", "fp32"],
        "predict one image, auto": one,
    }


def _start(words: list[str], times: int = 7) -> dict[str, float]:
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(words, capture_output=True, check=True)
        seconds.append(time.perf_counter() - start)
    return {"median": statistics.median(seconds), "best": min(seconds), "first": seconds[0]}
