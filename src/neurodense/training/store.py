"""Rows of tensors on disk: one row for each named image view, kept as `neurodense.rows` keeps its rows."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from neurodense.rows import Rows

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class RowStore(Rows):
    """A growing array of tensors of one shape and dtype, addressed by name.

    Args:
        folder: Made if need be.
        shape: Shape of one row.
        dtype: float32, bfloat16 or float16.
    """

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype
        name = next(key for key, value in _DTYPES.items() if value == dtype)
        super().__init__(folder, prod(self.shape) * dtype.itemsize, {"shape": list(self.shape), "dtype": name})

    def append(self, names: Sequence[str], rows: Tensor) -> None:
        """Append rows (len(names), *shape) under their names; the caller holds the lock."""
        data = rows.detach().to("cpu", self.dtype).contiguous()
        self.append_bytes(names, data.view(torch.uint8).numpy().tobytes())

    def read(self, names: Sequence[str]) -> Tensor:
        """Rows (len(names), *shape), copied out of the map."""
        return torch.from_numpy(self.read_bytes(names)).view(self.dtype).view(len(names), *self.shape)
