"""The frozen prefix of a network, to be run once for each image: on torch, or on a CPU by OpenVINO.

On a CPU OpenVINO runs the same steps in the same precision at a multiple of torch's rate, and no further from float32
than torch is (docs/engines.md, `python -m benchmarks prefix`). It has the graph at the time it is asked for: a prefix
is frozen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor

from neurodense.inference.engine import EngineName, Precision, choose_engine, load
from neurodense.training.graph import arrays, prefix_graph
from neurodense.training.network import Network
from neurodense.training.precision import Arithmetic
from neurodense.training.recipe import STEPS

Prefix = Callable[[Tensor], dict[int, Tensor]]
"""Pixels (N, 1, S, S) float32 to what the steps before each cut give, by cut; N of at least 1."""

_BATCH: Final = 4
"""Images a run: with a stream on each core the rate is the same from 1 to 16, and memory grows with it."""


def engine_of(network: Network, arithmetic: Arithmetic) -> Literal["openvino", "torch"]:
    """What runs the prefix of a network in a precision."""
    on_cpu = arithmetic.device.type == "cpu" and network.dtype == torch.float32
    if on_cpu and choose_engine() == "openvino":
        from neurodense.inference.openvino_engine import has_bf16

        if arithmetic.precision == "fp32" or has_bf16():
            return "openvino"
    return "torch"


@contextmanager
def prefix_of(network: Network, cuts: Sequence[int], size: int, arithmetic: Arithmetic) -> Iterator[Prefix]:
    """What runs the network up to the last of the cuts, as it is now.

    Args:
        network: On the arithmetic's device.
        cuts: Indices in STEPS, one or more; at 0 stand the pixels themselves.
        size: Side of the input in pixels.
        arithmetic: Device and precision.
    """
    if max(cuts) and engine_of(network, arithmetic) == "openvino":
        with as_graph(network, cuts, size, "openvino", arithmetic.precision) as prefix:  # type: ignore[arg-type]
            yield prefix
        return

    def on_torch(pixels: Tensor) -> dict[int, Tensor]:
        x, done, found = pixels, 0, dict[int, Tensor]()
        for cut in sorted(cuts):
            x = found[cut] = run_prefix(network, done, cut, x, arithmetic)
            done = cut
        return found

    yield on_torch


@contextmanager
def as_graph(
    network: Network, cuts: Sequence[int], size: int, engine: EngineName, precision: Precision
) -> Iterator[Prefix]:
    """What runs the network up to the last of the cuts as a graph, on an engine that is there; see `prefix_of`."""
    behind, threads = [cut for cut in cuts if cut], torch.get_num_threads()
    with tempfile.TemporaryDirectory() as room, ThreadPoolExecutor(threads) as pool:
        path = Path(room) / "prefix.onnx"
        path.write_bytes(prefix_graph(arrays(network), size, behind).SerializeToString())
        run = load(path, [STEPS[cut] for cut in behind], engine, precision, threads, threads)

        def prefix(pixels: Tensor) -> dict[int, Tensor]:
            pieces = pool.map(run, [piece.numpy() for piece in torch.split(pixels, _BATCH)])
            outputs = [torch.cat([torch.from_numpy(rows) for rows in one]) for one in zip(*pieces, strict=True)]
            return {cut: pixels for cut in cuts if not cut} | dict(zip(behind, outputs, strict=True))

        yield prefix


def run_prefix(network: Network, start: int, stop: int, x: Tensor, arithmetic: Arithmetic) -> Tensor:
    """Run steps start..stop-1 on torch, without gradients, in eval mode: a frozen norm's statistics are frozen too."""
    if start == stop:
        return x
    with torch.no_grad(), arithmetic.autocast():
        result: Tensor = network.between(start, stop).eval()(x)
    return result
