"""The int8 graph: the same network in 8 bits, and a gate that a bad one does not pass."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from PIL import Image

import neurodense
from neurodense.data.catalogue import Record
from neurodense.errors import DataError, ModelError
from neurodense.evaluation.metrics import measure
from neurodense.inference.card import read_card, write_card
from neurodense.inference.engine import Engine, installed_engines
from neurodense.inference.predictor import INT8_GRAPH, Predictor
from neurodense.scans.read import read_scan
from neurodense.training import qdq
from neurodense.training.quantise import calibrate, quantise, shortfalls


@pytest.fixture
def model(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model without an int8 graph, if it had one."""
    folder = tmp_path / "model"
    shutil.copytree(finished_run / "model", folder)
    (folder / INT8_GRAPH).unlink(missing_ok=True)
    card = read_card(folder)
    files = {name: digest for name, digest in card.files.items() if name != INT8_GRAPH}
    write_card(folder, card.model_copy(update={"files": files, "int8": None}))
    return folder


@pytest.fixture(scope="module")
def labelled(finished_run: Path, phantoms: Path) -> list[Record]:
    """Images, each labelled as the fp32 graph calls it: its own score is then perfect, and any change shows.

    The half of each class that it is surest of: on a toss-up of a tiny model any rounding decides.
    """
    paths = sorted(phantoms.rglob("*.png"))
    answers = Predictor(finished_run / "model", precision="fp32").predict(paths)
    sure: dict[str, list[tuple[float, Record]]] = {}
    for path, answer in zip(paths, answers, strict=True):
        assert isinstance(answer, neurodense.Prediction)
        record = Record(path.relative_to(phantoms).as_posix(), answer.label, path.name, "")
        sure.setdefault(answer.label, []).append((answer.probabilities[answer.label], record))
    records = [
        record
        for found in sure.values()
        for _, record in sorted(found, key=lambda pair: -pair[0])[: max(1, len(found) // 2)]
    ]
    assert len({record.label for record in records}) >= 2, "a model that says one thing tests nothing"
    return records


@pytest.fixture(scope="module")
def pixels(finished_run: Path, phantoms: Path) -> np.ndarray:
    preprocess = read_card(finished_run / "model").preprocess
    return np.stack([preprocess(read_scan(path)) for path in sorted(phantoms.rglob("*.png"))])


@pytest.fixture(scope="module")
def graphs(finished_run: Path, pixels: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The fp32 graph and an int8 one that was calibrated on all images."""
    exact = finished_run / "model" / "model.onnx"
    small = tmp_path_factory.mktemp("int8") / INT8_GRAPH
    small.write_bytes(qdq.quantised(onnx.load(exact), calibrate(exact, [pixels])).SerializeToString())
    return exact, small


@pytest.mark.parametrize("name", [name for name in ("openvino", "onnxruntime") if name in installed_engines()])
def test_int8_agrees_with_fp32_in_all_three_outputs(graphs: tuple[Path, Path], pixels: np.ndarray, name: str) -> None:
    exact, small = (Engine(path, name).run(pixels) for path in graphs)  # type: ignore[arg-type]
    spread = float(exact.logits.std())
    assert np.abs(exact.logits - small.logits).mean() < 0.1 * spread
    assert (exact.logits.argmax(1) == small.logits.argmax(1)).mean() >= 0.9
    assert np.abs(exact.activation_maps - small.activation_maps).mean() < 0.1 * float(exact.activation_maps.std())
    assert np.abs(exact.features - small.features).mean() < 0.1 * float(exact.features.std())
    np.testing.assert_allclose(small.activation_maps.mean((2, 3)), small.logits, atol=1e-3)


def test_the_file_is_small_whole_and_8_bits_wide(graphs: tuple[Path, Path]) -> None:
    assert graphs[1].stat().st_size <= 9 * 2**20
    model = onnx.load(graphs[1])
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 121
    held = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    weights = [held[node.input[0]] for node in model.graph.node if node.name.endswith(":weight")]
    assert len(weights) == 120, "all but the layer that makes the maps"
    assert all(weight.dtype == np.int8 and np.abs(weight).max() == 63 for weight in weights)
    scales = [held[node.input[1]] for node in model.graph.node if node.name.endswith(":weight")]
    assert all(scale.shape == (len(weight),) for weight, scale in zip(weights, scales, strict=True)), "per channel"


def test_equalising_changes_nothing_but_the_numbers_inside(
    graphs: tuple[Path, Path], pixels: np.ndarray, tmp_path: Path
) -> None:
    model = onnx.load(graphs[0])
    ranges = calibrate(graphs[0], [pixels])
    values = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    qdq._equalise(model.graph, values, ranges.channels)
    del model.graph.initializer[:]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in values.items())
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    before, after = Engine(graphs[0]).run(pixels), Engine(path).run(pixels)
    np.testing.assert_allclose(after.logits, before.logits, atol=1e-4)
    np.testing.assert_allclose(after.features, before.features, atol=1e-4)
    for peaks in calibrate(path, [pixels]).channels.values():
        assert peaks.max() <= 1 + 1e-5


def test_a_good_graph_enters_the_folder(model: Path, phantoms: Path, labelled: list[Record]) -> None:
    assert Predictor(model).precision == "fp32"
    with pytest.raises(ModelError, match="neurodense quantise"):
        Predictor(model, precision="int8")
    card = quantise(model, phantoms, labelled, labelled)
    assert card == read_card(model)
    assert card.int8 is not None
    assert card.int8.fp32.macro_f1 - card.int8.int8.macro_f1 <= 0.003
    assert card.int8.validation_images == card.int8.calibration_images == len(labelled)
    assert card.int8.agreement >= 0.97
    assert card.int8.mean_difference < 0.02
    assert Predictor(model, precision="int8").precision == "int8"
    assert Predictor(model).precision == ("int8" if Predictor(model).engine == "openvino" else "fp32")
    assert Predictor(model, precision="fp32").precision == "fp32"
    damaged = (model / INT8_GRAPH).read_bytes()[:-1]
    (model / INT8_GRAPH).write_bytes(damaged)
    with pytest.raises(ModelError, match="is not the file"):
        Predictor(model, precision="int8")


def test_a_bad_calibration_is_kept_out(model: Path, phantoms: Path, labelled: list[Record], tmp_path: Path) -> None:
    for number in range(4):
        Image.new("L", (64, 64)).save(tmp_path / f"black-{number}.png")
    black = [Record(str(path), "notumor", path.name, "") for path in sorted(tmp_path.glob("black-*.png"))]
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    with pytest.raises(ModelError, match=r"not good enough.*falls from \d.\d+ to"):
        quantise(model, phantoms, black, labelled)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before


def test_the_gate_opens_and_shuts_where_it_should() -> None:
    def scores(wrong: int) -> neurodense.Metrics:
        truth = np.repeat([0, 1], 500)
        named = truth.copy()
        named[:wrong] = 1
        return measure(("a", "b"), truth, np.eye(2)[named])

    assert shortfalls(scores(0), scores(2)) == []
    assert len(shortfalls(scores(0), scores(4))) == 1, "macro F1 by 0.4 points, recall by 0.8"
    assert len(shortfalls(scores(0), scores(10))) == 2
    assert any("recall of a" in clause for clause in shortfalls(scores(0), scores(6)))
    assert shortfalls(scores(9), scores(0)) == [], "better is no loss"


def test_without_images_there_is_no_int8(model: Path, phantoms: Path, labelled: list[Record]) -> None:
    with pytest.raises(DataError, match="validation images"):
        quantise(model, phantoms, labelled, [])
    gone = [Record("glioma/gone.png", "glioma", "g", "")]
    with pytest.raises(DataError, match="calibrate on"):
        quantise(model, phantoms, gone, labelled)


def test_the_command_gives_a_graph_or_an_error(
    model: Path, phantoms: Path, labelled: list[Record], command: list[str], tmp_path: Path
) -> None:
    split = tmp_path / "split.csv"
    rows = [f"{record.path},{part}" for record in labelled for part in ("train", "validation")]
    split.write_text("\n".join(["path,part", *rows]) + "\n")
    result = subprocess.run(
        [*command, "quantise", str(model), "--data", str(phantoms), "--split", str(split)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if result.returncode == 0:  # the class folders' own labels, on which the tiny model is not perfect
        assert f"int8 on {len(labelled)} validation images" in result.stdout
        assert json.loads((model / "card.json").read_text())["int8"]["validation_images"] == len(labelled)
    else:
        assert result.returncode == 2
        assert "not good enough" in result.stderr
        assert not (model / INT8_GRAPH).exists()
