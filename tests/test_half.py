import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.numpy import load_file

from neurodense.data.split_table import read_part
from neurodense.inference.engine import Engine
from neurodense.inference.predictor import Predictor
from neurodense.training.export import export_graph
from neurodense.training.half import export_half, round_to_half, whole_graph
from neurodense.training.network import Network
from neurodense.training.quantise import quantise
from neurodense.training.recipe import Recipe
from neurodense.training.run import train


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    return Network(3, 0.1).eval()


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    export_half(network, 64, folder)
    return folder


def test_rounding_leaves_what_float16_holds() -> None:
    network = Network(2, 0.0)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    round_to_half(network)
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name].half().to(tensor.dtype))
    with torch.no_grad():
        network.classifier[1].bias[0] = 70_000.0
    with pytest.raises(OverflowError, match=r"classifier\.1\.bias"):
        round_to_half(network)


def test_the_weights_are_written_once(network: Network, folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    assert {tensor.dtype for name, tensor in tensors.items() if "tracked" not in name} == {np.dtype(np.float16)}
    values = sum(tensor.numel() for tensor in network.state_dict().values())
    assert (folder / "model.safetensors").stat().st_size < 2.1 * values
    assert (folder / "model.onnx").stat().st_size < 0.08 * values


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_read_them_from_the_other_file(network: Network, folder: Path, engine: str, tmp_path: Path) -> None:
    pytest.importorskip(engine)
    pixels = np.random.default_rng(0).random((3, 1, 64, 64), dtype=np.float32)
    with torch.no_grad():
        logits, maps, features = (tensor.numpy() for tensor in network.explain(torch.from_numpy(pixels)))
    moved = shutil.copytree(folder, tmp_path / "moved")
    found = Engine(moved / "model.onnx", engine).run(pixels)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    np.testing.assert_allclose(found.activation_maps, maps, atol=1e-3)
    np.testing.assert_allclose(found.features, features, atol=1e-3)


def test_the_whole_graph_is_the_one_that_is_exported_with_its_weights(
    network: Network, folder: Path, tmp_path: Path
) -> None:
    export_graph(network, 64, tmp_path / "folded.onnx")
    whole, folded = whole_graph(folder / "model.onnx"), whole_graph(tmp_path / "folded.onnx")
    assert [node.op_type for node in whole.graph.node] == [node.op_type for node in folded.graph.node]


def test_a_run_may_end_in_half_the_bytes(phantoms: Path, tiny: Recipe, finished_run: Path, tmp_path: Path) -> None:
    recipe = tiny.model_copy(update={"stored_as": "fp16"})
    model = train(
        phantoms, tmp_path / "run", recipe=recipe, groups=phantoms / "groups.csv", seed=3, precision="fp32", workers=0,
        cache=finished_run.parent / "cache",
    )  # fmt: skip
    size = sum((model / name).stat().st_size for name in ("model.onnx", "model.safetensors"))
    whole = sum((finished_run / "model" / name).stat().st_size for name in ("model.onnx", "model.safetensors"))
    assert size < 0.27 * whole
    images = [phantoms / record.path for record in read_part(tmp_path / "run" / "split.csv", phantoms, "test")]
    pairs = zip(*(Predictor(m, precision="fp32").predict(images) for m in (model, finished_run / "model")), strict=True)
    for half, exact in pairs:
        assert half.probabilities == pytest.approx(exact.probabilities, abs=2e-3)  # type: ignore[union-attr]

    parts = [read_part(tmp_path / "run" / "split.csv", phantoms, part) for part in ("train", "validation")]  # type: ignore[arg-type]
    assert quantise(model, phantoms, *parts).int8 is not None  # from the weights in the other file


def test_whoever_may_read_a_new_file_may_read_the_weights(folder: Path) -> None:
    other = folder / "other"
    other.touch()
    assert (folder / "model.safetensors").stat().st_mode == other.stat().st_mode
    other.unlink()
