"""Lesions in the views of a training: the cache and the plain way see the same pictures under the same labels."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from neurodense.data.catalogue import scan_folder
from neurodense.errors import RecipeError
from neurodense.screen import Screen
from neurodense.training import execute
from neurodense.training.activations import Activations
from neurodense.training.batches import CachedSource, PlainSource
from neurodense.training.dataset import ImageRecords
from neurodense.training.network import new_network
from neurodense.training.precision import choose
from neurodense.training.recipe import STEPS, Recipe
from neurodense.training.run import train
from neurodense.training.variation import Augment, Lesions
from neurodense.training.views import Views

TUMOURS = ("pituitary", "glioma", "meningioma")
LESIONS = Lesions(share=0.5, healthy="notumor", classes=TUMOURS)
VIEWS = Views(3, Augment(flip=True, rotate_degrees=20), LESIONS)


@pytest.fixture(scope="module")
def images(phantoms: Path, tiny: Recipe) -> ImageRecords:
    catalogue = scan_folder(phantoms)
    return ImageRecords(phantoms, catalogue.classes, catalogue.records, tiny.preprocess, others=[TUMOURS])


def test_what_is_drawn_into_is_of_any_tumour_class(images: ImageRecords) -> None:
    indices = range(len(images))
    drawn = images.label_of(TUMOURS)
    assert images.allowed[drawn].tolist() == [name != "notumor" for name in images.classes]
    assert VIEWS.targets(images, indices, 0).tolist() == images.targets, "view 0 is the image itself"
    seen = set()
    for view in range(1, 5):
        for index, label in zip(indices, VIEWS.targets(images, indices, view).tolist(), strict=True):
            assert label == images.targets[index] or images.targets[index] == images.class_to_idx["notumor"]
            assert (label == drawn) == (VIEWS.lesion(images, index, view) is not None)
            seen.add(label)
    assert seen == {*range(4), drawn}
    bare = Views(3, VIEWS.augment)
    assert all(bare.targets(images, indices, view).tolist() == images.targets for view in range(3))


@pytest.mark.parametrize("cut", [0, STEPS.index("denseblock2")])
def test_the_cache_and_the_plain_way_see_the_same(images: ImageRecords, tiny: Recipe, tmp_path: Path, cut: int) -> None:
    torch.manual_seed(0)
    network, arithmetic = new_network(4, tiny).eval(), choose("cpu", "fp32")
    activations = Activations(tmp_path, network, tiny.preprocess, arithmetic, VIEWS, Screen())
    healthy = [i for i, target in enumerate(images.targets) if target == images.class_to_idx["notumor"]][:6]
    order = [healthy[:4], [0, *healthy[4:]]]
    views = (1, 2)
    wanted = [(i, view if cut else 0) for batch in order for i in batch for view in views]
    activations.fill([cut], images, wanted, batch=3, workers=0)
    cached = CachedSource(images, activations, cut)
    plain = PlainSource(images, network, cut, VIEWS, arithmetic, 0)
    labels = []
    for view in views:
        for (x, a), (y, b) in zip(cached.batches(order, view), plain.batches(order, view), strict=True):
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)
            assert a.tolist() == b.tolist()
            labels += a.tolist()
    assert images.label_of(TUMOURS) in labels


def test_a_training_draws_lesions(
    phantoms: Path, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "finish", lambda run, *_: run / "model")
    seen: list[int] = []
    targets = Views.targets

    def watched(self: Views, *arguments: object) -> torch.Tensor:
        found = targets(self, *arguments)  # type: ignore[arg-type]
        seen.extend(found.tolist())
        return found

    monkeypatch.setattr(Views, "targets", watched)
    given = {"groups": phantoms / "groups.csv", "cache": False, "workers": 0}
    train(phantoms, tmp_path / "run", recipe=tiny.model_copy(update={"lesions": LESIONS}), **given)  # type: ignore[arg-type]
    assert set(seen) == {0, 1, 2, 3, 4}
    unknown = LESIONS.model_copy(update={"healthy": "normal"})
    with pytest.raises(RecipeError, match="names 'normal'; the classes are"):
        train(phantoms, tmp_path / "other", recipe=tiny.model_copy(update={"lesions": unknown}), **given)  # type: ignore[arg-type]
