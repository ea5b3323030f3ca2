from pathlib import Path

import numpy as np
import pytest

from neurodense.errors import ModelError
from neurodense.evaluation.fit_rejection import fit_rejection, ledoit_wolf
from neurodense.inference.rejection import Rejection


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
    np.testing.assert_allclose(fit_rejection(known, truth, 1000).scores(other), wanted, rtol=1e-3)


def test_few_directions_are_near_it_and_what_is_far_away_scores_higher():
    rng = np.random.default_rng(2)
    known, truth = features(rng, 2000)
    new, far = known[1500:], rng.normal(size=(200, 24)).astype(np.float32) * 20
    few = fit_rejection(known[:1500], truth[:1500], 8)
    assert few.directions.shape == (24, 8)
    assert np.median(few.scores(far)) > np.quantile(few.scores(new), 0.95)


def test_more_features_than_images_and_features_that_never_change():
    rng = np.random.default_rng(3)
    known = np.zeros((30, 64), dtype=np.float32)
    known[:, :5] = rng.normal(size=(30, 5))
    found = fit_rejection(known, np.arange(30) % 2, 16)
    other = known.copy()
    other[:, 50] = 3
    assert np.isfinite(found.scores(known)).all()
    assert (found.scores(other) > found.scores(known).max()).all()
    same = fit_rejection(np.ones((4, 8), dtype=np.float32), np.array([0, 0, 1, 1]))
    assert np.isfinite(same.scores(np.zeros((2, 8), dtype=np.float32))).all()


def test_it_is_read_as_it_was_written(tmp_path: Path):
    rng = np.random.default_rng(4)
    known, truth = features(rng)
    found = fit_rejection(known, truth, 8).scaled(2.5).scaled(2.0)
    np.testing.assert_allclose(found.scores(known) * 5, fit_rejection(known, truth, 8).scores(known), rtol=1e-6)
    found.save(tmp_path / "ood.safetensors")
    np.testing.assert_array_equal(Rejection.load(tmp_path / "ood.safetensors").scores(known), found.scores(known))
    for damage in (b"", b"nothing that can be read", (tmp_path / "ood.safetensors").read_bytes()[:-5]):
        (tmp_path / "bad.safetensors").write_bytes(damage)
        with pytest.raises(ModelError, match=r"bad\.safetensors cannot be used"):
            Rejection.load(tmp_path / "bad.safetensors")
