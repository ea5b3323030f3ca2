"""Threads that end the waits of an event loop: each wait ends, with one wake-up for all that end at once."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from neurodense.serving.doorbell import Doorbell


def test_what_ends_together_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> int:
        loop, bell, wakes = asyncio.get_running_loop(), Doorbell(), 0
        futures: list[Future[int]] = [Future() for _ in range(16)]
        waits = [asyncio.create_task(bell.rung_by(future)) for future in futures]
        await asyncio.sleep(0)
        real = loop.call_soon_threadsafe

        def counted(*args: Any, **more: Any) -> Any:
            nonlocal wakes
            wakes += 1
            return real(*args, **more)

        with monkeypatch.context() as patch:
            patch.setattr(loop, "call_soon_threadsafe", counted)
            for k, future in enumerate(futures):
                future.set_result(k)  # the loop cannot come round between these
        await asyncio.wait_for(asyncio.gather(*waits), 10)
        return wakes

    assert asyncio.run(go()) == 1


def test_no_wait_is_forgotten_however_threads_end_them() -> None:
    async def go() -> None:
        bell = Doorbell()
        with ThreadPoolExecutor(4) as pool:
            for _ in range(20):
                waits = [bell.rung_by(pool.submit(pow, 2, k)) for k in range(50)]
                await asyncio.wait_for(asyncio.gather(*waits), 10)

    asyncio.run(go())


def test_an_end_before_the_wait_and_one_by_an_error() -> None:
    async def go() -> None:
        bell, done, failed = Doorbell(), Future[int](), Future[int]()
        done.set_result(1)
        failed.set_exception(ArithmeticError("no"))
        for future in (done, failed):
            await asyncio.wait_for(bell.rung_by(future), 10)

    asyncio.run(go())


def test_who_stops_waiting_cancels_the_work() -> None:
    async def go() -> None:
        bell, given_up, other = Doorbell(), Future[int](), Future[int]()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(bell.rung_by(given_up), 0.01)
        assert given_up.cancelled()
        waits = asyncio.create_task(bell.rung_by(other))
        await asyncio.sleep(0)
        other.set_result(1)
        await asyncio.wait_for(waits, 10)

    asyncio.run(go())
