"""ONNX Runtime, on the CPU or with another of its execution providers.

Its packages send telemetry to Microsoft unless ORT_DISABLE_TELEMETRY is set before the library starts: on Linux and
macOS since 1.32 or a little before (pull request 27379 of microsoft/onnxruntime), with a device id in the user's cache
folder. It is set here, before every import.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodense.errors import EngineError, ModelError

if TYPE_CHECKING:
    from neurodense.inference.engine import Pixels, Run


def load_onnxruntime(
    graph: Path, outputs: Sequence[str], provider: str, precision: str, threads: int, streams: int
) -> Run:
    """See `engine.load`."""
    if precision == "bf16":
        raise EngineError("ONNX Runtime runs the graph in fp32 or int8, not in bf16.", "--engine openvino")
    onnxruntime = import_onnxruntime()
    onnxruntime.disable_telemetry_events()  # of builds for Windows
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads // streams)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
    except Exception as error:  # onnxruntime has its own exception classes, which are not public
        raise ModelError(f"{graph} cannot be loaded: {error}", "Export or copy the model folder again.") from error
    names, taken = list(outputs), session.get_inputs()[0].name

    def run(pixels: Pixels) -> list[Any]:
        return list(session.run(names, {taken: pixels}))

    return run


def import_onnxruntime() -> Any:
    """The module, with its telemetry switched off."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime
