"""The head is found whatever lies around it, and nothing is a head where there is none."""

from pathlib import Path

import numpy as np
import pytest

from neurodense.scans.head import find_head
from neurodense.scans.read import read_scan


def picture(height=200, width=240, at=(90, 130), radii=(60, 45), seed=0):
    """float32 (height, width): scalp, bone and brain around `at`, on air; and the box around it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    radius = np.hypot((y - at[0]) / radii[0], (x - at[1]) / radii[1])
    head = np.where(radius < 0.8, 0.45, np.where(radius < 0.9, 0.03, 0.8)) * (radius < 1)
    pixels = np.clip(head + rng.normal(0, 0.01, head.shape), 0, 1).astype(np.float32)
    return pixels, (at[0] - radii[0], at[1] - radii[1], at[0] + radii[0], at[1] + radii[1])


def letters(pixels):
    pixels[4:14:2, 6:50:3] = 1
    pixels[-10:-6, -60:-8] = 1


def frame(pixels):
    pixels[:3] = pixels[-3:] = pixels[:, :3] = pixels[:, -3:] = 1


def haze(pixels):
    pixels += 0.15 * (1 - pixels)


def dark(pixels):
    pixels *= 0.2


def ring_of_the_coil(pixels):
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    ring = np.abs(np.hypot((y - 100) / 95, (x - 130) / 105) - 1) < 0.02
    pixels[ring] = 0.5


@pytest.mark.parametrize("style", [None, letters, frame, haze, dark, ring_of_the_coil])
def test_the_box_is_that_of_the_head(style):
    pixels, wanted = picture()
    if style:
        style(pixels)
    head = find_head(pixels)
    assert np.abs(np.subtract(head.box, wanted)).max() <= 7, "two pixels of 64"
    assert head.air == pytest.approx(0.15 if style is haze else 0, abs=0.03)
    low, high = head.levels
    assert head.air - 0.02 <= low < high <= pixels.max() + 1e-6


@pytest.mark.parametrize("shape", [(64, 64), (500, 300), (1200, 900)])
def test_any_size(shape):
    at, radii = (shape[0] // 2, shape[1] // 2), (shape[0] // 3, shape[1] // 3)
    pixels, wanted = picture(*shape, at, radii)
    assert np.abs(np.subtract(find_head(pixels).box, wanted)).max() <= 3 * max(shape) / 64


def test_a_head_that_fills_the_picture_is_found_up_to_the_frame():
    pixels, _ = picture(128, 128, (64, 64), (64, 64))
    assert np.abs(np.subtract(find_head(pixels).box, (0, 0, 128, 128))).max() <= 4


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((50, 60)), np.ones((50, 60)), np.full((200, 41), 0.3), np.zeros((1, 1)), np.pad(np.ones((9, 9)), 60)],
    ids=["black", "white", "grey", "one pixel", "a blot"],
)
def test_where_there_is_no_head(pixels):
    assert find_head(pixels.astype(np.float32)) is None


def test_real_heads_are_found_again_in_a_wider_picture(shared_data: Path):
    """Black or the picture's own air around a real picture moves the box along and changes nothing else."""
    files = [path for name in ("glioma", "notumor") for path in sorted((shared_data / "brain-mri" / name).iterdir())]
    files += sorted((shared_data / "tumour-type-unknown").iterdir())
    apart = []
    for path in files[:: len(files) // 40]:
        pixels = read_scan(path).pixels
        height, width = pixels.shape
        head = find_head(pixels)
        wide = np.pad(pixels, ((height // 4, 0), (width // 3, width // 5)), constant_values=head.air)
        again = find_head(wide)
        moved = np.subtract(again.box, (height // 4, width // 3) * 2) - head.box
        apart.append(np.abs(moved).max() / max(height, width))
        area = (head.box[2] - head.box[0]) * (head.box[3] - head.box[1]) / pixels.size
        assert 0.15 < area <= 1
    assert np.mean(np.array(apart) < 0.06) >= 0.9
