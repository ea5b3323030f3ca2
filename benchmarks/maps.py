"""The heat maps that were tried: what is subtracted, on which grid, and one that needs a gradient."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from neurodense.inference.card import Card
from neurodense.inference.explain import enlarge, evidence
from neurodense.inference.predictor import Predictor
from neurodense.inference.scaling import calibrated
from neurodense.training.network import Network
from neurodense.training.weights import read_state

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]
BATCH = 16


class Graph:
    """The exported graph at the size it was made for, and the same weights at any other size."""

    def __init__(self, predictor: Predictor, model: Path) -> None:
        self.predictor = predictor
        self._path = model / "model.onnx"
        self._seen: dict[bytes, Floats] = {}

    def probabilities(self, pixels: Floats) -> NDArray[np.float64]:
        """(N, 1, S, S) -> (N, classes)."""
        logits = [self.predictor.outputs(pixels[k : k + BATCH]).logits for k in range(0, len(pixels), BATCH)]
        return self.predictor.probabilities(np.concatenate(logits))

    def maps(self, pixels: Floats) -> Floats:
        """(N, 1, S, S) of any S that 32 divides -> (N, classes, S/32, S/32). What was asked before is remembered."""
        key = hashlib.sha256(pixels.tobytes()).digest()
        if key not in self._seen:
            batches = [pixels[k : k + BATCH] for k in range(0, len(pixels), BATCH)]
            if pixels.shape[-1] == self.predictor.card.preprocess.size:
                maps = [self.predictor.outputs(batch).activation_maps for batch in batches]
            else:
                maps = [self._any_size.run(["activation_maps"], {"pixels": batch})[0] for batch in batches]
            self._seen[key] = np.concatenate(maps)
        return self._seen[key]

    @cached_property
    def _any_size(self) -> Any:
        """The graph with its sides set free: nothing in it but the stated shapes depends on them."""
        import onnx
        import onnxruntime

        graph = onnx.load(self._path)
        for value, names in ((graph.graph.input[0], "SS"), (graph.graph.output[1], "ss")):
            for axis, name in enumerate(names, 2):
                value.type.tensor_type.shape.dim[axis].dim_param = name
        del graph.graph.value_info[:]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


Map = Callable[[Graph, Floats, Classes], Floats]
"""The graph, pixels (N, 1, S, S) and a class for each -> signed maps (N, S, S)."""


def _of(maps: Floats, classes: Classes) -> Floats:
    return maps[np.arange(len(maps)), classes]


def _sized(grids: Floats, size: int, how: Image.Resampling = Image.Resampling.BILINEAR) -> Floats:
    return np.stack([np.asarray(Image.fromarray(grid).resize((size, size), how)) for grid in grids])


def _against_mean(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
    """What `neurodense.inference.explain` does."""
    grids = _of(evidence(calibrated(graph.predictor.card, graph.maps(pixels)).astype(np.float32)), classes)
    return np.stack([enlarge(grid, pixels.shape[2:]) for grid in grids])


def _bicubic(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
    return _sized(_of(evidence(graph.maps(pixels)), classes), pixels.shape[-1], Image.Resampling.BICUBIC)


def _plain(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
    return _sized(_of(graph.maps(pixels), classes), pixels.shape[-1])


def _against_rivals(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
    """Against the other classes by their share of what the class leaves: the log-odds of the class, to first order."""
    maps = graph.maps(pixels)
    others = maps.mean((2, 3), dtype=np.float64)
    others[np.arange(len(maps)), classes] = -np.inf
    share = np.exp(others - others.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    return _sized(_of(maps, classes) - np.einsum("nk,nkhw->nhw", share, maps).astype(np.float32), pixels.shape[-1])


def _larger(factor: float) -> Map:
    """The input enlarged: a finer grid, at a scale that the network was not trained at."""

    def make(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
        side = round(pixels.shape[-1] * factor / 32) * 32
        grids = _of(evidence(graph.maps(_sized(pixels[:, 0], side)[:, None])), classes)
        return _sized(grids, pixels.shape[-1])

    return make


def _shifted(step: int) -> Map:
    """The mean over all shifts of the input by multiples of `step` within one place of the grid."""

    def make(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
        size = pixels.shape[-1]
        offsets = range(step // 2 - 16, 16, step)
        wide = np.pad(pixels, ((0, 0), (0, 0), (16, 16), (16, 16)), mode="edge")
        total = np.zeros((len(pixels), size, size), dtype=np.float32)
        for down in offsets:
            for right in offsets:
                moved = wide[:, :, 16 + down : 16 + down + size, 16 + right : 16 + right + size]
                heat = _sized(_of(evidence(graph.maps(np.ascontiguousarray(moved))), classes), size)
                back = np.pad(heat, ((0, 0), (16, 16), (16, 16)), mode="edge")
                total += back[:, 16 - down : 16 - down + size, 16 - right : 16 - right + size]
        return np.asarray(total / len(offsets) ** 2, dtype=np.float32)

    return make


def _scales(graph: Graph, pixels: Floats, classes: Classes) -> Floats:
    heats = [_larger(factor)(graph, pixels, classes) for factor in (1, 1.5, 2)]
    return np.asarray(np.mean(heats, axis=0), dtype=np.float32)


GRID_MAPS: dict[str, Map] = {
    "CAM against the mean": _against_mean,
    "CAM alone": _plain,
    "CAM against rivals": _against_rivals,
    "bicubic": _bicubic,
    "input x 2": _larger(2),
    "scales 1, 1.5, 2": _scales,
    "4 shifts by 16 px": _shifted(16),
    "16 shifts by 8 px": _shifted(8),
}
"""All without a gradient; those named by their grid are against the mean."""


def layer_cam(model: Path, card: Card, *, against: bool = False) -> Map:
    """LayerCAM (Jiang et al., IEEE Trans. Image Processing 30:5875, 2021) at the end of the third dense block.

    Twice as fine as the last grid, but it needs the gradient, hence torch: a reference, not an offer.

    Args:
        model: Model folder.
        card: Its card.
        against: Give minus the map of what speaks against the class, since LayerCAM has no signed map.
    """
    sign = -1 if against else 1
    network = Network(len(card.classes), card.graph.dropout).eval()
    network.load_state_dict(read_state(model / "model.safetensors"))

    def make(_: Graph, pixels: Floats, classes: Classes) -> Floats:
        heats = []
        for image, label in zip(pixels, classes, strict=True):
            kept: list[torch.Tensor] = []

            def keep(_m: object, _i: object, output: torch.Tensor, kept: list[torch.Tensor] = kept) -> None:
                output.retain_grad()
                kept.append(output)

            handle = network.features.get_submodule("denseblock3").register_forward_hook(keep)
            logits = network(torch.from_numpy(image[None]))
            handle.remove()
            (sign * (logits[0, int(label)] - logits[0].mean())).backward()
            gradient = kept[0].grad
            assert gradient is not None
            heats.append((torch.relu(gradient) * kept[0].detach()).sum(1)[0].numpy())
        return _sized(np.stack(heats) * np.float32(sign), pixels.shape[-1])

    return make
