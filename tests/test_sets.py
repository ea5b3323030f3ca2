import numpy as np
import pytest

from benchmarks import coverage
from neurodense.errors import ModelError
from neurodense.evaluation.certainty import coverage as measured
from neurodense.evaluation.fit_sets import fit_sets, group_quantile, groups_needed
from neurodense.evaluation.predictions import Predictions
from neurodense.inference.card import Card, Conformal, Sets
from neurodense.inference.scaling import softmax
from neurodense.inference.sets import ERRORS, chosen_sets, members


def test_groups_that_a_promise_needs():
    assert [groups_needed(error) for error in (0.05, 0.1, 0.2, 0.5, 0.01, 1 / 3)] == [19, 9, 4, 1, 99, 2]
    for error in ERRORS:
        needed = groups_needed(error)
        scores = np.arange(float(needed))
        assert group_quantile(scores, np.arange(needed), error) == needed - 1, "just enough: the largest"
        assert group_quantile(scores[1:], np.arange(needed - 1), error) is None


@pytest.mark.parametrize("error", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("n", [19, 50, 99, 573])
def test_one_image_a_group_is_plain_split_conformal(n, error):
    scores = np.random.default_rng(n).random(n)
    rank = int(np.ceil((n + 1) * (1 - error) - 1e-9))  # Angelopoulos and Bates 2023, section 1
    assert group_quantile(scores, np.arange(n), error) == np.sort(scores)[rank - 1]


def test_a_large_group_counts_once():
    scores = np.concatenate([np.linspace(0, 1, 20), np.full(1000, 9.0)])
    groups = np.concatenate([np.arange(20), np.full(1000, 20)])
    assert group_quantile(scores, groups, 0.1) == pytest.approx(np.linspace(0, 1, 20)[19])
    assert group_quantile(scores, groups, 0.05) == 9.0
    order = np.random.default_rng(0).permutation(len(scores))
    assert group_quantile(scores[order], groups[order], 0.1) == group_quantile(scores, groups, 0.1)


def test_a_class_of_few_groups_falls_back_to_all_classes_or_nothing():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(25), 3)
    truth = np.where(groups < 5, 0, 1)
    probabilities = softmax(rng.normal(size=(75, 2)))
    found = fit_sets(("rare", "common"), truth, probabilities, groups)
    assert found.groups == {"rare": 5, "common": 20}
    assert found.needed == {"0.05": 19, "0.1": 9, "0.2": 4}
    assert [(sets.error, sets.each_class) for sets in found.sets] == [(0.05, False), (0.1, False), (0.2, True)]
    assert found.sets[0].least["rare"] == found.sets[0].least["common"]
    few = fit_sets(("rare", "common"), truth[:24], probabilities[:24], groups[:24])
    assert few.groups == {"rare": 5, "common": 3}
    assert [(sets.error, sets.each_class) for sets in few.sets] == [(0.2, False)]
    assert fit_sets(("a", "b"), truth[:3], probabilities[:3], groups[:3]).sets == ()


def test_the_most_probable_class_is_in_every_set_but_an_empty_one():
    probabilities = np.array([[0.6, 0.3, 0.1], [0.5, 0.45, 0.05], [0.34, 0.33, 0.33], [0.05, 0.9, 0.05]])
    inside = members(probabilities, np.array([0.55, 0.4, 0.5]))
    np.testing.assert_array_equal(inside, [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]])


def test_a_promise_that_the_model_cannot_keep_is_refused_with_what_it_needs():
    sets = Sets(error=0.2, least={"a": 0.1, "b": 0.2}, each_class=True)
    conformal = Conformal(unit="group", groups={"a": 5, "b": 4}, sets=(sets,), needed={"0.1": 9, "0.2": 4})
    card = Card.model_construct(conformal=conformal)
    assert chosen_sets(card, 0.2) == sets
    assert chosen_sets(card, None) is None
    with pytest.raises(ModelError, match=r"error of 0.1; it has 0.2. It needs 9 groups.*a 5, b 4"):
        chosen_sets(card, 0.1)
    bare = Card.model_construct(conformal=None)
    assert chosen_sets(bare, None) is None
    with pytest.raises(ModelError, match="it has none") as caught:
        chosen_sets(bare, 0.1)
    assert "neurodense calibrate" in str(caught.value)


def test_twenty_random_splits_by_group_cover_what_was_promised():
    """And images as units do not, so that the test can fail."""
    by_group, by_image = (
        [
            coverage.halves(coverage.synthetic(np.random.default_rng(seed)), seed, by_image=units)
            for seed in range(coverage.ROUNDS)
        ]
        for units in (False, True)
    )
    for error in ERRORS:
        covered = [one[error]["covered"] for one in by_group]
        deviation = max(one[error]["standard_error"] for one in by_group)
        assert 1 - error - 3 * deviation <= np.mean(covered) <= 1 - error + 3 * deviation + 0.04
    assert np.mean([one[0.05]["covered"] for one in by_image]) < 0.95 - 0.015


def test_coverage_by_hand():
    sets = Sets(error=0.2, least={"a": 0.5, "b": 0.3}, each_class=True)
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.95, 0.05]])
    answers = Predictions(("a", "b"), tuple("1234"), np.array([0, 1, 1, 1]), probabilities, ("p", "p", "p", "q"))
    got = measured(answers, members(probabilities, np.array(list(sets.least.values()))), sets.error, sets.each_class)
    assert (got.images.value, got.covered.value) == (0.75, 0.5)
    assert {name: one.value for name, one in got.per_class.items()} == {"a": 1.0, "b": 0.5}
    assert got.sizes == (0, 3, 1)
    assert got.single.value == pytest.approx(2 / 3)
