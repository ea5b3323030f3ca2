"""The device and the number format that a training runs in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch

from neurodense.errors import RunError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]
PrecisionName = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Arithmetic:
    """Device and number format. Weights are float32 always; matrix products run in `precision`."""

    device: torch.device
    precision: Literal["fp32", "bf16", "fp16"]

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=_DTYPE[self.precision], enabled=self.precision != "fp32")

    def __str__(self) -> str:
        return f"{self.device.type} {self.precision}"


def choose(device: DeviceName, precision: PrecisionName) -> Arithmetic:
    """Resolve "auto": a GPU where there is one; bf16 where the hardware multiplies it, else fp16 on CUDA, else fp32.

    Raises:
        RunError: The device is not there, or it has no such precision.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device != "auto" and not there[device]:
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise RunError(
            f"--device {device}: there is no such device here; found {found}.", "--device auto takes the best."
        )
    name = device if device != "auto" else next(n for n in ("cuda", "mps", "cpu") if there[n])
    if precision == "auto":
        precision = _best(name)
    if precision == "fp16" and name == "cpu":
        raise RunError("--precision fp16 does not train on a CPU: its range is too small there.", "--precision bf16")
    return Arithmetic(torch.device(name), precision)


def _best(device: str) -> Literal["fp32", "bf16", "fp16"]:
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without AMX a CPU emulates or half-emulates bf16, which is slower than fp32.
    if device == "cpu" and has_amx():
        return "bf16"
    return "fp32"


def has_amx() -> bool:
    """True on a CPU whose hardware multiplies bf16 matrices (Intel AMX); False also where torch cannot tell."""
    capabilities: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return bool(capabilities().get("amx_bf16"))
