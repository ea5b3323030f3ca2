"""What runs the exported graph, and in which precision: the contestants take turns in one run, medians are shown.

Batch 1 is one image after the other, all cores on each: how soon one answer is there. Batch 16 is the rate over many
batches, as for a folder: torch and a single stream run them one after the other, several streams at once.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.machine import describe
from neurodense import atomic
from neurodense.inference.engine import Engine, EngineName, Precision, installed_engines
from neurodense.inference.threads import usable_cores
from neurodense.training.export import export_graph
from neurodense.training.network import Network
from neurodense.training.weights import read_state

Pixels = NDArray[np.float32]
Run = Callable[[Pixels], NDArray[np.float32]]

_GMAC = 2.87  # of DenseNet121 for an image of 224 px
_BATCHES = 4  # of 16, a turn
_PEER = "torch fp32 NCHW"


@dataclass
class Contestant:
    """How to run one batch for the soonest answer, and `streams` of them at once for the highest rate."""

    one: Run
    many: Run
    streams: int = 1
    load_s: float | None = None


def measure(size: int, rounds: int, out: Path, model: Path | None = None) -> None:
    """Time torch, ONNX Runtime and OpenVINO in the precisions they have, print a table, write `out`."""
    network = _network(model)
    peaks = gemm_peaks()
    with tempfile.TemporaryDirectory() as room:
        contestants = {**_torch(network), **_engines(Path(room), network, size)}
        images = np.random.default_rng(0).random((16, 1, size, size), dtype=np.float32)
        with torch.inference_mode():
            truth = torch.softmax(network(torch.from_numpy(images)).double(), 1).numpy()
        rows: dict[str, dict[str, Any]] = {
            name: {
                "load_s": one.load_s,
                "streams": one.streams,
                "largest_difference": float(np.abs(_softmax(one.one(images)) - truth).max()),
            }
            for name, one in contestants.items()
        }
        for batch in (1, 16):
            times: dict[str, list[float]] = {name: [] for name in contestants}
            for number in range(rounds + 1):
                for name, contestant in contestants.items():
                    rate = _rate(contestant, images, batch)
                    if number:  # the first round warms up
                        times[name].append(rate)
            for name, rates in times.items():
                rows[name][f"batch_{batch}"] = statistics.median(rates)
                rows[name][f"batch_{batch}_spread"] = [min(rates), max(rates)]
    _print(rows, peaks, size)
    atomic.write_json(
        out,
        {
            "machine": describe(),
            "size": size,
            "rounds": rounds,
            "weights": "random" if model is None else "trained",
            "gemm_gmac_s": peaks,
            "engines": rows,
        },
    )


def gemm_peaks(side: int = 2048) -> dict[str, float]:
    """GMAC a second of one large matrix product on all cores, the best of several, in each precision torch has."""
    torch.set_num_threads(usable_cores())
    found: dict[str, float] = {}
    whole = torch.randint(-60, 60, (side, side), dtype=torch.int8)
    for name, left, product in (
        ("fp32", torch.rand(side, side), torch.matmul),
        ("bf16", torch.rand(side, side).bfloat16(), torch.matmul),
        ("int8", whole, torch._int_mm),
    ):
        best = float("inf")
        try:
            for _ in range(12):
                start = time.perf_counter()
                product(left, left)
                best = min(best, time.perf_counter() - start)
        except (RuntimeError, NotImplementedError):  # no such product on this CPU
            continue
        found[name] = side**3 / best / 1e9
    return found


def _network(model: Path | None) -> Network:
    """The model folder's weights; or random ones, with BatchNorm factors of both signs, as training leaves them."""
    torch.manual_seed(0)
    network = Network(4, 0.3)
    if model is not None:
        network.load_state_dict(read_state(model / "model.safetensors"))
    else:
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.weight, 0.5, 0.3)
                torch.nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


def _rate(contestant: Contestant, images: Pixels, batch: int) -> float:
    """Images a second."""
    start = time.perf_counter()
    if batch == 1:
        for k in range(len(images)):
            contestant.one(images[k : k + 1])
        return len(images) / (time.perf_counter() - start)
    if contestant.streams == 1:
        for _ in range(_BATCHES):
            contestant.many(images)
    else:
        with ThreadPoolExecutor(contestant.streams) as pool:
            for _ in pool.map(contestant.many, [images] * _BATCHES):
                pass
    return _BATCHES * len(images) / (time.perf_counter() - start)


def _engines(room: Path, network: Network, size: int) -> dict[str, Contestant]:
    """Each installed engine in each precision that it has."""
    import onnx

    from neurodense.training.qdq import quantised
    from neurodense.training.quantise import calibrate

    exact, small = room / "model.onnx", room / "model.int8.onnx"
    export_graph(network, size, exact)
    images = np.random.default_rng(1).random((32, 1, size, size), dtype=np.float32)
    ranges = calibrate(exact, [images[k : k + 8] for k in range(0, 32, 8)])
    small.write_bytes(quantised(onnx.load(exact), ranges).SerializeToString())
    wanted: list[tuple[EngineName, Precision]] = [
        ("onnxruntime", "fp32"), ("onnxruntime", "int8"),
        ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8"),
    ]  # fmt: skip
    found = {}
    for name, precision in wanted:
        if name in installed_engines():
            graph = small if precision == "int8" else exact
            start = time.perf_counter()
            one = Engine(graph, name, precision)
            load_s = time.perf_counter() - start
            many = Engine(graph, name, precision, streams=usable_cores())
            found[f"{name} {precision}"] = Contestant(_logits(one), _logits(many), many.streams, load_s)
    return found


def _logits(engine: Engine) -> Run:
    return lambda pixels: engine.run(pixels).logits


def _torch(network: Network) -> dict[str, Contestant]:
    plain = Network(4, 0.3)  # the notebook's layout: NCHW
    plain.load_state_dict(network.state_dict())
    last = network.to(memory_format=torch.channels_last)

    def run(module: torch.nn.Module, dtype: torch.dtype | None) -> Contestant:
        def go(pixels: Pixels) -> NDArray[np.float32]:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
                return np.asarray(module(torch.from_numpy(pixels)).float().numpy())

        return Contestant(go, go)

    return {
        _PEER: run(_nchw(plain.eval()), None),
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


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _print(rows: dict[str, dict[str, Any]], peaks: dict[str, float], size: int) -> None:
    print("matrix product, GMAC/s: " + ", ".join(f"{name} {value:,.0f}" for name, value in peaks.items()))
    peer = rows[_PEER]
    print(
        f"{'images/s':<22}{'batch 1':>9}{'ratio':>7}{'batch 16':>10}{'ratio':>7}{'of peak':>9}{'load s':>8}  difference"
    )
    for name, row in rows.items():
        peak = peaks.get(name.split()[1])
        work = row["batch_16"] * _GMAC * (size / 224) ** 2
        share = f"{work / peak:9.1%}" if peak else " " * 9
        load = f"{row['load_s']:8.2f}" if row["load_s"] is not None else " " * 8
        ratios = [row[f"batch_{batch}"] / peer[f"batch_{batch}"] for batch in (1, 16)]
        print(
            f"{name:<22}{row['batch_1']:>9.1f}{ratios[0]:>7.1f}{row['batch_16']:>10.1f}{ratios[1]:>7.1f}{share}{load}"
            f"  {row['largest_difference']:.0e}"
        )
