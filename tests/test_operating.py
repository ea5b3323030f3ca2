"""Thresholds chosen on one part and applied to another, and decision curves."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_intervals import sample

from neurodense.errors import DataError
from neurodense.evaluation.decision import THRESHOLDS, decision_curve, write_decision_curve
from neurodense.evaluation.figures import decision_figure
from neurodense.evaluation.operating import (
    SPECIFICITIES,
    Finding,
    choose_thresholds,
    healthy_class,
    operating_points,
)
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.shares import Share


def binary(scores, present, groups=None):
    """Predictions of "tumour" at `scores`, over the classes notumor and tumour."""
    scores = np.asarray(scores, dtype=float)
    names = tuple(f"{i}" for i in range(len(scores)))
    return Predictions(
        ("notumor", "tumour"), names, np.asarray(present).astype(int), np.stack([1 - scores, scores], axis=1), groups
    )


@pytest.mark.parametrize(
    ("labels", "named", "wanted"),
    [
        (("glioma", "meningioma", "notumor", "pituitary"), None, "notumor"),
        (("glioma", "No_Tumor"), None, "No_Tumor"),
        (("yes", "no"), None, "no"),
        (("tumour", "Healthy"), None, "Healthy"),
        (("glioma", "pituitary"), None, None),
        (("normal", "healthy", "glioma"), None, None),
        (("normal", "healthy", "glioma"), "normal", "normal"),
        (("glioma", "notumor"), "glioma", "glioma"),
    ],
)
def test_the_healthy_class(labels, named, wanted):
    assert healthy_class(labels, named) == wanted


def test_a_healthy_class_that_is_none():
    with pytest.raises(DataError, match=r"'nothing'; the model knows 'a', 'b'"):
        healthy_class(("a", "b"), "nothing")


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 300), ties=st.booleans())
def test_a_threshold_is_the_lowest_that_reaches_its_specificity(seed, n, ties):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.random(n), 1 if ties else 9)
    present = rng.random(n) < 0.5
    validation = binary(scores, present)
    chosen = choose_thresholds(validation)
    assert chosen.images == n
    for finding, limits in ((Finding("tumour"), chosen.of_class), (Finding("notumor", rest=True), chosen.of_any_other)):
        exact = finding.scores(validation)
        for aimed, threshold in zip(SPECIFICITIES, limits[finding.name], strict=True):
            negative = exact[~present]
            # The specificity of every threshold that makes a difference, by brute force.
            levels = np.append(np.unique(exact), np.inf)
            reached = {level: (negative < level).mean() for level in levels} if len(negative) else {}
            enough = [level for level, share in reached.items() if share >= aimed - 1e-12]
            if not enough or (threshold is None and min(enough) == np.inf):
                assert threshold is None
                continue
            assert threshold is not None
            np.testing.assert_array_equal(exact >= threshold, exact >= min(enough))


def test_nothing_is_called_where_no_threshold_is_enough():
    certain = binary([1.0, 1.0, 0.2, 0.9], [False, False, False, True])  # two of three healthy images at 1.0
    thresholds = choose_thresholds(certain)
    assert thresholds.of_class["tumour"] == (None, None, None)
    point = operating_points(certain, thresholds, "notumor")[0]
    assert (point.finding, point.sensitivity.value, point.specificity.value) == ("any class but notumor", 0, 1)
    assert choose_thresholds(binary([0.4, 0.6], [True, True])).of_class["tumour"] == (None, None, None)


def test_thresholds_are_of_one_part_and_figures_of_another():
    rng = np.random.default_rng(0)
    present = np.arange(400) < 200
    validation = binary(np.where(present, rng.beta(5, 2, 400), rng.beta(2, 5, 400)), present)
    test = binary(np.where(present, rng.beta(4, 2, 400), rng.beta(2, 4, 400)), present)
    thresholds = choose_thresholds(validation)
    points = operating_points(test, thresholds, "notumor")
    assert [point.finding for point in points] == ["any class but notumor"] * 3 + ["notumor"] * 3 + ["tumour"] * 3
    scores = test.probabilities[:, 1]
    for point, aimed in zip(points, SPECIFICITIES, strict=False):
        assert point.aimed == aimed
        assert point.threshold in thresholds.of_any_other["notumor"]
        assert point.sensitivity.value == pytest.approx((scores[present] >= point.threshold).mean())
        assert point.specificity.value == pytest.approx((scores[~present] < point.threshold).mean())
        assert point.specificity.value < aimed, "the two parts differ, and that shows"
        low, high = point.sensitivity.interval
        assert low < point.sensitivity.value < high
        # Wald, of 200 independent images: the same width but for what a bootstrap adds.
        wald = 2 * 1.96 * np.sqrt(point.sensitivity.value * (1 - point.sensitivity.value) / 200)
        assert high - low == pytest.approx(wald, rel=0.2)
    assert len(operating_points(test, thresholds, None)) == 6


def test_groups_are_drawn_whole():
    rng = np.random.default_rng(1)
    present = np.arange(300) % 2 == 0
    scores = np.where(present, rng.beta(3, 2, 300), rng.beta(2, 3, 300)).repeat(5)
    present = present.repeat(5)
    thresholds = choose_thresholds(binary(scores, present))
    together = operating_points(binary(scores, present, tuple(f"{i // 5}" for i in range(1500))), thresholds, None)[3]
    apart = operating_points(binary(scores, present), thresholds, None)[3]
    assert together.sensitivity.value == apart.sensitivity.value

    def width(point):
        return point.sensitivity.interval[1] - point.sensitivity.interval[0]

    assert width(together) / width(apart) == pytest.approx(np.sqrt(5), rel=0.1)


def test_a_part_without_the_finding():
    thresholds = choose_thresholds(sample(60))
    healthy = sample(60)
    healthy = Predictions(healthy.labels, healthy.sources, np.ones(60, dtype=int), healthy.probabilities)
    point = operating_points(healthy, thresholds, "notumor")[0]
    assert point.sensitivity == Share(None)
    assert point.specificity.value is not None
    assert point.as_dict()["sensitivity"] == {"value": None, "interval": None}


def test_net_benefit_as_vickers_and_elkin_define_it():
    predictions = sample(300, 60)
    curve = decision_curve(predictions, "notumor")
    score, present = 1 - predictions.probabilities[:, 1], predictions.truth != 1
    for k, threshold in enumerate(THRESHOLDS):
        called = score >= threshold
        odds = threshold / (1 - threshold)
        wanted = ((called & present).sum() - (called & ~present).sum() * odds) / 300
        assert curve.model[k] == pytest.approx(wanted, abs=1e-12)
        assert curve.everyone[k] == pytest.approx(present.mean() - (1 - present.mean()) * odds, abs=1e-12)
    assert curve.prevalence == present.mean()
    middle = curve.bounds[29]
    assert middle is not None
    assert middle[0] < curve.model[29] < middle[1]


def test_the_curve_is_written_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    curve = decision_curve(sample(200, 50), "notumor")
    write_decision_curve(curve, tmp_path / "decision-curve.csv")
    with (tmp_path / "decision-curve.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 99
    assert float(rows[9]["threshold"]) == 0.1
    assert [float(row["model"]) for row in rows] == curve.model.tolist()
    assert float(rows[0]["low"]) == curve.bounds[0][0]
    decision_figure(curve, tmp_path / "decision-curve.png", "$^$ title")
    assert (tmp_path / "decision-curve.png").stat().st_size > 10_000
