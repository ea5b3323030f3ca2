"""The frozen prefix on OpenVINO, and the graphs that are written node by node, against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator as Reference

from neurodense.inference.engine import choose_engine, load
from neurodense.training.graph import arrays, densenet_graph, folded, prefix_graph
from neurodense.training.network import Network
from neurodense.training.precision import Arithmetic
from neurodense.training.prefix import engine_of, prefix_of, run_prefix
from neurodense.training.recipe import STEPS

SIZE = 64
CUTS = range(1, len(STEPS))
FP32 = Arithmetic(torch.device("cpu"), "fp32")
BF16 = Arithmetic(torch.device("cpu"), "bf16")


@pytest.fixture(scope="module")
def network() -> Network:
    """Every norm has statistics and weights of its own."""
    torch.manual_seed(5)
    network = Network(3, 0.1).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.1)
    return network


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(9, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def _gap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).norm() / wanted.norm())


def test_every_cut_has_what_torch_gives(network: Network, pixels: torch.Tensor) -> None:
    if choose_engine() != "openvino":
        pytest.skip("OpenVINO is not installed")
    assert engine_of(network, FP32) == "openvino"
    with prefix_of(network, [0, *CUTS], SIZE, FP32) as run:
        found = run(pixels)
    assert torch.equal(found[0], pixels)
    for cut in CUTS:
        assert _gap(found[cut], run_prefix(network, 0, cut, pixels, FP32)) < 2e-6, STEPS[cut]


def test_bf16_is_no_further_from_fp32_than_torch_is(network: Network, pixels: torch.Tensor) -> None:
    if engine_of(network, BF16) != "openvino":
        pytest.skip("OpenVINO has no bf16 here")
    cuts = [STEPS.index(name) for name in ("denseblock3", "denseblock4", "classifier")]
    with prefix_of(network, cuts, SIZE, BF16) as run:
        found = run(pixels)
    for cut in cuts:
        exact = run_prefix(network, 0, cut, pixels, FP32)
        ours, theirs = _gap(found[cut], exact), _gap(run_prefix(network, 0, cut, pixels, BF16).float(), exact)
        assert 1e-4 < ours < 1.5 * theirs, STEPS[cut]


def test_on_torch_it_is_the_steps_themselves(
    network: Network, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurodense.training.prefix.engine_of", lambda *_: "torch")
    with prefix_of(network, [0, 3, 11], SIZE, FP32) as run:
        found = run(pixels)
    assert torch.equal(found[0], pixels)
    assert all(torch.equal(found[cut], run_prefix(network, 0, cut, pixels, FP32)) for cut in (3, 11))


def test_float64_stays_on_torch() -> None:
    assert engine_of(Network(2, 0.0).double(), FP32) == "torch"


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_folding_changes_no_answer(network: Network, pixels: torch.Tensor, engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    plain = densenet_graph(arrays(network), SIZE)
    short = folded(plain)
    kinds = [[node.op_type for node in graph.graph.node].count("BatchNormalization") for graph in (plain, short)]
    assert kinds == [121, 62], "the stem's and the second one of each of 58 layers"
    assert {tensor.name for tensor in short.graph.initializer} <= {n for node in short.graph.node for n in node.input}
    with torch.no_grad():
        wanted = network.explain(pixels)
    for name, graph in (("plain", plain), ("short", short)):
        onnx.checker.check_model(graph, full_check=True)
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(graph.SerializeToString())
        run = load(path, ("logits", "activation_maps", "features"), engine, "fp32", 1, 1)  # type: ignore[arg-type]
        for found, right in zip(run(pixels.numpy()), wanted, strict=True):
            assert _gap(torch.from_numpy(found), right) < 2e-6


def test_a_bias_before_a_norm_is_folded_with_it() -> None:
    rng = np.random.default_rng(0)
    values = {
        "weight": rng.normal(size=(3, 2, 1, 1)), "bias": rng.normal(size=3), "gamma": rng.normal(size=3),
        "beta": rng.normal(size=3), "mean": rng.normal(size=3), "variance": rng.random(3) + 0.5,
    }  # fmt: skip
    make, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    nodes = [
        make("Conv", ["x", "weight", "bias"], ["y"]),
        make("BatchNormalization", ["y", "gamma", "beta", "mean", "variance"], ["z"], epsilon=1e-3),
    ]
    ends = [[info(name, onnx.TensorProto.FLOAT, ["n", sides, 1, 1])] for name, sides in (("x", 2), ("z", 3))]
    tensors = [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in values.items()]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "test", *ends, tensors), ir_version=10)
    short = folded(model)
    assert [node.op_type for node in short.graph.node] == ["Conv"]
    x = rng.normal(size=(4, 2, 1, 1)).astype(np.float32)
    np.testing.assert_allclose(
        Reference(short).run(None, {"x": x})[0], Reference(model).run(None, {"x": x})[0], atol=1e-5
    )


def test_only_what_is_needed_is_in_a_prefix(network: Network) -> None:
    graph = prefix_graph(arrays(network), SIZE, [STEPS.index("denseblock2")]).graph
    assert [output.name for output in graph.output] == ["denseblock2"]
    assert not any("denseblock2" in tensor.name for tensor in graph.initializer)
