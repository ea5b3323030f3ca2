"""The loss of a batch, against torch's and scikit-learn's own words for it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from torch.nn import functional

from neurodense.training.loss import Loss
from neurodense.training.precision import Arithmetic, choose
from neurodense.training.recipe import Recipe, load_recipe


@pytest.fixture
def plain() -> Recipe:
    return load_recipe("notebook")


@pytest.fixture
def cpu() -> Arithmetic:
    return choose("cpu", "fp32")


X = torch.linspace(-2, 2, 24).view(6, 4).sin()
TARGETS = torch.tensor([0, 0, 0, 1, 2, 2])


def as_logits(x: Tensor) -> Tensor:
    return x[:, :3] * 3


def loss_of(recipe: Recipe, cpu: Arithmetic, mixup: float = 0) -> Loss:
    return Loss(recipe, recipe.stage[0].model_copy(update={"mixup": mixup}), TARGETS.tolist(), 3, cpu)


def test_class_weights_are_those_of_scikit_learn(plain: Recipe, cpu: Arithmetic) -> None:
    loss = loss_of(plain.model_copy(update={"class_weights": "balanced"}), cpu)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=TARGETS.numpy())
    assert loss.weights is not None
    np.testing.assert_allclose(loss.weights.numpy(), expected, rtol=1e-6)


def test_plain_loss_is_cross_entropy(plain: Recipe, cpu: Arithmetic) -> None:
    loss = loss_of(plain, cpu)
    assert loss(as_logits, X, TARGETS, 0) == functional.cross_entropy(as_logits(X), TARGETS)


def test_mixup_is_cross_entropy_against_blended_targets(plain: Recipe, cpu: Arithmetic) -> None:
    """By linearity in the target, the two weighted losses are one loss against the blended one-hot targets."""
    loss = loss_of(plain.model_copy(update={"label_smoothing": 0.1}), cpu, mixup=1.0)
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return as_logits(x)

    value = loss(network, X, TARGETS, 0, "key")
    (blended,) = seen
    # What was blended is found again from the numbers alone: x' = s x + (1 - s) x[partner].
    for partner in range(6):
        rest = X[partner] - X[0]
        share = 1 - ((blended[0] - X[0]) @ rest / (rest @ rest)).item() if partner else 1.0
        if torch.allclose(share * X[0] + (1 - share) * X[partner], blended[0], atol=1e-5):
            break
    else:
        pytest.fail("the first image is no blend of two images of the batch")
    if partner:
        partners = [
            min(range(6), key=lambda k: (share * X[n] + (1 - share) * X[k] - blended[n]).abs().max().item())
            for n in range(6)
        ]
        assert sorted(partners) == list(range(6))
        one_hot = functional.one_hot(TARGETS, 3).float()
        soft = share * one_hot + (1 - share) * one_hot[partners]
        expected = functional.cross_entropy(as_logits(blended), soft, label_smoothing=0.1)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_the_same_key_gives_the_same_blend(plain: Recipe, cpu: Arithmetic) -> None:
    loss = loss_of(plain, cpu, mixup=1.0)
    assert loss(as_logits, X, TARGETS, 0, 1) == loss(as_logits, X, TARGETS, 0, 1)
    assert loss(as_logits, X, TARGETS, 0, 1) != loss(as_logits, X, TARGETS, 0, 2)
