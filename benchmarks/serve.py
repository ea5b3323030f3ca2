"""The service under load: its rate beside what the same files cost without HTTP, latency, memory, an end under load.

The load comes from `hey` (Debian package of that name), as much as 32 clients can ask, and from `h2load` (Debian's
nghttp2-client), so many requests a second; both on the same cores as the service.
"""

from __future__ import annotations

import csv
import io
import re
import resource
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.folder import engine_rate
from benchmarks.machine import describe
from benchmarks.server import TYPE, Server, form
from neurodense import atomic
from neurodense.inference.predictor import MANY, Predictor
from neurodense.inference.threads import usable_cores
from neurodense.scans.memory import MemoryFile
from neurodense.scans.study import read_image

_CLIENTS = 32
_SHARES = (0.4, 0.6, 0.8)  # of the engine's own rate, at which latency is looked at
_WARM_S = 3
_ALONE_S = 2
_BATCH = 16  # beside the predictor's own, which is the service's too: the faster one counts
_FILES = 256
_LOST = re.compile(r"\[(\d+)\]\s+(.*)")


def measure(model: Path, image: Path, seconds: int, rounds: int, workers: int, soak_s: float, out: Path) -> None:
    """Print and write the table; `seconds` is the length of each load."""
    for name, package in (("hey", "hey"), ("h2load", "nghttp2-client")):
        if shutil.which(name) is None:
            raise SystemExit(f"{name} is not installed: apt-get install {package}")
    with tempfile.TemporaryDirectory() as room:
        body = Path(room) / "body"
        body.write_bytes(form((image.name, image.read_bytes())))
        record: dict[str, Any] = {"machine": describe(), "seconds": seconds, "clients": _CLIENTS, "workers": workers}
        options, engine = ("--workers", str(workers)), _Engine(model, image)
        with Server(model, *options) as server:
            record |= _rates(engine, server, body, seconds, rounds)
            record["one"] = _one(server, body)
            record["steady"] = [_steady(engine, server, body, share, seconds, rounds) for share in _SHARES]
        record["sigterm"] = _ended_under_load(model, options, body)
        if soak_s:
            record["soak"] = _soak(model, options, body, soak_s, record["engine"]["median"])
    atomic.write_json(out, record)


class _Engine:
    """What the service has inside, without HTTP.

    Attributes:
        batch: With which it is faster: None for the predictor's own, which is the service's too, or `_BATCH`.
        used: Of each, CPU seconds of a picture.
    """

    def __init__(self, model: Path, image: Path) -> None:
        self._predictor = Predictor(model, streams=MANY)
        self._pixels = np.stack([self._predictor.card.preprocess(read_image(image))] * 64)
        self._files = [MemoryFile(image.name, image.read_bytes())] * _FILES
        self.batch: int | None = None
        self.used: dict[int | None, list[float]] = {None: [], _BATCH: []}

    def graph(self) -> float:
        """Pictures a second of the graph alone."""
        return engine_rate(self._predictor, self._pixels, 512)

    def rate(self, batch: int | None) -> float:
        """Pictures a second from encoded files to answers."""
        start, busy = time.perf_counter(), time.process_time()
        count = sum(1 for _ in self._predictor.predict(self._files, batch=batch))
        self.used[batch].append((time.process_time() - busy) / count)
        return count / (time.perf_counter() - start)


def _rates(engine: _Engine, server: Server, body: Path, seconds: int, rounds: int) -> dict[str, Any]:
    """Images a second of the graph, of the files without HTTP, and of the service, in turns."""
    engine.graph()
    engine.rate(None)
    engine.used[None].clear()
    _hey(server, body, "-c", "4", "-z", f"{_WARM_S}s")
    found: dict[str, list[float]] = {"graph": [], "own batch": [], "batch 16": [], "http": []}
    loads = []
    for _ in range(rounds):
        found["graph"].append(_for(seconds / 3, engine.graph))
        found["own batch"].append(_for(seconds / 3, lambda: engine.rate(None)))
        found["batch 16"].append(_for(seconds / 3, lambda: engine.rate(_BATCH)))
        loads.append(_hey(server, body, "-c", str(_CLIENTS), "-z", f"{seconds}s"))
        found["http"].append(loads[-1]["rate"])
    spread = {name: _spread(all_) for name, all_ in found.items()}
    if spread["batch 16"]["median"] > spread["own batch"]["median"]:
        engine.batch = _BATCH
    own = spread["own batch" if engine.batch is None else "batch 16"]
    # What the generator takes of the cores, a client elsewhere would not.
    taken = statistics.median(load["hey_cores"] for load in loads) / usable_cores()
    http = spread["http"]["median"]
    shares = {
        "of the engine": http / own["median"],
        "of the engine, without hey": http / own["median"] / (1 - taken),
        "of the graph": http / spread["graph"]["median"],
    }
    for name, row in spread.items():
        print(f"{name:<20}{row['median']:>8.1f}/s  ({row['from']:.1f} to {row['to']:.1f})")
    print(f"HTTP has {shares['of the engine']:.1%} of the engine's own rate ({own['median']:.1f}/s), ", end="")
    print(f"{shares['of the engine, without hey']:.1%} with hey's {taken:.1%} of the cores taken ", end="")
    print(f"out, {shares['of the graph']:.1%} of the bare graph's")
    own_ms = 1e3 * min(map(statistics.median, engine.used.values()))
    server_ms, hey_ms = (statistics.median(load[name] for load in loads) for name in ("server_ms", "hey_ms"))
    # On a machine that does other work too, rates say little and this says most.
    print(f"CPU of a picture without HTTP {own_ms:.2f} ms; of a request: service {server_ms:.2f} ms, ", end="")
    print(f"hey {hey_ms:.2f} ms: ", end="")
    print(f"{own_ms / (server_ms + hey_ms):.1%}, without hey {own_ms / server_ms:.1%}; ", end="")
    middle, late = (statistics.median(load[name] for load in loads) for name in ("median_ms", "p99_ms"))
    print(f"{_CLIENTS} clients: median {middle:.1f} ms, p99 {late:.1f} ms; ", end="")
    print(f"not 200: {sum(load['bad'] for load in loads)}", flush=True)
    cpu = {"without_http": own_ms, "service": server_ms, "hey": hey_ms}
    return {
        "engine": own,
        "rates": spread,
        "shares": shares,
        "hey_of_the_cores": taken,
        "cpu_ms": cpu,
        "full": loads,
    }


def _for(seconds: float, rate: Callable[[], float]) -> float:
    """The mean rate of equal jobs, over so long."""
    start, rates = time.perf_counter(), [rate()]
    while time.perf_counter() - start < seconds:
        rates.append(rate())
    return statistics.harmonic_mean(rates)


def _one(server: Server, body: Path) -> dict[str, float]:
    row = _hey(server, body, "-c", "1", "-n", "200")
    print(f"one client: median {row['median_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms, {row['rate']:.1f}/s")
    return row


def _steady(engine: _Engine, server: Server, body: Path, share: float, seconds: int, rounds: int) -> dict[str, Any]:
    """So much of the engine's own rate, in turns with that rate and with one client: the machine's speed moves."""
    turns = []
    for _ in range(rounds):
        own = _for(seconds / 3, lambda: engine.rate(engine.batch))
        one_ms = _hey(server, body, "-c", "1", "-z", f"{_ALONE_S}s")["median_ms"]
        row = _paced(server, body, share * own, seconds)
        turns.append({"engine": own, "one_ms": one_ms, **row, "times_one": row["p99_ms"] / one_ms})
    times = _spread([turn["times_one"] for turn in turns])
    middle = {
        name: statistics.median(turn[name] for turn in turns) for name in ("asked", "rate", "median_ms", "p99_ms")
    }
    bad = sum(turn["bad"] for turn in turns)
    print(
        f"{share:.0%} of the engine's own rate: asked {middle['asked']:.1f}/s, got {middle['rate']:.1f}/s, median "
        f"{middle['median_ms']:.1f} ms, p99 {middle['p99_ms']:.1f} ms = {times['median']:.1f} x one client's median "
        f"({times['from']:.1f} to {times['to']:.1f}), not 200: {bad}",
        flush=True,
    )
    return {"share": share, **middle, "times_one": times, "bad": bad, "turns": turns}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "from": min(values), "to": max(values)}


def _words(server: Server, body: Path, *options: str) -> list[str]:
    return ["hey", *options, "-m", "POST", "-T", TYPE, "-D", str(body), server.url("/v1/predict")]


def _hey(server: Server, body: Path, *options: str) -> dict[str, float]:
    """Rate, latencies and CPU time of a load."""
    busy, own = server.cpu_s(), _children_s()
    start = time.perf_counter()
    text = subprocess.run(
        _words(server, body, *options, "-o", "csv"), capture_output=True, text=True, check=True
    ).stdout
    took = time.perf_counter() - start
    busy, own = server.cpu_s() - busy, _children_s() - own
    rows = csv.DictReader(io.StringIO(text))
    answers = [(1e3 * float(row["response-time"]), int(row["status-code"])) for row in rows]
    count = len(answers)
    cpu = {"server_ms": 1e3 * busy / count, "hey_ms": 1e3 * own / count, "hey_cores": own / took}
    return {"requests": count, "rate": count / took, **_latencies(answers), **cpu}


def _paced(server: Server, body: Path, rate: float, seconds: float) -> dict[str, float]:
    """A load of `rate` requests a second from 32 clients that begin one after the other, evenly spaced.

    A client asks again at its next time, or, where the answer before came later than that, at once: it catches up, so
    that the rate is kept where it can be. The time in which they start does not count, and at least a second.
    """
    period_ms = max(1, round(1000 / rate))
    start_s = max(1.0, _CLIENTS * period_ms / 1000)
    with tempfile.TemporaryDirectory() as room:
        log = Path(room) / "log"
        words = ["h2load", "--h1", "-c", str(_CLIENTS), "-r", "1", f"--rate-period={period_ms}ms"]
        words += [f"--rps={rate / _CLIENTS:.4f}", "-n", str(round(rate * (start_s + seconds))), "-d", str(body)]
        words += ["-H", f"content-type: {TYPE}", f"--log-file={log}", server.url("/v1/predict")]
        subprocess.run(words, stdout=subprocess.DEVNULL, check=True)
        lines = [tuple(map(int, line.split("\t")[:3])) for line in log.read_text().splitlines()]  # times in us
    first = min(began for began, _, _ in lines)
    answers = [
        (took / 1e3, status) for began, status, took in lines if start_s <= (began - first) / 1e6 < start_s + seconds
    ]
    return {"asked": rate, "requests": len(answers), "rate": len(answers) / seconds, **_latencies(answers)}


def _latencies(answers: Sequence[tuple[float, int]]) -> dict[str, float]:
    """Of milliseconds and statuses."""
    times = [ms for ms, _ in answers]
    return {
        "median_ms": statistics.median(times),
        "p99_ms": float(np.percentile(times, 99)),
        "bad": sum(status != 200 for _, status in answers),
    }


def _children_s() -> float:
    """CPU seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ended_under_load(model: Path, options: Sequence[str], body: Path) -> dict[str, Any]:
    """SIGTERM while 32 clients ask: of what the server began, how much was answered."""
    with Server(model, *options) as server:
        words = _words(server, body, "-c", str(_CLIENTS), "-z", "6s")
        load = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
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
    lost = answered - got
    print(
        f"SIGTERM under load: ended with {status} in {took:.2f} s; accepted and answered {answered}, received {got}, "
        f"lost {lost}; other answers {other}; errors of the clients {errors}",
        flush=True,
    )
    record = {"answered": answered, "received": got, "lost": lost, "other": other, "errors": errors}
    return {"status": status, "seconds": took, **record}


def _soak(model: Path, options: Sequence[str], body: Path, seconds: float, engine: float) -> dict[str, Any]:
    """80% of the engine's own rate for long, with the service's memory every ten seconds."""
    with Server(model, *options) as server:
        memory: list[float] = []
        over = threading.Event()

        def watch() -> None:
            while not over.wait(min(10, seconds / 10)):
                memory.append(server.rss_mib())

        watcher = threading.Thread(target=watch)
        watcher.start()
        row: dict[str, Any] = _paced(server, body, _SHARES[-1] * engine, seconds)
        over.set()
        watcher.join()
    fifth = max(1, len(memory) // 5)
    row["rss_mib"] = {"start": memory[0], "end": memory[-1], "every": memory}
    row["rss_fifths_mib"] = [statistics.mean(memory[fifth : 2 * fifth]), statistics.mean(memory[-fifth:])]
    print(f"soak {seconds:g} s: {row['rate']:.1f}/s, p99 {row['p99_ms']:.1f} ms, not 200: {row['bad']}; ", end="")
    print(
        f"MiB {memory[0]:.0f} at the start, {memory[-1]:.0f} at the end; mean of the second and of the last fifth ",
        end="",
    )
    print("{:.0f}, {:.0f}".format(*row["rss_fifths_mib"]))
    return row
