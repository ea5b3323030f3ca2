"""Reading ahead: bounded, in order, past bad files, and gone when the caller is."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurodense.inference.engine import Outputs
from neurodense.inference.pipeline import HANDFUL, Loaded, run_through
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.scan import Scan
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure

STREAMS, BATCH = 2, 4


class SlowEngine:
    """Gives back the mean of each image, and notes how many runs go on at once."""

    streams = STREAMS

    def __init__(self) -> None:
        self.lock, self.now, self.most = threading.Lock(), 0, 0

    def run(self, pixels: np.ndarray) -> Outputs:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self.lock:
            self.now -= 1
        assert len(pixels) <= BATCH
        return Outputs(pixels.mean((2, 3)), pixels, pixels)


def run(engine: Any, inputs: Any) -> Iterator[Any]:
    return run_through(engine.run, engine.streams, Preprocess(size=32), inputs, Slices(), BATCH, keep=False)


def scan(number: int) -> Scan:
    return Scan(np.full((32, 32), number / 1000, np.float32), f"scan {number}", 8)


def test_order_is_kept_and_no_more_is_held_than_promised() -> None:
    taken, given, most = 0, 0, 0

    def inputs() -> Iterator[Scan]:
        nonlocal taken, most
        for number in range(300):
            taken += 1
            most = max(most, taken - given)
            yield scan(number)

    engine = SlowEngine()
    for number, result in enumerate(run(engine, inputs())):
        loaded, outputs = result
        assert loaded.source == f"scan {number}"
        assert outputs.logits[0, 0] == pytest.approx(number / 1000, abs=1e-6)
        given += 1
    assert given == 300
    assert engine.most == STREAMS, "streams are kept busy, and no more than there are"
    assert most <= (3 + STREAMS + 1) * BATCH + HANDFUL


def test_failures_keep_their_place(tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no")
    items = [scan(1), bad, Failure("gone", "ScanError", "was not there"), *(scan(n) for n in range(2, 12)), bad]
    results = list(run(SlowEngine(), items))
    assert [isinstance(one, Failure) for one in results] == [isinstance(one, Path | Failure) for one in items]
    only = list(run(SlowEngine(), [bad] * 9))
    assert len(only) == 9
    assert list(run(SlowEngine(), [])) == []


def test_a_caller_who_stops_stops_the_reading() -> None:
    taken = 0

    def inputs() -> Iterator[Scan]:
        nonlocal taken
        for number in range(10_000):
            taken += 1
            yield scan(number)

    before = threading.active_count()
    results = run(SlowEngine(), inputs())
    assert isinstance(next(results)[0], Loaded)
    results.close()
    assert taken <= (3 + STREAMS + 1) * BATCH + 1
    assert threading.active_count() == before


def test_an_error_of_the_engine_reaches_the_caller() -> None:
    class Broken(SlowEngine):
        def run(self, pixels: np.ndarray) -> Outputs:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        list(run(Broken(), [scan(1), scan(2)]))


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_a_folder_at_once(finished_run: Path, phantoms: Path, command: list[str], tmp_path: Path) -> None:
    image = next(iter(sorted(phantoms.rglob("*.png"))))
    for number in range(3000):
        (tmp_path / f"{number}.png").symlink_to(image)
    words = [*command, "predict", str(tmp_path), "--model", str(finished_run / "model"), "--format", "json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["label"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert len(out.splitlines()) < 3000
