"""Runs of the engine that requests share: whatever waits is run together, and no request waits for another's end.

A free stream of the engine takes up to `batch` slices from the requests in turn, so that a picture that comes behind a
volume of 150 slices waits for one batch of it and not for all. A stream that finds fewer than a batch waits for more
where more is being read, but no longer than the latency budget.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neurodense.inference.engine import Outputs, joined

Pixels = NDArray[np.float32]


@dataclass(eq=False)
class _Job:
    """The slices of one picture or study: pixels (N, 1, S, S), and what of them is on its way or done."""

    pixels: Pixels
    future: Future[Outputs]
    since: float
    taken: int = 0
    done: dict[int, Outputs] = field(default_factory=dict)
    finished: int = 0


@dataclass(frozen=True)
class _Part:
    job: _Job
    start: int
    stop: int


class Batcher:
    """Runs what is handed in, in threads of its own.

    Args:
        run: The engine: pixels (N, 1, S, S) to outputs. Called from `streams` threads.
        streams: Runs at once.
        batch: Slices of a run, at most.
        wait_s: The latency budget.
        observe: Told of each run: slices and seconds.
        coming: Whether more is being read, so that waiting for it may pay.
    """

    def __init__(
        self,
        run: Callable[[Pixels], Outputs],
        streams: int,
        batch: int,
        wait_s: float,
        observe: Callable[[int, float], None] = lambda slices, seconds: None,
        coming: Callable[[], bool] = lambda: True,
    ) -> None:
        self._run, self._batch, self._wait_s, self._observe, self._coming = run, batch, wait_s, observe, coming
        self._jobs: deque[_Job] = deque()
        self._some = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"engine {k}", daemon=True) for k in range(streams)]
        for thread in self._threads:
            thread.start()

    def submit(self, pixels: Pixels, future: Future[Outputs] | None = None) -> Future[Outputs]:
        """Hand in (N, 1, S, S) of at least one slice; its outputs come in the future. Cancelling it saves the work.

        Args:
            pixels: float32.
            future: Made before, where somebody waits for it already; a new one where None.
        """
        job = _Job(pixels, future or Future(), time.monotonic())
        with self._some:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._some.notify()
        return job.future

    @property
    def waiting(self) -> int:
        """Slices that no run has taken yet."""
        with self._some:
            return self._count()

    def close(self) -> None:
        """Finish what was handed in; nothing more is taken."""
        with self._some:
            self._closed = True
            self._some.notify_all()
        for thread in self._threads:
            thread.join()

    def _count(self) -> int:
        return sum(len(job.pixels) - job.taken for job in self._jobs)

    def _work(self) -> None:
        while parts := self._take():
            start = time.monotonic()
            try:
                outputs = self._run(np.concatenate([part.job.pixels[part.start : part.stop] for part in parts]))
            except BaseException as error:  # whatever it is, those who wait must hear of it
                for part in parts:
                    with suppress(InvalidStateError):
                        part.job.future.set_exception(error)
                continue
            self._observe(sum(part.stop - part.start for part in parts), time.monotonic() - start)
            place = 0
            for part in parts:
                count = part.stop - part.start
                self._give(part, outputs.rows(place, place + count))
                place += count

    def _take(self) -> list[_Part]:
        """The next run's slices; empty where all is done and the batcher closed."""
        with self._some:
            while True:
                self._jobs = deque(job for job in self._jobs if not job.future.done())  # cancelled, or failed in part
                if not self._jobs:
                    if self._closed:
                        return []
                    self._some.wait()
                    continue
                left = self._jobs[0].since + self._wait_s - time.monotonic()
                if self._closed or left <= 0 or self._count() >= self._batch or not self._coming():
                    parts = self._parts()
                    if self._jobs:
                        self._some.notify()  # for the next free stream
                    return parts
                self._some.wait(left)

    def _parts(self) -> list[_Part]:
        parts: list[_Part] = []
        room = self._batch
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            stop = min(job.taken + room, len(job.pixels))
            parts.append(_Part(job, job.taken, stop))
            room -= stop - job.taken
            job.taken = stop
            if stop < len(job.pixels):
                self._jobs.append(job)
            if not room:
                break
        return parts

    def _give(self, part: _Part, outputs: Outputs) -> None:
        job = part.job
        with self._some:
            job.done[part.start] = outputs
            job.finished += part.stop - part.start
            whole = job.finished == len(job.pixels)
        if whole:
            with suppress(InvalidStateError):  # cancelled meanwhile
                job.future.set_result(joined([job.done[start] for start in sorted(job.done)]))
