"""The one preprocessing against torchvision's, which the published recipe uses."""

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from neurodense.scans.preprocess import Preprocess
from neurodense.scans.read import read_scan
from neurodense.scans.scan import Scan


def scan_of(pixels):
    return Scan(np.asarray(pixels, dtype=np.float32), "made", 8)


def smooth(rows, columns, seed=0):
    """An 8-bit image with edges, gradients and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :columns] / max(rows, columns)
    head = np.hypot(y - 0.4, x - 0.5) < 0.35
    return np.clip(200 * head * (0.5 + y) + rng.integers(0, 40, (rows, columns)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(8, 8), (512, 300), (64, 64), (9, 2000), (65, 64)])
@pytest.mark.parametrize("size", [32, 64, 224])
def test_shape_type_and_range(shape, size):
    rng = np.random.default_rng(1)
    pixels = Preprocess(size=size)(scan_of(rng.integers(0, 2, shape)))  # nothing but black and white
    assert pixels.shape == (1, size, size)
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert np.ptp(pixels) > 0


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize("shape", [(50, 60), (60, 33), (225, 223), (512, 512), (301, 480)])
def test_equals_torchvision(tmp_path, shape, size):
    transforms = pytest.importorskip("torchvision.transforms")
    torch = pytest.importorskip("torch")
    image = Image.fromarray(smooth(*shape))
    image.save(tmp_path / "x.png")
    got = Preprocess(size=size)(read_scan(tmp_path / "x.png"))

    resize = transforms.Resize((size, size), transforms.InterpolationMode.BILINEAR, antialias=True)
    notebook = transforms.ToTensor()(resize(image))  # rounds to 8 bits after each of its two passes
    assert np.abs(got - notebook.numpy()).max() <= 1 / 255 + 1e-6
    exact = resize(torch.from_numpy(smooth(*shape)[None] / np.float32(255)))
    np.testing.assert_allclose(got, exact.numpy(), rtol=0, atol=2e-5)  # torch's weights are float32


def test_an_image_of_that_size_passes_untouched():
    scan = scan_of(smooth(224, 224) / 255)
    assert np.array_equal(Preprocess()(scan)[0], scan.pixels)
    turned = scan_of(smooth(224, 100) / 255)
    assert Preprocess()(turned).shape == (1, 224, 224)


def test_the_scan_is_left_as_it_was():
    scan = scan_of(smooth(50, 40) / 255)
    before = scan.pixels.copy()
    Preprocess(size=64)(scan)
    assert np.array_equal(scan.pixels, before)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_image_stays_flat(value):
    assert np.abs(Preprocess(size=97)(scan_of(np.full((200, 41), value))) - np.float32(value)).max() < 1e-6


def test_both_sides_are_stretched():
    pixels = np.zeros((40, 80), np.float32)
    pixels[:20, :40] = 1
    quarter = Preprocess(size=64)(scan_of(pixels))[0] > 0.5
    assert np.array_equal(quarter, np.pad(np.ones((32, 32), bool), ((0, 32), (0, 32))))


@pytest.mark.parametrize(
    "parameters",
    [
        {"sise": 224}, {"size": 31}, {"size": 1025}, {"size": 64.5}, {"size": "large"}, {"resize": "crop"},
        {"interpolation": "nearest"}, {"mean": 0.5},
    ],
)  # fmt: skip
def test_unknown_parameters_and_values_are_refused(parameters):
    with pytest.raises(ValidationError, match=next(iter(parameters))):
        Preprocess(**parameters)


def test_it_travels_as_json():
    preprocess = Preprocess(size=96)
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess
    assert preprocess.model_dump() == {"size": 96, "resize": "stretch", "interpolation": "bilinear"}
    with pytest.raises(ValidationError, match="frozen"):
        preprocess.size = 64
