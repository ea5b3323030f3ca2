"""What a machine can do at most, and the least time that a job can take on it.

A job needs multiply-accumulates, bytes moved and pictures decoded; each kind of work has a ceiling, measured on this
machine in the same run. The three go on at once at best, so the floor is the longest of the three. (Williams et al.,
Roofline, CACM 2009, with decoding as a third roof.) Not in it: start-up, normalising, activations, optimiser, disk.
"""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.engines import gemm_peaks
from neurodense.inference.threads import usable_cores
from neurodense.training.network import Network
from neurodense.training.recipe import STEPS


@dataclass(frozen=True)
class Ceilings:
    """What this machine does at most, on all cores.

    Attributes:
        gmac_s: Precision -> 1e9 multiply-accumulates a second of one large matrix product.
        gb_s: 1e9 bytes a second that are read and written while a large array is copied.
        pictures_s: Pictures of the data set a second that are decoded and nothing else.
    """

    gmac_s: Mapping[str, float]
    gb_s: float
    pictures_s: float


@dataclass(frozen=True)
class Work:
    """What a job cannot do without.

    Attributes:
        macs: Precision -> multiply-accumulates.
        moved: Bytes.
        pictures: Files to decode.
    """

    macs: Mapping[str, float] = field(default_factory=dict)
    moved: float = 0
    pictures: float = 0

    def seconds(self, ceilings: Ceilings) -> dict[str, float]:
        """Seconds of each kind of work at its ceiling. A precision that was not measured counts as fp32."""
        peak = ceilings.gmac_s
        return {
            "matrix products": sum(macs / 1e9 / peak.get(name, peak["fp32"]) for name, macs in self.macs.items()),
            "memory": self.moved / 1e9 / ceilings.gb_s,
            "decoding": self.pictures / ceilings.pictures_s,
        }

    def floor(self, ceilings: Ceilings) -> tuple[float, str]:
        """Seconds, and the kind of work that takes them."""
        seconds = self.seconds(ceilings)
        longest = max(seconds, key=lambda kind: seconds[kind])
        return seconds[longest], longest


def measure_ceilings(pictures: Sequence[Path], device: str) -> Ceilings:
    """Measure them; each is the best of several tries, since a ceiling is what nothing can exceed."""
    torch.set_num_threads(usable_cores())
    peaks = gemm_peaks() if device == "cpu" else _gpu_peaks()
    return Ceilings(peaks, _bandwidth(device), _decoding(pictures))


def _bandwidth(device: str, size: int = 2**28) -> float:
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * size / 1e9 / min(_times(lambda: target.copy_(source), device, 8))


def _decoding(pictures: Sequence[Path]) -> float:
    contents = [path.read_bytes() for path in pictures]

    def decode(content: bytes) -> None:
        with Image.open(io.BytesIO(content)) as image:
            image.load()

    with ThreadPoolExecutor(usable_cores()) as pool:
        return len(contents) / min(_times(lambda: list(pool.map(decode, contents)), "cpu", 4))


def _gpu_peaks(side: int = 8192) -> dict[str, float]:
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left = torch.rand(side, side, device="cuda").to(dtype)
        found[name] = side**3 / 1e9 / min(_times(lambda left=left: left @ left, "cuda", 8))
    whole = torch.randint(-60, 60, (side, side), dtype=torch.int8, device="cuda")
    found["int8"] = side**3 / 1e9 / min(_times(lambda: torch._int_mm(whole, whole.t()), "cuda", 8))
    return found


def _times(job: object, device: str, count: int) -> list[float]:
    assert callable(job)
    seconds = []
    for _ in range(count + 1):
        start = time.perf_counter()
        job()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]  # the first one makes pages and threads


@cache
def macs(size: int, classes: int = 4) -> dict[str, int]:
    """Step of the network -> multiply-accumulates of its convolutions and linear layers for one image of this side.

    Counted from the shapes that go through the layers; no number is computed.
    """
    with torch.device("meta"):
        network = Network(classes, 0.0).eval()
        x = torch.zeros(1, 1, size, size)
    found: dict[str, int] = {}
    for name in STEPS:
        counted: list[int] = []

        def count(layer: nn.Module, _: object, out: Tensor, counted: list[int] = counted) -> None:
            weight = layer.weight
            assert isinstance(weight, Tensor)
            places = out.shape[2] * out.shape[3] if out.ndim == 4 else 1
            counted.append(weight.numel() * places)

        step = network.step(name)
        hooks = [
            layer.register_forward_hook(count) for layer in step.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        x = step(x)
        for hook in hooks:
            hook.remove()
        found[name] = sum(counted)
    return found


def macs_between(start: int, stop: int, size: int) -> int:
    """Of steps start..stop-1."""
    each = macs(size)
    return sum(each[name] for name in STEPS[start:stop])


@cache
def row_values(cut: int, size: int) -> int:
    """Values of one image in the activation cache before step `cut`."""
    with torch.device("meta"):
        return int(Network(4, 0.0).eval().between(0, cut)(torch.zeros(1, 1, size, size)).numel())
