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
    return Loss(
        recipe, recipe.stage[0].model_copy(update={"mixup": mixup}), TARGETS.tolist(), np.eye(3, dtype=bool), cpu
    )


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


# ---- labels that are partly known ---------------------------------------------------------------------------------

ALLOWED = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]], dtype=bool)
PARTLY = torch.tensor([0, 3, 3, 1, 2, 3])


def test_partial_loss_by_hand(plain: Recipe, cpu: Arithmetic) -> None:
    """Softmax of (ln 1, ln 2, ln 5) is (1, 2, 5) / 8: -ln(1/8) where the first is known, -ln(7/8) where it is not."""
    logits = torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]).log()
    loss = Loss(plain, plain.stage[0], [0, 3], ALLOWED, cpu)
    value = loss(lambda x: x, logits, torch.tensor([0, 3]))
    assert value.item() == pytest.approx((np.log(8) + np.log(8 / 7)) / 2, rel=1e-6)


def test_the_gradient_pulls_only_towards_the_allowed_classes(plain: Recipe, cpu: Arithmetic) -> None:
    """d/dz of -log sum_S p is p - p_S, where p_S is p within S, scaled to sum to 1."""
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log().requires_grad_()
    Loss(plain, plain.stage[0], [3], ALLOWED, cpu)(lambda x: x, logits, torch.tensor([3])).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[1 / 8, 2 / 8 - 2 / 7, 5 / 8 - 5 / 7]]))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("mixup", [0.0, 1.0])
def test_one_allowed_class_is_cross_entropy(
    plain: Recipe, cpu: Arithmetic, smoothing: float, weights: str, mixup: float
) -> None:
    recipe = plain.model_copy(update={"label_smoothing": smoothing, "class_weights": weights})
    stage = recipe.stage[0].model_copy(update={"mixup": mixup})
    known = Loss(recipe, stage, TARGETS.tolist(), ALLOWED[:3], cpu)
    partial = Loss(recipe, stage, TARGETS.tolist(), ALLOWED, cpu)
    assert known.allowed is None
    assert partial.allowed is not None
    one, other = (loss(as_logits, X, TARGETS, 7) for loss in (known, partial))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_weights_and_smoothing_of_partial_labels_by_hand(plain: Recipe, cpu: Arithmetic) -> None:
    recipe = plain.model_copy(update={"label_smoothing": 0.2, "class_weights": "balanced"})
    loss = Loss(recipe, recipe.stage[0], PARTLY.tolist(), ALLOWED, cpu)
    weights = np.array([1.0, 1.0, 1.0])  # one image is known to be of each class; the partly known do not count
    assert loss.weights is not None
    np.testing.assert_allclose(loss.weights.numpy(), weights)
    loss.weights = torch.tensor([1.0, 2.0, 6.0])
    p = torch.softmax(as_logits(X).double(), 1).numpy()
    mine, weight = [], []
    for row, label in zip(p, PARTLY.tolist(), strict=True):
        w = [1.0, 2.0, 6.0, 4.0][label]  # of two classes their mean
        smooth = -(np.array([1.0, 2.0, 6.0]) * np.log(row)).mean()
        mine.append(0.8 * w * -np.log(row[ALLOWED[label]].sum()) + 0.2 * smooth)
        weight.append(w)
    assert loss(as_logits, X, PARTLY).item() == pytest.approx(sum(mine) / sum(weight), rel=1e-6)


def test_mixup_of_a_partial_and_a_full_label_is_the_sum_by_shares(plain: Recipe, cpu: Arithmetic) -> None:
    stage = plain.stage[0].model_copy(update={"mixup": 1.0})
    loss = Loss(plain, stage, PARTLY.tolist(), ALLOWED, cpu)
    seen: list[Tensor] = []

    def network(x: Tensor) -> Tensor:
        seen.append(x)
        return as_logits(x)

    value = loss(network, X, PARTLY, 0, "key").item()
    from neurodense.training.augment import generator_of

    generator = generator_of("mixup", 0, "key")
    share = np.random.default_rng(generator.initial_seed()).beta(1.0, 1.0)
    partner = torch.randperm(6, generator=generator)
    torch.testing.assert_close(seen[0], share * X + (1 - share) * X[partner], rtol=1e-5, atol=1e-6)
    p = torch.softmax(as_logits(seen[0]).double(), 1)

    def mean(labels: Tensor) -> float:
        return (
            -torch.stack([row[torch.from_numpy(ALLOWED[k])].sum().log() for row, k in zip(p, labels, strict=True)])
            .mean()
            .item()
        )

    assert value == pytest.approx(share * mean(PARTLY) + (1 - share) * mean(PARTLY[partner]), rel=1e-5)


def test_a_certain_and_wrong_answer_is_a_finite_loss(plain: Recipe, cpu: Arithmetic) -> None:
    logits = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    value = Loss(plain, plain.stage[0], [3], ALLOWED, cpu)(lambda x: x, logits, torch.tensor([3]))
    value.backward()
    assert value.item() == pytest.approx(200 - np.log(2), rel=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
