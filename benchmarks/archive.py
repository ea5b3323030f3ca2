"""Archives: two nodes on this machine, one worker against two, one that is killed, and what ten million files take."""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from benchmarks.folder import engine_rate
from benchmarks.machine import describe
from benchmarks.nodes import ENVIRONMENT, Nodes, command, finished, twice_and_lost, two_nodes
from neurodense import atomic
from neurodense.inference.archive import SHARD
from neurodense.inference.predictor import Predictor
from neurodense.scans.read import SUFFIXES
from neurodense.scans.study import read_image

_PLAIN = 1000  # files at most for the rates without Ray


def measure(files: int, shard: int, rounds: int, model: Path, data: Path, out: Path) -> None:
    """Print and write the table.

    `files` files, one of which is no picture, are classified by one worker and by two, in turns, and once by two of
    which one is killed. A run's rate is that between the first shards and the last, since starting takes as long for a
    thousand files as for ten million; `start` is what the whole command took beyond it.
    """
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in SUFFIXES)
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        read = _fill(room / "files", found, files)
        graph, plain = _without_ray(model, found)
        print(f"graph alone {graph:.1f} images/s, predict without Ray {plain:.1f} files/s, one thread each")
        runs: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        with two_nodes() as nodes:
            for number in range(rounds):
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    runs[workers].append(_run(nodes, room, model, workers, shard, files))
            killed = _run(nodes, room, model, 2, shard, files, kill=True)
    one, two = (statistics.median(run["rate"] for run in runs[workers]) for workers in (1, 2))
    record = {
        "machine": describe(),
        "files": files,
        "shard": shard,
        "rounds": rounds,
        "graph_rate": graph,
        "plain_rate": plain,
        "one": runs[1],
        "two": runs[2],
        "killed": killed,
        "rate": one,
        "efficiency": two / one / 2,
        "start_s": statistics.median(run["start"] for run in (*runs[1], *runs[2])),
        "bytes_read": read / files,
        "bytes_written": killed["bytes"] / files,
    }
    print(
        f"one worker {one:.1f} files/s, two {two:.1f} ({two / one:.2f} times); start and end {record['start_s']:.0f} s"
    )
    atomic.write_json(out, record)


def _fill(folder: Path, found: list[Path], files: int) -> int:
    """`files` files: the pictures again and again, hard links where that can be, and one that is none. Their bytes."""
    for number in range(files - 1):
        source = found[number % len(found)]
        path = folder / f"{number // 1000:03}" / f"{number:07}{source.suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)
    (folder / "000" / "no-picture.png").write_bytes(b"no picture")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _without_ray(model: Path, found: list[Path]) -> tuple[float, float]:
    """Images a second of the graph alone, and files a second of `Predictor.predict`, on one thread."""
    predictor = Predictor(model, threads=1)
    pixels = np.stack([predictor.card.preprocess(read_image(path)) for path in found[:64]])
    engine_rate(predictor, pixels, 64)
    start = time.perf_counter()
    count = sum(1 for _ in predictor.predict(found[:_PLAIN]))
    return engine_rate(predictor, pixels, 512), count / (time.perf_counter() - start)


def _run(
    nodes: Nodes, room: Path, model: Path, workers: int, shard: int, files: int, *, kill: bool = False
) -> dict[str, float]:
    """One archive from nothing, counted."""
    out = room / "out"
    shutil.rmtree(out, ignore_errors=True)
    options = ["--address", nodes.address, "--threads", str(workers), "--shard", str(shard), "--model", str(model)]
    shards = math.ceil(files / shard)
    killer = threading.Thread(target=nodes.kill_worker, args=(out, max(1, shards // 3)))
    if kill:
        killer.start()
    start = time.perf_counter()
    words = command([str(room / "files")], out, *options)
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    took = time.perf_counter() - start
    if done.returncode != 1:  # one file is no picture
        raise SystemExit(f"{' '.join(words)} gave {done.returncode}:\n{done.stderr}")
    if kill:
        killer.join()
    times = sorted(path.stat().st_mtime for path in (out / "predictions").glob("part-*"))
    rate = (len(times) - workers) * shard / (times[-1] - times[workers - 1])
    twice, lost, strange = twice_and_lost(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    title = f"{workers} worker{'s' if workers > 1 else ''}{', one killed' if kill else ''}"
    print(
        f"{title}: {took:.1f} s, {rate:.1f} files/s; {finished(out)} shards, twice {twice}, lost {lost}, "
        f"unasked {strange}",
        flush=True,
    )
    return {
        "seconds": took, "rate": rate, "start": took - files / rate, "twice": twice, "lost": lost, "strange": strange,
        "bytes": size,
    }  # fmt: skip


def plan(files: int, cores: int, hours: float, record: Path) -> None:
    """Print what `files` files take, from the measured figures: each line a formula with its numbers in it."""
    said = json.loads(record.read_text(encoding="utf-8"))
    rate, efficiency, start = said["rate"], said["efficiency"], said["start_s"]
    share = min(1.0, efficiency)
    work = files / rate / 3600 / share
    nodes = math.ceil(work / (cores * hours))
    whole = work / (nodes * cores) + start / 3600
    each = rate * share * cores * said["bytes_read"] / 1e6
    shards = math.ceil(files / SHARD)
    work_is = f"files / rate / 3600 / efficiency = {files:,} / {rate:.1f} / 3600 / {share:.2f}"
    nodes_are = f"core-hours / (cores x hours), rounded up = {work:,.1f} / ({cores} x {hours:g})"
    hours_are = f"core-hours / (nodes x cores) + start = {work:,.1f} / ({nodes:,} x {cores}) + {start:.0f} s"
    bytes_in, bytes_out = said["bytes_read"], said["bytes_written"]
    lines = [
        ("core-hours", work_is, f"{work:,.1f}"),
        ("nodes", nodes_are, f"{nodes:,}"),
        ("hours", hours_are, f"{whole:.2f}"),
        ("read", f"files x bytes of a file = {files:,} x {bytes_in:,.0f}", f"{files * bytes_in / 1e9:,.1f} GB"),
        ("read by a node", f"rate x efficiency x cores x bytes of a file, {cores} cores", f"{each:,.1f} MB/s"),
        ("written", f"files x bytes of a row = {files:,} x {bytes_out:,.0f}", f"{files * bytes_out / 1e9:,.2f} GB"),
        ("shards", f"files / {SHARD:,}, rounded up", f"{shards:,}"),
        ("lost by a kill", f"at most a shard: {SHARD:,} / rate", f"{SHARD / rate:,.0f} s of a core"),
        ("time in the graph", "rate / rate of the graph alone; the rest reads", f"{rate / said['graph_rate']:.0%}"),
    ]
    for name, formula, value in lines:
        print(f"{name:<20}{formula:<84}{value:>14}")
