"""Rows on disk: one array row for each named image view, memory-mapped, appended to, shared by runs.

A store is a folder with three files. `rows.bin` holds the rows one after the other; line i of `index.txt` names row i;
`about.json` gives shape and dtype. A row's bytes reach the disk before its name does, so whatever a kill leaves behind
is either a whole named row or nothing.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from neurodense import atomic

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class RowStore:
    """A growing array of rows of one shape and dtype, addressed by name.

    Args:
        folder: Made if need be.
        shape: Shape of one row.
        dtype: float32, bfloat16 or float16.
    """

    def __init__(self, folder: Path, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.folder = folder
        self.shape = tuple(shape)
        self.dtype = dtype
        self.row_bytes = prod(self.shape) * dtype.itemsize
        self._map: mmap.mmap | None = None
        self._row_of: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
        name = next(key for key, value in _DTYPES.items() if value == dtype)
        about = {"shape": list(self.shape), "dtype": name}
        path = folder / "about.json"
        if not path.exists():
            atomic.write_json(path, about)
        elif json.loads(path.read_text(encoding="utf-8")) != about:
            raise ValueError(f"{path} is not {about}")
        self._read_index()

    def _read_index(self) -> int:
        """Read the names of the rows; gives the bytes of the index that hold whole rows."""
        index, rows = self.folder / "index.txt", self.folder / "rows.bin"
        text = index.read_bytes() if index.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        names = whole.decode("ascii").splitlines()
        held = rows.stat().st_size // self.row_bytes if rows.exists() else 0
        names = names[:held]
        self._row_of = {name: row for row, name in enumerate(names)}
        return sum(len(name) + 1 for name in names)

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that have no row, each once, in order."""
        return [name for name in dict.fromkeys(names) if name not in self._row_of]

    def lock(self) -> FileLock:
        """Held by the process that appends."""
        return FileLock(self.folder / "lock")

    def refresh(self) -> None:
        """See what another process has appended, and cut off what a killed one left half-written."""
        index_bytes = self._read_index()
        for name, size in (("index.txt", index_bytes), ("rows.bin", len(self._row_of) * self.row_bytes)):
            if (self.folder / name).exists():
                os.truncate(self.folder / name, size)

    def append(self, names: Sequence[str], rows: Tensor) -> None:
        """Append rows (len(names), *shape) under their names; the caller holds the lock."""
        data = rows.detach().to("cpu", self.dtype).contiguous()
        with (self.folder / "rows.bin").open("ab") as handle:
            handle.write(data.view(torch.uint8).numpy().tobytes())
            handle.flush()
            os.fsync(handle.fileno())
        with (self.folder / "index.txt").open("ab") as handle:
            handle.write("".join(f"{name}\n" for name in names).encode("ascii"))
        first = len(self._row_of)
        self._row_of.update({name: first + k for k, name in enumerate(names)})

    def read(self, names: Sequence[str]) -> Tensor:
        """Rows (len(names), *shape), copied out of the map."""
        needed = max(self._row_of[name] for name in names) + 1
        if self._map is None or len(self._map) < needed * self.row_bytes:
            with (self.folder / "rows.bin").open("rb") as handle:
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        count = len(self._map) // self.row_bytes
        table = np.frombuffer(self._map, np.uint8, count * self.row_bytes).reshape(count, self.row_bytes)
        chosen = torch.from_numpy(table[[self._row_of[name] for name in names]])
        return chosen.view(self.dtype).view(len(names), *self.shape)

    def release(self) -> None:
        """Give the pages that were read back to the system, so that resident memory does not grow with the data."""
        if self._map is not None and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
