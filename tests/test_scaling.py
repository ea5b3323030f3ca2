import numpy as np
import pytest

from neurodense.evaluation.fit_scaling import COLDEST, WARMEST, fit_temperature, fit_vector, proves_better
from neurodense.evaluation.reliability import bins, quality
from neurodense.evaluation.scores import ECE_BINS
from neurodense.inference.scaling import softmax


def drawn(rng, probabilities):
    """A class for each row of probabilities."""
    return (probabilities.cumsum(axis=1) < rng.random((len(probabilities), 1))).sum(axis=1).clip(max=3)


def log_loss(logits, truth):
    return -np.log(softmax(logits)[np.arange(len(truth)), truth]).mean()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    rng = np.random.default_rng(0)
    logits = (rng.normal(size=(20_000, 4)) * 3).astype(np.float32)
    truth = drawn(rng, softmax(logits / temperature))
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(temperature, rel=0.05)
    grid = found * np.exp(np.linspace(-0.2, 0.2, 41))
    losses = [log_loss(logits / t, truth) for t in grid]
    assert abs(int(np.argmin(losses)) - 20) <= 1, "nothing near has a smaller log loss"
    assert quality(truth, softmax(logits / found)).ece < 0.015


def test_images_that_are_all_right_do_not_make_it_certain():
    logits = np.eye(4)[np.arange(40) % 4] * 5
    found = fit_temperature(logits, np.arange(40) % 4)
    assert softmax(logits / found).max(axis=1) == pytest.approx(41 / 42, abs=1e-6)


def test_a_model_worse_than_chance_gets_the_warmest():
    logits = np.eye(4)[np.arange(40) % 4] * 5
    assert fit_temperature(logits, (np.arange(40) + 1) % 4) == pytest.approx(WARMEST)
    assert COLDEST < 1 < WARMEST


def distorted(rng, n, scale, shift):
    """Logits whose scaling by `scale` and `shift` gives the probabilities that the labels were drawn by."""
    logits = rng.normal(size=(n, 4)) * 3
    return logits, drawn(rng, softmax(logits * scale + shift))


def test_vector_scaling_undoes_a_distortion_of_each_class():
    rng = np.random.default_rng(1)
    scale, shift = np.array([0.5, 1.0, 2.0, 1.0]), np.array([1.0, 0.0, -2.0, 1.0])
    logits, truth = distorted(rng, 20_000, scale, shift)
    temperature = fit_temperature(logits, truth)
    found = fit_vector(logits, truth, temperature)
    np.testing.assert_allclose(found.scale, scale, atol=0.1)
    np.testing.assert_allclose(found.shift - np.mean(found.shift), shift - shift.mean(), atol=0.1)
    assert log_loss(logits * found.scale + found.shift, truth) < log_loss(logits / temperature, truth)


def test_vector_scaling_of_few_images_is_finite():
    logits = np.eye(4)[[0, 1, 2, 3]] * 5.0
    found = fit_vector(logits, np.arange(4), fit_temperature(logits, np.arange(4)))
    assert np.isfinite([*found.scale, *found.shift]).all()


def test_only_a_gain_in_many_groups_proves_anything():
    rng = np.random.default_rng(2)
    worse = rng.normal(1.0, 0.3, 400)
    assert proves_better(worse - 0.3, worse, np.arange(400) // 4)
    assert not proves_better(worse, worse - 0.3, np.arange(400) // 4)
    gain = np.repeat(rng.normal(size=8), 50)
    better = worse - (gain - gain.mean() + 0.2)
    assert proves_better(better, worse, np.arange(400)), "as if the images were independent"
    assert not proves_better(better, worse, np.arange(400) // 50)
    assert not proves_better(worse, worse, np.arange(400))


def test_quality_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    truth = np.array([0, 1, 1, 1])
    got = quality(truth, probabilities)
    assert got.loss == pytest.approx(-np.log([0.9, 0.2, 0.7, 0.55]).mean())
    assert got.brier == pytest.approx(2 * (0.1**2 + 0.8**2 + 0.3**2 + 0.45**2) / 4)
    assert got.ece == pytest.approx((0.1 + 0.8 + 0.3 + 0.45) / 4), "each is alone in its bin"
    both = quality(np.array([0, 1]), np.array([[0.81, 0.19], [0.85, 0.15]]))
    assert both.ece == pytest.approx(0.83 - 0.5), "one bin: 12/15 < 0.81, 0.85 <= 13/15"


def test_bins_hold_every_image_once():
    rng = np.random.default_rng(3)
    probabilities = softmax(rng.normal(size=(500, 3)) * 4)
    truth = rng.integers(3, size=500)
    counts, confidence, accuracy = bins(truth, probabilities)
    assert counts.sum() == 500
    edges = np.arange(ECE_BINS + 1) / ECE_BINS
    some = counts > 0
    assert ((confidence > edges[:-1]) & (confidence <= edges[1:]))[some].all()
    assert (counts * accuracy).sum() == pytest.approx((probabilities.argmax(axis=1) == truth).sum())
    assert bins(np.array([0]), np.array([[1.0, 0.0]]))[0][-1] == 1
