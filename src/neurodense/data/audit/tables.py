"""What is given beside the folder: the parts of a split, and the source of each image."""

from __future__ import annotations

from pathlib import Path

from neurodense.data.catalogue import Catalogue
from neurodense.data.groups import comparable, numbered_rows
from neurodense.data.split import PARTS
from neurodense.errors import DataError


def read_parts(path: Path, catalogue: Catalogue) -> list[str]:
    """Part of each record of the catalogue, "" where the table does not list it.

    Unlike `split_table.read_split` this takes a split that has mistakes, since finding them is what it is read for.

    Raises:
        DataError: Columns are missing, a part has another name, or none of the images is listed.
    """
    part_of = _column(path, "part", catalogue)
    if foreign := sorted(set(part_of.values()) - set(PARTS)):
        raise DataError(f"{path} has the part {foreign[0]!r}; allowed are {', '.join(PARTS)}.")
    return [part_of.get(comparable(record.path), "") for record in catalogue.records]


def read_sources(sources: str | Path, groups: str | Path | None, catalogue: Catalogue) -> tuple[str, list[str]]:
    """Name of the column, and the source of each record of the catalogue; "not listed" where there is none.

    Args:
        sources: A CSV table of path and source, or the name of a column of `groups`.
        groups: The table of groups, where one is given.
        catalogue: The images.

    Raises:
        DataError: There is neither such a table nor such a column, or it lists none of the images.
    """
    path, column = Path(sources), "source"
    if not path.is_file():
        if groups is None or str(sources) not in numbered_rows(Path(groups))[0][1]:
            where = f"no column of {groups}" if groups is not None else "no column, since --groups is not given"
            raise DataError(
                f"--sources is {str(sources)!r}: no file, and {where}.",
                "Give a CSV with the columns path,source, or the name of a column of --groups.",
            )
        path, column = Path(groups), str(sources)
    source_of = _column(path, column, catalogue)
    return column, [source_of.get(comparable(record.path), "") or "not listed" for record in catalogue.records]


def _column(path: Path, column: str, catalogue: Catalogue) -> dict[str, str]:
    """Path -> value of one column, for a table that lists at least one image of the catalogue."""
    rows = numbered_rows(path)
    if not {"path", column} <= (columns := rows[0][1].keys()):
        raise DataError(
            f"{path} has the columns {', '.join(columns)}; 'path' and {column!r} are needed.",
            f"The first line of the file must name the columns, with commas between them: path,{column}",
        )
    values: dict[str, str] = {}
    for number, row in rows:
        name, value = comparable(row["path"]), row[column].strip()
        if values.setdefault(name, value) != value:
            raise DataError(f"{path}, line {number}: {name} is {value!r} here and {values[name]!r} further up.")
    if not any(comparable(record.path) in values for record in catalogue.records):
        raise DataError(
            f"{path} lists none of the {len(catalogue.records)} images of {catalogue.root}: "
            f"it has {next(iter(values))!r}, the folder has {catalogue.records[0].path!r}.",
            "Paths in the table are relative to DATA, with forward slashes.",
        )
    return values
