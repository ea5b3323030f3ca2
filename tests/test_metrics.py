import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurodense.evaluation.metrics import measure

LABELS = ("glioma", "meningioma", "notumor", "pituitary")
PUBLISHED = np.array([[711, 30, 6, 4], [10, 436, 8, 15], [1, 5, 346, 0], [1, 10, 0, 531]])


def softmax(rng, n, n_classes, sharpness=3.0):
    logits = rng.normal(size=(n, n_classes)) * sharpness
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def from_confusion(matrix, sure=0.9):
    """One image for each count, its predicted class at probability `sure`."""
    n_classes = len(matrix)
    true, predicted = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    probabilities = np.full((len(true), n_classes), (1 - sure) / (n_classes - 1))
    probabilities[np.arange(len(true)), predicted] = sure
    return true, probabilities


def cases():
    rng = np.random.default_rng(0)
    for n_classes, n in ((2, 50), (4, 500), (7, 3), (20, 1000)):
        yield f"random-{n_classes}", rng.integers(n_classes, size=n), softmax(rng, n, n_classes)
    yield "absent-class", rng.integers(3, size=60), softmax(rng, 60, 4)
    probabilities = softmax(rng, 60, 4)
    probabilities[:, 2] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    yield "never-predicted", rng.integers(4, size=60), probabilities
    yield "neither", rng.choice([0, 1, 3], size=60), probabilities
    yield "single-image", np.array([1]), np.array([[0.2, 0.5, 0.3]])
    yield "certain-and-wrong", np.array([0, 1, 1]), np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    yield "all-right", np.array([0, 1]), np.eye(2)
    yield "ties", np.array([0, 1, 1]), np.full((3, 2), 0.5)


@pytest.mark.parametrize(("truth", "probabilities"), [pytest.param(*rest, id=name) for name, *rest in cases()])
def test_equal_to_scikit_learn(truth, probabilities):
    sklearn = pytest.importorskip("sklearn.metrics")
    every = range(probabilities.shape[1])
    labels = [f"class {i}" for i in every]
    predicted = probabilities.argmax(axis=1)
    got = measure(labels, truth, probabilities)

    def reference(average):
        return sklearn.precision_recall_fscore_support(truth, predicted, labels=every, average=average, zero_division=0)

    table = [(s.precision, s.recall, s.f1, s.support) for s in got.per_class.values()]
    np.testing.assert_allclose(np.array(table).T, reference(None), rtol=0, atol=1e-12)
    for average, scores in (("macro", got.macro), ("weighted", got.weighted)):
        wanted = reference(average)[:3]
        np.testing.assert_allclose((scores.precision, scores.recall, scores.f1), wanted, rtol=0, atol=1e-12)
    assert got.accuracy == pytest.approx(sklearn.accuracy_score(truth, predicted), abs=1e-12)
    assert got.loss == pytest.approx(sklearn.log_loss(truth, probabilities, labels=every), abs=1e-12)
    np.testing.assert_array_equal(got.confusion_matrix, sklearn.confusion_matrix(truth, predicted, labels=every))
    assert got.confusion_matrix.dtype == np.int64


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 60),
    n_classes=st.integers(2, 5),
    sharpness=st.sampled_from([0.5, 3.0, 30.0]),
    decimals=st.sampled_from([None, 1]),
)
def test_every_other_figure_is_that_of_scikit_learn(seed, n, n_classes, sharpness, decimals):
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    truth = rng.integers(rng.integers(1, n_classes + 1), size=n)  # some classes may be absent
    probabilities = softmax(rng, n, n_classes, sharpness)
    if decimals is not None:  # many ties
        probabilities = np.round(probabilities, decimals) + 1e-3
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    every, predicted = range(n_classes), probabilities.argmax(axis=1)
    got = measure([f"class {i}" for i in every], truth, probabilities)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn, about what is undefined: asserted below
        wanted = {
            "balanced_accuracy": sklearn.balanced_accuracy_score(truth, predicted),
            "mcc": sklearn.matthews_corrcoef(truth, predicted),
            "kappa": np.nan_to_num(sklearn.cohen_kappa_score(truth, predicted, labels=every)),
            "brier": sklearn.brier_score_loss(truth, probabilities, labels=every, scale_by_half=False),
        }
        areas = []
        for c, scores in enumerate(got.per_class.values()):
            positive, score = truth == c, probabilities[:, c]
            n_positive = int(positive.sum())
            auroc = sklearn.roc_auc_score(positive, score) if 0 < n_positive < n else None
            auprc = sklearn.average_precision_score(positive, score) if n_positive else None
            areas.append((auroc, auprc))
            assert (scores.auroc is None) == (auroc is None)
            assert (scores.auprc is None) == (auprc is None)
            assert scores.auroc == (auroc if auroc is None else pytest.approx(auroc, abs=1e-12))
            assert scores.auprc == (auprc if auprc is None else pytest.approx(auprc, abs=1e-12))
            negative = ~positive
            specificity = sklearn.recall_score(negative, predicted != c, zero_division=0)
            assert scores.specificity == pytest.approx(specificity if negative.any() else 0, abs=1e-12)
    for name, value in wanted.items():
        assert getattr(got, name) == pytest.approx(value, abs=1e-12), name
    for mean, column in ((got.macro.auroc, 0), (got.macro.auprc, 1)):
        known = [row[column] for row in areas if row[column] is not None]
        assert mean == (pytest.approx(np.mean(known), abs=1e-12) if known else None)
    if got.macro.auroc is not None and len(set(truth.tolist())) == n_classes > 2:
        whole = sklearn.roc_auc_score(truth, probabilities, multi_class="ovr", average="macro", labels=every)
        assert got.macro.auroc == pytest.approx(whole, abs=1e-12)


def test_calibration_error_by_hand():
    """Ten images at 0.7, of which five are right; ten at 0.95, of which nine are: (10 x 0.2 + 10 x 0.05) / 20."""
    confidence = np.repeat([0.7, 0.95], 10)
    right = np.concatenate([np.arange(10) < 5, np.arange(10) < 9])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    got = measure("ab", np.where(right, 0, 1), probabilities)
    assert got.ece == pytest.approx(0.125, abs=1e-12)
    # The bins are closed above: 2/15 x 5 = 2/3 falls into the bin that ends there, with 0.62.
    two_thirds = np.array([[2 / 3, 1 / 3], [0.62, 0.38]])
    assert measure("ab", np.array([1, 0]), two_thirds).ece == pytest.approx(abs(-2 / 3 + 0.38) / 2, abs=1e-12)
    assert measure("ab", np.array([0, 1]), np.eye(2)).ece == 0


def test_published_result():
    got = measure(LABELS, *from_confusion(PUBLISHED))
    np.testing.assert_array_equal(got.confusion_matrix, PUBLISHED)
    assert got.n == 2114
    assert [s.support for s in got.per_class.values()] == [751, 469, 352, 542]
    assert [f"{s.precision:.3f}" for s in got.per_class.values()] == ["0.983", "0.906", "0.961", "0.965"]
    assert [f"{s.recall:.3f}" for s in got.per_class.values()] == ["0.947", "0.930", "0.983", "0.980"]
    assert [f"{s.f1:.3f}" for s in got.per_class.values()] == ["0.965", "0.918", "0.972", "0.973"]
    macro = [f"{value:.4f}" for value in (got.macro.precision, got.macro.recall, got.macro.f1)]
    assert macro == ["0.9541", "0.9598", "0.9568"]
    assert f"{got.accuracy:.4f}" == "0.9574"
    assert got.undefined == ()


def test_loss_is_in_nats_and_clipped():
    assert measure("ab", np.array([0, 1]), np.array([[0.25, 0.75], [0.5, 0.5]])).loss == pytest.approx(np.log(8) / 2)
    certain_and_wrong = measure("ab", np.array([1]), np.array([[1.0, 0.0]]))
    assert certain_and_wrong.loss == pytest.approx(-np.log(np.finfo(np.float64).eps))


def test_undefined_scores_are_named():
    got = measure(LABELS, np.array([0, 1]), np.array([[0.9, 0.1, 0.0, 0.0], [0.5, 0.1, 0.1, 0.3]]))
    assert got.undefined == (
        "precision of 'meningioma' is undefined: nothing was predicted as 'meningioma'; 0 is used",
        "precision of 'notumor' is undefined: nothing was predicted as 'notumor'; 0 is used",
        "recall of 'notumor' is undefined: no image is truly 'notumor'; 0 is used",
        "F1 of 'notumor' is undefined: 'notumor' is neither true nor predicted; 0 is used",
        "precision of 'pituitary' is undefined: nothing was predicted as 'pituitary'; 0 is used",
        "recall of 'pituitary' is undefined: no image is truly 'pituitary'; 0 is used",
        "F1 of 'pituitary' is undefined: 'pituitary' is neither true nor predicted; 0 is used",
        "AUROC of 'notumor', 'pituitary' is undefined: it takes images of the class and of others; left out",
        "the Matthews correlation is undefined: all images are, or are called, one class; 0 is used",
    )
    one = measure("ab", np.array([0, 0]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    assert "specificity of 'a' is undefined: every image is truly 'a'; 0 is used" in one.undefined
    assert "Cohen's kappa is undefined: all images are, and are called, one class; 0 is used" in one.undefined
    assert one.kappa == one.mcc == one.per_class["a"].specificity == 0
    assert one.macro.auroc is None
    assert one.macro.auprc == one.per_class["a"].auprc == 1


def test_as_dict_is_json():
    metrics = measure(LABELS, *from_confusion(PUBLISHED))
    got = json.loads(json.dumps(metrics.as_dict(), allow_nan=False))
    assert list(got) == [
        "n", "loss", "accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "ece", "macro", "weighted", "per_class",
        "confusion_matrix", "undefined",
    ]  # fmt: skip
    assert got["weighted"].keys() == {"precision", "recall", "f1"}
    assert got["macro"].keys() == {"precision", "recall", "f1", "specificity", "auroc", "auprc"}
    assert list(got["per_class"]) == list(LABELS)
    glioma = got["per_class"]["glioma"]
    assert {name: glioma[name] for name in ("precision", "recall", "f1", "specificity", "support")} == {
        "precision": 711 / 723,
        "recall": 711 / 751,
        "f1": 1422 / (723 + 751),
        "specificity": 1351 / 1363,
        "support": 751,
    }
    flat = metrics.figures
    assert flat["accuracy"] == got["accuracy"]
    assert flat["per_class.glioma.auroc"] == glioma["auroc"]
    assert flat["macro.specificity"] == got["macro"]["specificity"]
    assert len(flat) == 7 + 6 + 3 + 4 * 6
    assert got["confusion_matrix"] == {
        "labels": list(LABELS),
        "counts": PUBLISHED.tolist(),
        "rows": "true",
        "columns": "predicted",
    }


def test_float32_probabilities_are_taken():
    rng = np.random.default_rng(1)
    probabilities = softmax(rng, 40, 4).astype(np.float32)
    truth = rng.integers(4, size=40)
    assert measure(LABELS, truth, probabilities).loss == measure(LABELS, truth, probabilities.astype(np.float64)).loss


def test_arguments_are_left_alone():
    truth, probabilities = from_confusion(PUBLISHED)
    before = probabilities.copy()
    matrix = measure(LABELS, truth, probabilities).confusion_matrix
    np.testing.assert_array_equal(probabilities, before)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 0


GOOD = [[0.5, 0.5], [0.1, 0.9]]


@pytest.mark.parametrize(
    ("labels", "truth", "probabilities", "message"),
    [
        ("a", [0, 0], [[1.0], [1.0]], r"labels must be at least two class names"),
        ("aa", [0, 1], GOOD, r"labels must be .* each once\. Got \('a', 'a'\)"),
        ("ab", [0.0, 1.0], GOOD, r"truth must be integers .* Got float64 of shape \(2,\)"),
        ("ab", [[0], [1]], GOOD, r"truth must be .* Got int64 of shape \(2, 1\)"),
        ("ab", [], np.empty((0, 2)), r"truth must be .* N >= 1"),
        ("ab", [0, 2], GOOD, r"truth must be in 0\.\.1\. Got values from 0 to 2"),
        ("ab", [-1, 1], GOOD, r"truth must be in 0\.\.1\. Got values from -1 to 1"),
        ("ab", [0, 1, 1], GOOD, r"probabilities must be .* \(3, 2\)\. Got float64 of shape \(2, 2\)"),
        ("abc", [0, 1], GOOD, r"probabilities must be .* \(2, 3\)\. Got float64 of shape \(2, 2\)"),
        ("ab", [0, 1], [[1, 0], [0, 1]], r"probabilities must be floats .* Got int64"),
        ("ab", [0, 1], [[0.5, 0.5], [np.nan, 0.9]], r"probabilities must be finite\. Got \[nan, 0\.9\] in row 1"),
        ("ab", [0, 1], [[0.5, 0.5], [-0.1, 1.1]], r"probabilities must be in \[0, 1\]\. Got values from -0\.1 to 1\.1"),
        ("ab", [0, 1], [[0.5, 0.5], [0.9, 0.9]], r"probabilities must sum to 1 .* Got 1\.8 in row 1"),
    ],
)
def test_wrong_arguments(labels, truth, probabilities, message):
    truth = np.array(truth, dtype=np.int64) if truth == [] else np.array(truth)
    with pytest.raises(ValueError, match=message):
        measure(labels, truth, np.array(probabilities))
