"""A group table says which images belong together: columns path, label (optional) and group or patient.

What other columns say, such as the source of each image, is kept for whoever asks.
"""

from __future__ import annotations

import csv
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from neurodense.data.catalogue import Catalogue
from neurodense.errors import DataError

SOURCE: Final = "source"
"""Column of a table of groups, or of a split: the collection, scanner or hospital that an image is of."""


@dataclass(frozen=True)
class GroupTable:
    """What a table says: group of each path, and the label where it has one; paths and labels are `comparable`."""

    source: Path
    group_of: dict[str, str]
    label_of: dict[str, str]
    rows: tuple[tuple[int, dict[str, str]], ...] = ()

    def column(self, name: str) -> dict[str, str]:
        """What the column says of each path; paths whose cell is empty are left out.

        Raises:
            DataError: The table has no such column, or says two things of one path.
        """
        columns = self.rows[0][1].keys() if self.rows else ()
        if name not in columns:
            raise DataError(f"{self.source} has no column {name!r}; it has {', '.join(columns)}.")
        values: dict[str, str] = {}
        for number, row in self.rows:
            path, value = comparable(row["path"]), row[name].strip()
            if value and values.setdefault(path, value) != value:
                raise DataError(
                    f"{self.source}, line {number}: the {name} of {path} is {value!r} and {values[path]!r}."
                )
        return values


def read_groups(path: str | Path) -> GroupTable:
    """Read a CSV table with columns `path` and `group` (or `patient`), and perhaps `label`.

    Raises:
        DataError: Not readable, columns missing, an empty cell, or a path listed twice with another group or label.
    """
    path = Path(path)
    rows = numbered_rows(path)
    columns = rows[0][1].keys()
    column = next((name for name in ("group", "patient") if name in columns), None)
    if "path" not in columns or column is None:
        raise DataError(
            f"{path} has the columns {', '.join(columns)}; 'path' and 'group' (or 'patient') are needed.",
            "The first line of the file must name the columns, with commas between them: path,label,group",
        )
    group_of: dict[str, str] = {}
    label_of: dict[str, str] = {}
    for number, row in rows:
        name, group, label = comparable(row["path"]), row[column].strip(), comparable(row.get("label", ""))
        if not name or not group:
            raise DataError(f"{path}, line {number}: {'path' if not name else column!r} is empty.")
        if group_of.setdefault(name, group) != group:
            raise DataError(f"{path}, line {number}: {name} is in group {group!r} and in {group_of[name]!r}.")
        if label and label_of.setdefault(name, label) != label:
            raise DataError(f"{path}, line {number}: {name} is labelled {label!r} and {label_of[name]!r}.")
    return GroupTable(path, group_of, label_of, tuple(rows))


def apply_groups(catalogue: Catalogue, table: GroupTable) -> tuple[Catalogue, int]:
    """Give every record its group from the table.

    A record that the table does not list stays a group of its own.

    Returns:
        The catalogue with groups, and how many of its records the table does not list.

    Raises:
        DataError: The table lists none of the images, or gives one another label than its folder.
    """
    groups = [table.group_of.get(comparable(record.path)) for record in catalogue.records]
    unlisted = groups.count(None)
    if unlisted == len(groups):
        raise DataError(
            f"{table.source} lists none of the {len(groups)} images of {catalogue.root}: "
            f"it has {next(iter(table.group_of))!r}, the folder has {catalogue.records[0].path!r}.",
            "Paths in the table are relative to DATA, with forward slashes.",
        )
    for record in catalogue.records:
        label = table.label_of.get(comparable(record.path))
        if label is not None and label != comparable(record.label):
            raise DataError(
                f"{table.source} labels {record.path} as {label!r}, its folder says {record.label!r}.",
                "Move the image or mend the table.",
            )
    records = tuple(
        replace(record, group=group or record.path) for record, group in zip(catalogue.records, groups, strict=True)
    )
    return replace(catalogue, records=records, grouped=True), unlisted


def comparable(name: str) -> str:
    """A path or a label as tables and folders are compared: slashes, composed letters, no "./", no blanks around."""
    name = unicodedata.normalize("NFC", name.strip()).replace("\\", "/")
    return PurePosixPath(name).as_posix() if name else ""


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, as dictionaries of strings; at least one row.

    Raises:
        DataError: The file is missing, not text, empty, or a line has another number of cells than the header.
    """
    return [row for _, row in numbered_rows(path)]


def sources(table: str | Path | None) -> dict[str, str]:
    """Path, `comparable` -> the collection, scanner or hospital, as a column `source` of a table with paths says."""
    rows = [] if table is None else read_table(Path(table))
    return {comparable(row["path"]): row[SOURCE].strip() for row in rows if row.get(SOURCE, "").strip()}


def numbered_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of `read_table`, each with the line of the file on which it ends."""
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            reader = csv.reader(handle)
            header = [cell.strip() for cell in next(reader, [])]
            if twice := sorted({name for name in header if header.count(name) > 1}):
                raise DataError(f"{path} has more than one column {', '.join(map(repr, twice))}.")
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells, the header has {len(header)}."
                    )
                if cells:
                    rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from error
    if not rows:
        raise DataError(f"{path} holds no rows below its header.")
    return rows
