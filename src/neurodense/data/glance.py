"""One look at each file: its hash, a thumbnail and the facts of `facts`, kept so that no image is decoded twice.

What a look gives depends on the file's bytes alone, so it is kept in the cache under their hash: a second audit, or a
training on the same images, only hashes the files; a look that was killed goes on where it was.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from neurodense.data.catalogue import Catalogue, scan_folder
from neurodense.data.facts import FACTS, facts_of
from neurodense.data.fingerprint import SIDE, thumb_of
from neurodense.errors import MissingExtra
from neurodense.rows import Rows
from neurodense.scans.study import read_image

VERSION: Final = 1
"""Counts up when the same bytes would give another look, so that what an older program kept is not used."""

_ROW: Final = np.dtype([("facts", FACTS), ("thumb", "u1", (2, SIDE, SIDE))])
_BATCH: Final = 256  # rows that a kill can cost
_BLOCK: Final = 4096  # rows in memory at a time


@dataclass(frozen=True)
class Glances:
    """What was seen, one row an image.

    Attributes:
        facts: Records of `facts.FACTS`, shape (N,).
        thumbs: uint8 (N, 2, 64, 64), what `fingerprint.thumb_of` gives of each; mapped from a file that goes when the
            array does.
    """

    facts: NDArray[np.void]
    thumbs: NDArray[np.uint8]


def default_cache() -> Path:
    """NEURODENSE_CACHE where it is set, else the user's cache folder."""
    chosen = os.environ.get("NEURODENSE_CACHE")
    return Path(chosen).resolve() if chosen else user_cache_path("neurodense", appauthor=False)


def glance_folder(
    root: str | Path,
    cache: str | Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    *,
    labelled: bool = True,
) -> tuple[Catalogue, Glances]:
    """Catalogue a folder as `scan_folder` does, and look at each image on the way, or remember an earlier look.

    Args:
        root: A folder with one sub-folder a class; any folder of images where `labelled` is False.
        cache: Where looks are kept; `default_cache()` where None.
        advance: Called as advance(done, total) while the files are read.
        labelled: As `scan_folder` takes it.

    Returns:
        The catalogue, and the glances in the order of its records.

    Raises:
        DataError: As `scan_folder`.
        MissingExtra: filelock or scipy is not installed.
    """
    for library in ("filelock", "scipy"):
        if find_spec(library) is None:
            raise MissingExtra(library, "audit")
    with _Memory(Path(cache) if cache is not None else default_cache()) as memory:
        catalogue = scan_folder(root, advance, memory.look, labelled=labelled)
        memory.keep()
        return catalogue, memory.recall([record.sha256 for record in catalogue.records])


class _Memory:
    """The looks in a cache folder. Inside its block no other process adds to them."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        # The layout of a row is in the name, so that a program with another one has its own folder.
        name = f"glances-{VERSION}-{zlib.crc32(repr(_ROW.descr).encode()):08x}"
        self.rows = Rows(cache / name, _ROW.itemsize, {"version": VERSION, "row_bytes": _ROW.itemsize})
        self.new: dict[str, bytes] = {}
        self.turn = threading.Lock()

    def __enter__(self) -> _Memory:
        self.lock = self.rows.lock()
        self.lock.acquire()
        self.rows.refresh()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            self.keep()
        finally:
            self.lock.release()

    def look(self, path: Path, source: str) -> str:
        """Give the file's sha256, having looked at it unless that was done before; called by several threads.

        Raises:
            ScanError: The file cannot be read as an image.
            OSError: It cannot be read at all.
        """
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        if self.rows.missing([digest]) and digest not in self.new:
            scan = read_image(path, source)
            row = np.zeros((), _ROW)
            row["facts"], row["thumb"] = facts_of(path, scan), thumb_of(scan.pixels)
            with self.turn:
                self.new[digest] = row.tobytes()
                if len(self.new) >= _BATCH:
                    self.keep()
        return digest

    def keep(self) -> None:
        """Write down what is new."""
        if self.new:
            self.rows.append_bytes(list(self.new), b"".join(self.new.values()))
            self.new = {}

    def recall(self, names: list[str]) -> Glances:
        """The looks at the files with these hashes, in this order."""
        facts = np.zeros(len(names), FACTS)
        shape = (len(names), 2, SIDE, SIDE)
        with tempfile.TemporaryFile(dir=self.cache) as file:  # its space is free again once nothing maps it
            thumbs = np.memmap(file, np.uint8, "w+", shape=shape) if names else np.zeros(shape, np.uint8)
        for start in range(0, len(names), _BLOCK):
            rows = self.rows.read_bytes(names[start : start + _BLOCK]).view(_ROW)[:, 0]
            facts[start : start + _BLOCK], thumbs[start : start + _BLOCK] = rows["facts"], rows["thumb"]
            self.rows.release()
        return Glances(facts, thumbs)


def join_thumbs(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Thumbnails of two folders as one array, mapped from a file that goes when the array does."""
    with tempfile.TemporaryFile() as file:
        joined = np.memmap(file, np.uint8, "w+", shape=(len(first) + len(second), *first.shape[1:]))
    for offset, part in ((0, first), (len(first), second)):
        for start in range(0, len(part), _BLOCK):
            joined[offset + start : offset + min(start + _BLOCK, len(part))] = part[start : start + _BLOCK]
    return joined
