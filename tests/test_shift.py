"""The alarm for a whole collection: exact where nothing differs, loud where something does, blind to the mix."""

import itertools

import numpy as np
import pytest

from neurodense.inference.shift import ALARM, FEWEST, UNGROUPED, Shift, far_apart, one_of_each, shift

CLASSES, SIZE = 3, 6


def drawn(rng: np.random.Generator, n: int, mix: tuple[float, ...] = (1, 1, 1), moved: float = 0.0):
    """Points around the centre of their class, all of them moved, and their classes."""
    called = rng.choice(CLASSES, size=n, p=np.array(mix) / sum(mix))
    centres = 8 * np.eye(CLASSES, SIZE)
    return (centres[called] + rng.normal(size=(n, SIZE)) + moved).astype(np.float32), called


def compared(rng: np.random.Generator, n: int, **other: object) -> Shift:
    found = shift(*drawn(rng, n, **other), *drawn(rng, 60), grouped=True)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_p_is_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    values = np.array([compared(rng, 30).p for _ in range(200)])
    assert 0.4 < values.mean() < 0.6
    for level in (0.05, 0.2, 0.5):  # within three standard errors
        assert abs((values <= level).mean() - level) < 3 * np.sqrt(level * (1 - level) / 200)


def test_it_sees_what_is_moved_and_not_what_is_mixed_otherwise() -> None:
    rng = np.random.default_rng(1)
    moved = compared(rng, 40, moved=1.0)
    assert moved.alarm
    assert moved.p == 0.001
    assert moved.distance > 2 * moved.usual
    assert "are not like those of the validation part (40 groups compared; p = 0.001" in moved.sentence
    mixed = [compared(rng, 40, mix=(10, 1, 1)) for _ in range(40)]
    assert np.mean([one.alarm for one in mixed]) <= 0.1
    assert "do not stand out" in mixed[0].sentence or mixed[0].alarm


def test_the_distance_is_scipys_energy_distance() -> None:
    scipy = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(2)
    ours, theirs = rng.normal(size=(12, 1)), rng.normal(0.7, size=(15, 1))
    found = shift(ours.astype(np.float32), np.zeros(12, int), theirs.astype(np.float32), np.zeros(15, int), True)
    assert found is not None
    across = np.mean([abs(a - b) for a, b in itertools.product(ours[:, 0], theirs[:, 0])])
    squared = scipy.energy_distance(ours[:, 0], theirs[:, 0]) ** 2
    assert found.distance == pytest.approx(squared / (2 * across), rel=1e-4)


def test_too_few_or_unknown_classes_say_nothing() -> None:
    rng = np.random.default_rng(3)
    points, called = drawn(rng, FEWEST)
    reference = drawn(rng, 40)
    assert shift(points, called, *reference, grouped=False) is not None
    assert shift(points[1:], called[1:], *reference, grouped=False) is None
    assert shift(points, np.full(FEWEST, CLASSES), *reference, grouped=False) is None
    few = shift(points, called, *reference, grouped=False)
    assert few is not None
    assert (few.units, few.grouped, few.alarm) == (FEWEST, False, few.p < ALARM)


def test_one_image_of_each_group_whatever_their_order() -> None:
    groups = ["b", "a", "b", "c", "a", "b"]
    sources = [f"{k}.png" for k in range(6)]
    rows = one_of_each(groups, sources)
    assert [groups[row] for row in rows] == ["a", "b", "c"]
    order = np.random.default_rng(0).permutation(6)
    again = one_of_each([groups[k] for k in order], [sources[k] for k in order])
    assert [sources[order[row]] for row in again] == [sources[row] for row in rows]


def test_a_large_batch_is_thinned() -> None:
    rng = np.random.default_rng(4)
    found = shift(*drawn(rng, 3000), *drawn(rng, 700), grouped=True)
    assert found is not None
    assert (found.units, found.reference) == (500, 500)


def test_where_groups_are_not_known_a_few_images_far_apart_are_taken() -> None:
    names = [f"patient-{k // 20:02d}/{k % 20:02d}.png" for k in range(600)]
    shuffled = np.random.default_rng(0).permutation(600)
    rows = far_apart([names[k] for k in shuffled])
    taken = [names[shuffled[row]] for row in rows]
    assert len(taken) == UNGROUPED == len({name.split("/")[0] for name in taken})
    assert taken == sorted(taken)
    assert far_apart(["b", "a"]).tolist() == [1, 0]
