"""Fixtures that several modules share: a small synthetic set, and one finished run on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the bounds of these tests are those of a CPU
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait should not burn the core others need

from neurodense.data.phantom import write_phantoms
from neurodense.screen import Screen
from neurodense.training.recipe import Recipe, parse_recipe

TINY = """
name = "tiny"
summary = "Two stages, one epoch each, at the smallest size."
image_size = 64
batch_size = 8
keep = "best"
weights = "none"

[augment]
flip = true
gamma = 0.2

[[stage]]
name = "all"
trainable = ["all"]
optimizer = "adamw"
learning_rate = 1e-3
epochs = 2
ema = 0.9

[[stage]]
name = "block 4"
trainable = ["denseblock4", "norm5", "classifier"]
learning_rate = 1e-4
epochs = 2
"""


LONG = ("test_fit.py", "test_archive.py", "test_processes.py", "test_examples.py", "test_fold_runs.py")
"""Files that take longest."""


def pytest_configure(config: pytest.Config) -> None:
    """Of several workers none is to work alone at the end: they begin with the long files, see below."""
    if hasattr(config.option, "loadscopereorder"):
        config.option.loadscopereorder = False  # pytest-xdist would begin with the files of most tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the long files first."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture(scope="session")
def tiny() -> Recipe:
    """A recipe with every kind of thing in it, as small as it can be."""
    return parse_recipe(TINY, "tiny")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 4 classes x 5 patients x 2 synthetic slices, with groups.csv."""
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantoms(folder, patients_per_class=5, slices_per_patient=2, size=64)
    return folder


@pytest.fixture(scope="session")
def finished_run(phantoms: Path, tiny: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run on the phantoms, fp32, never changed by a test."""
    pytest.importorskip("torch")
    from neurodense.training.run import train

    out = tmp_path_factory.mktemp("run") / "run"
    train(
        phantoms, out, recipe=tiny, groups=phantoms / "groups.csv", seed=3, precision="fp32", workers=0,
        cache=out.parent / "cache",
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images to develop on, which are not in the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "brain-mri").is_dir():
        pytest.skip(f"real images are not at {folder}")
    return folder


class Ears(Screen):
    """A screen that remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    warn = say

    @property
    def text(self) -> str:
        return "\n".join(self.said)


def not_there(what: str) -> NoReturn:
    """Skip a test whose program or file is missing; in CI, which brings them all, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window, driven by Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        not_there("chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def command() -> list[str]:
    """The command line as a process."""
    return [sys.executable, "-m", "neurodense"]


def write_dicom_slice(
    path: Path, pixels: np.ndarray, position: float | None, series: str = "1.2.3", number: int = 1, **elements: Any
) -> Path:
    """An axial MR slice, uint16 (rows, columns), `position` millimetres up; or frames of no place."""
    pydicom = pytest.importorskip("pydicom")
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = pydicom.uid.MRImageStorage, f"{series}.{number}", series
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber = "MR", int(series.rpartition(".")[2]), number
    if position is not None:
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, position], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.SliceThickness = [0.9, 0.8], 3
    ds.Rows, ds.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.WindowCenter, ds.WindowWidth, ds.VOILUTFunction = 500, 1000, "LINEAR_EXACT"
    for name, value in elements.items():
        setattr(ds, name, value)
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def write_volume(path: Path, voxels: np.ndarray) -> Path:
    """A NIfTI volume of voxels (slices, rows, columns), as a radiologist sees them, slices from the feet upwards."""
    nib = pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels.transpose(2, 1, 0), np.diag([-0.8, -0.9, 3.0, 1.0])), path)
    return path


def head_slices(count: int = 10, side: int = 64, seed: int = 0) -> np.ndarray:
    """uint16 (count, side, side) up to 1000: heads, of which the first and the last show nothing but air."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] - side / 2
    head = (x**2 + (y * 0.8) ** 2 < (side * 0.4) ** 2) * 600
    voxels = np.stack([head + rng.integers(0, 300, head.shape) * (head > 0) for _ in range(count)])
    voxels[[0, -1]] = 0
    return (voxels + rng.integers(0, 9, voxels.shape)).astype(np.uint16)
