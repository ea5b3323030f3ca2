import pytest

torch = pytest.importorskip("torch")

from neurodense.training.augment import augment_views
from neurodense.training.recipe import load_recipe
from neurodense.training.variation import Augment

STRONG = Augment(
    flip=True, flip_vertical=True, rotate_degrees=30, scale=0.2, stretch=0.1, shift=0.1, gamma=0.4, brightness=0.2,
    contrast=0.2, bias_field=0.3, noise=0.05, blur=1.0, erase=0.2,
)  # fmt: skip
HASHES = ["a", "b", "c"]
RANDOM = Augment(
    remap=1, equalise=0.5, invert=0.5, window=1, low_resolution=0.6, rician=0.3, haze=0.2, trim=0.1, pad=0.3, marks=1,
    blocks=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("augment", [STRONG, RANDOM], ids=["strong", "random"])
def test_a_view_is_a_function_of_image_and_number_alone(pixels: torch.Tensor, augment: Augment) -> None:
    together = augment_views(pixels, HASHES, 2, 7, augment)
    torch.manual_seed(123)
    alone = torch.cat([augment_views(pixels[k : k + 1], [HASHES[k]], 2, 7, augment) for k in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert torch.equal(together, augment_views(pixels, HASHES, 2, 7, augment))


@pytest.mark.parametrize("augment", [STRONG, RANDOM], ids=["strong", "random"])
def test_views_seeds_and_images_differ(pixels: torch.Tensor, augment: Augment) -> None:
    one = augment_views(pixels, HASHES, 1, 7, augment)
    assert not torch.allclose(one, augment_views(pixels, HASHES, 2, 7, augment))
    assert not torch.allclose(one, augment_views(pixels, HASHES, 1, 8, augment))
    same = augment_views(pixels[:1].repeat(2, 1, 1, 1), ["a", "b"], 1, 7, augment)
    assert not torch.allclose(same[0], same[1])


def test_views_stay_what_they_were() -> None:
    """Numbers of the first version: runs that began with it go on with the same views, and find them in the cache."""
    ramp = torch.linspace(0, 1, 32 * 32).view(1, 1, 32, 32)
    found = augment_views(ramp, ["a"], 1, 7, STRONG)[0, 0, ::8, ::8].flatten()
    was = [
        0.0353, 0.0455, 0.0464, 0.0036, 0.124, 0.2385, 0.3337, 0.4662,
        0.4808, 0.5303, 0.599, 0.7705, 0.0164, 0.8869, 0.9207, 1.0,
    ]  # fmt: skip
    torch.testing.assert_close(found, torch.tensor(was), atol=2e-4, rtol=0)


def test_one_change_does_not_move_another(pixels: torch.Tensor) -> None:
    """What is added to a recipe leaves the numbers that its other changes draw."""
    plain = augment_views(pixels, HASHES, 1, 7, Augment(rotate_degrees=30, window=1))
    marked = augment_views(pixels, HASHES, 1, 7, Augment(rotate_degrees=30, window=1, marks=1))
    middle = (slice(None), slice(None), slice(20, 28), slice(20, 28))
    assert torch.equal(plain[middle], marked[middle])
    assert (marked >= plain).all()
    assert (marked > plain).any((1, 2, 3)).all()


def test_view_0_and_no_augmentation_leave_the_image(pixels: torch.Tensor) -> None:
    assert augment_views(pixels, HASHES, 0, 7, STRONG) is pixels
    assert augment_views(pixels, HASHES, 1, 7, Augment()) is pixels


@pytest.mark.parametrize("name", [field for field in Augment.model_fields if field != "flip_vertical"])
def test_each_change_changes_and_stays_in_range(pixels: torch.Tensor, name: str) -> None:
    value = True if name == "flip" else 15 if name == "rotate_degrees" else 0.25
    changed = []
    for view in range(1, 9):
        out = augment_views(pixels, HASHES, view, 3, Augment(**{name: value}))
        assert out.shape == pixels.shape
        assert out.min() >= 0
        assert out.max() <= 1
        assert torch.isfinite(out).all()
        changed += [not torch.allclose(a, b) for a, b in zip(out, pixels, strict=True)]
    assert sum(changed) >= 3, "some leave half of the views as they are, some are in a share of the views only"


def test_flip_is_an_exact_mirror() -> None:
    image = torch.rand(1, 1, 32, 32)
    seen = set()
    for view in range(1, 20):
        out = augment_views(image, ["x"], view, 0, Augment(flip=True))
        if torch.allclose(out, image, atol=1e-5):
            seen.add("same")
        elif torch.allclose(out, image.flip(3), atol=1e-5):
            seen.add("mirror")
        else:
            seen.add("other")
    assert seen == {"same", "mirror"}


def test_erase_sets_one_square_to_0() -> None:
    image = torch.full((1, 1, 40, 40), 0.5)
    for view in range(1, 10):
        gone = augment_views(image, ["x"], view, 0, Augment(erase=0.5))[0, 0] == 0
        rows, columns = gone.any(1).sum().item(), gone.any(0).sum().item()
        assert gone.sum().item() == rows * columns
        assert abs(rows - columns) <= 1


@pytest.mark.parametrize("name", ["scratch", "finetune", "demo"])
def test_the_recipes_views_keep_the_picture(name: str) -> None:
    """An augmented blob stays inside and bright: no recipe destroys what it should teach."""
    image = torch.zeros(8, 1, 64, 64)
    image[:, :, 24:40, 24:40] = 0.8
    out = augment_views(image, [str(k) for k in range(8)], 1, 0, load_recipe(name).augment)
    assert (out.amax((1, 2, 3)) > 0.3).all()
    assert (out.sum((1, 2, 3)) > 0.3 * image.sum((1, 2, 3))).all()
