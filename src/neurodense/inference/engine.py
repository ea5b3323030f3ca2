"""The exported graph on ONNX Runtime. Why ONNX Runtime: `docs/engines.md`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ModelError


@dataclass(frozen=True)
class Outputs:
    """What the graph gives for N inputs.

    Attributes:
        logits: float32 (N, classes).
        activation_maps: float32 (N, classes, h, w); the mean over h and w is the logit.
        features: float32 (N, 1024).
    """

    logits: NDArray[np.float32]
    activation_maps: NDArray[np.float32]
    features: NDArray[np.float32]

    def rows(self, start: int, stop: int) -> Outputs:
        """Those of inputs start..stop-1."""
        return Outputs(self.logits[start:stop], self.activation_maps[start:stop], self.features[start:stop])


def joined(runs: Sequence[Outputs]) -> Outputs:
    """The outputs of several runs as those of one."""
    return Outputs(
        np.concatenate([run.logits for run in runs]),
        np.concatenate([run.activation_maps for run in runs]),
        np.concatenate([run.features for run in runs]),
    )


class Engine:
    """Runs MODEL/model.onnx.

    Args:
        path: The graph.
        threads: Of one run; the cores this process may use where None.

    Raises:
        ModelError: The graph is missing or damaged.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported; it would report to its maker otherwise
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has its own exception classes, which are not public
            raise ModelError(f"{path} cannot be loaded: {error}", "Export or copy the model folder again.") from error

    def run(self, pixels: NDArray[np.float32]) -> Outputs:
        """Run pixels (N, 1, size, size), float32 in [0, 1]."""
        logits, maps, features = self._session.run(["logits", "activation_maps", "features"], {"pixels": pixels})
        return Outputs(logits, maps, features)


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
