"""A table of parts, such as `split.csv`: written, read as the split of a catalogue, or read for one part alone."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurodense.atomic import replacing
from neurodense.data.catalogue import PARTIAL, Catalogue, Record, in_order
from neurodense.data.groups import SOURCE, comparable, numbered_rows
from neurodense.data.split import PARTS, VALIDATION_SHARE, Part, Split, carve
from neurodense.errors import DataError


def write_split(split: Split, path: str | Path, source_of: Mapping[str, str] | None = None) -> None:
    """Write path,label,group,part,sha256 in the order of `catalogue.in_order`, whole or not at all.

    A column `source` follows where `source_of` has any, as `groups.sources` gives them.

    Images whose class is only partly known come last.
    """
    rows: list[tuple[str, ...]] = []
    for parts in (split.parts, split.partial):
        part_of = {record: part for part, records in parts.items() for record in records}
        rows += [(r.path, r.label, r.group, part_of[r], r.sha256) for r in in_order(part_of)]
    columns: tuple[str, ...] = ("path", "label", "group", "part", "sha256")
    if source_of:
        columns = (*columns, SOURCE)
        rows = [(*row, source_of.get(comparable(row[0]), "")) for row in rows]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_split(
    path: str | Path,
    catalogue: Catalogue,
    seed: int,
    validation_share: float = VALIDATION_SHARE,
    partial: Sequence[Record] = (),
) -> Split:
    """Read a table with columns path and part (train, validation or test) as the split of `catalogue`.

    Images that the table does not list are in no part. Without validation rows, validation is carved from training.

    Args:
        path: The table.
        catalogue: With its groups, if it has any; else those of the table are taken.
        seed: Decides which groups validate, where no row does.
        validation_share: Share of each class of the training rows that then validates.
        partial: Images of folders whose class is only partly known; rows of other such folders are passed over.

    Raises:
        DataError: Columns or images are missing, a part has another name, a label or a file differs, an image is
            listed twice, or a group has images in two parts. That a class is in every part is for a training to check.
    """
    path = Path(path)
    rows = numbered_rows(path)
    if not {"path", "part"} <= (columns := rows[0][1].keys()):
        raise DataError(
            f"{path} has the columns {', '.join(columns)}; 'path' and 'part' are needed.",
            "The first line of the file must name the columns, with commas between them: path,label,group,part",
        )
    record_of = {comparable(record.path): record for record in (*catalogue.records, *partial)}
    folders = {comparable(record.path).partition("/")[0] for record in partial}
    parts: dict[Part, list[Record]] = {part: [] for part in PARTS}
    side: dict[str, tuple[str, str]] = {}  # group -> (part, path) first seen
    listed: set[str] = set()
    for number, row in rows:
        name, part, label, sha256 = (row.get(key, "").strip() for key in ("path", "part", "label", "sha256"))
        name = comparable(name)
        if part not in PARTS:
            raise DataError(f"{path}, line {number}: part is {part!r}; allowed are {', '.join(PARTS)}.")
        if name.startswith(PARTIAL) and name.partition("/")[0] not in folders:
            continue
        if name not in record_of:
            raise DataError(f"{path}, line {number}: {name} is no readable image of {catalogue.root}.")
        if name in listed:
            raise DataError(f"{path}, line {number}: {name} is listed twice.")
        listed.add(name)
        record = record_of[name]
        if label and comparable(label) != comparable(record.label):
            raise DataError(f"{path}, line {number}: {name} is labelled {label!r}, its folder says {record.label!r}.")
        if sha256 and sha256 != record.sha256:
            raise DataError(
                f"{path}, line {number}: {name} is not the file it was when the split was written.",
                "Leave out the sha256 column to split the new file the same way.",
            )
        group = row.get("group", "").strip()
        if catalogue.grouped or comparable(group) in {"", comparable(record.group)}:
            group = record.group
        if (first := side.setdefault(group, (part, name)))[0] != part:
            raise DataError(
                f"{path}, line {number}: group {group!r} has {name} in {part} and {first[1]} in {first[0]}.",
                "Keep each group in one part, or leave out --groups and the group column to split by image.",
            )
        parts[part].append(Record(record.path, record.label, group, record.sha256))
    train, validation, test = (in_order(r for r in parts[part] if not r.path.startswith(PARTIAL)) for part in PARTS)
    if train and not validation:
        train, validation = carve(train, f"{seed}:validation", validation_share)
    others = {part: in_order(r for r in parts[part] if r.path.startswith(PARTIAL)) for part in PARTS}
    return Split({"train": train, "validation": validation, "test": test}, "file", partial=others)


def read_part(path: str | Path, root: str | Path, part: Part) -> tuple[Record, ...]:
    """The records of one part of a table, without a look at the other images: they may not even be there.

    The label is the class folder's name; the group is the table's, where it has one. Images whose class is only partly
    known are passed over.

    Raises:
        DataError: `root` is no folder, columns are missing, or the table puts no image into the part.
    """
    if not Path(root).is_dir():
        raise DataError(f"{root} is not a folder.", "Give the folder that the split's paths are relative to.")
    rows = numbered_rows(Path(path))
    if not {"path", "part"} <= (columns := rows[0][1].keys()):
        raise DataError(f"{path} has the columns {', '.join(columns)}; 'path' and 'part' are needed.")
    records = [
        Record(name, name.partition("/")[0], row.get("group") or name, row.get("sha256", ""))
        for _, row in rows
        for name in (row["path"].replace("\\", "/"),)
        if row["part"].strip() == part and not name.startswith(PARTIAL)
    ]
    if not records:
        found = ", ".join(sorted({row["part"].strip() for _, row in rows}))
        raise DataError(f"{path} puts no image into the {part} part; it has {found}.")
    return in_order(records)
