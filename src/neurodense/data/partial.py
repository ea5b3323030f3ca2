"""Folders of images whose class is only partly known: each shows a tumour, say, and nobody wrote down of what kind.

Such a folder is often another source than DATA, which makes its images worth training on: see `training/loss.py`. In
`split.csv` and wherever else a path stands, an image of it is `partial:NAME/path/within/the/folder`.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from neurodense.data.catalogue import PARTIAL, Record, is_text
from neurodense.errors import DataError

Given = Mapping[str, Sequence[str]] | Mapping[Path, Sequence[str]]
"""Folder -> the classes that its images may be of."""


@dataclass(frozen=True)
class Partial:
    """A folder whose images each show one of some classes.

    Attributes:
        name: Of the folder, wherever it lies.
        folder: Its full path.
        classes: Which classes may be, in the model's order.
    """

    name: str
    folder: str
    classes: tuple[str, ...]

    @property
    def label(self) -> str:
        """The classes as one word, such as glioma|meningioma."""
        return "|".join(self.classes)

    @property
    def prefix(self) -> str:
        """What the paths of its records begin with."""
        return f"{PARTIAL}{self.name}/"

    def of(self, records: Iterable[Record]) -> list[Record]:
        """Those of the records that are of this folder."""
        return [record for record in records if record.path.startswith(self.prefix)]


def owner(record: Record, partial: Iterable[Partial]) -> Partial | None:
    """The folder that a record is of; None is DATA."""
    return next((one for one in partial if record.path.startswith(one.prefix)), None)


def file_of(record: Record, root: Path, partial: Iterable[Partial]) -> Path:
    """The file of a record; DATA is `root`."""
    one = owner(record, partial)
    return root / record.path if one is None else Path(one.folder, record.path.removeprefix(one.prefix))


def parse_partial(texts: Iterable[str]) -> dict[str, list[str]]:
    """Take FOLDER=CLASS,CLASS apart, once for each folder.

    Raises:
        DataError: A text has another form, or a folder is given twice.
    """
    given: dict[str, list[str]] = {}
    for text in texts:
        folder, _, names = text.rpartition("=")
        if not folder:
            raise DataError(
                f"--partial {text!r} does not say which classes the images may be of.",
                "--partial FOLDER=CLASS,CLASS, such as --partial unsorted=glioma,meningioma",
            )
        if folder in given:
            raise DataError(f"--partial {folder} is given twice.", "Name all classes in one: FOLDER=CLASS,CLASS")
        given[folder] = [name.strip() for name in names.split(",")]
    return given


def options_of(partial: Iterable[Partial]) -> str:
    """The same as options of the command line, for a shell, each with a blank before it."""
    return "".join(f" --partial {shlex.quote(one.name + '=' + ','.join(one.classes))}" for one in partial)


def partial_folders(given: Given, classes: Sequence[str], data: Path) -> tuple[Partial, ...]:
    """Check what is asked for, as far as that needs no image.

    Args:
        given: What is asked for.
        classes: The classes of DATA.
        data: DATA.

    Raises:
        DataError: No such folder, one folder within another or two of one name, no or every or an unknown class.
    """
    found = []
    for folder, names in given.items():
        path = Path(folder).resolve()
        if not path.is_dir():
            raise DataError(f"--partial {folder} {'is not a folder' if path.exists() else 'does not exist'}.")
        if not is_text(path.name):
            raise DataError(f"The name of {path!r} is not UTF-8, or holds control characters.", "Rename it.")
        if unknown := [name for name in names if name not in classes]:
            close = difflib.get_close_matches(unknown[0], classes, 1)
            raise DataError(
                f"--partial {folder} allows {unknown[0]!r}, which is no class of {data}; "
                f"its classes are {', '.join(map(repr, classes))}.",
                f"Did you mean {close[0]}?" if close else None,
            )
        allowed = tuple(name for name in classes if name in names)
        if not 0 < len(allowed) < len(classes):
            raise DataError(
                f"--partial {folder} allows {'every' if allowed else 'no'} class, and so says nothing of its images.",
                f"Name the classes that may be, at most {len(classes) - 1} of {', '.join(classes)}.",
            )
        found.append(Partial(path.name, str(path), allowed))
    for here, there in combinations([data.resolve(), *(Path(one.folder) for one in found)], 2):
        if here.is_relative_to(there) or there.is_relative_to(here):
            raise DataError(
                f"{here} and {there} lie one within the other, and share images.",
                "Move the images whose class is partly known into a folder of their own, outside of DATA.",
            )
    for one, other in combinations(found, 2):
        if one.name == other.name:
            raise DataError(
                f"{one.folder} and {other.folder} have one name, and split.csv tells folders by their names.",
                "Rename one.",
            )
    return tuple(found)


def either(classes: Sequence[str]) -> str:
    """Class names as a sentence has them: glioma, meningioma or pituitary."""
    *first, last = classes
    return f"{', '.join(first)} or {last}" if first else last
