"""What the figures were measured on."""

from __future__ import annotations

import platform
import time
from pathlib import Path

import torch

from neurodense.inference.threads import usable_cores
from neurodense.training.precision import has_amx
from neurodense.versions import versions


def describe() -> dict[str, object]:
    """CPU, cores, versions and date, without a name that would identify the machine."""
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": usable_cores(),
        "bf16": "amx" if has_amx() else "no amx",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
