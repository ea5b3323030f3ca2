"""How many threads are worth having: the cores this process may use, with what a container grants it.

A container sees all cores of its host in `os.cpu_count`; threads above its quota only wait for each other. The quota is
that of Linux control groups, of the process's own group or of any above it: `cpu.max` in version 2 (Linux kernel,
Documentation/admin-guide/cgroup-v2.rst), `cpu.cfs_quota_us` over `cpu.cfs_period_us` in version 1
(Documentation/scheduler/sched-bwc.rst). A quota of 1.5 cores counts as 2, as Go and Java have it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from neurodense.errors import NeurodenseError

VARIABLE = "NEURODENSE_THREADS"
"""Environment variable that says the number, over what is found."""


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that this process may keep busy: NEURODENSE_THREADS if set, else affinity and quota, at least 1.

    Args:
        root: Where `proc` and `sys` are mounted; for tests.

    Raises:
        NeurodenseError: NEURODENSE_THREADS is no positive whole number.
    """
    asked = os.environ.get(VARIABLE, "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise NeurodenseError(f"{VARIABLE} is {asked!r}; allowed are whole numbers from 1.", f"unset {VARIABLE}")
        return int(asked)
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([allowed, *(math.ceil(quota) for quota in _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Quotas in cores of the process's control groups and of those above them."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        mounts = root / "sys/fs/cgroup"
        if not controllers:  # version 2: one tree for all controllers
            yield from _walk(mounts, group, _version_2)
        elif "cpu" in controllers.split(","):
            yield from _walk(mounts / controllers, group, _version_1)
            yield from _walk(mounts / "cpu", group, _version_1)


def _walk(mount: Path, group: str, quota_of: Callable[[Path], float | None]) -> Iterator[float]:
    """From the mount down to the group. Inside a container the group's own path may be one of the host, absent here."""
    folder = mount
    for part in ("", *Path(group.lstrip("/")).parts):
        folder /= part
        quota = quota_of(folder)
        if quota is not None:
            yield quota


def _version_2(folder: Path) -> float | None:
    """`cpu.max`: "QUOTA PERIOD" in microseconds, or "max PERIOD"."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _version_1(folder: Path) -> float | None:
    """Quota and period in files of their own; a quota of -1 is none."""
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", no such file, or nothing that the kernel writes
        return None
    return cores if cores > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
