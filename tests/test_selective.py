"""Accuracy by how many images are answered, and shares with intervals by group."""

import numpy as np
import pytest

from neurodense.evaluation.by_source import by_source
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.selective import COVERAGES, selective
from neurodense.evaluation.shares import Share, Shares, once_each

N = 200


@pytest.fixture
def predictions() -> Predictions:
    """40 groups of 5 images; the surer the model, the more often it is right."""
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, size=N)
    truth = (rng.random(N) > sure).astype(np.int64)
    groups = tuple(f"g{k // 5}" for k in range(N))
    return Predictions(("a", "b"), tuple(map(str, range(N))), truth, np.stack([sure, 1 - sure], axis=1), groups)


def test_the_curve_is_accuracy_on_the_surest(predictions: Predictions) -> None:
    found = selective(predictions, None, {})
    right = predictions.truth == 0
    order = np.argsort(-predictions.probabilities[:, 0])
    for answered, point in zip(COVERAGES, found.curve, strict=True):
        assert point.value == pytest.approx(right[order][: round(answered * N)].mean())
        assert point.interval is not None
        assert point.interval[0] <= point.value <= point.interval[1]
    assert found.curve[-1].value == found.accuracy.value == right.mean()
    assert found.curve[3].value > found.accuracy.value + 0.1  # type: ignore[operator]
    assert found.rules == ()
    assert found.sentences() == []


def test_rules_are_said_by_what_they_buy(predictions: Predictions) -> None:
    sure, n = predictions.probabilities[:, 0] > 0.8, len(predictions.truth)
    sets = np.stack([np.ones(n, dtype=bool), ~sure], axis=1)
    rng = np.random.default_rng(1)
    for known, outcome in ((sure, "buys accuracy"), (rng.random(n) > 0.3, "is not shown"), (~sure, "costs accuracy")):
        found = selective(predictions, known, {0.1: sets})
        rule = found.rules[0]
        assert (rule.name, rule.answered.value) == ("in distribution", known.mean())
        assert rule.gain.value == pytest.approx(rule.accuracy.value - found.accuracy.value)  # type: ignore[operator]
        assert outcome in found.sentences()[0]
        assert found.rules[1].name == "in distribution and given one class at an error of 10%"
        assert found.rules[1].answered.value == (known & sure).mean()
    nothing = selective(predictions, np.zeros(n, dtype=bool), {})
    assert nothing.rules[0].accuracy == Share(None)
    assert nothing.sentences() == ["None of the images is in distribution."]


def test_a_gain_is_paired(predictions: Predictions) -> None:
    everything, right = np.ones(N, dtype=bool), predictions.truth == 0
    found = Shares(predictions.units, [right, right], [everything, everything])
    assert found.difference(0, 1) == Share(0.0, None), "the same in each resample"
    assert found[0].interval is not None


def test_groups_that_count_once() -> None:
    units, among = ("x", "x", "x", "y", "z"), np.array([True, True, False, True, False])
    weights = once_each(units, among)
    np.testing.assert_allclose(weights, [0.5, 0.5, 0, 1, 0])
    right = np.array([True, False, True, True, True])
    assert Shares(units, [weights * right], [weights])[0].value == pytest.approx((0.5 + 1) / 2)


def test_no_error_seen_gives_the_exact_interval_of_the_groups(predictions: Predictions) -> None:
    everything = np.ones(N, dtype=bool)
    share = Shares(predictions.units, [everything], [everything])[0]
    assert share.value == 1
    assert share.interval == pytest.approx((0.025 ** (1 / 40), 1.0))
    assert str(share) == "1.000 (0.912 to 1.000)"
    assert Share(-0.1, (-0.2, 0.05)).signed == "-0.100 (-0.200 to +0.050)"


def test_each_source_is_measured_by_itself(predictions: Predictions) -> None:
    source_of = {path: "large" if k < 150 else "small" for k, path in enumerate(predictions.sources) if k != 199}
    found = by_source(predictions, source_of)
    assert [(one.name, one.images) for one in found] == [("large", 150), ("small", 49)]
    right = predictions.truth == 0
    assert found[0].accuracy.value == pytest.approx(right[:150].mean())
    assert found[1].accuracy.value == pytest.approx(right[150:199].mean())
    p = predictions.probabilities[np.arange(N), predictions.truth]
    assert found[1].loss.value == pytest.approx(-np.log(p[150:199]).mean())
    assert found[0].ece.interval is not None
    assert by_source(predictions, {"elsewhere": "x"}) == []
