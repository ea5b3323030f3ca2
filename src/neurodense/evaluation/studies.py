"""A folder of images and studies, one sub-folder a class, as records to measure a model on. Nothing is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neurodense.data.catalogue import Catalogue, Record, class_folders, is_text
from neurodense.data.groups import GroupTable, apply_groups, comparable, read_groups
from neurodense.errors import DataError, ScanError
from neurodense.scans.series import Series
from neurodense.scans.study import Failure, find_studies


def labelled_studies(root: Path, fewest: int = 2) -> tuple[list[tuple[Record, Path | Series]], list[Failure]]:
    """Every image and study below the class folders of `root`, with its record; and what can be seen to be none.

    A record's path is relative to `root`: of an image or a volume that of its file, of a series that of its folder. It
    is its group as well. Files are not read yet, so that `sha256` is empty.

    Raises:
        DataError: `root` has less than `fewest` class folders; see `data.catalogue.class_folders`.
    """
    studies: list[tuple[Record, Path | Series]] = []
    lost: list[Failure] = []
    for label in class_folders(root, fewest):
        for item in find_studies([root / label]):
            if isinstance(item, Failure):
                lost.append(Failure(_below(root, item.source), item.type, item.message))
                continue
            path = _below(root, item.source if isinstance(item, Series) else str(item))
            if is_text(path):
                studies.append((Record(path, label, path, ""), item))
            else:
                shown = repr(path)[1:-1]
                lost.append(Failure(shown, ScanError.__name__, f"{shown} is left out: no table can hold its name."))
    studies.sort(key=lambda pair: (pair[0].label, *pair[0].path.rpartition("/")[::2]))
    if not studies:
        raise DataError(f"There is no image in the class folders of {root} to measure on.")
    return studies, lost


def group_studies(
    root: Path, studies: Sequence[tuple[Record, Path | Series]], groups: str | Path | None
) -> list[Record]:
    """The records of `labelled_studies` with their groups from a table, which may list the files of a series.

    Raises:
        DataError: The table cannot be used, or puts the files of one series into several groups.
    """
    records = [record for record, _ in studies]
    if groups is None:
        return records
    table = read_groups(groups)
    for record, item in studies:
        if isinstance(item, Series) and comparable(record.path) not in table.group_of:
            _add_series(root, record, item, table)
    classes = tuple(dict.fromkeys(record.label for record in records))
    return list(apply_groups(Catalogue(root, classes, tuple(records)), table)[0].records)


def _add_series(root: Path, record: Record, series: Series, table: GroupTable) -> None:
    """Enter a series into the table by what the table says of its files."""
    files = [comparable(_below(root, str(path))) for path in series.paths]
    found = sorted({table.group_of[file] for file in files if file in table.group_of})
    if len(found) > 1:
        raise DataError(
            f"{table.source} puts files of one series, {record.path}, into groups {', '.join(map(repr, found))}.",
            "Give them one group: they are slices of one patient.",
        )
    if found:
        table.group_of[comparable(record.path)] = found[0]
    labels = {table.label_of[file] for file in files if file in table.label_of}
    if labels:
        table.label_of[comparable(record.path)] = next(iter(labels - {comparable(record.label)}), record.label)


def _below(root: Path, path: str) -> str:
    """A path as tables have it: relative to `root`, with forward slashes."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        return path
