"""What threads have done, told to the event loop: one wake-up for all that was done before it came round.

A wake-up is a system call and a switch of threads, about 0.1 ms. A run of the engine ends the wait of up to 16 requests
at once, and `asyncio.wrap_future` would wake the loop for each.
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import Future
from typing import Any


class Doorbell:
    """For one event loop at a time, that of who waits."""

    def __init__(self) -> None:
        self._ended: deque[asyncio.Future[None]] = deque()
        self._rung = False

    async def rung_by(self, future: Future[Any]) -> None:
        """Wait for the end of what a thread does, whatever the end; who stops waiting cancels it."""
        loop = asyncio.get_running_loop()
        here = loop.create_future()

        def ring(_: Future[Any]) -> None:
            self._ended.append(here)
            if not self._rung and not loop.is_closed():
                self._rung = True
                loop.call_soon_threadsafe(self._answer)

        future.add_done_callback(ring)
        try:
            await here
        except asyncio.CancelledError:
            future.cancel()
            raise

    def _answer(self) -> None:
        self._rung = False  # first: what ends from here on rings again, or is found below
        while self._ended:
            here = self._ended.popleft()
            if not here.done():
                here.set_result(None)
