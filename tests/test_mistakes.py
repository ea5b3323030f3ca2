"""The worst mistakes: which they are, and that each is shown with what the model went by."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")  # for the run whose model predicts here

import neurodense
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
