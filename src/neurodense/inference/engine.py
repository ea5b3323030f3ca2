"""The exported graph, ready to run: on OpenVINO or ONNX Runtime, in the precision asked for. Why: `docs/engines.md`.

fp32 is the graph as it was exported, within 1e-4 in probability of torch. bf16 runs the same graph in bfloat16 where
the CPU has instructions for it (AMX, AVX512-BF16). int8 is a graph of its own, which a model folder holds if it passed
the gate of `training/quantise.py`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import EngineError
from neurodense.inference.threads import usable_cores

Pixels = NDArray[np.float32]
Run = Callable[[Pixels], list[NDArray[np.float32]]]
"""Pixels (N, 1, size, size) to the outputs that were asked for. May be called from several threads at once."""

EngineName = Literal["openvino", "onnxruntime", "cuda", "coreml", "directml"]
Precision = Literal["fp32", "bf16", "int8"]
ENGINES: Final[tuple[EngineName, ...]] = get_args(EngineName)
PRECISIONS: Final[tuple[Precision, ...]] = get_args(Precision)
OUTPUTS: Final = ("logits", "activation_maps", "features")

PROVIDERS: Final[dict[EngineName, str]] = {
    "onnxruntime": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""Engines that are ONNX Runtime with one of its execution providers."""


@dataclass(frozen=True)
class Outputs:
    """What the graph gives for N inputs.

    Attributes:
        logits: float32 (N, classes).
        activation_maps: float32 (N, classes, h, w); the mean over h and w is the logit.
        features: float32 (N, 1024).
        scores: float64 (N,), how unlike what the model knows each input is; None where the model has no such score.
    """

    logits: NDArray[np.float32]
    activation_maps: NDArray[np.float32]
    features: NDArray[np.float32]
    scores: NDArray[np.float64] | None = None

    def rows(self, start: int, stop: int) -> Outputs:
        """Those of inputs start..stop-1."""
        scores = None if self.scores is None else self.scores[start:stop]
        return Outputs(self.logits[start:stop], self.activation_maps[start:stop], self.features[start:stop], scores)


def joined(runs: Sequence[Outputs]) -> Outputs:
    """The outputs of several runs as those of one."""
    if len(runs) == 1:
        return runs[0]
    scores = [run.scores for run in runs if run.scores is not None]
    return Outputs(
        np.concatenate([run.logits for run in runs]),
        np.concatenate([run.activation_maps for run in runs]),
        np.concatenate([run.features for run in runs]),
        np.concatenate(scores) if scores else None,
    )


class Engine:
    """Runs a graph.

    Args:
        graph: An .onnx file.
        engine: One of ENGINES, or "auto": see `choose_engine`.
        precision: What the graph is run in; "int8" says that it is an int8 graph.
        threads: In all; `usable_cores()` where None.
        streams: Runs that may go on at once, each with its share of the threads. 1 gives the answer to one run
            soonest, as many as threads the most images a second.
        cache: Folder in which OpenVINO keeps what it made of this graph, so that the next start is quicker.

    Attributes:
        name: The engine that was chosen.
        precision: As given.
        streams: As given, at most `threads`.

    Raises:
        EngineError: The engine is unknown, not installed, or cannot run in this precision here.
        ModelError: The graph is missing or damaged.
    """

    def __init__(
        self,
        graph: Path,
        engine: EngineName | Literal["auto"] = "auto",
        precision: Precision = "fp32",
        threads: int | None = None,
        streams: int = 1,
        cache: Path | None = None,
    ) -> None:
        threads = threads or usable_cores()
        self.name = choose_engine(engine)
        self.precision = precision
        self.streams = max(1, min(streams, threads))
        self._run = load(graph, OUTPUTS, self.name, precision, threads, self.streams, cache)

    def run(self, pixels: Pixels) -> Outputs:
        """Run pixels (N, 1, size, size), float32 in [0, 1]; N of at least 1. Safe to call from several threads."""
        logits, activation_maps, features = self._run(pixels)
        return Outputs(logits, activation_maps, features)


def load(
    graph: Path,
    outputs: Sequence[str],
    engine: EngineName,
    precision: Precision,
    threads: int,
    streams: int,
    cache: Path | None = None,
) -> Run:
    """Load a graph on an engine that is there, for the named outputs in this order; as `Engine` has it."""
    if engine == "openvino":
        from neurodense.inference.openvino_engine import load_openvino

        return load_openvino(graph, outputs, precision, threads, streams, cache)
    from neurodense.inference.onnxruntime_engine import load_onnxruntime

    return load_onnxruntime(graph, outputs, PROVIDERS[engine], precision, threads, streams)


def choose_engine(engine: str = "auto") -> EngineName:
    """The engine itself, or for "auto" the one that was measured to be the fastest of those that are there.

    Raises:
        EngineError: It is unknown or not installed; the message lists what is there.
    """
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if find_spec("openvino") and (engine == "openvino" or (engine == "auto" and x86)):
        return "openvino"  # without importing the other, to see what it has
    there = installed_engines()
    if engine == "auto":
        for name in ("onnxruntime", "openvino"):
            if name in there:
                return name
        raise EngineError("No engine is installed.", "pip install openvino   (or: pip install onnxruntime)")
    for name in there:
        if name == engine:
            return name
    known = ", ".join(there) if there else "none"
    if engine not in ENGINES:
        raise EngineError(f"There is no engine {engine!r}; known are {', '.join(ENGINES)}; installed here: {known}.")
    raise EngineError(f"The engine {engine!r} is not installed; installed here: {known}.", _HINTS[engine])


def installed_engines() -> list[EngineName]:
    """What can be given as an engine on this machine."""
    found: list[EngineName] = ["openvino"] if find_spec("openvino") else []
    if find_spec("onnxruntime"):
        from neurodense.inference.onnxruntime_engine import import_onnxruntime

        there = import_onnxruntime().get_available_providers()
        found += [name for name, provider in PROVIDERS.items() if provider in there]
    return found


_HINTS = {
    "openvino": "pip install openvino",
    "onnxruntime": "pip install 'neurodense[onnxruntime]'",
    "cuda": "pip install onnxruntime-gpu   (in place of onnxruntime; needs CUDA and cuDNN)",
    "coreml": "pip install onnxruntime   (on macOS)",
    "directml": "pip install onnxruntime-directml   (on Windows)",
}
