"""From files to answers, for many requests at once: read in a few threads, run in shared batches, within bounds.

The parts are those of `inference/pipeline.py`, which is for one caller with many files. Here are many callers, so no
order is kept between them and none waits for another's volume.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeVar

from neurodense.inference.engine import Outputs
from neurodense.inference.pipeline import Loaded, load
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.inference.threads import usable_cores
from neurodense.scans.memory import MemoryFile
from neurodense.scans.raster import raster_format
from neurodense.scans.scan import Scan
from neurodense.scans.series import Series
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure
from neurodense.serving.archives import arrange
from neurodense.serving.batching import Batcher
from neurodense.serving.limits import Limits
from neurodense.serving.metrics import Metrics
from neurodense.serving.problems import Problem, busy
from neurodense.serving.uploads import Held, Share

Item = MemoryFile | Series | Failure
T = TypeVar("T")

_READERS = 4  # threads: a picture of 64 megapixels takes half a gigabyte while it is read
_PICTURES = 32  # read, and not answered yet
_AHEAD = 8  # of them by one request
_VOLUMES = 2


class _UnreadError(Exception):
    """There is nothing to run: it could not be read."""


@dataclass(frozen=True)
class Answered:
    """A prediction, and what a heat map is made of.

    Attributes:
        prediction: As the command line prints it.
        outputs: Of the graph, for the slices that were looked at.
        kept: What was asked to be kept of each of these slices.
    """

    prediction: Prediction
    outputs: Outputs
    kept: tuple[Any, ...]


class Service:
    """A model that many ask at once. Its coroutines are for one event loop.

    Args:
        predictor: The model.
        limits: What is taken on.

    Attributes:
        stopping: True once it takes on nothing new.
    """

    def __init__(self, predictor: Predictor, limits: Limits) -> None:
        self.predictor, self.limits, self.metrics = predictor, limits, Metrics()
        self.stopping = False
        self._held = Held(limits.held_bytes)
        self._requests, self._reading, self._slice_s = 0, 0, 0.05
        self._counting = threading.Lock()
        self._batcher = Batcher(
            predictor.scored, predictor.streams, predictor.batch, limits.batch_wait_s, self._observe,
            lambda: self._reading > 0,
        )  # fmt: skip
        self._readers = ThreadPoolExecutor(min(_READERS, usable_cores() + 1), "read")
        self._volume_reader = ThreadPoolExecutor(1, "read volume")
        self._pictures, self._volumes = asyncio.Semaphore(_PICTURES), asyncio.Semaphore(_VOLUMES)
        self.metrics.watch("requests_now", "Requests that are read, wait or are answered.", lambda: self._requests)
        self.metrics.watch("queue_slices", "Slices that wait for the engine.", lambda: self._batcher.waiting)
        self.metrics.watch("held_bytes", "Bytes of requests in memory.", lambda: self._held.total)

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[Share]:
        """A place for one request, held for the block.

        Raises:
            Problem: 429, there is none; 503, the service is stopping.
        """
        if self.stopping:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The service is stopping.", {"Retry-After": "5"})
        if self._requests >= self.limits.requests:
            seconds = math.ceil(self._slice_s * max(self._batcher.waiting, self._requests))
            raise busy(f"{self._requests} requests are being answered, as many as there may be.", min(seconds, 60) or 1)
        self._requests += 1
        self.metrics.changed()
        try:
            with Share(self._held) as share:
                yield share
        finally:
            self._requests -= 1
            self.metrics.changed()

    async def answers(
        self, files: list[MemoryFile], slices: Slices, share: Share, keep: Callable[[Scan], object] | None = None
    ) -> list[Answered | Failure]:
        """An answer for each study of the files; a bad one is a Failure.

        Args:
            files: Of one request.
            slices: Which slices of a volume are looked at.
            share: Of the request, for what its archives unpack to.
            keep: What is kept of each scan; nothing where None.

        Raises:
            Problem: 503, it took longer than it may; 429, no memory to unpack an archive.
        """
        try:
            async with asyncio.timeout(self.limits.answer_s):
                if all(map(_is_small, files)):
                    items = arrange(files, self.limits, share.add)  # nothing to unpack and no header to read
                else:
                    items = await self._on(self._readers, lambda: arrange(files, self.limits, share.add))
                places = asyncio.Semaphore(_AHEAD)
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._answer(item, slices, keep, places)) for item in items]
        except TimeoutError:
            detail = f"The answer took longer than {self.limits.answer_s:g} s; send fewer files at a time."
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "5"}) from None
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        results = [task.result() for task in tasks]
        unread = sum(isinstance(one, Failure) for one in results)
        self.metrics.studies.labels("unreadable").inc(unread)
        self.metrics.studies.labels("answered").inc(len(results) - unread)
        return results

    async def run(self, job: Callable[[], T]) -> T:
        """Do something short that is not for the event loop, such as drawing."""
        return await self._on(self._readers, job)

    def close(self) -> None:
        """Finish what was taken on, and end the threads."""
        self.stopping = True
        self._readers.shutdown()
        self._volume_reader.shutdown()
        self._batcher.close()

    async def _answer(
        self, item: Item, slices: Slices, keep: Callable[[Scan], object] | None, places: asyncio.Semaphore
    ) -> Answered | Failure:
        small = _is_small(item)
        preprocess = self.predictor.card.preprocess

        ran: Future[Outputs] = Future()
        got: list[tuple[Loaded, tuple[object, ...]] | Failure] = []

        def read() -> tuple[Loaded, tuple[object, ...]] | Failure:
            loaded = load(item, preprocess, slices, keep=keep is not None)
            if keep is None or isinstance(loaded, Failure):
                return loaded if isinstance(loaded, Failure) else (loaded, ())
            return replace(loaded, scans=()), tuple(map(keep, loaded.scans))

        def read_and_hand_in() -> None:
            """From the reader to the engine, without the event loop between them."""
            try:
                try:
                    if ran.cancelled():  # given up before its turn came
                        return
                    got.append(read())
                finally:
                    self._count_reading(-small)
                if isinstance(got[0], Failure):
                    ran.set_exception(_UnreadError())
                else:
                    self._batcher.submit(got[0][0].pixels, ran)
            except BaseException as error:  # whatever it is, who waits must hear of it
                with suppress(InvalidStateError):
                    ran.set_exception(error)

        async with places, self._pictures if small else self._volumes:
            self._count_reading(small)  # a volume takes too long to be waited for
            (self._readers if small else self._volume_reader).submit(read_and_hand_in)
            with suppress(_UnreadError):
                outputs = await asyncio.wrap_future(ran)
        (one,) = got
        if isinstance(one, Failure):
            return one
        loaded, kept = one
        return Answered(self.predictor.answer(loaded, outputs, placed=False), outputs, kept)

    def _count_reading(self, more: int) -> None:
        with self._counting:
            self._reading += more

    async def _on(self, pool: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(pool, job)

    def _observe(self, slices: int, seconds: float) -> None:
        self.metrics.runs.observe(slices)
        self.metrics.run_seconds.observe(seconds)
        each = seconds / slices / self.predictor.streams
        self._slice_s += 0.05 * (each - self._slice_s)

    def warm(self) -> float:
        """Run the graph once, so that the first request does not wait for it; gives the seconds of a second run."""
        import numpy as np

        size = self.predictor.card.preprocess.size
        seconds = 0.0
        for _ in range(2):
            start = time.monotonic()
            self._batcher.submit(np.zeros((1, 1, size, size), np.float32)).result()
            seconds = time.monotonic() - start
        self._slice_s = seconds / self.predictor.streams
        return seconds


def _is_small(item: Item) -> bool:
    """By its content: a picture, which is read beside others; a volume is read alone."""
    if isinstance(item, MemoryFile):
        return raster_format(item.content[:12]) is not None
    return isinstance(item, Failure) or len(item) == 1


def outcome(results: Sequence[Answered | Failure]) -> list[dict[str, object]]:
    """The objects that `neurodense predict --format json` prints."""
    return [(one if isinstance(one, Failure) else one.prediction).as_dict() for one in results]
