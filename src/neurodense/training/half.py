"""Weights in half the bytes, written once: model.onnx reads them from model.safetensors, where they are float16.

The graph's weights are ONNX external data: a file's name, an offset and a length. The file is model.safetensors itself,
whose tensors lie one after the other without padding, so that both have the same bytes. A Cast makes each one float32;
the engines do that once, when they load the graph. See "External Data" in the ONNX specification and the format section
of huggingface/safetensors.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch

from neurodense import atomic
from neurodense.training.export import export_weights
from neurodense.training.graph import arrays, densenet_graph, folded
from neurodense.training.network import Network


def export_half(network: Network, size: int, folder: Path) -> None:
    """Round the network to float16, then write FOLDER/model.safetensors and a FOLDER/model.onnx that reads it."""
    round_to_half(network)
    export_weights(network, folder / "model.safetensors", torch.float16)
    share_weights(network, size, folder)


def round_to_half(network: Network) -> None:
    """Round every floating tensor of the network to what float16 holds; it stays float32.

    Raises:
        OverflowError: A tensor holds more than float16 can, 65504.
    """
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                rounded = tensor.half()
                if not rounded.isfinite().all():
                    raise OverflowError(f"{name} does not fit into float16")
                tensor.copy_(rounded)


def share_weights(network: Network, size: int, folder: Path) -> None:
    """Write FOLDER/model.onnx so that its weights are those of FOLDER/model.safetensors, which holds float16.

    Args:
        network: What `export_weights` has written there, in eval mode on the CPU.
        size: Side of the input in pixels.
        folder: The model folder.
    """
    from onnx import TensorProto, helper

    weights = folder / "model.safetensors"
    offsets = _offsets(weights)
    # Unlike `export_graph` this does not fold norms into convolutions: a folded weight is in no file.
    model = densenet_graph(arrays(network), size)
    shared, casts = [], []
    for initializer in list(model.graph.initializer):
        place = offsets.get(initializer.name)
        if place is None:
            continue
        name = initializer.name
        tensor = TensorProto(
            name=f"{name}:half",
            data_type=TensorProto.FLOAT16,
            dims=initializer.dims,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", weights.name), ("offset", place[0]), ("length", place[1])):
            tensor.external_data.add(key=key, value=str(value))
        shared.append(tensor)
        casts.append(helper.make_node("Cast", [tensor.name], [name], name=f"{name}:float", to=TensorProto.FLOAT))
        model.graph.initializer.remove(initializer)
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    model.graph.initializer.extend(shared)
    with atomic.replacing(folder / "model.onnx") as target:
        target.write_bytes(model.SerializeToString())


def whole_graph(path: Path) -> Any:
    """A graph with its weights in it as float32 and its norms folded into its convolutions, wherever they were."""
    import onnx
    from onnx import TensorProto, numpy_helper

    model = onnx.load(path)
    halves = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in halves]
    if not casts:
        return model
    for node in casts:
        values = numpy_helper.to_array(halves[node.input[0]]).astype("float32")
        model.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        model.graph.initializer.remove(halves[node.input[0]])
        model.graph.node.remove(node)
    return folded(model)


def _offsets(path: Path) -> dict[str, tuple[int, int]]:
    """Where each tensor of a safetensors file lies: first byte in the file, and how many."""
    with path.open("rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        header = json.loads(handle.read(length))
    return {
        name: (8 + length + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__" and entry["dtype"] == "F16"
    }
