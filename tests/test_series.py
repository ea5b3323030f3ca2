"""Series: which files belong together, in what order, and that their slices can be compared."""

import shutil
import tracemalloc

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from test_dicom import dataset, saved, written

from neurodense.errors import ScanError
from neurodense.scans import dicom
from neurodense.scans.dicom import open_dicom
from neurodense.scans.series import MEASURED, find_series

AXIAL, CORONAL, SAGITTAL = [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def stack(folder, count=5, axes=AXIAL, step=(0, 0, 4), names=None, uid=None, first=0, **elements):
    """Slices whose values are `first` + their number in the stack, saved in another order than they lie."""
    folder.mkdir(exist_ok=True)
    uid = uid or generate_uid()
    for k in np.random.default_rng(count).permutation(count).tolist():
        pixels = np.full((10, 12), first + k, np.uint16)
        pixels[0, 0] = 4000
        ds = dataset(
            pixels, SeriesInstanceUID=uid, ImageOrientationPatient=list(axes), PixelSpacing=[0.5, 0.75],
            ImagePositionPatient=[float(k * part) for part in step], **elements,
        )  # fmt: skip
        saved(folder / (names[k] if names else f"{(k * 7) % count:03}_{first}.dcm"), ds)
    return sorted(folder.iterdir())


def numbers(series):
    """The number that each slice carries, in order, from its stored values."""
    return [int(one.file.values(one.frame)[0][5, 5]) for one in series.slices]


def test_slices_lie_along_their_normal_whatever_their_names(tmp_path):
    paths = stack(tmp_path / "a", 9)
    (series,), errors = find_series(reversed(paths))
    assert not errors
    assert numbers(series) == list(range(9))
    assert len(series) == 9
    assert series.source == str(tmp_path / "a")
    assert series.gap == pytest.approx(4)
    assert sorted(series.paths) == paths
    scan = series.read(2)
    assert scan.source == f"{tmp_path / 'a'}#3"
    assert (scan.spacing, scan.orientation, scan.plane) == ((0.5, 0.75), "LP", "axial")
    assert scan.notes == ()


@pytest.mark.parametrize(
    ("axes", "letters", "plane"),
    [
        (AXIAL, "LP", "axial"),
        (CORONAL, "LI", "coronal"),
        (SAGITTAL, "PI", "sagittal"),
        ([-1, 0, 0, 0, -1, 0], "RA", "axial"),
        ([0.98, 0.2, 0, -0.2, 0.98, 0], "LP", "axial"),
        ([0.7071, 0.7071, 0, -0.7071, 0.7071, 0], "LP", "axial"),
        ([2, 0, 0, 0, 0, -2], "LI", "coronal"),
        ([1, 0, 0, 1, 0, 0], None, None),
        ([0, 0, 0, 0, 0, 0], None, None),
    ],
)
def test_orientation_letters(tmp_path, axes, letters, plane):
    (path,) = stack(tmp_path / "a", 1, axes=axes)
    scan = open_dicom(path).read()
    assert (scan.orientation, scan.plane) == (letters, plane)


def test_spacing(tmp_path):
    pixels = np.ones((9, 9), np.uint8)
    scan = open_dicom(written(tmp_path / "a", pixels, ImagerPixelSpacing=[0.1, 0.2])).read()
    assert (scan.spacing, scan.notes) == ((0.1, 0.2), ("spacing as measured at the detector",))
    scan = open_dicom(written(tmp_path / "b", pixels, PixelSpacing=[0.3, 0.4], ImagerPixelSpacing=[0.1, 0.2])).read()
    assert (scan.spacing, scan.notes) == ((0.3, 0.4), ())
    assert open_dicom(written(tmp_path / "c", pixels, PixelSpacing=[0, 0.4])).read().spacing is None


def test_a_localiser_falls_into_its_planes(tmp_path):
    uid = generate_uid()
    for first, axes, step in ((0, AXIAL, (0, 0, 5)), (10, CORONAL, (0, 5, 0)), (20, SAGITTAL, (5, 0, 0))):
        paths = stack(tmp_path / "a", 3, axes=axes, step=step, uid=uid, first=first, SeriesNumber=1)
    series, _ = find_series(paths)
    assert sorted(tuple(sorted(numbers(one))) for one in series) == [(0, 1, 2), (10, 11, 12), (20, 21, 22)]
    assert sorted(one.source for one in series) == [f"{tmp_path / 'a'} [{k}]" for k in (1, 2, 3)]


@pytest.mark.parametrize(
    "difference",
    [
        {"EchoTime": 90}, {"EchoNumbers": 2}, {"TemporalPositionIdentifier": 2}, {"ImageType": ["O", "P", "PHASE"]},
        {"DiffusionBValue": 1000.0}, {"SeriesInstanceUID": "1.2.3"},
    ],
)  # fmt: skip
def test_what_differs_in_kind_is_another_volume(tmp_path, difference):
    uid = generate_uid()
    common = {"EchoTime": 20, "EchoNumbers": 1, "TemporalPositionIdentifier": 1, "DiffusionBValue": 0.0}
    stack(tmp_path / "a", 4, uid=uid, ImageType=["O", "P", "M"], **common)
    for path in stack(tmp_path / "b", 4, uid=uid, first=10, **({"ImageType": ["O", "P", "M"]} | common)):
        ds = pydicom.dcmread(path)
        for keyword, value in difference.items():
            setattr(ds, keyword, value)
        saved(tmp_path / "a" / f"other {path.name}", ds)
    series, _ = find_series(sorted((tmp_path / "a").iterdir()))
    assert sorted(map(numbers, series)) == [[0, 1, 2, 3], [10, 11, 12, 13]]


def test_slices_at_one_place_make_volumes_in_turn(tmp_path):
    """A dynamic series that names no time: of each place the lower instance number is of the first volume."""
    uid = generate_uid()
    for time in range(3):
        stack(tmp_path / "a", 4, uid=uid, first=10 * time, InstanceNumber=time + 1)
    series, _ = find_series(sorted((tmp_path / "a").iterdir()))
    assert list(map(numbers, series)) == [[10 * time + k for k in range(4)] for time in range(3)]


def test_copies_are_left_out(tmp_path):
    paths = stack(tmp_path / "a", 3)
    for path in paths[:2]:
        shutil.copy(path, path.with_name(f"copy {path.name}"))
    (series,), _ = find_series(sorted((tmp_path / "a").iterdir()))
    assert numbers(series) == [0, 1, 2]
    assert series.read(0).notes == ("2 copies of its files were left out",)


def test_without_geometry_instance_numbers_and_then_names_count(tmp_path):
    uid = generate_uid()
    for k, name in enumerate(["c 1", "b 2", "a 10"]):
        pixels = np.full((9, 9), k, np.uint16)
        written(tmp_path / name, pixels, SeriesInstanceUID=uid, InstanceNumber=k + 1)
    (series,), _ = find_series(tmp_path.iterdir())
    assert numbers(series) == [0, 1, 2]
    assert series.gap is None
    folder = tmp_path / "names"
    folder.mkdir()
    for k, name in enumerate(["i 1", "i 2", "i 10", "i 11"]):
        written(folder / name, np.full((9, 9), k, np.uint16), SeriesInstanceUID=uid)
    (series,), _ = find_series(folder.iterdir())
    assert numbers(series) == [0, 1, 2, 3]


def test_missing_slices_are_noted(tmp_path):
    paths = stack(tmp_path / "a", 8)
    places = {open_dicom(path).facts[0].place: path for path in paths}
    places[12.0].unlink()
    (series,), _ = find_series(sorted((tmp_path / "a").iterdir()))
    assert series.notes == ("1 steps between slices are not the usual 4 mm; slices may be missing",)


def test_names_of_series(tmp_path, monkeypatch):
    stack(tmp_path / "a", 2, SeriesNumber=4)
    stack(tmp_path / "a", 3, first=100, SeriesNumber=12)
    stack(tmp_path / "b", 2, first=200)
    lone = written(tmp_path / "lone.dcm", np.ones((9, 9), np.uint16))
    monkeypatch.chdir(tmp_path)
    files = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    series, _ = find_series(files)
    assert {one.source: len(one) for one in series} == {
        "a [series 4]": 2,
        "a [series 12]": 3,
        "b": 2,
        lone.name: 1,
    }
    assert [one.read(0).source for one in series if len(one) == 1] == ["lone.dcm"]


def test_one_bad_file_is_reported_and_the_rest_is_done(tmp_path):
    paths = stack(tmp_path / "a", 3)
    bad = tmp_path / "a" / "zz.dcm"
    bad.write_bytes(paths[0].read_bytes()[:-40])
    (series,), ((path, error),) = find_series([*paths, bad])
    assert len(series) == 3
    assert path == bad
    assert isinstance(error, ScanError)
    assert "truncated" in str(error)


def test_no_pixels_are_decoded_to_find_series(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "stored_values", None)
    (series,), errors = find_series(stack(tmp_path / "a", 4))
    assert (len(series), errors) == (4, [])


# ---- grey ----------------------------------------------------------------------------------------------------------


def test_one_scale_for_all_slices(tmp_path, rng):
    """Without windows: percentiles over the values of all slices, so that a dark slice stays dark."""
    volume = (rng.random((MEASURED, 10, 12)) * np.linspace(10, 4000, MEASURED)[:, None, None]).astype(np.uint16)
    uid = generate_uid()
    for k, pixels in enumerate(volume):
        written(
            tmp_path / f"{k:03}", pixels, SeriesInstanceUID=uid, ImageOrientationPatient=AXIAL,
            ImagePositionPatient=[0, 0, 3 * k],
        )  # fmt: skip
    (series,), _ = find_series(tmp_path.iterdir())
    low, high = np.percentile(volume.astype(float), [0.5, 99.5])
    for k in (0, 7, MEASURED - 1):
        np.testing.assert_allclose(series.read(k).pixels, np.clip((volume[k] - low) / (high - low), 0, 1), atol=1e-6)


def test_windows_of_a_series_are_their_median(tmp_path):
    uid = generate_uid()
    for k, (centre, width) in enumerate([(100, 200), (120, 210), (900, 4000)]):
        written(
            tmp_path / str(k), np.arange(400, dtype=np.uint16).reshape(20, 20), SeriesInstanceUID=uid,
            WindowCenter=centre, WindowWidth=width, VOILUTFunction="LINEAR_EXACT", InstanceNumber=k,
        )  # fmt: skip
    (series,), _ = find_series(tmp_path.iterdir())
    expected = np.clip((np.arange(400).reshape(20, 20) - 120) / 210 + 0.5, 0, 1)
    for k in range(3):
        np.testing.assert_allclose(series.read(k).pixels, expected, atol=1e-6)
    assert series.notes == ("its slices have windows of their own; all are shown with the median one",)


def test_a_damaged_slice_does_not_spoil_the_others(tmp_path):
    paths = stack(tmp_path / "a", 4)
    (series,), _ = find_series(paths)
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    results = []
    for k in range(4):
        try:
            results.append(series.read(k))
        except ScanError as error:
            results.append(str(error))
    assert sum(isinstance(one, str) for one in results) == 1
    assert next(one for one in results if isinstance(one, str)).startswith(str(paths[1]))


# ---- many frames ---------------------------------------------------------------------------------------------------


def enhanced(path, order, kinds=None):
    """An enhanced object whose frame k lies at place order[k]; its orientation and spacing are shared."""
    frames = np.stack([np.full((10, 12), place, np.uint16) for place in order])
    ds = dataset(frames)
    shared, measures, turned = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.9, 0.8]
    turned.ImageOrientationPatient = AXIAL
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turned]
    ds.SharedFunctionalGroupsSequence = [shared]
    own = []
    for k, place in enumerate(order):
        item, where, values, content, voi = Dataset(), Dataset(), Dataset(), Dataset(), Dataset()
        where.ImagePositionPatient = [0, 0, 2 * place]
        values.RescaleSlope, values.RescaleIntercept = 2, k
        content.TemporalPositionIndex = kinds[k] if kinds else 1
        voi.WindowCenter, voi.WindowWidth, voi.VOILUTFunction = 50, 100, "LINEAR_EXACT"
        item.PlanePositionSequence, item.PixelValueTransformationSequence = [where], [values]
        item.FrameContentSequence, item.FrameVOILUTSequence = [content], [voi]
        own.append(item)
    ds.PerFrameFunctionalGroupsSequence = own
    return saved(path, ds)


def test_frames_of_an_enhanced_object_are_sorted(tmp_path):
    order = [3, 0, 4, 1, 2]
    (series,), _ = find_series([enhanced(tmp_path / "x.dcm", order)])
    assert series.source == str(tmp_path / "x.dcm")
    assert series.paths == (tmp_path / "x.dcm",)
    assert series.gap == pytest.approx(2)
    for place in range(5):
        scan = series.read(place)
        value = 2 * place + order.index(place)
        assert scan.source == f"{tmp_path / 'x.dcm'}#{place + 1}"
        assert (scan.spacing, scan.orientation) == ((0.9, 0.8), "LP")
        np.testing.assert_allclose(scan.pixels, value / 100, atol=1e-6)


def test_times_of_an_enhanced_object_are_volumes(tmp_path):
    series, _ = find_series([enhanced(tmp_path / "x.dcm", [0, 1, 2, 0, 1, 2], [1, 1, 1, 2, 2, 2])])
    assert [one.source for one in series] == [f"{tmp_path / 'x.dcm'} [{k}]" for k in (1, 2)]
    assert [[one.frame for one in volume.slices] for volume in series] == [[0, 1, 2], [3, 4, 5]]


def test_frames_of_a_classic_object_stay_in_order(tmp_path):
    frames = np.arange(4, dtype=np.uint16)[:, None, None] * np.ones((4, 9, 9), np.uint16)
    path = written(tmp_path / "x", frames, ImageOrientationPatient=AXIAL, ImagePositionPatient=[0, 0, 1])
    (series,), _ = find_series([path])
    assert numbers(series) == [0, 1, 2, 3]


def test_one_frame_of_many_is_read_alone(tmp_path):
    """40 MB of pixels: the memory that a frame takes does not grow with their number."""
    frames = np.zeros((160, 256, 512), np.uint16)
    frames += np.arange(160, dtype=np.uint16)[:, None, None]
    path = written(tmp_path / "x", frames, WindowCenter=80, WindowWidth=160, VOILUTFunction="LINEAR_EXACT")
    del frames
    open_dicom(path).read(0)
    tracemalloc.start()
    (series,), _ = find_series([path])
    assert tracemalloc.get_traced_memory()[1] < 1e6
    for k in (0, 77, 159):
        np.testing.assert_allclose(series.read(k).pixels, k / 160, atol=1e-6)
    assert tracemalloc.get_traced_memory()[1] < 8e6, "one frame is 0.26 MB as stored, 1 MB as float64"
    tracemalloc.stop()


# ---- a real head ---------------------------------------------------------------------------------------------------


def test_a_real_head(shared_data):
    paths = sorted((shared_data / "dicom-t1").glob("*.dcm"))
    (series,), errors = find_series(reversed(paths))
    assert not errors
    assert list(series.paths) == paths, "names and places agree in this series"
    assert series.gap == pytest.approx(16 / 3, abs=1e-3)
    stored = np.stack([pydicom.dcmread(path).pixel_array for path in paths]).astype(float)
    low, high = np.percentile(stored, [0.5, 99.5])
    for k in (0, 12, 23):
        scan = series.read(k)
        np.testing.assert_allclose(scan.pixels, np.clip((stored[k] - low) / (high - low), 0, 1), atol=1e-6)
        assert (scan.orientation, scan.plane, scan.bit_depth) == ("LP", "axial", 16)
        assert scan.spacing == pytest.approx((0.66667, 0.69999), abs=1e-5)
    head = np.asarray(Image.fromarray(series.read(20).pixels).resize((64, 64)))
    left, right = head[:, :32], head[:, :31:-1]
    assert np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.8, "the two sides of an axial slice mirror each other"
