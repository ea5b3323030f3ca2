"""Read many damaged files of every format, each under a limit of time and memory, and count how it ends."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.mutations import Seed, damaged, picture, read_or_refuse, seeds

ENDS = ("read", "refused", "foreign", "crash", "hang")


@dataclass
class Tally:
    """How the files of one format ended."""

    ends: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0
    peak_mb: float = 0.0

    def add(self, end: str, ms: float, peak_mb: float) -> None:
        """Count one file. `peak_mb`: the most memory its process has had so far."""
        self.ends[end] += 1
        self.slowest_ms = max(self.slowest_ms, ms)
        self.peak_mb = max(self.peak_mb, peak_mb)


def fuzz(
    mutations: int, data: Path | None, only: str, workers: int, limit_s: float, limit_mb: int, seed: int, keep: Path
) -> bool:
    """Read `mutations` damaged files, shared evenly by the formats whose name holds `only`; print a table.

    Args:
        mutations: Files in all.
        data: A picture file to make the seeds from; None: one is drawn.
        only: Part of a format's name, in any case; all of them where empty.
        workers: Processes at a time.
        limit_s: A file that takes longer is a hang.
        limit_mb: Address space of a process beyond what it has when it begins.
        seed: The same seed gives the same files.
        keep: Folder for the files that ended in anything but a scan or a `ScanError`.

    Returns:
        True where every file ended in one of these two.
    """
    groups: dict[str, list[Seed]] = {}
    for item in seeds(picture(data)):
        if only.lower() in item.name.lower():
            groups.setdefault(item.name, []).append(item)
    if not groups:
        print(f"No format's name holds {only!r}.", file=sys.stderr)
        return False
    share = -(-mutations // len(groups))
    with ThreadPoolExecutor(workers) as pool:
        tasks = [
            pool.submit(_supervise, name, group, share, limit_s, limit_mb, seed, keep) for name, group in groups.items()
        ]
        counts = "".join(f"{end:>9}" for end in ENDS)
        print(f"{'format':<18}{'mutations':>10}{counts}{'slowest ms':>12}{'MB':>8}")
        total = Tally()
        for name, task in zip(groups, tasks, strict=True):
            tally = task.result()
            print(_line(name, tally), flush=True)
            total.ends += tally.ends
            total.slowest_ms, total.peak_mb = max(total.slowest_ms, tally.slowest_ms), max(total.peak_mb, tally.peak_mb)
    print(_line("all", total))
    return not any(total.ends[end] for end in ("foreign", "crash", "hang"))


def _line(name: str, tally: Tally) -> str:
    counts = "".join(f"{tally.ends[end]:>9,}" for end in ENDS)
    return f"{name:<18}{tally.ends.total():>10,}{counts}{tally.slowest_ms:>12,.0f}{tally.peak_mb:>8,.0f}"


def _supervise(name: str, group: list[Seed], count: int, limit_s: float, limit_mb: int, seed: int, keep: Path) -> Tally:
    """Give one format's files to a process; start another after each one that died or had to be ended."""
    spawn = multiprocessing.get_context("spawn")
    tally, done = Tally(), 0
    with tempfile.TemporaryDirectory() as room:
        while done < count:
            here, there = spawn.Pipe()
            process = spawn.Process(
                target=_read_all, args=(there, name, group, range(done, count), limit_mb, seed, room), daemon=True
            )
            process.start()
            there.close()
            here.recv()  # it has loaded what it needs
            start = time.perf_counter()
            try:
                while done < count:
                    start = time.perf_counter()
                    if not here.poll(limit_s):
                        end, said = "hang", f"longer than {limit_s} s"
                        break
                    end, ms, peak_mb, said = here.recv()
                    tally.add(end, ms, peak_mb)
                    if end == "foreign":
                        _keep(keep, name, group, done, seed, said)
                    done += 1
            except EOFError:
                process.join(5)
                end, said = "crash", f"exit status {process.exitcode}"
            process.kill()
            process.join()
            if done < count:
                tally.add(end, 1e3 * (time.perf_counter() - start), 0)
                _keep(keep, name, group, done, seed, said)
                done += 1
    return tally


def _file(name: str, group: list[Seed], number: int, seed: int) -> bytes:
    chance = random.Random(f"{seed} {name} {number}")
    return damaged(chance.choice(group), chance)


def _keep(folder: Path, name: str, group: list[Seed], number: int, seed: int, said: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}-{number}"
    path.write_bytes(_file(name, group, number, seed))
    print(f"{path}: {said}", file=sys.stderr, flush=True)


def _read_all(
    pipe: Connection, name: str, group: list[Seed], numbers: range, limit_mb: int, seed: int, room: str
) -> None:
    """In a process of its own: read one file after another, and send how each ended."""
    noise = tempfile.TemporaryFile()  # noqa: SIM115  (held as long as the process lives)
    os.dup2(noise.fileno(), 1)
    os.dup2(noise.fileno(), 2)
    begun = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begun + limit_mb * 2**20,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    path = Path(room) / "damaged"
    pipe.send("ready")
    for number in numbers:
        path.write_bytes(_file(name, group, number, seed))
        start = time.perf_counter()
        try:
            end, said = ("read" if read_or_refuse(path) else "refused"), ""
        except BaseException as error:
            end, said = "foreign", f"{type(error).__name__}: {error}"
        ms = 1e3 * (time.perf_counter() - start)
        if os.fstat(noise.fileno()).st_size:
            noise.seek(0)
            end, said = "foreign", f"it printed: {noise.read(500)!r}"
            noise.truncate(0)
            noise.seek(0)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pipe.send((end, ms, peak_mb, said))
