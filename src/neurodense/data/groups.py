"""A group table says which images belong together: columns path, label (optional) and group or patient."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path

from neurodense.data.catalogue import Catalogue
from neurodense.errors import DataError


@dataclass(frozen=True)
class GroupTable:
    """What a table says: group of each path, and the label where it has one."""

    source: Path
    group_of: dict[str, str]
    label_of: dict[str, str]


def read_groups(path: str | Path) -> GroupTable:
    """Read a CSV table with columns `path` and `group` (or `patient`), and perhaps `label`.

    Raises:
        DataError: Not readable, columns missing, an empty cell, or a path listed twice with different groups.
    """
    path = Path(path)
    rows = read_table(path)
    column = next((name for name in ("group", "patient") if name in rows[0]), None)
    if "path" not in rows[0] or column is None:
        raise DataError(
            f"{path} has the columns {', '.join(rows[0])}; 'path' and 'group' (or 'patient') are needed.",
            "The first line of the file must name the columns: path,label,group",
        )
    group_of: dict[str, str] = {}
    label_of: dict[str, str] = {}
    for number, row in enumerate(rows, 2):
        name, group = row["path"].replace("\\", "/"), row[column]
        if not name or not group:
            raise DataError(f"{path}, line {number}: 'path' or {column!r} is empty.")
        if group_of.setdefault(name, group) != group:
            raise DataError(f"{path}, line {number}: {name} is in group {group!r} and in {group_of[name]!r}.")
        if row.get("label"):
            label_of[name] = row["label"]
    return GroupTable(path, group_of, label_of)


def apply_groups(catalogue: Catalogue, table: GroupTable) -> tuple[Catalogue, int]:
    """Give every record its group from the table.

    A record that the table does not list stays a group of its own.

    Returns:
        The catalogue with groups, and how many of its records the table does not list.

    Raises:
        DataError: The table lists none of the images, or gives one another label than its folder.
    """
    listed = sum(record.path in table.group_of for record in catalogue.records)
    if not listed:
        raise DataError(
            f"{table.source} lists none of the {len(catalogue.records)} images of {catalogue.root}: "
            f"it has {next(iter(table.group_of))!r}, the folder has {catalogue.records[0].path!r}.",
            "Paths in the table are relative to DATA, with forward slashes.",
        )
    for record in catalogue.records:
        if table.label_of.get(record.path, record.label) != record.label:
            raise DataError(
                f"{table.source} labels {record.path} as {table.label_of[record.path]!r}, "
                f"its folder says {record.label!r}.",
                "Move the image or mend the table.",
            )
    records = tuple(replace(record, group=table.group_of.get(record.path, record.path)) for record in catalogue.records)
    return replace(catalogue, records=records, grouped=True), len(records) - listed


def read_table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header, as dictionaries of stripped strings; at least one row.

    Raises:
        DataError: The file is missing, not text, empty, or a line has another number of cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = list(csv.reader(handle))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV table: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path} holds no rows below its header.")
    header = [cell.strip() for cell in lines[0]]
    rows = []
    for number, line in enumerate(lines[1:], 2):
        if not line:
            continue
        if len(line) != len(header):
            raise DataError(f"{path}, line {number}: {len(line)} cells, the header has {len(header)}.")
        rows.append(dict(zip(header, (cell.strip() for cell in line), strict=True)))
    if not rows:
        raise DataError(f"{path} holds no rows below its header.")
    return rows
