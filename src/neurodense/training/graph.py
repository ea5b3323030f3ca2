"""DenseNet121 as an ONNX graph, written node by node; an exporter would trace for seconds what is known beforehand.

Nodes are those of `network.Network` in eval mode, in its order; every weight has the name it has in the state dict.
Layers: Huang et al., Densely Connected Convolutional Networks, CVPR 2017. Operators: ONNX, opset 18.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.training.network import MEAN, STD, Network
from neurodense.training.recipe import STEPS

OPSET: Final = 18
_IR: Final = 10
_EPSILON: Final = 1e-5  # of torch's BatchNorm2d
Tensors = Mapping[str, NDArray[Any]]


def arrays(network: Network) -> dict[str, NDArray[np.float32]]:
    """The floating tensors of the state dict, as float32."""
    state = network.state_dict()
    return {name: tensor.float().cpu().numpy() for name, tensor in state.items() if tensor.is_floating_point()}


def densenet_graph(tensors: Tensors, size: int) -> Any:
    """The whole network: pixels (N, 1, size, size) -> logits, activation_maps, features; see `Network.explain`.

    Args:
        tensors: The state dict of a `Network`, in float32.
        size: Side of the input in pixels; N is free.

    Returns:
        An onnx.ModelProto.
    """
    writer = _Writer(tensors)
    x = "pixels"
    for step in STEPS[: STEPS.index("pool")]:
        x = writer.step(step, x)
    maps = writer.node("Relu", [x], "maps")
    weight = tensors["classifier.1.weight"]
    kernel = writer.value("classifier.1.kernel", weight[:, :, None, None])
    writer.node("Conv", [maps, kernel, writer.weight("classifier.1.bias")], "activation_maps", kernel_shape=[1, 1])
    writer.node("ReduceMean", [maps, writer.places], "features", keepdims=0)
    writer.node(
        "Gemm", ["features", *map(writer.weight, ("classifier.1.weight", "classifier.1.bias"))], "logits", transB=1
    )
    side, classes = size // 32, len(weight)
    shapes = {"logits": [classes], "activation_maps": [classes, side, side], "features": [weight.shape[1]]}
    return writer.model(size, shapes)


def prefix_graph(tensors: Tensors, size: int, cuts: Sequence[int]) -> Any:
    """What the steps before each cut give: pixels (N, 1, size, size) -> one output a cut, named by the step behind it.

    Args:
        tensors: As `densenet_graph` has it; those of later steps may be missing.
        size: Side of the input in pixels; N is free.
        cuts: Indices in STEPS, from 1 to that of the classifier.
    """
    writer, x = _Writer(tensors), "pixels"
    shapes: dict[str, Sequence[int | str]] = {}
    for number, step in enumerate(STEPS[: max(cuts)], 1):
        x = writer.step(step, x)
        if number in cuts:
            name = writer.node("Identity", [x], STEPS[number])
            shapes[name] = ["channels"] if step == "pool" else ["channels", "height", "width"]
    return writer.model(size, shapes)


class _Writer:
    """Nodes one after the other; each is named by its only output."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors
        self.nodes: list[Any] = []
        self.values: dict[str, NDArray[Any]] = {}

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def value(self, name: str, array: NDArray[Any]) -> str:
        self.values[name] = np.ascontiguousarray(array)
        return name

    def weight(self, name: str) -> str:
        """A tensor of the state dict."""
        return self.value(name, self.tensors[name])

    @property
    def places(self) -> str:
        """The axes of height and width."""
        return self.value("places", np.array([2, 3]))

    def step(self, step: str, x: str) -> str:
        """One of STEPS but the classifier."""
        if step == "pixels":
            mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (MEAN, STD))
            x = self.node("Sub", [x, self.value("pixels.mean", mean)], "pixels.centred")
            return self.node("Div", [x, self.value("pixels.std", std)], "pixels.normalised")
        if step == "stem":
            x = self._convolution(x, "features.conv0", strides=[2, 2])
            x = self._norm_relu(x, "features.norm0")
            return self.node("MaxPool", [x], "features.pool0", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        if step == "norm5":
            return self._norm(x, "features.norm5")
        if step == "pool":
            return self.node("ReduceMean", [self.node("Relu", [x], "pooled.relu"), self.places], "pooled", keepdims=0)
        if step.startswith("transition"):
            x = self._convolution(self._norm_relu(x, f"features.{step}.norm"), f"features.{step}.conv")
            return self.node("AveragePool", [x], f"features.{step}.pool", kernel_shape=[2, 2], strides=[2, 2])
        return self._dense_block(x, f"features.{step}")

    def _dense_block(self, x: str, block: str) -> str:
        joined, number = [x], 1
        while f"{block}.denselayer{number}.conv1.weight" in self.tensors:
            layer = f"{block}.denselayer{number}"
            x = self._convolution(self._norm_relu(x, f"{layer}.norm1"), f"{layer}.conv1")
            x = self._convolution(self._norm_relu(x, f"{layer}.norm2"), f"{layer}.conv2")
            joined.append(x)
            x = self.node("Concat", joined, f"{layer}.joined", axis=1)
            number += 1
        return x

    def _convolution(self, x: str, name: str, strides: Sequence[int] = (1, 1)) -> str:
        side = self.tensors[f"{name}.weight"].shape[-1]
        about = {"kernel_shape": [side, side], "strides": list(strides), "pads": [side // 2] * 4}
        return self.node("Conv", [x, self.weight(f"{name}.weight")], name, **about)

    def _norm(self, x: str, name: str) -> str:
        parts = ("weight", "bias", "running_mean", "running_var")
        inputs = [x, *(self.weight(f"{name}.{part}") for part in parts)]
        return self.node("BatchNormalization", inputs, name, epsilon=_EPSILON)

    def _norm_relu(self, x: str, name: str) -> str:
        return self.node("Relu", [self._norm(x, name)], f"{name}.relu")

    def model(self, size: int, outputs: Mapping[str, Sequence[int | str]]) -> Any:
        """All of it, with its outputs' shapes behind N; where a side is not told, a name stands for it."""
        from onnx import TensorProto, helper, numpy_helper

        def info(name: str, shape: Sequence[int | str]) -> Any:
            sides = [side if isinstance(side, int) else f"{name}.{side}" for side in shape]
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["images", *sides])

        graph = helper.make_graph(
            self.nodes,
            "densenet121",
            [info("pixels", [1, size, size])],
            [info(name, shape) for name, shape in outputs.items()],
            [numpy_helper.from_array(value, name) for name, value in self.values.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR)


def folded(model: Any) -> Any:
    """A copy in which each norm that stands right behind a convolution is part of it.

    gamma (w x + b - mean) / sd + beta = (gamma / sd) w x + (beta + gamma (b - mean) / sd), sd^2 = variance + epsilon.
    """
    from onnx import ModelProto, helper, numpy_helper

    copy = ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        convolution = makers.get(norm.input[0])
        if convolution is None or convolution.op_type != "Conv":
            continue
        name = convolution.output[0]
        gamma, beta, mean, variance, weight, *bias = (
            numpy_helper.to_array(values[one]).astype(np.float64) for one in (*norm.input[1:], *convolution.input[1:])
        )
        epsilon = next(helper.get_attribute_value(one) for one in norm.attribute if one.name == "epsilon")
        factor = gamma / np.sqrt(variance + epsilon)
        made = {
            f"{name}.folded.weight": weight * factor[:, None, None, None],
            f"{name}.folded.bias": beta + (sum(bias) - mean) * factor,
        }
        graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), one) for one, a in made.items())
        del convolution.input[1:]
        convolution.input.extend(made)
        convolution.output[0] = norm.output[0]
        graph.node.remove(norm)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    return copy
