"""The one preprocessing against torchvision's, which the published recipe uses."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from neurodense.inference.explain import enlarge
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
        {"interpolation": "nearest"}, {"mean": 0.5}, {"crop": "centre"}, {"intensity": "equalise"},
    ],
)  # fmt: skip
def test_unknown_parameters_and_values_are_refused(parameters):
    with pytest.raises(ValidationError, match=next(iter(parameters))):
        Preprocess(**parameters)


def test_it_travels_as_json():
    preprocess = Preprocess(size=96)
    assert Preprocess.model_validate_json(preprocess.model_dump_json()) == preprocess
    older = {"size": 96, "resize": "stretch", "interpolation": "bilinear"}
    assert preprocess.model_dump() == older | {"crop": "none", "intensity": "asis"}
    assert Preprocess.model_validate(older) == preprocess, "a card that was written before there was a choice"
    with pytest.raises(ValidationError, match="frozen"):
        preprocess.size = 64


# Cropped to the head


def head(rows=160, columns=200, at=(70, 120), radii=(50, 40), air=0.0):
    """A head on air, with a bright spot above and to the left of its centre."""
    y, x = np.mgrid[:rows, :columns]
    inside = np.hypot((y - at[0]) / radii[0], (x - at[1]) / radii[1]) < 1
    spot = np.hypot(y - at[0] + 0.4 * radii[0], x - at[1] + 0.4 * radii[1]) < 6
    return np.where(spot, 0.9, np.where(inside, 0.4, air)).astype(np.float32)


CROPPED = Preprocess(size=64, crop="head")


@pytest.mark.parametrize("air", [0.0, 0.12])
def test_what_is_around_the_head_does_not_matter(air):
    tight = head(120, 100, (60, 50), air=air)
    wide = np.pad(tight, ((30, 80), (10, 55)), constant_values=air)
    assert np.abs(CROPPED(scan_of(wide)) - CROPPED(scan_of(tight))).max() < 0.45, "at the edges"
    assert np.abs(CROPPED(scan_of(wide)) - CROPPED(scan_of(tight))).mean() < 0.02
    assert np.abs(Preprocess(size=64)(scan_of(wide)) - Preprocess(size=64)(scan_of(tight))).mean() > 0.1


@pytest.mark.parametrize(("radii", "spacing"), [((50, 50), None), ((20, 60), (3.0, 1.0)), ((60, 30), (0.5, 1.0))])
def test_proportions_are_kept(radii, spacing):
    """A head that is round in the patient is round in the input, whatever the picture's sides and spacing."""
    scan = replace(scan_of(head(150, 300, (75, 200), radii)), spacing=spacing)
    inside = CROPPED(scan)[0] > 0.2
    height, width = np.ptp(np.flatnonzero(inside.any(1))), np.ptp(np.flatnonzero(inside.any(0)))
    assert abs(height - width) <= 3
    assert 52 <= max(height, width) <= 63


def test_where_no_head_is_found_all_of_the_picture_is_shown():
    blank = scan_of(np.full((40, 100), 0.5))
    assert CROPPED.window(blank) == (-30, 0, 70, 100)
    assert np.array_equal(np.flatnonzero(CROPPED(blank)[0].mean(1) > 0.3), np.arange(19, 45))
    assert np.array_equal(Preprocess(size=64, intensity="percentile")(blank), Preprocess(size=64)(blank))


def test_the_window_is_what_the_input_was_made_of():
    scan = scan_of(head())
    top, left, bottom, right = CROPPED.window(scan)
    assert 0 <= top < bottom <= 160
    assert 0 <= left < right <= 200
    cut = scan_of(scan.pixels[top:bottom, left:right].copy())
    assert np.array_equal(CROPPED(scan), Preprocess(size=64)(cut))
    assert Preprocess(size=64).window(scan) == (0, 0, 160, 200)


@pytest.mark.parametrize(("rows", "columns", "at"), [(160, 200, (70, 120)), (90, 70, (45, 35)), (300, 80, (230, 20))])
def test_a_map_of_the_input_lies_right_on_the_scan(rows, columns, at):
    """Also where the window reaches beyond the picture."""
    scan = scan_of(head(rows, columns, at))
    seen = CROPPED(scan)[0]
    back = enlarge((seen > 0.6).astype(np.float32), scan.pixels.shape, CROPPED.window(scan))
    assert back.shape == scan.pixels.shape
    spot = scan.pixels > 0.6
    assert np.argwhere(back > 0.5).mean(0) - np.argwhere(spot).mean(0) == pytest.approx(0, abs=1)
    assert np.mean((back > 0.5) == spot) > 0.99
    top, left, bottom, right = CROPPED.window(scan)
    outside = np.ones_like(spot)
    outside[max(top, 0) : bottom, max(left, 0) : right] = False
    assert not back[outside].any()


def test_percentiles_take_out_the_window():
    """Darker, paler or behind haze: the input is the same, and uses the whole range."""
    even = Preprocess(size=64, crop="head", intensity="percentile")
    pixels = smooth(200, 180) / np.float32(255)
    wanted = even(scan_of(pixels))
    assert wanted.min() == 0
    assert wanted.max() > 0.99
    for factor, level in ((0.3, 0.0), (0.6, 0.2), (0.8, 0.0)):
        assert np.abs(even(scan_of(pixels * factor + level)) - wanted).mean() < 0.01
    block = scan_of(np.pad(np.full((90, 90), 0.6), 40))
    assert np.array_equal(even(block), CROPPED(block)), "one level has no range"
    whole = Preprocess(size=64, intensity="percentile")(scan_of(pixels * 0.3))
    assert np.abs(whole - Preprocess(size=64)(scan_of(pixels))).mean() < 0.05
