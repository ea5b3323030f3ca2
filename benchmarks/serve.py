"""The service under load: latency, rate through HTTP beside the engine's own, memory, and an end under load.

The load comes from `hey` (Debian package of that name).
"""

from __future__ import annotations

import csv
import io
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.folder import engine_rate
from benchmarks.machine import describe
from benchmarks.server import TYPE, Server, form
from neurodense import atomic
from neurodense.inference.predictor import MANY, Predictor
from neurodense.scans.study import read_image

_CLIENTS = 32
_WARM_S = 3
_LOST = re.compile(r"\[(\d+)\]\s+(.*)")


def measure(model: Path, image: Path, seconds: int, soak_minutes: float, out: Path) -> None:
    """Print and write the table; `seconds` is the length of each load."""
    if shutil.which("hey") is None:
        raise SystemExit("hey is not installed: apt-get install hey")
    with tempfile.TemporaryDirectory() as room:
        body = Path(room) / "body"
        body.write_bytes(form((image.name, image.read_bytes())))
        record: dict[str, Any] = {"machine": describe(), "seconds": seconds, "clients": _CLIENTS}
        record |= _rates(model, image, body, seconds)
        record["sigterm"] = _ended_under_load(model, body)
        if soak_minutes:
            record["soak"] = _soak(model, body, soak_minutes, record["engine"])
    atomic.write_json(out, record)


def _rates(model: Path, image: Path, body: Path, seconds: int) -> dict[str, Any]:
    predictor = Predictor(model, streams=MANY)
    pixels = np.stack([predictor.card.preprocess(read_image(image))] * 64)
    engine_rate(predictor, pixels, 128)
    before = engine_rate(predictor, pixels, 512)
    with Server(model) as server:
        _hey(server, body, "-c", "4", "-z", f"{_WARM_S}s")
        alone = _hey(server, body, "-c", "1", "-n", "100")
        full = _hey(server, body, "-c", str(_CLIENTS), "-z", f"{seconds}s")
        # hey's workers cannot catch up, so what one missed is missing: the rate that was reached is said too
        each = 0.8 * before / _CLIENTS
        steady = _hey(server, body, "-c", str(_CLIENTS), "-q", f"{each:.3f}", "-z", f"{seconds}s")
    after = engine_rate(predictor, pixels, 512)
    engine = (before + after) / 2
    for name, row in (("one client", alone), (f"{_CLIENTS} clients", full), ("80% of the engine", steady)):
        print(
            f"{name:<20}{row['rate']:>8.1f}/s  median {row['median_ms']:>6.1f} ms  p99 {row['p99_ms']:>6.1f} ms  "
            f"not 200: {row['bad']}"
        )
    print(
        f"engine {before:.1f} and {after:.1f} images/s; share {full['rate'] / engine:.1%}; "
        f"p99 at 80% is {steady['p99_ms'] / alone['median_ms']:.1f} x the latency of one"
    )
    return {"engine": engine, "one": alone, "full": full, "steady": steady, "share": full["rate"] / engine}


def _hey(server: Server, body: Path, *options: str) -> dict[str, float]:
    """Rate and latencies of a load."""
    words = ["hey", *options, "-o", "csv", "-m", "POST", "-T", TYPE, "-D", str(body), server.url("/v1/predict")]
    start = time.perf_counter()
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    took = time.perf_counter() - start
    rows = list(csv.DictReader(io.StringIO(text)))
    times = [1e3 * float(row["response-time"]) for row in rows]
    return {
        "requests": len(rows),
        "rate": len(rows) / took,
        "median_ms": statistics.median(times),
        "p99_ms": float(np.percentile(times, 99)),
        "bad": sum(row["status-code"] != "200" for row in rows),
    }


def _ended_under_load(model: Path, body: Path) -> dict[str, Any]:
    """SIGTERM while 32 clients ask: of what the server began, how much was answered."""
    with Server(model) as server:
        words = ["hey", "-c", str(_CLIENTS), "-z", "6s", "-m", "POST", "-T", TYPE, "-D", str(body)]
        load = subprocess.Popen([*words, server.url("/v1/predict")], stdout=subprocess.PIPE, text=True)
        time.sleep(_WARM_S)
        start = time.perf_counter()
        status = server.stop()
        took = time.perf_counter() - start
        answered = len(re.findall(r"POST /v1/predict 200 ", server.log()))
        other = len(re.findall(r"POST /v1/predict (?!200 )", server.log()))
        text = load.communicate()[0]
    got = sum(int(count) for count in re.findall(r"\[200\]\s+(\d+) responses", text))
    errors: dict[str, int] = {}
    kinds = ("refused", "EOF", "reset", "broken pipe", "closed idle")
    for count, words_of in _LOST.findall(text.partition("Error distribution:")[2]):
        kind = next((kind for kind in kinds if kind in words_of), "other")
        errors[kind] = errors.get(kind, 0) + int(count)
    print(
        f"SIGTERM: ended with {status} in {took:.2f} s; answered {answered}, of them received {got}; "
        f"other answers {other}; errors of the clients {errors}"
    )
    return {"status": status, "seconds": took, "answered": answered, "received": got, "other": other, "errors": errors}


def _soak(model: Path, body: Path, minutes: float, engine: float) -> dict[str, Any]:
    """80% of the engine's rate for long, with the server's memory every ten seconds."""
    with Server(model) as server:
        memory: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(10):
                memory.append(server.rss_mib())

        watcher = threading.Thread(target=watch)
        watcher.start()
        each = f"{0.8 * engine / _CLIENTS:.3f}"
        row: dict[str, Any] = _hey(server, body, "-c", str(_CLIENTS), "-q", each, "-z", f"{round(60 * minutes)}s")
        over.set()
        watcher.join()
    fifth = max(1, len(memory) // 5)
    row["rss_mib"] = [statistics.mean(memory[fifth : 2 * fifth]), statistics.mean(memory[-fifth:])]
    print(f"soak {minutes:g} min: {row['rate']:.1f}/s, p99 {row['p99_ms']:.1f} ms, not 200: {row['bad']}, ", end="")
    print("MiB in the second and the last fifth: {:.0f}, {:.0f}".format(*row["rss_mib"]))
    return row
