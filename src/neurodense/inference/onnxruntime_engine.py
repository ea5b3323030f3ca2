"""ONNX Runtime, on the CPU or with another of its execution providers."""

from __future__ import annotations

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
    import onnxruntime

    if precision == "bf16":
        raise EngineError("ONNX Runtime runs the graph in fp32 or int8, not in bf16.", "--engine openvino")
    onnxruntime.disable_telemetry_events()  # of builds for Windows
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, threads // streams)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
    except Exception as error:  # onnxruntime has its own exception classes, which are not public
        raise ModelError(f"{graph} cannot be loaded: {error}", "Export or copy the model folder again.") from error
    names = list(outputs)

    def run(pixels: Pixels) -> list[Any]:
        return list(session.run(names, {"pixels": pixels}))

    return run
