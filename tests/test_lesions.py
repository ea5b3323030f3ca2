"""Lesions in healthy heads: inside the head, visible, all different, and a function of image, view and seed."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neurodense.data.phantom import phantoms
from neurodense.errors import RecipeError
from neurodense.training.lesions import lesion_of, paste, paste_lesions
from neurodense.training.recipe import parse_recipe
from neurodense.training.variation import Lesions

KINDS = ("ring", "dural", "sellar")
SOME = Lesions(share=0.5, healthy="notumor", classes=("glioma", "meningioma"))
HASHES = [f"{number:03d}" for number in range(200)]


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    """float32 (8, 128, 128): healthy heads of eight patients, at two heights."""
    drawn = [one for one in phantoms(8, 1, 128) if one.label == "notumor"]
    return np.stack([one.pixels for one in drawn]).astype(np.float32) / 255


@pytest.mark.parametrize("kind", KINDS)
def test_a_lesion_is_seen_inside_the_head_and_nowhere_else(heads, kind):
    rng = np.random.default_rng(0)
    sizes = []
    for _ in range(6):
        for head in heads:
            before = head.copy()
            out = paste(head, rng, kind)
            assert np.array_equal(head, before)
            assert out.dtype == np.float32
            assert out.shape == head.shape
            assert out.min() >= 0
            assert out.max() <= 1
            change = np.abs(out - head)
            y, x = np.nonzero(head > 0.15)
            away = np.hypot(np.arange(128)[:, None] - y.mean(), np.arange(128) - x.mean())
            assert change[away > 0.5 * max(np.ptp(x), np.ptp(y))].max() < 0.03, "outside of the skull"
            sizes.append(np.count_nonzero(change > 0.05) / np.count_nonzero(head > 0.15))
            assert sizes[-1] < 0.5
    assert np.min(sizes) > 0.001
    assert np.quantile(sizes, 0.1) > 0.004, "nine in ten change more than that of the head"
    assert np.median(sizes) < 0.25


def test_kinds_have_their_places(heads):
    """The middle of the head for a sellar lesion, the skull for a dural one."""
    rng = np.random.default_rng(1)
    away = {}
    for kind in KINDS:
        found = []
        for head in np.repeat(heads, 6, 0):
            inside = np.argwhere(head > 0.15)
            change = np.argwhere(np.abs(paste(head, rng, kind) - head) > 0.1)
            if len(change):
                scale = np.ptp(inside, 0).mean() / 2
                found.append(np.linalg.norm(change.mean(0) - inside.mean(0)) / scale)
        assert len(found) > 40
        away[kind] = np.median(found)
    assert away["sellar"] < 0.25 < away["ring"] < away["dural"]
    assert away["dural"] > 0.55


def test_no_two_are_alike(heads):
    rng = np.random.default_rng(2)
    drawn = [paste(heads[0], rng, kind) for kind in KINDS for _ in range(4)]
    assert len({one.tobytes() for one in drawn}) == len(drawn)
    again = paste(heads[0], np.random.default_rng(5), "ring")
    assert np.array_equal(again, paste(heads[0], np.random.default_rng(5), "ring"))


@pytest.mark.parametrize("side", [64, 100, 224])
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_any_picture_can_be_pasted_into(side, level):
    """Also one that shows no head: the answer is a picture of the same size."""
    flat = np.full((side, side), level, np.float32)
    for kind in KINDS:
        out = paste(flat, np.random.default_rng(0), kind)
        assert out.shape == flat.shape
        assert np.isfinite(out).all()
        assert not np.array_equal(out, flat)


def test_which_views_get_one_is_a_function_of_image_view_and_seed():
    kinds = [lesion_of(name, 1, 7, SOME) for name in HASHES]
    assert kinds == [lesion_of(name, 1, 7, SOME) for name in HASHES]
    assert kinds != [lesion_of(name, 2, 7, SOME) for name in HASHES]
    assert kinds != [lesion_of(name, 1, 8, SOME) for name in HASHES]
    assert 0.4 < np.mean([kind is not None for kind in kinds]) < 0.6
    assert {kind for kind in kinds if kind} == set(KINDS)
    assert not any(lesion_of(name, 0, 7, SOME) for name in HASHES), "view 0 is the image itself"
    assert not any(lesion_of(name, 1, 7, Lesions()) for name in HASHES)
    one = Lesions(share=1, healthy="a", classes=("b",), kinds=("dural",))
    assert {lesion_of(name, 3, 7, one) for name in HASHES} == {"dural"}


def test_a_batch_gets_its_lesions_in_healthy_pictures_alone(heads):
    pixels = torch.from_numpy(heads)[:, None]
    names = HASHES[: len(pixels)]
    healthy = [index % 2 == 0 for index in range(len(pixels))]
    before = pixels.clone()
    out = paste_lesions(pixels, names, 1, 7, SOME, healthy)
    assert torch.equal(pixels, before)
    changed = (out != pixels).any(1).any(1).any(1).tolist()
    wanted = [good and lesion_of(name, 1, 7, SOME) is not None for good, name in zip(healthy, names, strict=True)]
    assert changed == wanted
    assert any(wanted)
    index = wanted.index(True)
    alone = paste_lesions(pixels[index : index + 1], [names[index]], 1, 7, SOME, [True])
    assert torch.equal(alone[0], out[index])
    assert paste_lesions(pixels, names, 0, 7, SOME, healthy) is pixels


RECIPE = """
name = "mine"
summary = "Lesions."
[lesions]
{}
[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-3
epochs = 2
"""


def test_a_recipe_says_which_classes():
    recipe = parse_recipe(
        RECIPE.format('share = 0.3\nhealthy = "notumor"\nclasses = ["glioma", "pituitary"]\nkinds = ["ring"]'), "x"
    )
    assert recipe.lesions == Lesions(share=0.3, healthy="notumor", classes=("glioma", "pituitary"), kinds=("ring",))
    assert recipe.augmented
    assert not parse_recipe(RECIPE.format(""), "x").augmented
    recipe.lesions.check(["glioma", "notumor", "pituitary"])
    Lesions().check(["anything"])
    with pytest.raises(RecipeError, match=r"\[lesions\] names 'pituitary'; the classes are 'glioma', 'notumor'"):
        recipe.lesions.check(["glioma", "notumor"])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("share = 2", ["'lesions.share'", "less than or equal to 1"]),
        ("share = 0.5", ["lesions need healthy", "classes"]),
        ('share = 0.5\nhealthy = "a"', ["lesions need healthy"]),
        ('share = 0.5\nhealthy = "a"\nclasses = ["b", "a"]', ["'a' is the healthy class"]),
        ('kinds = ["bright"]', ["'lesions.kinds.1'", "'ring', 'dural' or 'sellar'"]),
        ("kinds = []", ["'lesions.kinds'"]),
        ("shares = 0.5", ["unknown key 'lesions.shares' (did you mean 'share'?)"]),
        ("flip = true", ["it belongs below [augment]"]),
    ],
)
def test_what_cannot_be_is_refused(text, parts):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(RECIPE.format(text), "my.toml")
    for part in parts:
        assert part in str(caught.value)


def test_into_real_pictures(shared_data: Path):
    from neurodense.scans.preprocess import Preprocess
    from neurodense.scans.read import read_scan

    rng, changes = np.random.default_rng(3), []
    for path in sorted((shared_data / "brain-mri" / "notumor").iterdir())[::40]:
        pixels = Preprocess(size=128)(read_scan(path))[0]
        for kind in KINDS:
            change = np.abs(paste(pixels, rng, kind) - pixels)
            changes.append(np.count_nonzero(change > 0.05) / change.size)
    assert np.mean(np.array(changes) > 0.001) > 0.98
    assert np.quantile(changes, 0.99) < 0.3
