"""Counting cores: affinity, quotas of control groups from fake files, and the environment variable."""

import os
from pathlib import Path

import pytest

from neurodense.errors import NeurodenseError
from neurodense.inference.threads import VARIABLE, usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A root with /proc/self/cgroup and files under /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": cgroup, **{f"sys/fs/cgroup/{k}": v for k, v in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/host/path/not/here", {"cpu.max": "400000 100000"}, 4),
        ("0::/", {"cpu.max": "nonsense"}, 8),
        ("0::/", {"cpu.max": ""}, 8),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 8),
        ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpuacct,cpu:/j", {"cpu/j/cpu.cfs_quota_us": "50000", "cpu/j/cpu.cfs_period_us": "100000"}, 1),
        ("4:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "600000", "cpu/cpu.cfs_period_us": "100000"}, 6),
        ("5:cpuset:/", {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}, 8),
        ("nonsense", {}, 8),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, cgroup: str, files: dict[str, str], cores: int) -> None:
    assert usable_cores(system(tmp_path, cgroup, files)) == cores


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def test_the_variable_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = system(tmp_path, "0::/", {"cpu.max": "200000 100000"})
    monkeypatch.setenv(VARIABLE, "5")
    assert usable_cores(root) == 5
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(NeurodenseError, match=f"{VARIABLE} is '{wrong}'"):
            usable_cores(root)
    monkeypatch.setenv(VARIABLE, " ")
    assert usable_cores(root) == 2
