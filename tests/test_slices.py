"""The choice of slices: its texts, and what `brain` takes of made and of real volumes."""

import numpy as np
import pytest

from neurodense.errors import DataError
from neurodense.scans.slices import Slices, brain_slices, otsu
from neurodense.scans.study import read_study


def numbers(text, total, brain=range(0)):
    return list(Slices.parse(text).choose(total, lambda: brain))


@pytest.mark.parametrize(
    ("text", "total", "wanted"),
    [
        ("all", 3, [1, 2, 3]),
        (" All ", 1, [1]),
        ("middle", 24, [12]),
        ("middle", 155, [78]),
        ("middle", 1, [1]),
        ("every:10", 31, [1, 11, 21, 31]),
        ("every:1", 3, [1, 2, 3]),
        ("every:99", 3, [1]),
        ("range:2-4", 24, [2, 3, 4]),
        ("range:7-7", 24, [7]),
        ("range:22-90", 24, [22, 23, 24]),
    ],
)
def test_what_each_text_takes(text, total, wanted):
    assert numbers(text, total) == wanted
    assert str(Slices.parse(text)) == text.strip().lower()


def test_brain_asks_for_the_brain():
    assert numbers("brain", 24, range(3, 6)) == [3, 4, 5]
    assert Slices() == Slices.parse("brain")


@pytest.mark.parametrize(
    "text", ["", "some", "every", "every:", "every:0", "every:-1", "every:1.5", "range:3", "range:0-5", "range:5-3",
             "range:a-b", "range:1-2-3", "middle:2", "5", "every:9999999"],
)  # fmt: skip
def test_what_is_no_choice(text):
    with pytest.raises(DataError, match=r"slices is .*(allowed are brain, all, middle|must be 1 or more|1 <= A <= B)"):
        Slices.parse(text)


def test_a_range_beyond_the_volume():
    with pytest.raises(DataError, match="range:30-40 begins beyond the last of the 24 slices"):
        numbers("range:30-40", 24)


def test_otsu_leaves_the_least_variance_within_the_two_sides():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(0.2, 0.05, 5000), rng.normal(0.7, 0.1, 3000)]).clip(0, 1)
    histogram = np.histogram(values, 256, (0, 1))[0]

    def within(edge):
        low, high = values[values < edge], values[values >= edge]
        return low.size * low.var() + high.size * high.var()

    edges = np.arange(26, 230) / 256
    assert otsu(histogram) == pytest.approx(edges[np.argmin([within(edge) for edge in edges])], abs=2 / 256)


def test_otsu_in_a_gap_is_its_middle():
    histogram = np.zeros(256, dtype=np.int64)
    histogram[[9, 199]] = 100
    assert otsu(histogram) == (10 + 199) / 2 / 256


def discs(radii, level=0.5, side=64):
    """Slices with a disc of each radius in dim noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] - side / 2
    noise = rng.rayleigh(0.02, (len(radii), side, side))
    return [
        np.where(x**2 + y**2 < radius**2, level, 0).astype(np.float32) + one.astype(np.float32)
        for radius, one in zip(radii, noise, strict=True)
    ]


def test_brain_takes_the_slices_around_the_largest():
    radii = [0, 5, 15, 22, 25, 26, 25, 23, 19, 17, 6, 0, 0, 24]  # half of the largest area is a radius of 18.4
    assert list(brain_slices(discs(radii))) == [4, 5, 6, 7, 8, 9]
    bright = discs(radii)
    for pixels in bright:
        pixels[:3, :3] = 1  # a bright spot in the corner moves Otsu's threshold, not the choice
    assert list(brain_slices(bright)) == [4, 5, 6, 7, 8, 9]


def test_brain_stops_170_mm_below_the_top():
    stack = discs([20] * 50)
    assert list(brain_slices(stack)) == list(range(1, 51))
    assert list(brain_slices(stack, 5.0)) == list(range(16, 51))
    assert list(brain_slices(stack, 1.0)) == list(range(1, 51))
    assert list(brain_slices(stack, 500.0)) == [50]


def test_brain_of_black_and_of_one():
    assert list(brain_slices([np.zeros((8, 8), np.float32)] * 3)) == [1, 2, 3]
    assert list(brain_slices(discs([20]))) == [1]


@pytest.mark.parametrize(("patient", "wanted"), [("01", range(1, 21)), ("02", range(1, 20)), ("03", range(1, 20))])
def test_brain_of_real_volumes_holds_every_slice_of_the_tumour(shared_data, patient, wanted):
    folder = shared_data / "nifti-glioblastoma" / patient
    study = read_study(folder / "Pre_Scan_T1.nii.gz")
    assert study.total == 24
    assert [int(scan.source.rpartition("#")[2]) for scan in study.scans] == list(wanted)
    mask = read_study(folder / "Pre_Mask.nii.gz", "all")
    tumour = {number for number, scan in enumerate(mask.scans, 1) if scan.pixels.any()}
    assert tumour <= set(wanted)
    assert len(tumour) >= 6
