"""Trainings that learn from a teacher: what the loss is, what a teacher may be, and what a run does and says of it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from click.testing import CliRunner
from conftest import Ears
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional

from neurodense.cli import cli
from neurodense.errors import ModelError, RecipeError, RunError
from neurodense.inference.card import read_card, sha256_of
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.study import read_image
from neurodense.training import checkpoint as checkpoints
from neurodense.training import execute, finish, processes, teacher
from neurodense.training.loss import Loss
from neurodense.training.network import new_network
from neurodense.training.precision import choose
from neurodense.training.recipe import Recipe, parse_recipe
from neurodense.training.run import resume, train
from neurodense.training.sheet import read_sheet
from neurodense.training.space import parse_space
from neurodense.training.sweep import sweep
from neurodense.training.teacher import Teacher, read_teacher

CLASSES = ["glioma", "meningioma", "notumor", "pituitary"]

TAUGHT = """
name = "taught"
summary = "Everything that a teacher has to get along with."
image_size = 64
batch_size = 10
keep = "last"
weights = "none"
label_smoothing = 0.05

[augment]
flip = true
gamma = 0.2

[lesions]
share = 0.5
healthy = "notumor"
classes = ["glioma", "meningioma", "pituitary"]

[teacher]
weight = 0.7
temperature = 3

[[stage]]
name = "all"
trainable = ["all"]
optimizer = "adamw"
learning_rate = 1e-3
epochs = 2
mixup = 0.4
ema = 0.9
"""


@pytest.fixture(scope="module")
def taught() -> Recipe:
    return parse_recipe(TAUGHT, "test")


def write_graph(
    file: Path,
    *,
    weight: Sequence[Sequence[float]] = ((9, 0, -3, 1),),
    bias: Sequence[float] = (0, 1, 2, 0),
    shape: Sequence[int | str | None] = ("n", 1, 64, 64),
    dtype: int = TensorProto.FLOAT,
    classes: str | None = None,
) -> Path:
    """A graph whose logits are the mean grey of each channel times `weight` (channels, classes), and `bias`."""
    nodes = [
        helper.make_node("Cast", ["grey"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["answer"]),
        helper.make_node("Identity", ["mean"], ["more"]),
    ]
    values = {"weight": np.array(weight, np.float32), "bias": np.array(bias, np.float32)}
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("grey", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("answer", "more")],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if classes is not None:
        helper.set_model_props(model, {"classes": classes})
    onnx.save(model, file)
    return file


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graph(tmp_path_factory.mktemp("teacher") / "teacher.onnx", classes=json.dumps(CLASSES))


# ---- the loss -----------------------------------------------------------------------------------------------------

X = torch.linspace(-2, 2, 24).view(6, 4).sin()
ALLOWED = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
TARGETS = torch.tensor([0, 3, 3, 1, 2, 3])


def as_logits(x: Tensor) -> Tensor:
    return x[:, :3] * 3


def says(x: Tensor) -> Tensor:
    return x[:, 1:].flip(1) * 2


def softmax(z: np.ndarray) -> np.ndarray:
    e: np.ndarray = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("mixup", [0.0, 1.0])
@pytest.mark.parametrize(("weight", "temperature"), [(0.7, 3.0), (0.5, 1.0), (1.0, 2.0)])
def test_the_loss_by_hand(taught: Recipe, mixup: float, weight: float, temperature: float) -> None:
    teaching = taught.teacher.model_copy(update={"weight": weight, "temperature": temperature})
    recipe = taught.model_copy(update={"teacher": teaching})
    stage = recipe.stage[0].model_copy(update={"mixup": mixup})
    seen: dict[str, Tensor] = {}

    def network(x: Tensor) -> Tensor:
        seen["student"] = x
        return as_logits(x)

    def teaches(x: Tensor) -> Tensor:
        seen["teacher"] = x
        return says(x)

    value = Loss(recipe, stage, TARGETS.tolist(), ALLOWED, choose("cpu", "fp32"), teaches)(network, X, TARGETS, "key")
    hard = Loss(recipe, stage, TARGETS.tolist(), ALLOWED, choose("cpu", "fp32"))(as_logits, X, TARGETS, "key")
    assert seen["student"] is seen["teacher"], "the same view, blended where the student's is"
    assert torch.equal(seen["student"], X) == (mixup == 0)
    p = softmax(says(seen["teacher"]).double().numpy() / temperature)
    q = softmax(as_logits(seen["student"]).double().numpy() / temperature)
    soft = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    assert value.item() == pytest.approx((1 - weight) * hard.item() + weight * soft, rel=1e-5)


def test_the_gradient_is_zero_where_the_student_says_what_the_teacher_says(taught: Recipe) -> None:
    """And T (q - p) of each image, as Hinton et al. have it, elsewhere."""
    recipe = taught.model_copy(update={"teacher": taught.teacher.model_copy(update={"weight": 1.0})})
    stage = recipe.stage[0].model_copy(update={"mixup": 0})
    arithmetic = choose("cpu", "fp32")
    logits = as_logits(X).clone().requires_grad_()
    own = logits.detach() + 1  # logits are the same but for a constant
    Loss(recipe, stage, [0], ALLOWED, arithmetic, lambda _: own)(lambda x: x, logits, TARGETS).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(6, 3), rtol=0, atol=1e-6)
    logits.grad = None
    Loss(recipe, stage, [0], ALLOWED, arithmetic, says)(lambda _: logits, X, TARGETS).backward()
    p, q = functional.softmax(says(X) / 3, 1), functional.softmax(logits.detach() / 3, 1)
    torch.testing.assert_close(logits.grad, 3 * (q - p) / 6)


def test_the_parts_of_several_processes_add_up(taught: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = taught.stage[0].model_copy(update={"mixup": 0})
    loss = Loss(taught, stage, TARGETS.tolist(), ALLOWED, choose("cpu", "fp32"), says)
    whole = loss(as_logits, X, TARGETS).item()
    parts = 0.0
    for own in (slice(0, 4), slice(4, 4), slice(4, 6)):
        monkeypatch.setattr(processes, "share", lambda _, own=own: own)
        part = loss(as_logits, X[own], TARGETS)
        parts += part.item()
    assert parts == pytest.approx(whole, rel=1e-6)


# ---- what a teacher is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_it_answers_as_its_graph_does(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(engine)
    monkeypatch.setattr(teacher, "choose_engine", lambda: engine)
    weight = np.arange(12.0).reshape(3, 4) - 5
    made = Teacher(write_graph(tmp_path / "x.onnx", weight=weight.tolist(), shape=("n", 3, 96, 96)), CLASSES)
    views = torch.rand(7, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    grey = functional.interpolate(views, (96, 96), mode="bilinear").mean((1, 2, 3)).double().numpy()
    expected = grey[:, None] * weight.sum(0) + [0, 1, 2, 0]
    logits = made(views)
    np.testing.assert_allclose(logits.numpy(), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits, made(views)), "twice the same, to the bit"
    assert made(views[:1].double()).dtype == torch.float32


BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({"shape": ("n", 2, 64, 64)}, ["takes float32 (N, 2, 64, 64)", "(N, 1, S, S) or (N, 3, S, S)"]),
    ({"shape": ("n", 1, 64, 96)}, ["takes float32 (N, 1, 64, 96)"]),
    ({"shape": (1, 1, 64, 64)}, ["takes float32 (1, 1, 64, 64)", "any number of images N"]),
    ({"shape": ("n", 1, "s", "s")}, ["does not say the side S"]),
    ({"shape": ("n", 1, 64)}, ["takes float32 (N, 1, 64)"]),
    ({"dtype": TensorProto.DOUBLE}, ["takes float64 (N, 1, 64, 64)"]),
    ({"weight": [[1, 2, 3]], "bias": [0, 0, 0]}, ["gives (2, 3) for 2 images", "4 classes are (2, 4)", "pituitary"]),
    ({"bias": [0, 0, float("nan"), 0]}, ["not finite"]),
    ({"classes": '["a", "b", "c", "d"]'}, ["tells apart a, b, c, d", "folders are glioma, meningioma, notumor, pit"]),
    ({"classes": "glioma"}, ["tells apart glioma;"]),
]


@pytest.mark.parametrize(("graph", "parts"), BAD)
def test_a_graph_that_is_no_teacher_is_one_clear_error(graph: dict[str, Any], parts: list[str], tmp_path: Path) -> None:
    file = write_graph(tmp_path / "x.onnx", **graph)
    with pytest.raises(ModelError) as caught:
        read_teacher(file, CLASSES)
    for part in (str(file), *parts):
        assert part in str(caught.value)
    assert caught.value.hint is not None


def test_files_that_are_no_graphs(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_teacher(tmp_path / "nowhere.onnx", CLASSES)
    for content in (b"", b"\x89PNG no", b"path,part\n" * 99):
        (tmp_path / "x.onnx").write_bytes(content)
        with pytest.raises(ModelError, match="is no ONNX file"):
            read_teacher(tmp_path / "x.onnx", CLASSES)
    model = onnx.load(write_graph(tmp_path / "y.onnx"))
    onnx.save(model, tmp_path / "y.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises(ModelError, match="weights in other files"):
        read_teacher(tmp_path / "y.onnx", CLASSES)
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "z.onnx")
    with pytest.raises(ModelError, match=r"z\.onnx"):
        read_teacher(tmp_path / "z.onnx", CLASSES)


# ---- recipes and commands -----------------------------------------------------------------------------------------


def test_a_recipe_with_a_teacher_trains_whole_networks() -> None:
    head = TAUGHT.replace('["all"]', '["denseblock4", "classifier"]')
    with pytest.raises(RecipeError, match=r"stage 'all' is frozen before denseblock4.*trainable = \[\"all\"\]"):
        parse_recipe(head, "test")
    without = parse_recipe(head.replace("[teacher]\nweight = 0.7\ntemperature = 3\n", ""), "test")
    assert "teacher" not in without.model_dump(), "recipe.toml has no word for none"
    with pytest.raises(RecipeError, match="needs the pixels"):
        without.taught()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("weight = 1.5", "'teacher.weight'"),
        ("temperature = 0", "'teacher.temperature'"),
        ("wieght = 1", "did you mean 'weight'"),
        ("flip = true", r"belongs below \[augment\]"),
    ],
)
def test_impossible_values(line: str, part: str) -> None:
    with pytest.raises(RecipeError, match=part):
        parse_recipe(TAUGHT.replace("weight = 0.7\ntemperature = 3", line), "test")


def test_a_space_varies_a_teacher_that_is_there(taught: Recipe) -> None:
    text = "[teacher]\nweight = {low = 0.1, high = 0.9}\n"
    assert parse_space(text, "space", taught).recipe({"teacher.weight": 0.25}).teacher.weight == 0.25
    without = taught.model_copy(update={"teacher": None})
    with pytest.raises(RecipeError, match="there is no teacher"):
        parse_space(text, "space", without)


def test_table_and_option_go_together(phantoms: Path, taught: Recipe, file: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"\[teacher\].*\n.*--teacher FILE"):
        train(phantoms, tmp_path / "run", recipe=taught)
    with pytest.raises(RecipeError, match="recipe finetune: a teacher needs the pixels"):
        train(phantoms, tmp_path / "run", recipe="finetune", teacher=file)
    with pytest.raises(ModelError, match="nowhere"):
        train(phantoms, tmp_path / "run", recipe=taught, teacher=tmp_path / "nowhere")
    assert not (tmp_path / "run").exists()


# ---- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(phantoms: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run by the command line."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "taught.toml").write_text(TAUGHT)
    words = ["train", phantoms, "--out", folder / "run", "--recipe", folder / "taught.toml", "--teacher", file]
    words += ["--seed", 3, "--groups", phantoms / "groups.csv", "--precision", "fp32", "--workers", 0]
    words += ["--cache", folder / "cache"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "_add_int8", lambda *_: None)  # which has its own tests
        result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return folder / "run"


def go(phantoms: Path, out: Path, recipe: Recipe, **options: Any) -> Path:
    """Train without what follows the training."""
    train(
        phantoms, out, recipe=recipe, groups=phantoms / "groups.csv", seed=3, precision="fp32", workers=0,
        cache=out.parent / "cache", screen=Ears(), **options,
    )  # fmt: skip
    return out


@pytest.fixture
def no_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "finish", lambda run, *_: run / "model")


def same(one: Path, other: Path) -> bool:
    a, b = (checkpoints.load(run / "checkpoints" / "last.safetensors").network for run in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


def test_the_run_says_who_taught_it(run: Path, file: Path) -> None:
    sheet, card = read_sheet(run), read_card(run / "model")
    assert sheet.teacher is not None
    assert (sheet.teacher.path, sheet.teacher.sha256) == (str(file.resolve()), sha256_of(file))
    assert card.teacher is not None
    assert card.teacher.model_dump() == {
        "name": "teacher.onnx", "sha256": sha256_of(file), "weight": 0.7, "temperature": 3.0,
    }  # fmt: skip
    assert str(file.parent) not in card.model_dump_json(), "where it lay is nobody's business"
    assert card.recipe["teacher"] == {"weight": 0.7, "temperature": 3}
    readme = (run / "model" / "README.md").read_text()
    assert f"`teacher.onnx` (sha256 {sha256_of(file)}): weight 0.7, temperature 3." in readme
    assert "if test images were among those that this teacher learnt from" in readme
    assert "teacher teacher.onnx, weight 0.7" in (run / "model" / "checklist.md").read_text()
    report = (run / "report" / "index.html").read_text()
    for part in ("teacher.onnx, weight 0.7, temperature 3", "--teacher teacher.onnx", "too good: a teacher is trained"):
        assert part in report


def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    run: Path, phantoms: Path, taught: Recipe, file: Path, tmp_path: Path, no_finish: None
) -> None:
    own = shutil.copyfile(file, tmp_path / "own.onnx")
    epoch, kept = checkpoints.Keeper.epoch, []

    def keep_and_stop(*arguments: Any, **options: Any) -> None:
        kept.append(epoch(*arguments, **options))
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints.Keeper, "epoch", keep_and_stop)
        with pytest.raises(KeyboardInterrupt):
            go(phantoms, out, taught, teacher=own)
    assert kept == [True]
    own.rename(tmp_path / "moved.onnx")
    with pytest.raises(RunError, match=r"own\.onnx cannot be read.*\n.*--teacher FILE says where own\.onnx is"):
        resume(out)
    write_graph(tmp_path / "other.onnx", bias=[1, 1, 1, 1])
    with pytest.raises(RunError, match=r"other\.onnx is not the teacher that .* began with"):
        resume(out, teacher=tmp_path / "other.onnx")
    assert read_sheet(out).teacher.path == str(own.resolve())
    words = ["train", "--resume", out, "--teacher", tmp_path / "moved.onnx"]
    assert CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False).exit_code == 0
    assert read_sheet(out).teacher.path == str((tmp_path / "moved.onnx").resolve())
    assert same(out, run)


def test_a_finished_run_needs_its_teacher_no_more(
    run: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(run, tmp_path / "run")
    sheet = json.loads((out / "run.json").read_text())
    sheet["teacher"]["path"] = str(tmp_path / "gone.onnx")
    (out / "run.json").write_text(json.dumps(sheet))
    assert resume(out) == out / "model"
    with pytest.raises(RunError, match=r"gone\.onnx cannot be read"):
        resume(out, continue_epochs=1)
    del sheet["teacher"]
    (out / "run.json").write_text(json.dumps(sheet))
    with pytest.raises(RunError, match="began without a teacher"):
        resume(out, teacher=file)


def test_weight_0_is_training_without(
    phantoms: Path, taught: Recipe, file: Path, tmp_path: Path, no_finish: None
) -> None:
    stage = taught.stage[0].model_copy(update={"epochs": 1})
    silent = taught.model_copy(update={"stage": (stage,), "teacher": taught.teacher.model_copy(update={"weight": 0.0})})
    one = go(phantoms, tmp_path / "one", silent, teacher=file)
    other = go(phantoms, tmp_path / "other", silent.model_copy(update={"teacher": None}))
    assert same(one, other)
    assert read_sheet(other).teacher is None
    assert "[teacher]" not in (other / "recipe.toml").read_text()


def test_a_teacher_that_always_names_one_class_pulls_the_student_there(
    phantoms: Path, taught: Recipe, tmp_path: Path, no_finish: None
) -> None:
    file = write_graph(tmp_path / "one.onnx", weight=[[0, 0, 0, 0]], bias=[0, 0, 0, 8], classes=json.dumps(CLASSES))
    stage = taught.stage[0].model_copy(update={"epochs": 3, "mixup": 0, "ema": 0})
    teaching = taught.teacher.model_copy(update={"weight": 0.9})
    recipe = taught.model_copy(update={"stage": (stage,), "teacher": teaching})
    out = go(phantoms, tmp_path / "run", recipe, teacher=file)
    network = new_network(4, recipe)
    network.load_state_dict(checkpoints.load(out / "checkpoints" / "last.safetensors").network)
    with (out / "split.csv").open(newline="") as handle:
        held_back = [row["path"] for row in csv.DictReader(handle) if row["part"] == "test"]
    pixels = torch.from_numpy(np.stack([Preprocess(size=64)(read_image(phantoms / path)) for path in held_back]))
    with torch.no_grad():  # by the batch's statistics: few steps have not brought the running ones there
        named = network.train()(pixels).argmax(1)
    assert {path.split("/")[0] for path in held_back} == set(CLASSES)
    assert (named == 3).all()


def test_a_sweep_is_taught_too(phantoms: Path, taught: Recipe, file: Path, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    (tmp_path / "space.toml").write_text("teacher.weight = {low = 0.1, high = 0.9}\n")
    stage = taught.stage[0].model_copy(update={"epochs": 1})
    recipe, ears = taught.model_copy(update={"stage": (stage,)}), Ears()
    asked: dict[str, Any] = {"recipe": recipe, "space": tmp_path / "space.toml", "trials": 1, "precision": "fp32"}
    asked |= {"groups": phantoms / "groups.csv", "workers": 0, "cache": tmp_path / "cache", "screen": ears}
    best = sweep(phantoms, tmp_path / "sweep", teacher=file, **asked)
    assert 0.1 <= parse_recipe(best.read_text(), "best").teacher.weight <= 0.9
    assert f"--teacher {file}" in ears.text
    other = write_graph(tmp_path / "other.onnx", bias=[1, 1, 1, 1])
    with pytest.raises(RunError, match="another --teacher"):
        sweep(phantoms, tmp_path / "sweep", teacher=other, **asked)
