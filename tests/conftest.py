"""Fixtures that several modules share: a small synthetic set, and one finished run on it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the bounds of these tests are those of a CPU
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait should not burn the core others need

from neurodense.data.phantom import write_phantoms
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


@pytest.fixture
def command() -> list[str]:
    """The command line as a process."""
    return [sys.executable, "-m", "neurodense"]
