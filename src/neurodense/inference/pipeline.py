"""From inputs to the graph's outputs, in order: files are read in threads while the engine runs, within bounded memory.

    inputs -> read and preprocess (threads) -> batches -> runs of the graph (one thread a stream) -> results in order

Each arrow holds a bounded number of things and no more is read until the oldest result was taken, so a folder of
10,000 files takes the memory of one of 100.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.inference.engine import Outputs, joined
from neurodense.inference.threads import usable_cores
from neurodense.scans import read
from neurodense.scans.memory import File, MemoryFile, as_file
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.scan import Scan, Study
from neurodense.scans.series import Series
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure, read_study

Input = str | File | Series | Study | Scan | Failure
"""What is predicted: a file, a series, what was read already, or a failure to find something, which is passed on."""

HANDFUL = 8  # pictures at most that a thread reads in a row
_VOLUMES_AHEAD = 2  # that wait, preprocessed, while another one's slices run


@dataclass(frozen=True)
class Loaded:
    """An input, read and preprocessed: pixels (N, 1, S, S) of the slices that `sources` names; `scans` if kept."""

    source: str
    sources: tuple[str, ...]
    scans: tuple[Scan, ...]
    pixels: NDArray[np.float32]
    total: int
    notes: tuple[str, ...]


_Batch = Sequence[Loaded | Failure]
Run = Callable[[NDArray[np.float32]], Outputs]


def run_through(
    run: Run, streams: int, preprocess: Preprocess, inputs: Iterable[Input], slices: Slices, batch: int, *, keep: bool
) -> Iterator[tuple[Loaded, Outputs] | Failure]:
    """Inputs in order, each with the outputs for its slices; a bad file is a Failure in its place.

    In memory are at most: three batches of pictures and a handful, two volumes that were read, and one batch more than
    there are streams that run or wait for being taken.

    Args:
        run: What runs the graph. Called from `streams` threads.
        streams: Runs at once.
        preprocess: Of the model.
        inputs: Taken one by one, as there is room.
        slices: Which slices of a volume are looked at.
        batch: Pictures or slices a run of the graph.
        keep: Whether `Loaded.scans` holds the scans as they were read.
    """
    running: deque[tuple[_Batch, Future[Outputs | None]]] = deque()
    batches = _batches(inputs, lambda item: load(item, preprocess, slices, keep=keep), batch)
    with ThreadPoolExecutor(max_workers=streams) as pool:
        try:
            for items in batches:
                running.append((items, pool.submit(_outputs, run, items, batch)))
                if len(running) > streams:
                    yield from _results(*running.popleft())
            while running:
                yield from _results(*running.popleft())
        finally:  # also when the caller stops taking, or is interrupted
            pool.shutdown(wait=False, cancel_futures=True)
            batches.close()


def _outputs(run: Run, items: _Batch, batch: int) -> Outputs | None:
    """The outputs for all slices of a batch; None where nothing of it could be read."""
    stacks = [item.pixels for item in items if isinstance(item, Loaded)]
    if not stacks:
        return None
    pixels = np.concatenate(stacks)
    return joined([run(pixels[k : k + batch]) for k in range(0, len(pixels), batch)])


def _results(items: _Batch, future: Future[Outputs | None]) -> Iterator[tuple[Loaded, Outputs] | Failure]:
    outputs, start = future.result(), 0
    for item in items:
        if isinstance(item, Failure):
            yield item
        else:
            assert outputs is not None
            stop = start + len(item.sources)
            yield item, outputs.rows(start, stop)
            start = stop


def _batches(
    inputs: Iterable[Input], load: Callable[[Input], Loaded | Failure], batch: int
) -> Generator[list[Loaded | Failure]]:
    """Inputs, read and preprocessed, in lists of `batch` slices or somewhat more.

    Pictures are read ahead by two batches, in several threads; volumes by `_VOLUMES_AHEAD`, in one.
    """
    waiting: deque[tuple[bool, int, Future[list[Loaded | Failure]]]] = deque()  # a volume, inputs, what they become
    pictures = ThreadPoolExecutor(max_workers=min(8, usable_cores() + 1))
    volumes = ThreadPoolExecutor(max_workers=1)
    source = _handfuls(inputs)
    exhausted = False
    now: list[Loaded | Failure] = []
    count = 0
    try:
        while waiting or not exhausted:
            while (
                not exhausted
                and sum(held for _, held, _ in waiting) < 3 * batch
                and sum(big for big, _, _ in waiting) < _VOLUMES_AHEAD
            ):
                big, items = next(source, (False, []))
                if items:
                    pool = volumes if big else pictures
                    waiting.append((big, len(items), pool.submit(lambda items: [load(one) for one in items], items)))
                else:
                    exhausted = True
            for loaded in waiting.popleft()[2].result() if waiting else ():
                now.append(loaded)
                count += 1 if isinstance(loaded, Failure) else len(loaded.sources)
                if count >= batch:
                    yield now
                    now, count = [], 0
        if now:
            yield now
    finally:
        for pool in (pictures, volumes):
            pool.shutdown(cancel_futures=True)


def _handfuls(inputs: Iterable[Input]) -> Iterator[tuple[bool, list[Input]]]:
    """True and a volume, or False and the next pictures: one, then two, then more, up to `HANDFUL`.

    To hand a thread each by itself, and to be woken for each, takes a third of the time of reading small pictures.
    Beginning with few, a handful of large ones is read by all threads.
    """
    held: list[Input] = []
    most = 1
    for item in inputs:
        big = _may_be_a_volume(item)
        if held and big:
            yield False, held
            held = []
        if big:
            yield True, [item]
            continue
        held.append(item)
        if len(held) == most:
            yield False, held
            held, most = [], min(2 * most, HANDFUL)
    if held:
        yield False, held


def load(item: Input, preprocess: Preprocess, slices: Slices, *, keep: bool) -> Loaded | Failure:
    """Read and preprocess one input; what cannot be read is a Failure."""
    if isinstance(item, Failure):
        return item
    if isinstance(item, Scan):
        item = Study(item.source, (item,), 1)
    source = str(item) if isinstance(item, str | Path | MemoryFile) else item.source
    try:
        study = item if isinstance(item, Study) else read_study(item, slices)
        slices_ = [preprocess(scan) for scan in study.scans]
        pixels = np.stack(slices_) if len(slices_) > 1 else slices_[0][np.newaxis]  # a stack is a copy
    except ScanError as error:
        return Failure(source, type(error).__name__, error.message)
    except OSError as error:
        return Failure(source, type(error).__name__, f"{source} cannot be read: {error.strerror or error}.")
    notes = tuple(dict.fromkeys(note for scan in study.scans for note in scan.notes))
    sources = tuple(scan.source for scan in study.scans)
    return Loaded(study.source, sources, study.scans if keep else (), pixels, study.total, notes)


def _may_be_a_volume(item: Input) -> bool:
    """By its name, since it is not open yet: a volume named as a picture is read all the same, but not alone."""
    if isinstance(item, str | Path | MemoryFile):
        return as_file(item).suffix.lower() not in read.SUFFIXES
    return isinstance(item, Series)
