import hashlib
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import neurodense
from neurodense.errors import ModelError
from neurodense.evaluation.evaluate import evaluate
from neurodense.inference.card import read_card, sha256_of, write_card
from neurodense.inference.predictor import Predictor
from neurodense.inference.seen import SEEN, count_seen, read_seen, write_seen
from neurodense.inference.shipped import BRAIN, model_folder

MIB = 2**20


@pytest.fixture(scope="module")
def folder() -> Path:
    return model_folder(BRAIN)


def test_it_is_small_enough_to_come_with_the_package(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert sizes["model.safetensors"] + sizes["model.onnx"] <= 16 * MIB
    assert sizes["model.int8.onnx"] <= 9 * MIB


def test_its_files_are_those_of_its_card(folder: Path) -> None:
    card = read_card(folder)
    assert card.name == BRAIN
    assert card.files == {name: sha256_of(folder / name) for name in card.files}
    assert {SEEN, "model.int8.onnx", "model.onnx", "model.safetensors"} <= set(card.files)


def test_its_card_says_how_to_make_it_again_and_what_it_has_seen(folder: Path) -> None:
    card = read_card(folder)
    assert not card.data.synthetic
    assert card.recipe["name"] == "brain-heads"
    assert card.weights_origin.startswith("brain, the model of the package (sha256 ")  # as it was before
    assert card.teacher is not None
    assert card.data.split_by == "group"
    assert not card.data.leaked
    assert card.metrics is not None
    counts = card.data.counts
    met = sum(sum(counts[part].values()) for part in ("train", "validation"))
    met += sum(one.counts[part] for one in card.data.partial for part in ("train", "validation"))
    assert 0.9 * met < len(read_seen(folder, card)) <= met  # some files are there twice


def test_a_path_is_a_path(tmp_path: Path) -> None:
    assert model_folder(tmp_path) == tmp_path
    assert model_folder("./brain") == Path("brain")


def test_an_installation_without_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neurodense, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(ModelError, match="no shipped model") as caught:
        model_folder(BRAIN)
    assert "RUN/model" in str(caught.value.hint)


def test_predict_needs_no_model(phantoms: Path, command: list[str]) -> None:
    image = next(phantoms.rglob("*.png"))
    done = subprocess.run(
        [*command, "predict", str(image), "--format", "json"], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    assert sorted(answer["probabilities"]) == sorted(read_card(model_folder(BRAIN)).classes)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_both_precisions_agree(folder: Path, phantoms: Path) -> None:
    images = sorted(phantoms.rglob("*.png"))[::4]
    exact, small = (
        np.array([list(answer.probabilities.values()) for answer in Predictor(BRAIN, precision=p).predict(images)])  # type: ignore[union-attr]
        for p in ("fp32", "int8")
    )
    assert np.abs(exact - small).mean() < 0.05


def test_a_training_may_start_from_it() -> None:
    pytest.importorskip("torch")
    from neurodense.training.network import Network
    from neurodense.training.weights import load_weights, read_weights

    assert load_weights(Network(4, 0.3), read_weights(BRAIN)).endswith("classifier from the file")
    origin = load_weights(Network(3, 0.3), read_weights(BRAIN))
    assert origin.startswith("brain, the model of the package")
    assert origin.endswith("classifier new")


# ---- what a model has seen -----------------------------------------------------------------------------------------


def test_files_that_were_seen_are_counted_by_their_bytes(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b", "c")]
    for path in files:
        path.write_text(path.name)
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    write_seen(tmp_path, hashes[:2])
    seen = frozenset((tmp_path / SEEN).read_text().split())
    files[1].rename(tmp_path / "renamed")
    assert count_seen(seen, [files[0], tmp_path / "renamed", files[2], tmp_path / "not there"]) == 2


def test_evaluating_on_images_of_the_training_says_so(finished_run: Path, phantoms: Path) -> None:
    model, split = finished_run / "model", finished_run / "split.csv"
    whole = evaluate(phantoms, model)
    tested = evaluate(phantoms, model, split=split, part="test")
    assert tested.seen == 0
    assert whole.seen == whole.metrics.n - tested.metrics.n
    assert any(f"trained or validated on {whole.seen} of these images" in note for note in whole.notes)
    assert not any("too good" in note for note in tested.notes)
    assert whole.as_dict()["seen"] == whole.seen


def test_a_model_from_before_has_seen_nothing(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    import shutil

    old = shutil.copytree(finished_run / "model", tmp_path / "old")
    card = read_card(old)
    write_card(old, card.model_copy(update={"files": {k: v for k, v in card.files.items() if k != SEEN}}))
    (old / SEEN).unlink()
    assert evaluate(phantoms, old).seen == 0


def test_an_image_of_another_kind_is_answered_too(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((50, 50), dtype=np.uint8)).save(tmp_path / "black.png")
    (answer,) = Predictor(BRAIN).predict([tmp_path / "black.png"])
    assert sum(answer.probabilities.values()) == pytest.approx(1)  # type: ignore[union-attr]
