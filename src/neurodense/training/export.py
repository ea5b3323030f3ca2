"""A trained network becomes a model folder: safetensors, an ONNX graph, a card and a README. Nothing is pickled."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurodense.training.checkpoint import write_tensors
from neurodense.training.network import Network

_OPSET = 18


class _Explained(nn.Module):
    """The network as the graph has it: three outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.network.explain(pixels)


def export(network: Network, size: int, folder: Path) -> None:
    """Write FOLDER/model.safetensors and FOLDER/model.onnx, float32."""
    export_weights(network, folder / "model.safetensors")
    export_graph(network, size, folder / "model.onnx")


def export_graph(network: Network, size: int, path: Path) -> None:
    """Write the graph: pixels (N, 1, size, size) -> logits, activation_maps, features; N is free.

    The network must be in eval mode, on the CPU, in float32.
    """
    trace(network, size, optimize=True).save(str(path), external_data=False)


def trace(network: Network, size: int, *, optimize: bool) -> Any:
    """The graph as `torch.onnx` has it; optimised, norms are folded into the convolutions before them."""
    example = torch.zeros(2, 1, size, size)
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            program = torch.onnx.export(
                _Explained(network).eval(),
                (example,),
                input_names=["pixels"],
                output_names=["logits", "activation_maps", "features"],
                opset_version=_OPSET,
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("images", min=1, max=65536)},),
                optimize=optimize,
                verbose=False,
            )
    finally:
        noisy.setLevel(level)
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program


def export_weights(network: Network, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the state dict under torchvision's names, floating tensors as `dtype`."""
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    write_tensors(tensors, path, {"format": "pt", "architecture": "densenet121"})
