"""What the frozen layers may run on: how fast each engine is, how far from float32, and whether the training notices.

Each engine fills the cache of the notebook recipe; what trains behind it is the same. Rates are of passes in turns.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.jobs import SIZE, quick_train
from benchmarks.machine import describe
from benchmarks.recipe import copy_some
from neurodense import atomic
from neurodense.data.catalogue import scan_folder
from neurodense.data.split import split_records
from neurodense.data.split_table import write_split
from neurodense.inference.engine import EngineName, installed_engines
from neurodense.training import activations, prefix
from neurodense.training.execute import seed_everything
from neurodense.training.network import Network, new_network
from neurodense.training.precision import Arithmetic
from neurodense.training.prefix import Prefix, as_graph
from neurodense.training.recipe import STEPS, load_recipe

Make = Callable[[Network, Sequence[int], int, Arithmetic], AbstractContextManager[Prefix]]
_CUTS = [STEPS.index("denseblock4"), STEPS.index("classifier")]  # of the notebook recipe
_IMAGES, _BATCH = 64, 32  # of a pass; as the recipe has it
_COMPILED = "torch bf16, compiled"  # starts too slowly to train behind it


def measure(data: Path, images: int, seeds: int, rounds: int, out: Path) -> None:
    """Time every engine that is there, train with each from as many seeds, print a table, write `out`."""
    recipe = load_recipe("notebook")
    with tempfile.TemporaryDirectory() as room:
        catalogue = copy_some(scan_folder(data), images, Path(room) / "images")
        seed_everything(0)
        network = new_network(len(catalogue.classes), recipe).eval()
        pixels = torch.rand(_IMAGES, 1, SIZE, SIZE)
        exact = prefix.run_prefix(network, 0, _CUTS[0], pixels, _arithmetic("fp32"))
        with ExitStack() as stack:
            runs: dict[str, Prefix] = {}
            rows: dict[str, dict[str, Any]] = {}
            for name, make in _engines().items():
                if (started := _start(name, make, network, pixels, stack)) is not None:
                    runs[name], seconds = started
                    gap = runs[name](pixels)[_CUTS[0]].float() - exact
                    rows[name] = {"start_s": seconds, "relative_error": float(gap.norm() / exact.norm())}
            _rates(runs, pixels, rounds, rows)
        there = {name: make for name, make in _engines().items() if name in rows and name != _COMPILED}
        for seed in range(seeds):
            split = Path(room) / f"{seed}.csv"
            write_split(split_records(catalogue, seed=seed), split)
            for name, make in there.items():
                with (
                    tempfile.TemporaryDirectory() as cache,
                    mock.patch.object(activations, "prefix_of", make),
                    mock.patch.object(prefix, "engine_of", lambda *_, name=name: name),
                ):
                    f1 = quick_train(catalogue.root, Path(room) / "run", recipe, split, Path(cache), seed)
                rows[name].setdefault("validation_macro_f1", []).append(f1)
                print(f"seed {seed}, {name}: validation macro F1 {f1:.4f}", flush=True)
    for name, row in rows.items():
        print(f"{name:<20} {row}")
    about = {"machine": describe(), "images": images, "threads": torch.get_num_threads(), "rounds": rounds}
    atomic.write_json(out, {**about, "engines": rows})


def _arithmetic(precision: Literal["fp32", "bf16"]) -> Arithmetic:
    return Arithmetic(torch.device("cpu"), precision)


def _engines() -> dict[str, Make]:
    """Every way to run the prefix, by name."""
    found: dict[str, Make] = {}
    for precision in ("fp32", "bf16"):
        found[f"torch {precision}"] = _torch(precision, compiled=False)
        for engine in installed_engines():
            if engine == "openvino" or precision == "fp32":
                found[f"{engine} {precision}"] = _graph(engine, precision)
    found[_COMPILED] = _torch("bf16", compiled=True)
    return found


def _graph(engine: EngineName, precision: Literal["fp32", "bf16"]) -> Make:
    return lambda network, cuts, size, _: as_graph(network, cuts, size, engine, precision)


def _torch(precision: Literal["fp32", "bf16"], *, compiled: bool) -> Make:
    @contextmanager
    def make(network: Network, cuts: Sequence[int], size: int, _: Arithmetic) -> Iterator[Prefix]:
        ends = sorted(cuts)
        modules: list[nn.Module] = [network.between(a, b).eval() for a, b in zip([0, *ends], ends, strict=False)]
        if compiled:
            modules = [torch.compile(module, dynamic=False) for module in modules]  # type: ignore[misc]

        def run(pixels: Tensor) -> dict[int, Tensor]:
            x, rows = pixels, {}
            with torch.no_grad(), _arithmetic(precision).autocast():
                for cut, module in zip(ends, modules, strict=True):
                    x = rows[cut] = module(x)
            return rows

        yield run

    return make


def _start(name: str, make: Make, network: Network, pixels: Tensor, stack: ExitStack) -> tuple[Prefix, float] | None:
    """What runs the prefix, and the seconds until its first batch is done; None where it does not run here."""
    start = time.perf_counter()
    try:
        run = stack.enter_context(make(network, _CUTS, SIZE, _arithmetic("fp32")))
        run(pixels[:_BATCH])
    except Exception as error:  # no compiler, no such instructions
        print(f"{name}: not here ({type(error).__name__}: {str(error).splitlines()[0][:100] if str(error) else ''})")
        return None
    return run, time.perf_counter() - start


def _rates(runs: dict[str, Prefix], pixels: Tensor, rounds: int, rows: dict[str, dict[str, Any]]) -> None:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            for first in range(0, len(pixels), _BATCH):
                run(pixels[first : first + _BATCH])
            times[name].append(len(pixels) / (time.perf_counter() - start))
    for name, rates in times.items():
        rows[name] |= {"images_per_s": statistics.median(rates), "spread": [min(rates), max(rates)]}
