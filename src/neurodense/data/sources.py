"""Leave a source out: the images of one collection, scanner or hospital are the test part, all others train.

A score inside one collection cannot tell whether the model sees the tumour or the source. A score on a source that
training never saw can.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from neurodense.data.catalogue import Catalogue, in_order
from neurodense.data.groups import GroupTable, comparable
from neurodense.data.split import VALIDATION_SHARE, Split, carve
from neurodense.errors import DataError

_CELL = re.compile(r"([\w-]+)=(.+)", re.DOTALL)


@dataclass(frozen=True)
class LeftOut:
    """A split whose test part is one source, and what it could not use.

    Attributes:
        split: The parts. Images that are counted below are in none.
        shared: Images of other sources whose group has an image of the left-out source: a patient or a twin of it.
        unknown: Images whose source the table does not say.
    """

    split: Split
    shared: int
    unknown: int


def leave_out(
    catalogue: Catalogue, source: str, table: GroupTable | None, seed: int, validation_share: float = VALIDATION_SHARE
) -> LeftOut:
    """Make the images of one source the test part, and split the others into training and validation by group.

    Args:
        catalogue: Its records' groups decide what moves together.
        source: COLUMN=VALUE of the table, or a regular expression that is searched in each record's path. A path with
            "=" is matched by [=].
        table: The group table, where one was given.
        seed: Decides which groups validate.
        validation_share: Share of each class of the other sources that goes to validation.

    Raises:
        DataError: No such column, no valid expression, no image or every image matched, or training lacks a class.
            That the test part lacks a class is no error.
    """
    cell = _CELL.fullmatch(source)
    inside = _by_column(catalogue, table, *cell.groups()) if cell else _by_path(catalogue, source)
    test = in_order(record for record in catalogue.records if inside[record.path])
    tested = {record.group for record in test}
    others = [record for record in catalogue.records if inside[record.path] is False]
    kept = [record for record in others if record.group not in tested]
    train, validation = carve(kept, f"{seed}:validation", validation_share)
    split = Split({"train": train, "validation": validation, "test": test}, "source")
    if not split.holds(catalogue.classes, ("train", "validation")):
        groups = {name: len({record.group for record in kept if record.label == name}) for name in catalogue.classes}
        raise DataError(
            f"Without {source!r} ({len(test):,} images, and {len(others) - len(kept):,} of groups that it shares) "
            "training and validation do not get a group of every class. Groups that are left: "
            f"{', '.join(f'{name} {count}' for name, count in groups.items())}.",
            "Leave out another source, or add images of these classes from other sources.",
        )
    return LeftOut(split, len(others) - len(kept), list(inside.values()).count(None))


def _by_column(catalogue: Catalogue, table: GroupTable | None, column: str, value: str) -> dict[str, bool | None]:
    """For each path: is it of the source; None where the table does not say."""
    if table is None:
        raise DataError(
            f"--leave-out {column}={value} names a column, and no table was given.",
            f"--groups CSV with the columns path,label,group,{column}; a path with '=' is matched by '[=]'.",
        )
    values = table.column(column)
    found = {record.path: values.get(comparable(record.path)) for record in catalogue.records}
    inside = {path: None if got is None else comparable(got) == comparable(value) for path, got in found.items()}
    if not any(inside.values()):
        count = Counter(got for got in found.values() if got is not None)
        shown = ", ".join(f"{got} ({n:,})" for got, n in count.most_common(10)) + (", ..." if len(count) > 10 else "")
        raise DataError(
            f"No image of {catalogue.root} has {value!r} in column {column!r} of {table.source}; "
            f"its values are {shown or 'all empty'}."
        )
    return inside


def _by_path(catalogue: Catalogue, expression: str) -> dict[str, bool | None]:
    try:
        pattern = re.compile(unicodedata.normalize("NFC", expression))
    except re.error as error:
        raise DataError(
            f"--leave-out {expression!r} is no regular expression: {error}.",
            "It is searched in each image's path, such as glioma/br35h-12.png: '/br35h-' finds that one.",
        ) from None
    inside: dict[str, bool | None] = {
        record.path: pattern.search(unicodedata.normalize("NFC", record.path)) is not None
        for record in catalogue.records
    }
    if not any(inside.values()):
        raise DataError(
            f"--leave-out {expression!r} is found in none of the {len(inside):,} paths of {catalogue.root}, "
            f"such as {next(iter(inside))!r}.",
            "It is searched in each image's path, relative to DATA and with forward slashes.",
        )
    return inside
