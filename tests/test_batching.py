"""Runs that requests share: right rows to the right caller, fair, within the latency budget, to the end."""

import threading
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from neurodense.inference.engine import Outputs
from neurodense.serving.batching import Batcher


class Engine:
    """Gives back each input's first pixel, and notes the sizes of the runs; holds them while `gate` is shut."""

    def __init__(self) -> None:
        self.runs: list[list[float]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, pixels: Any) -> Outputs:
        self.runs.append(pixels[:, 0, 0, 0].tolist())
        assert self.gate.wait(10)
        if (pixels < 0).any():
            raise ArithmeticError("negative")
        return Outputs(pixels[:, :, 0, 0], pixels, pixels)


def stack(*values: float) -> np.ndarray:
    return np.broadcast_to(np.array(values, np.float32)[:, None, None, None], (len(values), 1, 2, 2))


def first(future: Any) -> list[float]:
    return future.result(10).logits[:, 0].tolist()


def test_every_caller_gets_its_own_rows() -> None:
    engine = Engine()
    batcher = Batcher(engine, streams=3, batch=4, wait_s=0.001)
    wanted = [list(range(100 * k, 100 * k + k % 7 + 1)) for k in range(200)]
    futures = [batcher.submit(stack(*values)) for values in wanted]
    assert [first(future) for future in futures] == wanted
    assert max(map(len, engine.runs)) <= 4
    assert sum(map(len, engine.runs)) == sum(map(len, wanted)), "nothing is run twice"
    batcher.close()
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(stack(1))


def test_a_picture_does_not_wait_for_a_whole_volume() -> None:
    engine = Engine()
    engine.gate.clear()
    batcher = Batcher(engine, streams=1, batch=4, wait_s=0)
    volume = batcher.submit(stack(*range(40)))
    while not engine.runs:
        time.sleep(0.001)
    picture = batcher.submit(stack(99))
    engine.gate.set()
    assert first(picture) == [99]
    assert first(volume) == list(range(40))
    assert 99 in engine.runs[1] + engine.runs[2], "it is in one of the next two runs of eleven"
    batcher.close()


def test_waiting_fills_a_batch_and_ends_with_the_budget() -> None:
    engine = Engine()
    batcher = Batcher(engine, streams=1, batch=4, wait_s=0.3)
    start = time.monotonic()
    futures = [batcher.submit(stack(k)) for k in range(4)]
    assert [first(future) for future in futures] == [[0], [1], [2], [3]]
    assert time.monotonic() - start < 0.25, "a full batch does not wait"
    assert engine.runs == [[0, 1, 2, 3]]
    start = time.monotonic()
    assert first(batcher.submit(stack(7))) == [7]
    assert 0.29 < time.monotonic() - start < 2
    batcher.close()


@pytest.mark.parametrize("coming", [True, False])
def test_nobody_waits_where_nothing_comes(coming: bool) -> None:
    batcher = Batcher(Engine(), streams=1, batch=4, wait_s=0.3, coming=lambda: coming)
    start = time.monotonic()
    assert first(batcher.submit(stack(7))) == [7]
    took = time.monotonic() - start
    assert took > 0.29 if coming else took < 0.25
    batcher.close()


def test_an_error_reaches_those_of_its_run_and_no_other() -> None:
    batcher = Batcher(Engine(), streams=1, batch=1, wait_s=0)
    bad, good = batcher.submit(stack(-1, 5)), batcher.submit(stack(2))
    with pytest.raises(ArithmeticError, match="negative"):
        bad.result(10)
    assert first(good) == [2]
    batcher.close()


def test_what_is_cancelled_is_not_run_and_what_was_taken_is_finished() -> None:
    engine = Engine()
    engine.gate.clear()
    batcher = Batcher(engine, streams=1, batch=2, wait_s=0)
    running = batcher.submit(stack(1))
    while not engine.runs:
        time.sleep(0.001)
    dropped, kept = batcher.submit(stack(2, 3)), batcher.submit(stack(4))
    assert batcher.waiting == 3
    assert dropped.cancel()
    closing = threading.Thread(target=batcher.close)
    closing.start()
    engine.gate.set()
    closing.join(10)
    assert first(running) == [1]
    assert first(kept) == [4]
    assert engine.runs == [[1], [4]]


def test_outputs_come_in_the_future_that_was_made_before() -> None:
    batcher = Batcher(Engine(), streams=1, batch=4, wait_s=0)
    mine: Future[Outputs] = Future()
    assert batcher.submit(stack(5), mine) is mine
    assert first(mine) == [5]
    batcher.close()
