"""Damaged files of every format: a scan or the one error, no warning and nothing on stderr."""

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.mutations import Seed, damaged, picture, read_or_refuse, seeds

SEEDS = seeds(picture())
# Some tenths of a second are Pillow's for 65,535 tags. A machine that is busy elsewhere makes the rest.
LIMITS = {"deadline": 5000, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


def read_damaged(path: Path, seed: Seed, chance: random.Random, capfd: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(damaged(seed, chance))
    read_or_refuse(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.name)
def test_every_seed_is_read(tmp_path: Path, seed: Seed) -> None:
    path = tmp_path / "seed"
    path.write_bytes(seed.pack(seed.content) if seed.pack else seed.content)
    assert read_or_refuse(path) == (seed.name != "DICOM no picture")


@given(seed=st.sampled_from(SEEDS), chance=st.randoms(use_true_random=False))
@settings(max_examples=600, **LIMITS)
def test_no_damage_gives_anything_but_a_scan_or_the_one_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], seed: Seed, chance: random.Random
) -> None:
    read_damaged(tmp_path / "damaged", seed, chance, capfd)


@given(chance=st.randoms(use_true_random=False))
@settings(max_examples=100, **LIMITS)
def test_no_damage_to_a_real_image_does(
    shared_data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], chance: random.Random
) -> None:
    files = sorted((shared_data / "brain-mri" / "pituitary").iterdir())[:20]
    seed = Seed("real", chance.choice(files).read_bytes())
    read_damaged(tmp_path / "damaged", seed, chance, capfd)


def test_the_harness_counts_and_keeps_what_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three ways to fail, each in a process of its own: killed, too slow, another error."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("the harness limits memory as Linux does")
    from benchmarks.fuzz import fuzz

    broken = tmp_path / "broken" / "sitecustomize.py"
    broken.parent.mkdir()
    broken.write_text(
        "import os, time\n"
        "from neurodense.scans import study\n"
        "sound = study.read_study\n"
        "def read_study(path):\n"
        "    content = path.read_bytes()\n"
        "    number = sum(content) % 4\n"
        "    if number == 1: os.abort()\n"
        "    if number == 2: time.sleep(60)\n"
        "    if number == 3: raise ZeroDivisionError\n"
        "    return sound(path)\n"
        "study.read_study = read_study\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(broken.parent), prepend=":")
    good = fuzz(8, None, "gif", workers=1, limit_s=1, limit_mb=2048, seed=0, keep=tmp_path / "kept")
    assert not good
    header, line, _ = capsys.readouterr().out.splitlines()
    counts = dict(zip(header.split()[1:7], map(int, line.split()[1:7]), strict=True))
    assert counts["mutations"] == 8
    assert counts["crash"] > 0
    assert counts["hang"] > 0
    assert counts["foreign"] > 0
    assert len(list((tmp_path / "kept").iterdir())) == counts["crash"] + counts["hang"] + counts["foreign"]
