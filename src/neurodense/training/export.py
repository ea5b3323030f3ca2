"""A trained network becomes a model folder: safetensors, an ONNX graph, a card and a README. Nothing is pickled."""

from __future__ import annotations

from pathlib import Path

import torch

from neurodense import atomic
from neurodense.training.checkpoint import write_tensors
from neurodense.training.graph import arrays, densenet_graph, folded
from neurodense.training.network import Network


def export(network: Network, size: int, folder: Path) -> None:
    """Write FOLDER/model.safetensors and FOLDER/model.onnx, float32."""
    export_weights(network, folder / "model.safetensors")
    export_graph(network, size, folder / "model.onnx")


def export_graph(network: Network, size: int, path: Path) -> None:
    """Write the graph: pixels (N, 1, size, size) -> logits, activation_maps, features; N is free.

    Norms are folded into the convolutions before them.
    """
    with atomic.replacing(path) as target:
        target.write_bytes(folded(densenet_graph(arrays(network), size)).SerializeToString())


def export_weights(network: Network, path: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write the state dict under torchvision's names, floating tensors as `dtype`."""
    tensors = {
        name: (tensor.to(dtype) if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    write_tensors(tensors, path, {"format": "pt", "architecture": "densenet121"})
