"""The front door: what each kind of input becomes, whatever its name; what folders hold; what training takes."""

import os
import sys

import numpy as np
import pytest
from conftest import head_slices, write_dicom_slice, write_volume
from PIL import Image

from neurodense.data.catalogue import scan_folder
from neurodense.errors import DataError, ScanError
from neurodense.scans.read import read_scan
from neurodense.scans.series import Series
from neurodense.scans.study import Failure, find_studies, read_image, read_study


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 30), dtype=np.uint8)).save(path, format="PNG")
    return path


def series(folder, voxels, name="IM{:04d}", uid="1.2.3", order=None):
    order = range(len(voxels)) if order is None else order
    return [
        write_dicom_slice(folder / name.format(k), voxels[index], 3.0 * index, uid, k + 1)
        for k, index in enumerate(order)
    ]


def numbers(study):
    return [int(scan.source.rpartition("#")[2]) for scan in study.scans]


# ---- one input ---------------------------------------------------------------------------------------------------


def test_a_picture_is_one_slice_whatever_is_asked_for(tmp_path):
    path = picture(tmp_path / "a.png")
    for slices in ("brain", "range:30-40", "every:3"):
        study = read_study(str(path), slices)
        assert (study.source, study.total, study.is_volume) == (str(path), 1, False)
        assert study.scans[0].source == str(path)
        np.testing.assert_array_equal(study.scans[0].pixels, read_scan(path).pixels)


def test_a_volume_gives_the_slices_that_are_asked_for(tmp_path):
    voxels = head_slices(12)
    path = write_volume(tmp_path / "v.nii.gz", voxels)
    whole = read_study(path, "all")
    assert whole.is_volume
    assert numbers(whole) == list(range(1, 13))
    assert whole.scans[4].source == f"{path}#5"
    for text, wanted in (("brain", range(2, 12)), ("middle", [6]), ("every:5", [1, 6, 11]), ("range:3-4", [3, 4])):
        study = read_study(path, text)
        assert numbers(study) == list(wanted)
        assert study.total == 12
        for scan, number in zip(study.scans, wanted, strict=True):
            np.testing.assert_array_equal(scan.pixels, whole.scans[number - 1].pixels)
    with pytest.raises(ScanError, match=r"v\.nii\.gz: range:13-14 begins beyond the last of the 12 slices"):
        read_study(path, "range:13-14")
    with pytest.raises(DataError, match="allowed are brain"):
        read_study(path, "some")


def test_a_dicom_series_and_a_nifti_volume_of_one_head_are_one_study(tmp_path):
    voxels = head_slices(12)
    series(tmp_path / "d", voxels, order=[3, 1, 2, 0, 11, 10, 9, 8, 7, 6, 5, 4])
    (found,) = find_studies([tmp_path / "d"])
    assert isinstance(found, Series)
    ours, theirs = read_study(found), read_study(write_volume(tmp_path / "v.nii", voxels))
    assert numbers(ours) == numbers(theirs) == list(range(2, 12))
    assert ours.source == str(tmp_path / "d")
    for one, other in zip(ours.scans, theirs.scans, strict=True):
        assert one.spacing == pytest.approx(other.spacing)
        assert one.orientation == other.orientation == "LP"
        assert np.corrcoef(one.pixels.ravel(), other.pixels.ravel())[0, 1] > 0.99  # other windows, the same picture


def test_a_dicom_file_is_a_picture_or_a_volume_by_its_frames(tmp_path):
    voxels = head_slices(6)
    one = read_study(write_dicom_slice(tmp_path / "one", voxels[2], 0))
    assert (one.total, one.scans[0].source, one.scans[0].format) == (1, str(tmp_path / "one"), "DICOM")
    many = read_study(write_dicom_slice(tmp_path / "many", voxels, None))
    assert (many.total, numbers(many)) == (6, [2, 3, 4, 5])
    np.testing.assert_array_equal(many.scans[1].pixels, one.scans[0].pixels)


@pytest.mark.parametrize("name", ["x", "x.png", "x.dcm", "x.nii", "x.nii.gz", "x.txt"])
def test_the_content_decides_and_not_the_name(tmp_path, name):
    voxels = head_slices(4)
    path = tmp_path / name
    for make, kind, total in (
        (lambda: write_dicom_slice(tmp_path / "d", voxels[1], 0), "DICOM", 1),
        (lambda: write_volume(tmp_path / "v.nii", voxels), "NIfTI", 4),
        (lambda: write_volume(tmp_path / "v.nii.gz", voxels), "NIfTI", 4),
        (lambda: picture(tmp_path / "p.png"), "", 1),
    ):
        make().replace(path)
        study = read_study(path, "all")
        assert study.total == total
        assert study.source == str(path)
        assert kind in study.scans[0].format
        if total == 1:
            np.testing.assert_array_equal(read_image(path, "me").pixels, study.scans[0].pixels)
            assert read_image(path, "me").source == "me"


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.nii", b"", "a.nii is empty"),
        ("a.nii.gz", b"no image", "shorter than a NIfTI header"),
        ("a.nii.gz", b"\x1f\x8b\x08", "cut off"),
        ("a.png", b"no image", "a.png is no JPEG"),
        ("a.dcm", b"no image", "a.dcm is no"),
        ("a", b"no image", "a is no"),
        ("gone.nii", None, "gone.nii does not exist"),
        ("gone.dcm", None, "gone.dcm does not exist"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path, name, content, part):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    for read in (read_study, read_image):
        with pytest.raises(ScanError) as caught:
            read(path)
        assert part in caught.value.message


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes in folders there")
@pytest.mark.parametrize("name", ["pipe", "pipe.nii", "pipe.dcm"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ScanError):
        read_study(tmp_path / name)
    find_studies([tmp_path, tmp_path / name])


def test_a_series_with_a_damaged_slice_fails_by_name(tmp_path):
    files = series(tmp_path / "d", head_slices(4))
    (found,) = find_studies([tmp_path / "d"])
    files[2].write_bytes(files[2].read_bytes()[:-3000])
    with pytest.raises(ScanError, match="IM0002"):
        read_study(found)


def test_a_volume_that_is_too_large_to_be_held_names_a_way(tmp_path, monkeypatch):
    path = write_volume(tmp_path / "v.nii", head_slices(12))
    monkeypatch.setattr("neurodense.scans.study.MAX_VOXELS", 64 * 64 * 3)
    for slices in ("brain", "all", "range:1-4"):
        with pytest.raises(ScanError, match=r"(12|4) slices of 64 x 64 pixels .* --slices middle or every:N"):
            read_study(path, slices)
    assert len(read_study(path, "every:4").scans) == 3


# ---- folders -----------------------------------------------------------------------------------------------------


def test_what_a_folder_holds(tmp_path):
    voxels = head_slices(3)
    picture(tmp_path / "b.png")
    picture(tmp_path / "notes.txt").write_text("no image")
    picture(tmp_path / ".hidden.png")
    write_volume(tmp_path / "a.nii.gz", voxels)
    series(tmp_path, voxels, "z{:04d}", "1.2.7")
    series(tmp_path, voxels, "y{:04d}", "1.2.8")
    series(tmp_path / "deep" / "er", voxels, "1.2.840.{}")
    picture(tmp_path / "deep" / "c.jpg")
    (tmp_path / "deep" / "broken.dcm").write_bytes(b"nothing")
    (tmp_path / "deep" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "empty").mkdir()
    found = find_studies([tmp_path / "deep" / "c.jpg", tmp_path, tmp_path / "gone.png", tmp_path / "empty"])
    assert [one if not isinstance(one, Series) else (one.source, len(one)) for one in found[:-1]] == [
        tmp_path / "deep" / "c.jpg",
        tmp_path / "a.nii.gz",
        tmp_path / "b.png",
        (f"{tmp_path} [series 8]", 3),
        (f"{tmp_path} [series 7]", 3),
        tmp_path / "deep" / "broken.dcm",
        tmp_path / "deep" / "c.jpg",
        (str(tmp_path / "deep" / "er"), 3),
        tmp_path / "gone.png",
    ]
    assert isinstance(found[-1], Failure)
    assert (
        "holds no image; files with .apng, " in found[-1].message
        or "holds no image; files with .bmp, " in found[-1].message
    )
    assert ".nii.gz" in found[-1].message


def test_dicom_files_that_are_named_stand_alone(tmp_path):
    files = series(tmp_path, head_slices(3))
    found = find_studies(files)
    assert [(one.source, len(one)) for one in found] == [(str(path), 1) for path in files]


def test_objects_that_are_no_pictures_are_reported_once_each(tmp_path):
    series(tmp_path / "d", head_slices(3))
    pydicom = pytest.importorskip("pydicom")
    report = pydicom.dcmread(tmp_path / "d" / "IM0000")
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    del report.PixelData
    for name in ("SR1", "SR2"):
        pydicom.dcmwrite(tmp_path / "d" / name, report)
    found = find_studies([tmp_path])
    assert [type(one) for one in found] == [Series, Failure, Failure]
    assert [one.source for one in found[1:]] == [str(tmp_path / "d" / name) for name in ("SR1", "SR2")]
    assert "without an image" in found[1].message


# ---- training ----------------------------------------------------------------------------------------------------


def test_training_takes_single_slices_of_every_format(tmp_path):
    voxels = head_slices(6)
    picture(tmp_path / "a" / "1.png")
    write_dicom_slice(tmp_path / "a" / "2.dcm", voxels[1], 0)
    write_dicom_slice(tmp_path / "a" / "IM3", voxels[2], 0, number=2)
    write_volume(tmp_path / "b" / "1.nii", voxels[1:2])
    write_volume(tmp_path / "b" / "2.nii.gz", voxels)
    write_dicom_slice(tmp_path / "b" / "3.dcm", voxels, None)
    catalogue = scan_folder(tmp_path)
    assert [record.path for record in catalogue.records] == ["a/1.png", "a/2.dcm", "a/IM3", "b/1.nii"]
    reasons = dict(catalogue.unreadable)
    assert list(reasons) == ["b/2.nii.gz", "b/3.dcm"]
    for path, reason in reasons.items():
        assert reason.startswith(f"{path} is a volume of 6 slices; training takes single slices")


def test_the_training_set_reads_what_the_catalogue_found(tmp_path):
    pytest.importorskip("torch")
    from neurodense.scans.preprocess import Preprocess
    from neurodense.training.dataset import ImageRecords

    voxels = head_slices(4)
    write_dicom_slice(tmp_path / "a" / "1.dcm", voxels[1], 0)
    picture(tmp_path / "b" / "1.png")
    catalogue = scan_folder(tmp_path)
    images = ImageRecords(tmp_path, catalogue.classes, catalogue.records, Preprocess(size=64))
    pixels, target = images[0]
    assert target == 0
    np.testing.assert_allclose(pixels[0], voxels[1] / 1000, atol=1e-6)  # the window of the header, 0 to 1000


def test_the_real_head_is_one_study(shared_data):
    (found,) = find_studies([shared_data / "dicom-t1"])
    study = read_study(found)
    assert study.total == 24
    assert numbers(study)[-1] == 24
    assert len(study.scans) >= 18
    assert {scan.orientation for scan in study.scans} == {"LP"}
