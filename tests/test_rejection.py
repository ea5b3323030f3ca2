from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurodense.errors import ModelError
from neurodense.evaluation.fit_appearance import fit_appearance
from neurodense.evaluation.fit_rejection import fit_reach, fit_rejection, ledoit_wolf
from neurodense.evaluation.outliers import FAMILIES, blur, draw_outliers
from neurodense.inference.appearance import GRID, NUMBERS, SIDE, describe, pictures
from neurodense.inference.engine import joined
from neurodense.inference.predictor import Predictor
from neurodense.inference.rejection import Rejection
from neurodense.scans.preprocess import Preprocess


def features(rng, n=300, dimensions=24):
    truth = rng.integers(3, size=n)
    mixing = rng.normal(size=(dimensions, dimensions)) * np.linspace(0.1, 2, dimensions)
    centres = rng.normal(size=(3, dimensions)) * 4
    return (centres[truth] + rng.normal(size=(n, dimensions)) @ mixing).astype(np.float32), truth


def test_the_shrinkage_is_that_of_scikit_learn():
    sklearn = pytest.importorskip("sklearn.covariance")
    rng = np.random.default_rng(0)
    for n, dimensions in ((20, 50), (500, 10), (7, 7)):
        rows = rng.normal(size=(n, dimensions)) * np.arange(1, dimensions + 1)
        rows -= rows.mean(axis=0)
        assert ledoit_wolf(rows) == pytest.approx(sklearn.ledoit_wolf_shrinkage(rows, assume_centered=True))
    assert ledoit_wolf(np.zeros((5, 3))) == 1.0


def test_with_all_directions_it_is_the_mahalanobis_distance():
    rng = np.random.default_rng(1)
    known, truth = features(rng)
    means = np.stack([known[truth == k].mean(axis=0) for k in range(3)])
    off = (known - means[truth]).astype(np.float64)
    covariance, d = off.T @ off / len(off), ledoit_wolf(off)
    shrunk = (1 - d) * covariance + d * np.trace(covariance) / 24 * np.eye(24)
    other, _ = features(rng, 50)
    wanted = [min((x - m) @ np.linalg.solve(shrunk, x - m) for m in means) ** 0.5 for x in other.astype(np.float64)]
    np.testing.assert_allclose(fit_rejection(known, truth, 1000).scores_of(other), wanted, rtol=1e-3)


def test_few_directions_are_near_it_and_what_is_far_away_scores_higher():
    rng = np.random.default_rng(2)
    known, truth = features(rng, 2000)
    new, far = known[1500:], rng.normal(size=(200, 24)).astype(np.float32) * 20
    few = fit_rejection(known[:1500], truth[:1500], 8)
    assert few.directions.shape == (24, 8)
    assert np.median(few.scores_of(far)) > np.quantile(few.scores_of(new), 0.95)


def test_more_features_than_images_and_features_that_never_change():
    rng = np.random.default_rng(3)
    known = np.zeros((30, 64), dtype=np.float32)
    known[:, :5] = rng.normal(size=(30, 5))
    found = fit_rejection(known, np.arange(30) % 2, 16)
    other = known.copy()
    other[:, 50] = 3
    assert np.isfinite(found.scores_of(known)).all()
    assert (found.scores_of(other) > found.scores_of(known).max()).all()
    same = fit_rejection(np.ones((4, 8), dtype=np.float32), np.array([0, 0, 1, 1]))
    assert np.isfinite(same.scores_of(np.zeros((2, 8), dtype=np.float32))).all()


def test_it_is_read_as_it_was_written(tmp_path: Path):
    rng = np.random.default_rng(4)
    known, truth = features(rng)
    found = fit_rejection(known, truth, 8).scaled(2.5).scaled(2.0)
    np.testing.assert_allclose(found.scores_of(known) * 5, fit_rejection(known, truth, 8).scores_of(known), rtol=1e-6)
    found.save(tmp_path / "ood.safetensors")
    np.testing.assert_array_equal(Rejection.load(tmp_path / "ood.safetensors").scores_of(known), found.scores_of(known))
    for damage in (b"", b"nothing that can be read", (tmp_path / "ood.safetensors").read_bytes()[:-5]):
        (tmp_path / "bad.safetensors").write_bytes(damage)
        with pytest.raises(ModelError, match=r"bad\.safetensors cannot be used"):
            Rejection.load(tmp_path / "bad.safetensors")


def heads(rng, count):
    """Soft ovals of grey with soft noise in them: this test's brain MRI, (count, SIDE, SIDE)."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    out = []
    for _ in range(count):
        a, b = rng.uniform(0.6, 0.8, 2)
        matter = 0.5 + 4 * blur(rng.normal(0, 0.1, (SIDE, SIDE)), 2)
        out.append(blur(matter * (np.hypot(x / a, y / b) < 1), 1).clip(0, 1))
    return np.array(out, dtype=np.float32)


def test_the_numbers_are_what_they_say():
    rng = np.random.default_rng(5)
    shown = rng.random((3, SIDE, SIDE), dtype=np.float32)
    numbers = describe(shown)
    assert (numbers.shape, numbers.dtype) == ((3, NUMBERS), np.float32)
    cells = shown.reshape(3, GRID, SIDE // GRID, GRID, SIDE // GRID)
    places = GRID**2
    np.testing.assert_allclose(numbers[:, :places], cells.mean(axis=(2, 4)).reshape(3, -1), rtol=1e-5)
    np.testing.assert_allclose(
        numbers[:, places : 2 * places], np.log(cells.std(axis=(2, 4)) + 0.01).reshape(3, -1), atol=1e-4
    )
    one = shown[0].astype(np.float64)
    across, down, both = (
        (one[::2, ::2] + i * one[::2, 1::2] + j * one[1::2, ::2] + i * j * one[1::2, 1::2]) / 4
        for i, j in ((-1, 1), (1, -1), (-1, -1))
    )
    strength = np.sqrt(across**2 + down**2 + both**2).reshape(GRID, 4, GRID, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(numbers[0, 2 * places : 3 * places], np.log(strength + 0.002).ravel(), atol=1e-4)
    shares = numbers[:, 5 * places :] ** 2
    np.testing.assert_allclose(shares.sum(axis=1), 1 + 5 * 3, rtol=1e-5)
    np.testing.assert_allclose(shares[0, 16 + 10], (np.abs(across) >= 0.5).mean(), atol=1e-6)
    np.testing.assert_allclose(shares[0, 16 + 9], ((np.abs(across) >= 0.25) & (np.abs(across) < 0.5)).mean(), atol=1e-6)
    alone = np.concatenate([describe(row[np.newaxis]) for row in shown])
    np.testing.assert_array_equal(alone, numbers)


def test_an_input_of_another_size_is_described_at_one_size():
    rng = np.random.default_rng(6)
    pixels = rng.random((2, 1, SIDE, SIDE), dtype=np.float32)
    np.testing.assert_array_equal(pictures(pixels), pixels[:, 0])
    large = pixels.repeat(2, axis=2).repeat(2, axis=3)
    assert pictures(large).shape == (2, SIDE, SIDE)
    assert np.abs(pictures(large) - pixels[:, 0]).mean() < 0.2


def test_drawn_pictures_come_again_and_every_family_draws():
    known = heads(np.random.default_rng(7), 3)
    drawn = draw_outliers(2 * len(FAMILIES), known)
    assert (drawn.shape, drawn.dtype) == ((2 * len(FAMILIES), SIDE, SIDE), np.float32)
    assert (drawn.min(), drawn.max()) >= (0, 0)
    assert drawn.max() <= 1
    np.testing.assert_array_equal(drawn, draw_outliers(2 * len(FAMILIES), known))
    assert not np.array_equal(drawn, draw_outliers(2 * len(FAMILIES), known, 1))
    assert all(np.ptp(drawn[k :: len(FAMILIES)]) > 0 for k in range(len(FAMILIES)))


def test_what_looks_otherwise_is_rejected_though_its_features_are_known(tmp_path: Path):
    rng = np.random.default_rng(8)
    known, truth = features(rng, 100)
    shown, groups = heads(rng, 100), np.arange(100)
    look = fit_appearance(shown[:60], Preprocess(size=SIDE))
    plain = fit_rejection(known[:60], truth[:60], 8)
    new = describe(shown[60:])
    found = fit_reach(replace(plain, appearance=look), known[60:], new, groups[60:])
    inside = found.scores(known[60:], shown[60:, np.newaxis])
    np.testing.assert_array_equal(inside, found.scores_of(known[60:], new))
    assert found.reach is not None
    expected = np.maximum(plain.distances(known[60:]) / found.reach[0], look.strangeness(new) / found.reach[1])
    np.testing.assert_allclose(inside, expected)
    assert (inside <= 1).mean() >= 0.9
    y, x = np.mgrid[:SIDE, :SIDE]
    boards = np.stack([((x // k + y // k) % 2).astype(np.float32) for k in (3, 5, 9, 17)])[:, np.newaxis]
    assert (plain.distances(known[60:64]) / found.reach[0] <= 1.5).all()
    assert (found.scores(known[60:64], boards) > 1.5).all()
    found.save(tmp_path / "ood.safetensors")
    np.testing.assert_array_equal(
        Rejection.load(tmp_path / "ood.safetensors").scores(known[60:], shown[60:, np.newaxis]), inside
    )
    assert (plain.name, found.name) == ("mahalanobis", "mahalanobis or appearance")


def test_a_score_does_not_depend_on_what_is_scored_beside_it():
    predictor, shown = Predictor("brain", threads=1), heads(np.random.default_rng(9), 5)[:, np.newaxis]
    together, bare = predictor.scored(shown), predictor.outputs(shown)
    rejection = Rejection.load(predictor.folder / "ood.safetensors")
    alone = [rejection.scores(together.features[[k]], shown[[k]])[0] for k in range(len(shown))]
    np.testing.assert_allclose(together.scores, alone, rtol=1e-12)
    assert bare.scores is None
    np.testing.assert_array_equal(joined([together.rows(0, 2), together.rows(2, 5)]).scores, together.scores)
