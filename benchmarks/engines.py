"""Which engine runs the exported graph: the contestants take turns in one run, medians are shown."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import describe
from neurodense import atomic
from neurodense.inference.engine import Engine, usable_cores
from neurodense.training.export import export_graph
from neurodense.training.network import Network

Pixels = NDArray[np.float32]
Run = Callable[[Pixels], NDArray[np.float32]]


def measure(size: int, rounds: int, out: Path) -> None:
    """Time torch, ONNX Runtime and OpenVINO (where installed) at batch 1 and 16, print a table, write `out`."""
    torch.manual_seed(0)
    network = Network(4, 0.3).eval()
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as room:
        graph = Path(room) / "model.onnx"
        export_graph(network, size, graph)
        contestants = {**_torch(network, size), **_load("onnxruntime fp32", lambda: _onnxruntime(graph), rows)}
        try:
            import openvino
        except ModuleNotFoundError:
            print("OpenVINO is not installed: pip install openvino")
        else:
            contestants |= _load("openvino fp32", lambda: _openvino(openvino, graph, "f32"), rows)
            contestants |= _load("openvino bf16", lambda: _openvino(openvino, graph, "bf16"), rows)
    images = np.random.default_rng(0).random((16, 1, size, size), dtype=np.float32)
    with torch.inference_mode():
        truth = torch.softmax(network(torch.from_numpy(images)).double(), 1).numpy()
    for name, run in contestants.items():
        rows.setdefault(name, {})["largest_difference"] = float(np.abs(_softmax(run(images)) - truth).max())
    for batch in (1, 16):
        times: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(rounds + 1):
            for name, run in contestants.items():
                repeats = 16 // batch
                start = time.perf_counter()
                for k in range(repeats):
                    run(images[k * batch : (k + 1) * batch])
                if number:  # the first round warms up
                    times[name].append(16 / (time.perf_counter() - start))
        for name, rates in times.items():
            rows[name][f"batch_{batch}"] = statistics.median(rates)
            rows[name][f"batch_{batch}_spread"] = [min(rates), max(rates)]
    print(f"{'engine':<22}{'batch 1':>10}{'batch 16':>10}  images/s   {'load s':>8}  largest difference in probability")
    for name, row in rows.items():
        load = f"{row['load_s']:8.2f}" if "load_s" in row else " " * 8
        print(f"{name:<22}{row['batch_1']:>10.1f}{row['batch_16']:>10.1f}{load:>21}  {row['largest_difference']:.1e}")
    atomic.write_json(out, {"machine": describe(), "size": size, "rounds": rounds, "engines": rows})


def _load(name: str, make: Callable[[], Run], rows: dict[str, dict[str, Any]]) -> dict[str, Run]:
    start = time.perf_counter()
    run = make()
    rows[name] = {"load_s": time.perf_counter() - start}
    return {name: run}


def _torch(network: Network, size: int) -> dict[str, Run]:
    plain = Network(4, 0.3)  # the notebook's layout: NCHW
    plain.load_state_dict(network.state_dict())
    plain.eval()
    last = network.to(memory_format=torch.channels_last)

    def run(module: torch.nn.Module, dtype: torch.dtype | None) -> Run:
        def go(pixels: Pixels) -> NDArray[np.float32]:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
                return np.asarray(module(torch.from_numpy(pixels)).float().numpy())

        return go

    return {
        "torch fp32 NCHW": run(_nchw(plain), None),
        "torch fp32 NHWC": run(last, None),
        "torch bf16 NHWC": run(last, torch.bfloat16),
    }


def _nchw(network: Network) -> torch.nn.Module:
    """The network with its input laid out as a notebook has it."""

    class Plain(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            colour = ((pixels - network.pixels.mean) / network.pixels.std).contiguous()
            logits: torch.Tensor = network.between(1, 12)(colour)
            return logits

    return Plain()


def _onnxruntime(graph: Path) -> Run:
    engine = Engine(graph)
    return lambda pixels: engine.run(pixels).logits


def _openvino(openvino: Any, graph: Path, precision: str) -> Run:
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": usable_cores(),
    }
    model = openvino.Core().compile_model(str(graph), "CPU", settings)
    return lambda pixels: np.asarray(model([pixels])[0])


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
