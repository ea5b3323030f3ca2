"""Another collection's folders as a model's classes: what a map may say, what is measured, and what is lost."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from neurodense.data.label_map import as_named, read_map
from neurodense.errors import DataError
from neurodense.evaluation.drop import difference, drops
from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.shares import Share

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
TUMOUR = "glioma, meningioma or pituitary"


def written(folder: Path, text: str) -> Path:
    path = folder / "other.toml"
    path.write_text(f"[classes]\n{text}\n", encoding="utf-8")
    return path


def test_folders_become_labels(tmp_path: Path) -> None:
    found = read_map(written(tmp_path, 'A = "glioma"\n"B b" = ["glioma"]\nno = "notumor"'), CLASSES)
    assert found.names == CLASSES
    assert [found.index(name) for name in ("A", "B b", "no", "glioma")] == [0, 0, 2, None]
    np.testing.assert_array_equal(found.merged, np.eye(4, dtype=bool))
    assert as_named(CLASSES).index("pituitary") == 3


def test_a_folder_of_several_classes_makes_them_one(tmp_path: Path) -> None:
    found = read_map(written(tmp_path, 'no = "notumor"\nyes = ["pituitary", "glioma", "meningioma"]'), CLASSES)
    assert found.names == (TUMOUR, "notumor")
    assert (found.index("yes"), found.index("no")) == (0, 1)
    np.testing.assert_array_equal(found.merged.T, [[True, True, False, True], [False, False, True, False]])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('a = "cyst"', "'cyst'; the model knows 'glioma'"),
        ("a = 3", "'a' is 3; a class or a list"),
        ("a = []", "a class or a list"),
        ('a = ["glioma", "notumor"]\nb = ["glioma", "pituitary"]', "another folder glioma or"),
        ('a = ["glioma", "notumor"]\nb = "glioma"', "cannot be told apart"),
        ('a = ["glioma", "meningioma", "notumor", "pituitary"]', "nothing to tell apart"),
        ("a = ", "cannot be read as a map"),
        ("", "nothing else is allowed"),
        ('[more]\na = "glioma"', "nothing else is allowed"),
    ],
)
def test_what_a_map_cannot_say(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        read_map(written(tmp_path, text), CLASSES)
    with pytest.raises(DataError, match="does not exist"):
        read_map(tmp_path / "none.toml", CLASSES)


def test_the_difference_of_independent_figures_is_that_of_mover() -> None:
    found = difference(Share(0.6, (0.5, 0.7)), Share(0.9, (0.8, 0.95)))
    assert found.value == pytest.approx(-0.3)
    assert found.interval == pytest.approx((-0.3 - np.hypot(0.1, 0.05), -0.3 + np.hypot(0.1, 0.1)))
    assert difference(Share(0.6), Share(0.9, (0.8, 0.95))).interval is None
    assert difference(Share(None), Share(0.9)) == Share(None)


def test_only_like_is_compared_with_like() -> None:
    rng = np.random.default_rng(0)

    def predictions(labels: tuple[str, ...], truth: np.ndarray) -> Predictions:
        rows = rng.dirichlet(np.ones(len(labels)), size=len(truth)) + np.eye(len(labels))[truth]
        names = tuple(map(str, range(len(truth))))
        return Predictions(labels, names, truth, rows / rows.sum(axis=1, keepdims=True))

    def both(one: Predictions):
        return measure(one.labels, one.truth, one.probabilities), intervals(one, resamples=50)

    metrics, bounds = both(predictions(("a", "b", "c.d"), rng.integers(3, size=80)))
    inside = {**metrics.as_dict(), "intervals": bounds.as_dict()}
    whole = {one.name: one for one in drops(inside, *both(predictions(("a", "b", "c.d"), rng.integers(3, size=60))))}
    assert {"accuracy", "macro.f1", "per_class.c.d.recall", "per_class.a.specificity", "per_class.b.auroc"} <= set(
        whole
    )
    assert "per_class.a.precision" not in whole
    assert whole["accuracy"].inside.value == metrics.accuracy
    assert whole["per_class.c.d.recall"].inside.interval == bounds.bounds["per_class.c.d.recall"]
    lacking = drops(inside, *both(predictions(("a", "b", "c.d"), rng.integers(2, size=60))))
    assert [one.name for one in lacking] == ["per_class.a.recall", "per_class.b.recall"]
    merged = drops(inside, *both(predictions(("a or b", "c.d"), rng.integers(2, size=60))))
    assert [one.name for one in merged] == ["per_class.c.d.auroc"]


def test_evaluate_by_a_map(finished_run: Path, phantoms: Path, command: list[str], tmp_path: Path) -> None:
    other = tmp_path / "other"
    for name, source in (("yes", "glioma"), ("yes", "pituitary"), ("no", "notumor"), ("odd", "meningioma")):
        for path in sorted((phantoms / source).glob("*.png")):
            (other / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, other / name / f"{source}-{path.name}")
    yes = '["glioma", "meningioma", "pituitary"]'
    words = ["evaluate", str(other), "--model", str(finished_run / "model"), "--format", "json"]
    refused = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--map other.toml" in refused.stderr
    words += ["--map", str(written(tmp_path, f'no = "notumor"\nyes = {yes}'))]
    got = json.loads(subprocess.run([*command, *words], capture_output=True, text=True, check=True).stdout)
    assert got["n"] == 30
    assert got["left_out"] == {"odd": 10}
    assert list(got["per_class"]) == [TUMOUR, "notumor"]
    assert got["per_class"][TUMOUR]["support"] == 20
    assert got["operating"]["points"][0]["finding"] == "any class but notumor"
    assert got["certainty"]["sets"][0]["covered"]["value"] <= 1
    alone = [*words[:-1], str(written(tmp_path, f"yes = {yes}"))]
    got = json.loads(subprocess.run([*command, *alone], capture_output=True, text=True, check=True).stdout)
    assert (got["n"], got["left_out"]) == (20, {"no": 10, "odd": 10})
    nothing = [*words[:-1], str(written(tmp_path, 'another = "glioma"'))]
    refused = subprocess.run([*command, *nothing], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "not in the map; it knows 'another'" in refused.stderr
