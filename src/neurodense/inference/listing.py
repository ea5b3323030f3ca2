"""The files of an archive as one table: each once, in the order of their names, in bounded memory however many.

`listing.parquet` has one column, `source`: absolute paths and URLs, as bytes, since a file's name need not be text. A
row group of it is a shard. Names are sorted as an external merge sort does it (Knuth, volume 3, 5.4): `RUN` at a time
in memory, then all runs merged.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import heapq
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from neurodense.errors import DataError
from neurodense.inference.remote import find, is_url
from neurodense.scans.find import find_files
from neurodense.scans.study import is_image, looked_for

RUN: Final = 250_000
"""Names that are sorted in memory: about 120 MB."""

_COLUMNS = ("source", "path")


@dataclass(frozen=True)
class Listing:
    """What a listing holds.

    Attributes:
        files: At least 1.
        sha256: Over the names in order, each with a NUL behind it.
    """

    files: int
    sha256: str


def write_listing(inputs: Iterable[str], path: Path, shard: int) -> Listing:
    """Write the table of all files that `inputs` name.

    Args:
        inputs: Files, folders, patterns with * or **, URLs, and @LIST: a text with a name a line, or a .csv or .parquet
            with a column `source` or `path`.
        path: Where to; it appears whole.
        shard: Rows of a row group.

    Raises:
        DataError: An input is not there, a list cannot be read, or there is no file at all.
    """
    import pyarrow as pa
    from pyarrow import parquet

    from neurodense import atomic

    schema = pa.schema([("source", pa.binary())])
    count, digest = 0, hashlib.sha256()
    with tempfile.TemporaryDirectory() as room, atomic.replacing(path) as temporary:
        names = in_order(map(os.fsencode, _names(inputs)), Path(room))
        with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            while part := list(islice(names, shard)):
                digest.update(b"".join(name + b"\0" for name in part))
                writer.write_table(pa.table({"source": part}, schema), row_group_size=shard)
                count += len(part)
        if not count:
            raise DataError(f"{', '.join(inputs)}: no image there; {looked_for()}.")
    return Listing(count, digest.hexdigest())


def read_shard(path: Path, number: int) -> list[str]:
    """The names of a shard, counted from 0."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        return [os.fsdecode(name) for name in file.read_row_group(number)["source"].to_pylist()]


def in_order(names: Iterable[bytes], room: Path, run: int = RUN) -> Iterator[bytes]:
    """Names sorted, each once; `run` of them at most are in memory, the others in files in `room`."""
    names, runs = iter(names), list[Path]()
    while part := sorted(set(islice(names, run))):
        runs.append(_spill(part, room / str(len(runs))))
    last = None
    for name in heapq.merge(*map(_spilt, runs)):
        if name != last:
            yield name
        last = name


def _spill(names: list[bytes], path: Path) -> Path:
    import pyarrow as pa

    table = pa.table({"source": pa.array(names, pa.binary())})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=4096)
    return path


def _spilt(path: Path) -> Iterator[bytes]:
    import pyarrow as pa

    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
        for batch in stream:
            yield from batch.column(0).to_pylist()


def _names(inputs: Iterable[str]) -> Iterator[str]:
    """Absolute paths and URLs, in any order; some may come twice."""
    for item in inputs:
        if item.startswith("@"):
            yield from (name if is_url(name) else os.path.abspath(name) for name in _listed(Path(item[1:])))  # noqa: PTH100  (Path.absolute keeps ..)
        elif is_url(item):
            yield from find(item)
        elif Path(item).exists():
            yield from _below(item)
        else:
            matches = glob.iglob(item, recursive=True)  # noqa: PTH207  (takes a pattern that is absolute)
            first = next(matches, None)
            if first is None:
                raise DataError(f"{item} does not exist.", "Give files, folders, patterns, URLs, or @LIST.")
            for match in (first, *matches):
                yield from _below(match)


def _below(item: str) -> Iterator[str]:
    """A file, or the images of a folder. A folder that cannot be listed stands for its files: reading it says why."""
    path = Path(os.path.abspath(item))  # noqa: PTH100
    if not path.is_dir():
        yield str(path)
        return
    closed: list[str] = []
    yield from (
        str(file) for file in find_files(path, lambda error: closed.append(str(error.filename))) if is_image(file)
    )
    yield from closed


def _listed(path: Path) -> Iterator[str]:
    """The names in a list, as they stand there."""
    try:
        if path.suffix.lower() == ".parquet":
            yield from _of_parquet(path)
            return
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            if path.suffix.lower() == ".csv":
                rows = csv.DictReader(handle)
                column = _column(path, rows.fieldnames or ())
                yield from (row[column] for row in rows if row[column])
            else:
                yield from (line for line in map(_stripped, handle) if line)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from None


def _of_parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            column = _column(path, file.schema_arrow.names)
            for batch in file.iter_batches(columns=[column]):
                yield from (os.fsdecode(name) for name in batch.column(0).to_pylist() if name)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is no Parquet file: {error}") from None


def _column(path: Path, there: Any) -> str:
    for name in _COLUMNS:
        if name in there:
            return name
    raise DataError(f"{path} has the columns {', '.join(there) or 'of nothing'}; one must be source or path.")


def _stripped(line: str) -> str:
    return line.rstrip("\r\n")
