"""Figures under weights, resamples of groups, and the intervals made of them: against scikit-learn, SciPy, theory."""

import json
import subprocess
import sys
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodense.evaluation import bootstrap
from neurodense.evaluation.bootstrap import basic, bca, draws, exact, left_out, numbered
from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.scores import Scored

LABELS = ("glioma", "notumor", "pituitary")


def sample(n=200, n_groups=None, seed=0, labels=LABELS, easy=1.5, digits=None):
    """Predictions of a model that is right more often than not; with groups, images of one are alike."""
    rng = np.random.default_rng(seed)
    n_classes = len(labels)
    group = np.arange(n) if n_groups is None else np.sort(rng.integers(n_groups, size=n))
    truth = rng.integers(n_classes, size=n if n_groups is None else n_groups)[group]
    logits = rng.normal(size=(n, n_classes)) + rng.normal(size=(group.max() + 1, n_classes))[group]
    logits[np.arange(n), truth] += easy
    if digits is not None:
        logits = np.round(logits, digits)  # so that probabilities tie
    odds = np.exp(logits)
    return Predictions(
        labels,
        tuple(f"{i:05d}.png" for i in range(n)),
        truth,
        odds / odds.sum(axis=1, keepdims=True),
        None if n_groups is None else tuple(f"patient {g}" for g in group),
    )


def scored(predictions):
    return Scored(predictions.labels, predictions.truth, predictions.probabilities, numbered(predictions.units))


# ---- figures under weights -------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(2, 40), n_groups=st.integers(1, 12), ties=st.booleans())
def test_a_weight_is_as_many_copies_of_the_group(seed, n, n_groups, ties):
    predictions = sample(n, n_groups, seed, digits=0 if ties else None)
    groups = numbered(predictions.units)
    weights = np.random.default_rng(seed).integers(0, 3, size=groups.max() + 1)
    rows = np.repeat(np.arange(n), weights[groups])
    if not len(rows):
        return
    got = scored(predictions).under(weights[:, None].astype(float))
    wanted = Scored(LABELS, predictions.truth[rows], predictions.probabilities[rows]).values
    for name, value in wanted.items():
        if name.startswith(("macro", "weighted", "balanced")):
            continue  # a class that is missing in the resample alone has no value here; see below
        np.testing.assert_allclose(got[name][0], value, rtol=0, atol=1e-12, err_msg=name)


def test_an_average_has_no_value_where_a_class_is_missing_in_the_resample_alone():
    predictions = sample(30, 6)
    truth = np.where(predictions.truth == 2, 1, predictions.truth)
    truth[np.flatnonzero(numbered(predictions.units) == 3)] = 2
    ours = Scored(LABELS, truth, predictions.probabilities, numbered(predictions.units))
    without = np.ones((6, 1))
    without[3] = 0
    values = ours.under(without)
    for name in ("macro.recall", "macro.auroc", "balanced_accuracy", "per_class.pituitary.recall"):
        assert np.isnan(values[name][0]), name
        assert not np.isnan(ours.values[name]), name
    assert not np.isnan(values["accuracy"][0])
    # In a sample that never had the class, the averages have a value: 0 for its share, nothing for its area.
    kept = truth != 2
    never = Scored(LABELS, truth[kept], predictions.probabilities[kept]).values
    recalls = [never[f"per_class.{name}.recall"] for name in LABELS]
    assert np.isnan(recalls[2])
    assert never["macro.recall"] == pytest.approx(sum(recalls[:2]) / 3, abs=1e-12)
    assert never["balanced_accuracy"] == pytest.approx(sum(recalls[:2]) / 2, abs=1e-12)
    areas = [never[f"per_class.{name}.auroc"] for name in LABELS]
    assert never["macro.auroc"] == pytest.approx(sum(areas[:2]) / 2, abs=1e-12)


# ---- resamples -------------------------------------------------------------------------------------------------------


def test_a_resample_draws_as_many_groups_as_there_are():
    blocks = list(draws(50, 50, 3000, seed=1))
    weights = np.concatenate(blocks, axis=1)
    assert weights.shape == (50, 3000)
    np.testing.assert_array_equal(weights.sum(axis=0), 50)
    # Each weight is binomial(50, 1/50): mean 1, variance 0.98; over 150,000 of them within 4 standard errors.
    assert weights.mean() == 1
    assert weights.var() == pytest.approx(0.98, abs=0.02)


def test_memory_is_bounded_and_the_block_changes_nothing(monkeypatch):
    whole = np.concatenate(list(draws(40, 40, 300, seed=7)), axis=1)
    monkeypatch.setattr(bootstrap, "_CELLS", 40 * 11)
    blocks = list(draws(40, 40, 300, seed=7))
    assert max(block.shape[1] for block in blocks) == 11
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    assert all(block.shape[1] <= 8 for block in draws(40, 10**7, 20, seed=7))


@pytest.mark.parametrize(("n_groups", "parts"), [(7, 7), (200, 200), (1001, 200)])
def test_the_jackknife_leaves_each_group_out_once(n_groups, parts):
    weights = np.concatenate(list(left_out(n_groups, n_groups)), axis=1)
    assert weights.shape == (n_groups, parts)
    np.testing.assert_array_equal((weights == 0).sum(axis=1), 1)
    assert set(np.unique(weights)) <= {0.0, 1.0}


def test_the_same_seed_gives_the_same_intervals_in_any_order_of_rows():
    predictions = sample(120, 30)
    order = np.random.default_rng(3).permutation(120)
    for groups in (predictions.groups, None):
        one = Predictions(LABELS, predictions.sources, predictions.truth, predictions.probabilities, groups)
        other = Predictions(
            LABELS,
            tuple(one.sources[i] for i in order),
            one.truth[order],
            one.probabilities[order],
            None if groups is None else tuple(groups[i] for i in order),
        )
        first, again, seeded = intervals(one), intervals(one), intervals(one, seed=5)
        assert first == again
        assert first.bounds != seeded.bounds
        for name, bounds in intervals(other).bounds.items():
            assert bounds == pytest.approx(first.bounds[name], abs=1e-12), name


def test_copies_of_an_image_in_its_group_change_no_interval():
    """Ten near copies of each slice are no ten slices: with the groups the interval stays, without it shrinks."""
    predictions = sample(150)
    rows = np.repeat(np.arange(150), 10)
    groups = tuple(predictions.sources[i] for i in rows)
    truth, probabilities = predictions.truth[rows], predictions.probabilities[rows]
    sources = tuple(f"{i}" for i in range(1500))
    single = intervals(predictions).bounds
    grouped = intervals(Predictions(LABELS, sources, truth, probabilities, groups)).bounds
    apart = intervals(Predictions(LABELS, sources, truth, probabilities)).bounds

    def width(bounds, name):
        return bounds[name][1] - bounds[name][0]

    for name in single:
        assert grouped[name] == pytest.approx(single[name], abs=1e-9), name
    assert width(apart, "accuracy") / width(single, "accuracy") == pytest.approx(10**-0.5, abs=0.05)


# ---- intervals against others ----------------------------------------------------------------------------------------


def test_bca_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    predictions = sample(120, easy=1.0)
    right = (predictions.predicted == predictions.truth).astype(float)
    loss = -np.log(predictions.probabilities[np.arange(120), predictions.truth])
    ours = intervals(predictions, resamples=8000).bounds
    for name, values, tolerance in (("accuracy", right, 0.009), ("loss", loss, 0.015)):
        theirs = stats.bootstrap(
            (values,), np.mean, n_resamples=8000, method="BCa", rng=np.random.default_rng(1)
        ).confidence_interval
        assert ours[name] == pytest.approx((theirs.low, theirs.high), abs=tolerance)

    def auroc(truth, score, axis=-1):
        pairs = score[..., :, None] - score[..., None, :]
        mask = truth[..., :, None] > truth[..., None, :]
        return (((pairs > 0) + 0.5 * (pairs == 0)) * mask).sum((-1, -2)) / mask.sum((-1, -2))

    pair = (predictions.truth == 0).astype(float), predictions.probabilities[:, 0]
    theirs = stats.bootstrap(
        pair, auroc, n_resamples=800, method="BCa", paired=True, vectorized=True, batch=20,
        rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert ours["per_class.glioma.auroc"] == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_bca_and_basic_from_the_same_numbers_as_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).gamma(2, size=60)
    for method, ours in (("BCa", bca), ("basic", basic)):
        done = stats.bootstrap((values,), np.mean, n_resamples=999, method=method, rng=np.random.default_rng(2))
        jackknife = (values.sum() - values) / 59
        args = (jackknife,) if method == "BCa" else ()
        got = ours(done.bootstrap_distribution, values.mean(), *args)
        interval = done.confidence_interval
        assert got == pytest.approx((interval.low, interval.high), abs=1e-9), method


def test_accuracy_of_independent_images_as_wilson_has_it():
    predictions = sample(1000, easy=2.0)
    n, share, z = 1000, (predictions.predicted == predictions.truth).mean(), NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert intervals(predictions).bounds["accuracy"] == pytest.approx((middle - half, middle + half), abs=0.004)


def test_auroc_of_independent_images_as_delong_has_it():
    """DeLong, DeLong and Clarke-Pearson (Biometrics 44, 1988): variance from the placements of both kinds."""
    predictions = sample(600, easy=1.0)
    positive = predictions.truth == 1
    high, low = predictions.probabilities[positive, 1], predictions.probabilities[~positive, 1]
    wins = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / len(high) + wins.mean(axis=0).var(ddof=1) / len(low))
    low_end, high_end = intervals(predictions).bounds["per_class.notumor.auroc"]
    assert (high_end - low_end) / (2 * 1.959964 * error) == pytest.approx(1, abs=0.08)
    assert (high_end + low_end) / 2 == pytest.approx(wins.mean(), abs=0.006)


def test_groups_that_are_alike_widen_the_interval_by_the_design_effect():
    """Kish: groups of m images with intraclass correlation r make the variance 1 + (m - 1) r times as large."""
    rng = np.random.default_rng(0)
    n_groups, m = 400, 8
    right = rng.random(n_groups * m) < np.repeat(rng.beta(4, 2, size=n_groups), m)  # r = 1 / (4 + 2 + 1)
    probabilities = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9])
    parts = {"labels": ("a", "b"), "sources": tuple(map(str, range(len(right))))}
    parts |= {"truth": np.zeros(len(right), dtype=int), "probabilities": probabilities}
    groups = tuple(str(i // m) for i in range(len(right)))
    widths = [
        high - low
        for low, high in (intervals(Predictions(**parts, groups=known)).bounds["accuracy"] for known in (groups, None))
    ]
    assert widths[0] / widths[1] == pytest.approx(np.sqrt(1 + (m - 1) / 7), abs=0.12)


# ---- what has no interval, and what is said --------------------------------------------------------------------------


def test_where_no_error_was_seen_the_interval_is_exact():
    probabilities = np.tile([[0.9, 0.1], [0.2, 0.8]], (20, 1))
    truth = np.tile([0, 1], 20)
    groups = tuple(f"{i // 4}" for i in range(40))  # ten groups of two images of each class
    got = intervals(Predictions(("a", "b"), tuple(map(str, range(40))), truth, probabilities, groups))
    assert got.bounds["accuracy"] == got.bounds["per_class.a.recall"] == pytest.approx((0.025 ** (1 / 10), 1))
    assert {"accuracy", "per_class.a.recall", "per_class.b.precision", "per_class.b.specificity"} <= set(got.exact)
    assert "macro.auroc" not in got.bounds, "no share: nothing is known of its spread"
    assert "Clopper and Pearson, each group one trial" in got.notes[-1]
    assert got.spoken("macro.auroc", 1.0) == "1.000"
    assert got.spoken("accuracy", 1.0) == "1.000 (0.692 to 1.000)"
    assert exact(0.0, 30) == pytest.approx((0, 0.1157), abs=1e-4)  # Clopper and Pearson's table for 0 of 30


def test_resamples_without_a_class_are_counted():
    predictions = sample(60, 20, seed=2)
    truth = np.where(predictions.truth == 2, 0, predictions.truth)
    truth[numbered(predictions.units) == 4] = 2  # one group of twenty: missing in (19/20)^20 = 36% of the resamples
    got = intervals(Predictions(LABELS, predictions.sources, truth, predictions.probabilities, predictions.groups))
    assert got.undefined["macro.recall"] == got.undefined["macro.auroc"]
    assert got.undefined["macro.recall"] / 2000 == pytest.approx(0.95**20, abs=0.05)
    assert "accuracy" not in got.undefined
    assert any(f"at most {got.undefined['macro.recall']:,} (" in sentence for sentence in got.notes)
    assert any("pituitary (1)" in sentence for sentence in got.warnings)


def test_what_must_be_said():
    grouped, apart = intervals(sample(300, 200)), intervals(sample(300))
    assert "over 1" in grouped.method
    assert "groups, 2,000 resamples" in grouped.method
    assert grouped.warnings == []
    assert "300 images" in apart.method
    (sentence,) = apart.warnings
    assert "too narrow" in sentence
    assert "--groups" in sentence
    written = json.loads(json.dumps(apart.as_dict(), allow_nan=False))
    assert written["drawn"] == "images"
    assert written["warnings"] == [sentence]
    assert written["figures"]["accuracy"] == list(apart.bounds["accuracy"])


def test_every_figure_of_the_metrics_has_an_interval_around_it():
    predictions = sample(400, 150)
    figures = measure(predictions.labels, predictions.truth, predictions.probabilities).figures
    got = intervals(predictions)
    assert got.bounds.keys() == figures.keys()
    assert got.undefined == {}
    for name, value in figures.items():
        low, high = got.bounds[name]
        assert low < high
        if name != "ece":  # too high in small samples: its interval is one for large ones
            assert low < value < high, name


def test_a_class_that_never_occurs():
    predictions = sample(80, 40)
    got = intervals(
        Predictions((*LABELS, "absent"), predictions.sources, predictions.truth,
                    np.pad(predictions.probabilities, ((0, 0), (0, 1))), predictions.groups)
    )  # fmt: skip
    assert not any("absent" in name and "specificity" not in name for name in got.bounds)
    assert got.bounds["per_class.absent.specificity"] == pytest.approx((0.025 ** (1 / got.units), 1))
    assert "macro.recall" in got.bounds
    assert got.units_of["absent"] == 0
    single = intervals(Predictions(("a", "b"), ("x",), np.array([0]), np.array([[0.9, 0.1]])))
    assert single.bounds["accuracy"] == pytest.approx((0.025, 1))


def test_names_are_numbered_whatever_they_are():
    np.testing.assert_array_equal(numbered(["b", "a\x00", "a", "b"]), [2, 1, 0, 2])
    assert numbered(["x" * 10_000, "é", "caf\udce9"]).dtype == np.intp


def test_numpy_alone_is_loaded():
    code = (
        "import sys; from neurodense.evaluation import intervals; "
        "print(*{'torch', 'sklearn', 'scipy', 'matplotlib'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
