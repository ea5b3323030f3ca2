"""Twins: one slice in another form, and no other slice, whatever the order of the pictures."""

import io
import itertools

import numpy as np
import pytest
from PIL import Image

from neurodense.data import candidates
from neurodense.data.fingerprint import (
    best_turn_bounds,
    describe,
    equalised,
    head_box,
    thumb_of,
    turned,
    turned_description,
)
from neurodense.data.phantom import write_phantoms
from neurodense.data.twins import TWIN, Twins, find_twins
from neurodense.scans.read import read_scan


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """One synthetic slice of each of 12 patients, float32 (96, 96)."""
    folder = tmp_path_factory.mktemp("twins") / "data"
    write_phantoms(folder, patients_per_class=3, slices_per_patient=1, size=96)
    found = [read_scan(path).pixels for path in sorted(folder.rglob("*.png"))]
    assert len(found) == 12
    return found


def thumbs(pictures):
    return np.stack([thumb_of(np.ascontiguousarray(picture, dtype=np.float32)) for picture in pictures])


def jpeg(picture, quality):
    file = io.BytesIO()
    Image.fromarray((picture * 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=np.float32) / 255


def resized(picture, width, height):
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC)).clip(0, 1)


COPIES = {
    **{f"turn {turn}": lambda p, turn=turn: turned(p, turn) for turn in range(1, 8)},
    "half": lambda p: resized(p, 48, 48),
    "stretched": lambda p: resized(p, 200, 131),
    "JPEG 30": lambda p: jpeg(p, 30),
    "darker": lambda p: p * 0.8,
    "brighter": lambda p: (p * 1.2).clip(0, 1),
    "less contrast": lambda p: p * 0.7 + 0.2,
    "gamma 0.7": lambda p: p**0.7,
    "gamma 1.4": lambda p: p**1.4,
    "black border": lambda p: np.pad(p, 20),
    "white border": lambda p: np.pad(p, 10, constant_values=1),
    "border on one side": lambda p: np.pad(p, ((0, 0), (30, 0))),
    "shifted": lambda p: np.pad(p, 4)[:96, 8:],
    "cropped": lambda p: p[4:-4, 4:-4],
    "turned, framed, JPEG": lambda p: jpeg(np.pad(turned(p, 6), 10) ** 0.8, 40),
}


@pytest.mark.parametrize("name", COPIES)
def test_each_copy_is_found_and_nothing_else(slices, name):
    found = find_twins(thumbs([*slices, *map(COPIES[name], slices)]))
    assert [(pair.first, pair.second) for pair in found.pairs] == [(n, n + 12) for n in range(12)]
    assert found.clusters.tolist() == [*range(12), *range(12)]
    assert all(TWIN <= pair.similarity <= 1 for pair in found.pairs)


@pytest.mark.parametrize("turn", range(8))
def test_the_turn_of_a_pair_brings_the_second_over_the_first(slices, turn):
    noisy = [jpeg(turned(picture, turn), 60) for picture in slices]
    found = find_twins(thumbs([*slices, *noisy]))
    assert len(found.pairs) == 12
    for pair in found.pairs:
        ours, theirs = slices[pair.first], turned(noisy[pair.second - 12], pair.turn)
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


def test_the_order_of_the_pictures_is_of_no_account(slices):
    rng = np.random.default_rng(0)
    pictures = [slices[n] for n in range(8)] + [make(slices[n]) for n in range(8) for make in COPIES.values()]
    pictures += [slices[0], slices[0]]
    stock = thumbs(pictures)

    def said(order) -> set:
        found = find_twins(stock[order])
        clusters = [frozenset(order[np.flatnonzero(found.clusters == c)].tolist()) for c in set(found.clusters)]
        near = {(frozenset((order[p.first], order[p.second])), p.similarity) for p in found.neighbours}
        return {frozenset(clusters), frozenset(near), frozenset(p.similarity for p in found.pairs)}

    straight = said(np.arange(len(stock)))
    assert straight == said(rng.permutation(len(stock)))
    assert straight == said(np.arange(len(stock))[::-1])


def test_a_cluster_of_n_has_n_minus_1_pairs_and_holds_one_slice(slices):
    kinds = list(COPIES.values())
    found = find_twins(thumbs([make(picture) for picture in slices for make in kinds]))
    own = np.repeat(np.arange(12), len(kinds))
    for cluster in set(found.clusters.tolist()):
        members = np.flatnonzero(found.clusters == cluster)
        assert len(set(own[members].tolist())) == 1
        assert sum(pair.first in members for pair in found.pairs) == len(members) - 1
        assert members[0] == cluster
    assert len(set(found.clusters.tolist())) == 12


def test_copies_to_the_bit_and_kinds(slices):
    pictures = [slices[0], slices[0], turned(slices[1], 2), slices[1], slices[2], np.pad(slices[2], 25)]
    found = find_twins(thumbs(pictures))
    assert [(pair.first, pair.second, pair.kind) for pair in found.pairs] == [
        (0, 1, "exact"), (2, 3, "copy"), (4, 5, "reframed"),
    ]  # fmt: skip
    assert found.pairs[1].turn == 2


def test_slices_of_one_head_are_neighbours_and_no_twins(tmp_path):
    write_phantoms(tmp_path / "d", patients_per_class=2, slices_per_patient=4, size=96)
    pictures = [read_scan(path).pixels for path in sorted((tmp_path / "d").rglob("meningioma*.png"))]
    found = find_twins(thumbs(pictures))
    assert found.pairs == ()
    assert found.clusters.tolist() == list(range(8))
    assert found.neighbours
    assert all(pair.first // 4 == pair.second // 4 for pair in found.neighbours)


def test_a_lesion_that_was_not_there_makes_another_slice(slices):
    row, column = np.mgrid[:96, :96]
    grown = [np.where(np.hypot(row - 60, column - 35) < 10, np.float32(0.9), picture) for picture in slices]
    found = find_twins(thumbs([*slices, *grown]))
    assert not [pair for pair in found.pairs if pair.second == pair.first + 12]


def test_blank_pictures_have_no_twins(slices):
    blank = [np.full((40, 50), value, np.float32) for value in (0, 0, 0.5, 1)]
    found = find_twins(thumbs([blank[0], slices[0], *blank[1:], slices[0]]))
    assert found.blank == (0, 2, 3, 4)
    assert [(pair.first, pair.second) for pair in found.pairs] == [(1, 5)]


def test_hundreds_of_near_copies_do_not_make_thousands_of_pairs(slices, monkeypatch):
    rng = np.random.default_rng(0)
    compared = []
    original = candidates.nearest
    monkeypatch.setattr(
        "neurodense.data.twins.nearest", lambda *args: compared.append(len(kept := original(*args))) or kept
    )
    one = thumb_of(slices[0])
    near = np.clip(one.astype(int) + rng.integers(-2, 3, (500, 2, 64, 64)), 0, 255).astype(np.uint8)
    found = find_twins(np.concatenate([near, np.repeat(one[None], 500, axis=0), thumbs(slices[1:])]))
    assert compared[0] <= candidates.KEEP * 523
    assert set(found.clusters[:1000].tolist()) == {0}
    assert len(found.pairs) == 999


def test_nothing_one_and_the_wrong_shape(slices):
    none = find_twins(np.empty((0, 2, 64, 64), np.uint8))
    assert (none.pairs, none.neighbours, none.blank, none.clusters.tolist()) == ((), (), (), [])
    assert find_twins(thumbs(slices[:1])).clusters.tolist() == [0]
    with pytest.raises(ValueError, match=r"uint8 \(N, 2, 64, 64\). Got float32 \(3, 64, 64\)"):
        find_twins(np.zeros((3, 64, 64), np.float32))


def test_a_memory_map_will_do_and_progress_is_told(slices, tmp_path):
    np.save(tmp_path / "t.npy", thumbs([*slices, *slices]))
    said: list[tuple[int, int]] = []
    found: Twins = find_twins(np.load(tmp_path / "t.npy", mmap_mode="r"), advance=lambda *at: said.append(at))
    assert len(found.pairs) == 12
    assert said == sorted(said)
    assert said[-1] == (100, 100)


def test_candidates_are_those_of_all_pairs_under_all_turns():
    """Against the plain double loop, on pictures of noise that resemble one another by design."""
    rng = np.random.default_rng(3)
    base = rng.random((30, 64, 64), dtype=np.float32)
    smooth = np.repeat(np.repeat(base[:, ::8, ::8], 8, 1), 8, 2)
    pictures = np.stack([turned(smooth[n % 10], n % 8) * 0.8 + smooth[n] * 0.2 for n in range(30)])
    descriptions = describe(np.ascontiguousarray(pictures))
    view = candidates.View(np.ones(30, bool), descriptions, descriptions)
    found = candidates.nearest([view], 2, lambda share: None)
    best = {
        (a, b): max(float(descriptions[a] @ turned_description(descriptions[[b]], turn)[0]) for turn in range(8))
        for a, b in itertools.combinations(range(30), 2)
    }
    wanted = {pair: alike for pair, alike in best.items() if alike > candidates.ALIKE}
    assert len(wanted) > 20
    assert [tuple(sorted((int(row["first"]), int(row["second"])))) for row in found] == sorted(wanted)
    for row in found:
        pair = min(row["first"], row["second"]), max(row["first"], row["second"])
        assert row["alike"] == pytest.approx(wanted[pair], abs=1e-5)
        laid = turned_description(descriptions[[row["second"]]], row["turn"])[0]
        assert float(descriptions[row["first"]] @ laid) == pytest.approx(float(row["alike"]), abs=1e-5)


def test_each_picture_that_asks_gets_its_nearest_over_all_blocks_and_views():
    rng = np.random.default_rng(5)
    kinds = rng.normal(size=(40, 85))
    whole, middle = (kinds[np.arange(1200) % 40] + rng.normal(size=(1200, 85)) * spread for spread in (0.35, 0.3))
    whole, middle = (np.float32(x / np.linalg.norm(x, axis=1, keepdims=True)) for x in (whole, middle))
    asks = np.arange(1200) % 3 == 0
    views = [candidates.View(np.ones(1200, bool), whole, whole), candidates.View(asks, whole, middle)]
    alike = np.max(
        [
            np.where(view.asks[:, None], turned_description(view.queries, turn) @ view.stock.T, -1)
            for view in views
            for turn in range(8)
        ],
        axis=0,
    )
    np.fill_diagonal(alike, -1)
    wanted = {
        (min(a, b), max(a, b))
        for a in range(1200)
        for b in np.argsort(-alike[a])[: candidates.KEEP].tolist()
        if alike[a, b] >= candidates.ALIKE
    }
    found = [candidates.nearest(views, workers, lambda share: None) for workers in (1, 3)]
    assert found[0].tobytes() == found[1].tobytes()
    assert {(min(a, b), max(a, b)) for a, b, *_ in found[0].tolist()} == wanted
    assert set(found[0]["view"].tolist()) == {0, 1}


def test_no_turn_brings_two_descriptions_nearer_than_their_bound():
    rng = np.random.default_rng(1)
    one, other = (describe(rng.random((50, 64, 64), dtype=np.float32)) for _ in range(2))
    best = np.max([turned_description(one, turn) @ other.T for turn in range(8)], axis=0)
    (totals, differences), (stock_totals, stock_differences) = best_turn_bounds(one), best_turn_bounds(other)
    bound = totals @ stock_totals.T + np.abs(differences @ stock_differences.T)
    assert (bound >= best - 1e-6).all()
    own = (totals * totals).sum(1) + np.abs((differences * differences).sum(1))
    np.testing.assert_allclose(own, 1, atol=1e-5)


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_description_describes_the_turned_picture(slices, turn):
    whole = equalised(thumbs(slices)[:, 0])
    laid = turned_description(describe(whole), turn)
    np.testing.assert_allclose(laid, describe(np.ascontiguousarray(turned(whole, turn))), atol=1e-5)


def test_the_head_is_found_within_its_borders():
    picture = np.zeros((100, 120), np.float32)
    picture[20:80, 30:90] = np.random.default_rng(0).uniform(0.5, 1, (60, 60))
    picture[:20:3] = 0.02
    assert head_box(picture) == (20, 80, 30, 90)
    assert head_box(np.pad(picture, 15, constant_values=1)) == (35, 95, 45, 105)
    assert head_box(np.zeros((30, 40), np.float32)) == (0, 30, 0, 40)
    letters = picture.copy()
    letters[2:8, 2:5] = 1
    assert head_box(letters) == (20, 80, 30, 90)


def test_equalised_pictures_forget_gamma():
    picture = np.arange(4096, dtype=np.float32).reshape(1, 64, 64) / 4095
    bright, dark = ((picture**gamma * 255 + 0.5).astype(np.uint8) for gamma in (0.7, 1.4))
    assert np.abs(equalised(bright) - equalised(dark)).max() < 0.04


def test_real_slices_and_their_copies(shared_data):
    paths = sorted((shared_data / "brain-mri").rglob("*.jpg"))[::140]
    pictures = [read_scan(path).pixels for path in paths]
    copies = [jpeg(turned(picture, 1 + n % 7), 30) for n, picture in enumerate(pictures)]
    alone = find_twins(thumbs(pictures))
    found = find_twins(thumbs([*pictures, *copies]))
    assert (found.clusters[: len(paths)] == found.clusters[len(paths) :]).all()
    assert (found.clusters[: len(paths)] == alone.clusters).all()
