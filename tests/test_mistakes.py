"""The worst mistakes: which they are, and that each is shown with what the model went by."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")  # for the run whose model predicts here

import neurodense
from neurodense.evaluation.hardest import HardGroup, hardest
from neurodense.evaluation.mistakes import draw_mistakes, worst
from neurodense.evaluation.predictions import Predictions
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor

LABELS = ("a", "b")


def test_the_worst_come_first_and_one_of_each_group() -> None:
    rows = np.array([[0.9, 0.1], [0.99, 0.01], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
    truth = np.array([1, 1, 1, 1, 0])
    predictions = Predictions(LABELS, tuple("01234"), truth, rows, ("g", "g", "g", "h", "h"))
    assert worst(predictions).tolist() == [1, 3]
    assert worst(predictions, 1).tolist() == [1]
    alone = Predictions(LABELS, tuple("01234"), truth, rows)
    assert worst(alone).tolist() == [1, 0, 3]
    right = Predictions(LABELS, tuple("01234"), predictions.predicted, rows)
    assert worst(right).tolist() == []


def test_they_are_drawn_and_reported(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    predictor = Predictor(finished_run / "model", precision="fp32")
    result = neurodense.evaluate(phantoms, predictor, groups=phantoms / "groups.csv")
    found = draw_mistakes(result.predictions, lambda _: predictor, phantoms, tmp_path)
    assert [one.source for one in found] == [result.predictions.sources[row] for row in worst(result.predictions)]
    for one in found:
        assert one.called != one.true
        assert one.p_called > one.p_true
        assert one.group != one.source
        with Image.open(one.picture) as picture:
            assert picture.width > 1.9 * picture.height
        answer = next(predictor.predict([phantoms / one.source]))
        assert isinstance(answer, Prediction)
        assert one.verdict == (answer.verdict if answer.has_verdict else None)
        assert one.called in one.alt
    assert {path.name for path in (tmp_path / "mistakes").iterdir()} == {one.picture.name for one in found}
    page = (finished_run / "report" / "index.html").read_text(encoding="utf-8")
    tested = neurodense.evaluate(phantoms, predictor, split=finished_run / "split.csv", part="test")
    assert len(worst(tested.predictions)) > 0, "else this test shows nothing"
    for row in worst(tested.predictions):
        assert tested.predictions.sources[row] in page
    assert "The worst mistakes" in page
    assert '<svg class="flow"' in page


def test_whose_the_mistakes_are() -> None:
    truth = np.array([0] * 6 + [1] * 4)
    said = np.array([1, 1, 1, 0, 0, 0, 1, 0, 0, 1])
    groups = ("p", "p", "p", "p", "q", "q", "r", "r", "s", "s")
    rows = np.where(np.arange(2) == said[:, np.newaxis], 0.9, 0.1)
    found = hardest(Predictions(LABELS, tuple("0123456789"), truth, rows, groups))
    assert found is not None
    assert (found.wrong, found.units) == (5, 4)
    assert found.groups == (HardGroup("p", 4, 3, "a", "b"),), "three of five are more than half"
    assert found.sentence == "3 of the 5 mistakes are of 1 of 4 groups; most of p, 3 of its 4 images."
    rows[0] = [0.9, 0.1]
    found = hardest(Predictions(LABELS, tuple("0123456789"), truth, rows, groups))
    assert found is not None
    assert [one.group for one in found.groups] == ["p"], "two of four are half"
    rows[1] = [0.9, 0.1]
    found = hardest(Predictions(LABELS, tuple("0123456789"), truth, rows, groups))
    assert found is not None
    assert [(one.group, one.true, one.called) for one in found.groups] == [("p", "a", "b"), ("r", "b", "a")]


def test_nobodys_mistakes_are_nothing() -> None:
    rows = np.array([[0.9, 0.1], [0.1, 0.9]])
    assert hardest(Predictions(LABELS, ("0", "1"), np.array([0, 1]), rows, ("p", "q"))) is None
    assert hardest(Predictions(LABELS, ("0", "1"), np.array([1, 1]), rows)) is None, "no groups are known"


def test_the_groups_are_in_the_report_and_not_in_the_card(finished_run: Path, phantoms: Path) -> None:
    predictor = Predictor(finished_run / "model", precision="fp32")
    tested = neurodense.evaluate(phantoms, predictor, split=finished_run / "split.csv", part="test")
    assert tested.hardest is not None, "else this test shows nothing"
    assert tested.hardest.sentence in tested.notes
    page = (finished_run / "report" / "index.html").read_text(encoding="utf-8")
    assert tested.hardest.sentence in page
    kept = json.loads((finished_run / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert kept["hardest"]["groups"][0]["group"] == tested.hardest.groups[0].group
    assert "hardest" not in json.loads((finished_run / "model" / "card.json").read_text(encoding="utf-8"))["metrics"]
