"""Rows on disk: records of one size under names, memory-mapped, appended to, shared by processes.

A folder of rows has three files. `rows.bin` holds the rows one after the other; line i of `index.txt` names row i;
`about.json` says what a row is. A row's bytes reach the disk before its name does, so whatever a kill leaves behind
is either a whole named row or nothing.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic

if TYPE_CHECKING:
    from filelock import FileLock


class Rows:
    """A growing array of rows of `row_bytes` bytes, addressed by name.

    Args:
        folder: Made if need be.
        row_bytes: Length of each row.
        about: What a row is; a folder that was made with another is refused with a ValueError.
    """

    def __init__(self, folder: Path, row_bytes: int, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.row_bytes = row_bytes
        self._map: mmap.mmap | None = None
        self._row_of: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)
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
        from filelock import FileLock

        return FileLock(self.folder / "lock")

    def refresh(self) -> None:
        """See what another process has appended, and cut off what a killed one left half-written."""
        index_bytes = self._read_index()
        for name, size in (("index.txt", index_bytes), ("rows.bin", len(self._row_of) * self.row_bytes)):
            if (self.folder / name).exists():
                os.truncate(self.folder / name, size)

    def append_bytes(self, names: Sequence[str], data: bytes) -> None:
        """Append len(names) rows under their names; the caller holds the lock."""
        with (self.folder / "rows.bin").open("ab") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        with (self.folder / "index.txt").open("ab") as handle:
            handle.write("".join(f"{name}\n" for name in names).encode("ascii"))
        first = len(self._row_of)
        self._row_of.update({name: first + k for k, name in enumerate(names)})

    def read_bytes(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Rows, uint8 (len(names), row_bytes), copied out of the map."""
        needed = max(self._row_of[name] for name in names) + 1
        if self._map is None or len(self._map) < needed * self.row_bytes:
            with (self.folder / "rows.bin").open("rb") as handle:
                self._map = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        count = len(self._map) // self.row_bytes
        table = np.frombuffer(self._map, np.uint8, count * self.row_bytes).reshape(count, self.row_bytes)
        return table[[self._row_of[name] for name in names]]

    def release(self) -> None:
        """Give the pages that were read back to the system, so that resident memory does not grow with the data."""
        if self._map is not None and hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED)
