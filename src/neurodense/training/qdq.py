"""The exported graph in 8 bits: quantise and dequantise nodes put where they cost DenseNet nothing.

What each layer of a dense block gives is carried on by every later concatenation of the block. A concatenation keeps
8-bit values as they are only if all that it joins has one scale, and channels of one block differ by orders of
magnitude. So the graph is first rewritten, without changing what it computes: each channel that enters a concatenation
is divided by its own largest magnitude, in the weights of the convolution that makes it, and each BatchNormalization
that reads it is multiplied by the same number. (Scaling by channel as in Nagel et al., Data-Free Quantization Through
Weight Equalization and Bias Correction, ICCV 2019.) All channels then lie in [-1, 1], one scale serves a whole block,
and it is as exact as a scale for every channel.

After that (Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
CVPR 2018; ONNX's QuantizeLinear and DequantizeLinear):

- what enters a concatenation is int8, zero at 0, scale 1/127;
- what enters a convolution is uint8, with the range seen while calibrating;
- weights are symmetric, one scale an output channel, in 7 bits (-63 to 63): on a CPU without dot products of bytes,
  pairs of 8-bit products overflow the 16 bits they are added in, and the same file would answer differently there;
- the last layer, which makes the activation maps, stays float32, as do the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_WEIGHT_PEAK = 63
_STREAM_PEAK = 127
_FLOAT_OUTPUTS = ("activation_maps",)


@dataclass(frozen=True)
class Ranges:
    """What calibration saw.

    Attributes:
        channels: Tensor that enters a concatenation -> largest magnitude of each channel, (C,).
        tensors: Tensor that enters a convolution -> its smallest and largest value.
    """

    channels: Mapping[str, Floats]
    tensors: Mapping[str, tuple[float, float]]


def observed(model: Any) -> tuple[Any, list[str], list[str]]:
    """A copy of the graph with outputs that tell the ranges of a batch.

    Returns:
        The copy; the tensors whose channels' peaks it gives, each as output NAME:peak, (C,); the tensors whose extremes
        it gives, each as outputs NAME:min and NAME:max, ().
    """
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    streams, inputs = _streams(graph), list(dict.fromkeys(node.input[0] for node in _convolutions(graph)))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 2, 3]), "places"))

    def add(kind: str, sources: list[str], name: str, **attributes: Any) -> None:
        graph.node.append(helper.make_node(kind, sources, [name], name=name, **attributes))

    def give(name: str) -> None:
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))

    for name in streams:
        add("Abs", [name], f"{name}:abs")
        add("ReduceMax", [f"{name}:abs", "places"], f"{name}:peak", keepdims=0)
        give(f"{name}:peak")
    for name in inputs:
        for kind, what in (("ReduceMin", "min"), ("ReduceMax", "max")):
            add(kind, [name], f"{name}:{what}", keepdims=0)
            give(f"{name}:{what}")
    return copy, streams, inputs


def quantised(model: Any, ranges: Ranges) -> Any:
    """A copy of the graph in 8 bits, as the module's docstring has it."""
    from onnx import ModelProto, helper, numpy_helper

    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    values: dict[str, NDArray[Any]] = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    _equalise(graph, values, ranges.channels)

    nodes: list[Any] = []
    made: set[str] = set()

    def cut(name: str, scale: float, zero: np.integer[Any]) -> str:
        """Put a pair of nodes behind a tensor, once."""
        if name not in made:
            made.add(name)
            values[f"{name}:scale"], values[f"{name}:zero"] = np.asarray(scale, np.float32), np.asarray(zero)
            about = [f"{name}:scale", f"{name}:zero"]
            nodes.append(helper.make_node("QuantizeLinear", [name, *about], [f"{name}:q"], name=f"{name}:q"))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}:q", *about], [f"{name}:dq"], name=f"{name}:dq"))
        return f"{name}:dq"

    for node in graph.node:
        if node.op_type == "Concat" or (node.op_type == "BatchNormalization" and node.input[0] in ranges.channels):
            for place, name in enumerate(node.input if node.op_type == "Concat" else node.input[:1]):
                node.input[place] = cut(name, 1 / _STREAM_PEAK, np.int8(0))
        elif node.op_type == "Conv" and node.output[0] not in _FLOAT_OUTPUTS:
            low, high = ranges.tensors[node.input[0]]
            low, high = min(low, 0.0), max(high, 0.0)
            scale = (high - low) / 255 or 1.0
            node.input[0] = cut(node.input[0], scale, np.uint8(round(-low / scale)))
            weight, key = values[node.input[1]], f"{node.output[0]}:weight"
            peaks = np.abs(weight).reshape(len(weight), -1).max(axis=1) / _WEIGHT_PEAK
            scales = np.where(peaks > 0, peaks, 1).astype(np.float32)
            values[f"{key}:q"] = np.round(weight / scales[:, None, None, None]).astype(np.int8)
            values[f"{key}:scale"], values[f"{key}:zero"] = scales, np.zeros(len(weight), np.int8)
            about = [f"{key}:q", f"{key}:scale", f"{key}:zero"]
            nodes.append(helper.make_node("DequantizeLinear", about, [key], name=key, axis=0))
            node.input[1] = key
        nodes.append(node)
    held = [_copy(node) for node in nodes]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(held)
    used = {name for node in held for name in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in values.items() if name in used
    )
    return copy


def _copy(node: Any) -> Any:
    """A node that does not live in its graph's list."""
    from onnx import NodeProto

    copy = NodeProto()
    copy.CopyFrom(node)
    return copy


def _equalise(graph: Any, values: dict[str, NDArray[Any]], channels: Mapping[str, Floats]) -> None:
    """Bring every channel that enters a concatenation to [-1, 1], and its readers back. Values are replaced in place.

    From a convolution to a concatenation stand only ReLU and pooling, through which a positive factor passes.
    """
    makers = {name: node for node in graph.node for name in node.output}
    factors: dict[str, Floats] = {}

    def replace(node: Any, place: int, value: NDArray[Any]) -> None:
        name = f"{node.output[0]}:{place}"  # the exporter lets nodes share equal values
        values[name], node.input[place] = value.astype(np.float32), name

    for name, peaks in channels.items():
        floor = 1e-3 * float(peaks.max()) or 1.0  # a channel that is always 0 has no scale of its own
        factors[name] = np.maximum(peaks, floor).astype(np.float32)
        node = makers[name]
        while node.op_type != "Conv":
            node = makers[node.input[0]]
        replace(node, 1, values[node.input[1]] / factors[name][:, None, None, None])
        if len(node.input) > 2:
            replace(node, 2, values[node.input[2]] / factors[name])
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            source = node.input[0]
            parts = list(makers[source].input) if makers[source].op_type == "Concat" else [source]
            factor = np.concatenate([factors[part] for part in parts])
            replace(node, 1, values[node.input[1]] * factor)  # scale (x f - mean) / sd = scale f (x - mean / f) / sd
            replace(node, 3, values[node.input[3]] / factor)


def _convolutions(graph: Any) -> list[Any]:
    return [node for node in graph.node if node.op_type == "Conv" and node.output[0] not in _FLOAT_OUTPUTS]


def _streams(graph: Any) -> list[str]:
    """Tensors that enter a concatenation."""
    return list(dict.fromkeys(name for node in graph.node if node.op_type == "Concat" for name in node.input))
