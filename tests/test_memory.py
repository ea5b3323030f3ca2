"""A file in memory reads as the same file on disk does."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from conftest import head_slices, write_dicom_slice, write_volume

from neurodense.errors import ScanError
from neurodense.scans.memory import MemoryFile
from neurodense.scans.study import Failure, put_together, read_image, read_study


def same(path: Path, name: str) -> None:
    on_disk, in_memory = read_study(path, "all"), read_study(MemoryFile(name, path.read_bytes()), "all")
    assert in_memory.source == name
    assert in_memory.total == on_disk.total
    for a, b in zip(on_disk.scans, in_memory.scans, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)
        assert (a.notes, a.spacing, a.orientation, a.format) == (b.notes, b.spacing, b.orientation, b.format)
        assert b.source == a.source.replace(str(path), name)


def test_picture_volume_and_dicom_read_alike(tmp_path: Path, phantoms: Path) -> None:
    same(sorted(phantoms.rglob("*.png"))[0], "a/b.png")
    volume = write_volume(tmp_path / "v.nii", head_slices())
    same(volume, "v.nii")
    packed = tmp_path / "v.nii.gz"
    packed.write_bytes(gzip.compress(volume.read_bytes()))
    same(packed, "no suffix")
    same(write_dicom_slice(tmp_path / "d.dcm", head_slices()[4], 1.0), "IM0001")
    same(write_dicom_slice(tmp_path / "frames.dcm", head_slices(), None), "frames")


def test_series_are_put_together_by_the_folders_of_their_names(tmp_path: Path) -> None:
    files = []
    for number, pixels in enumerate(head_slices(6)):
        path = write_dicom_slice(tmp_path / f"IM{number}", pixels, 3.0 * number, number=number + 1)
        files.append(MemoryFile(f"study/IM{number}", path.read_bytes()))
    (series,) = put_together(files[::-1])
    assert not isinstance(series, Failure | MemoryFile)
    assert series.source == "study"
    assert [path.name for path in series.paths] == [f"IM{n}" for n in range(6)]
    assert len(read_study(series, "all").scans) == 6


def test_errors_name_the_label_and_no_path(tmp_path: Path) -> None:
    for content in (b"", b"no picture"):
        with pytest.raises(ScanError, match=r"^etc/passwd "):
            read_image(MemoryFile("/etc/passwd", content))
    header = bytearray(348)
    header[344:348] = b"ni1\0"
    header[:4] = (348).to_bytes(4, "little")
    header[40:56] = np.array([3, 8, 8, 8, 1, 1, 1, 1], "<i2").tobytes()
    header[70:74] = np.array([2, 8], "<i2").tobytes()
    with pytest.raises(ScanError, match="a pair without its image"):
        read_image(MemoryFile("pair.hdr", bytes(header)))
