"""OpenVINO on the CPU.

`import openvino` also imports its model converter, and that imports openvino_telemetry, which can send what it is told
to Intel. Neither is needed to run a graph, so both are kept out: nothing here can reach the network, and the import
takes half the time.

There is one `Core` in a process, and it is never let go. Each one gives its thread a stack for signal handlers, frees
it when it goes, and puts back the one it found. Of two that go in the order they came, the second puts back the freed
stack of the first, and the next signal that Python handles, such as the end of a child process, ends the process
(`SigAltStackSetup`, pull request 11894 of openvinotoolkit/openvino; seen with 2026.4.1).

The first tensor of a process is made where nobody else makes one. It fills a static table of the binding, and that
imports numpy, which lets go of Python's lock; a second thread then waits for the table with Python's lock in hand, for
ever (seen with 2026.4.1: `__cxa_guard_acquire` below `Tensor(array)`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from neurodense.errors import EngineError, ModelError

if TYPE_CHECKING:
    from neurodense.inference.engine import Pixels, Run

_CONVERTER = "openvino.tools.ovc"
_LOCK = Lock()


def load_openvino(
    graph: Path, outputs: Sequence[str], precision: str, threads: int, streams: int, kept: Path | None = None
) -> Run:
    """See `engine.load`."""
    if precision == "bf16" and not has_bf16():
        raise EngineError("This CPU has no bf16 instructions.", "--precision fp32, or int8 where the model has it")
    settings = {
        "PERFORMANCE_HINT": "LATENCY" if streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "ENABLE_CPU_PINNING": False,  # pinned threads of two processes in one container would share a core
    }
    if kept is not None:
        with suppress(OSError):
            kept.mkdir(parents=True, exist_ok=True)
        if os.access(kept, os.W_OK):  # a home that cannot be written to costs time, not the answer
            settings["CACHE_DIR"] = str(kept)
    try:
        compiled = the_core().compile_model(str(graph), "CPU", settings)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1]
        raise ModelError(f"{graph} cannot be loaded: {first}", "Export or copy the model folder again.") from error
    idle: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        idle.put(compiled.create_infer_request())

    def run(pixels: Pixels) -> list[Any]:
        request = idle.get()  # waits where all streams are busy
        try:
            request.infer([np.ascontiguousarray(pixels)], share_inputs=True)
            return [request.get_tensor(name).data.copy() for name in outputs]
        finally:
            idle.put(request)

    return run


def has_bf16() -> bool:
    """True on a CPU that OpenVINO runs in bfloat16 on: AMX or AVX512-BF16."""
    return "BF16" in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def the_core() -> Any:
    """The process's one `openvino.Core`; any number of threads may ask at once."""
    with _LOCK:
        return _core()


@cache
def _core() -> Any:
    openvino = import_openvino()
    openvino.Tensor(np.zeros(1, np.float32), shared_memory=True)
    return openvino.Core()


def import_openvino() -> Any:
    """The module, imported without its converter and the telemetry package behind it."""
    if "openvino" not in sys.modules and _CONVERTER not in sys.modules:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # import then says that it is not there
        try:
            import openvino
        finally:
            del sys.modules[_CONVERTER]
    import openvino

    return openvino
