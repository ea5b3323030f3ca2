import pytest

torch = pytest.importorskip("torch")

from neurodense.training.augment import augment_views
from neurodense.training.recipe import Augment, load_recipe

STRONG = Augment(
    flip=True, flip_vertical=True, rotate_degrees=30, scale=0.2, stretch=0.1, shift=0.1, gamma=0.4, brightness=0.2,
    contrast=0.2, bias_field=0.3, noise=0.05, blur=1.0, erase=0.2,
)  # fmt: skip
HASHES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(0))


def test_a_view_is_a_function_of_image_and_number_alone(pixels: torch.Tensor) -> None:
    together = augment_views(pixels, HASHES, 2, 7, STRONG)
    torch.manual_seed(123)
    alone = torch.cat([augment_views(pixels[k : k + 1], [HASHES[k]], 2, 7, STRONG) for k in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)
    assert torch.equal(together, augment_views(pixels, HASHES, 2, 7, STRONG))


def test_views_seeds_and_images_differ(pixels: torch.Tensor) -> None:
    one = augment_views(pixels, HASHES, 1, 7, STRONG)
    assert not torch.allclose(one, augment_views(pixels, HASHES, 2, 7, STRONG))
    assert not torch.allclose(one, augment_views(pixels, HASHES, 1, 8, STRONG))
    same = augment_views(pixels[:1].repeat(2, 1, 1, 1), ["a", "b"], 1, 7, STRONG)
    assert not torch.allclose(same[0], same[1])


def test_view_0_and_no_augmentation_leave_the_image(pixels: torch.Tensor) -> None:
    assert augment_views(pixels, HASHES, 0, 7, STRONG) is pixels
    assert augment_views(pixels, HASHES, 1, 7, Augment()) is pixels


@pytest.mark.parametrize("name", [field for field in Augment.model_fields if field != "flip_vertical"])
def test_each_change_changes_and_stays_in_range(pixels: torch.Tensor, name: str) -> None:
    value = True if name == "flip" else 15 if name == "rotate_degrees" else 0.3
    out = augment_views(pixels, HASHES, 1, 3, Augment(**{name: value}))
    assert out.shape == pixels.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert not torch.allclose(out, pixels)


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
