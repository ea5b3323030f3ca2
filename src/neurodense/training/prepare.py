"""Before a run trains: is its folder free, are its parts complete, what is said about the images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from neurodense.data.catalogue import Catalogue, Record
from neurodense.data.groups import read_table
from neurodense.data.split import PARTS, Split
from neurodense.errors import DataError, RunError
from neurodense.screen import Screen
from neurodense.training.sheet import RunSheet

_STARTED = frozenset({"split.csv", "checkpoints", ".lock"})
"""What a start that was interrupted may have left in a run folder."""


def check_free(run: Path, data: Path) -> None:
    """See that `run` can become a run folder without touching anything of the user's.

    Raises:
        RunError: It holds a run or other files, or lies inside the data.
    """
    if (run / "run.json").exists():
        raise RunError(f"{run} already holds a run.", f"neurodense train --resume '{run}', or another --out.")
    if run.resolve().is_relative_to(data.resolve()):
        raise RunError(
            f"{run} lies inside {data}, where its folders would become classes of the next run.",
            "Give an --out outside of DATA.",
        )
    if run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file.", "Give another --out.")
    if foreign := sorted(path.name for path in run.glob("*") if path.name not in _STARTED):
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise RunError(f"{run} is not empty: it holds {shown}.", "Give a new folder as --out.")


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes from the run inside the block.

    Raises:
        RunError: Another process is at work on it.
    """
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / ".lock").acquire(timeout=0):
            yield
    except Timeout:
        raise RunError(
            f"Another process is at work on {run}; two would spoil each other's log and checkpoints.",
            "Wait for it, or stop it first.",
        ) from None


def check_parts(split: Split, catalogue: Catalogue) -> None:
    """See that every class has images in every part.

    Raises:
        DataError: One has not.
    """
    counts = split.counts(catalogue.classes)
    for part in PARTS:
        if empty := [name for name, count in counts[part].items() if not count]:
            raise DataError(
                f"The {part} part holds no image of {', '.join(map(repr, empty))}.",
                "Each class needs images in training, validation and test.",
            )


def recorded_split(run: Path, sheet: RunSheet, screen: Screen) -> Split:
    """The split as it was written. Every file is compared with its hash, since the run is about those very files.

    Raises:
        DataError: The folder or a file is gone, or a file has changed.
    """
    root = Path(sheet.data)
    moved = f"neurodense train NEW_PLACE --resume '{run}', if the images were moved."
    if not root.is_dir():
        raise DataError(f"{root}, which the run trains on, is not there.", moved)
    rows = read_table(run / "split.csv")
    with screen.bar("checking images", len(rows), "images") as bar:
        for row in rows:
            try:
                with (root / row["path"]).open("rb") as handle:
                    same = hashlib.file_digest(handle, "sha256").hexdigest() == row["sha256"]
            except OSError as error:
                raise DataError(f"{root / row['path']} cannot be read: {error.strerror}.", moved) from error
            if not same:
                raise DataError(
                    f"{root / row['path']} is not the file that the run began with.",
                    "Bring the old file back, or start a new run with --split of the old one less its sha256 column.",
                )
            bar.advance()
    parts = {
        part: tuple(Record(r["path"], r["label"], r["group"], r["sha256"]) for r in rows if r["part"] == part)
        for part in PARTS
    }
    return Split(parts, sheet.split_by)


def say_catalogue(catalogue: Catalogue, screen: Screen) -> None:
    """Say how many images there are, and which are left out."""
    counts = ", ".join(f"{name} {count:,}" for name, count in catalogue.counts.items())
    kind = "synthetic images" if catalogue.synthetic else "images"
    screen.say(f"{len(catalogue.records):,} {kind} in {len(catalogue.classes)} classes: {counts}")
    if catalogue.ignored:
        screen.say(f"{catalogue.ignored:,} files that are no images by their name were passed over")
    if catalogue.unreadable:
        reasons = [reason for _, reason in catalogue.unreadable]
        more = f"\n  and {len(reasons) - 20:,} more; run.json lists all" if len(reasons) > 20 else ""
        screen.warn(f"{len(reasons):,} unreadable images are left out:\n  " + "\n  ".join(reasons[:20]) + more)


def say_split(split: Split, catalogue: Catalogue, screen: Screen) -> None:
    """Say what is in each part, and what is wrong with a split that knows no groups."""
    counts = split.counts(catalogue.classes)
    for part in PARTS:
        groups = len({record.group for record in split.parts[part]})
        detail = ", ".join(f"{name} {count:,}" for name, count in counts[part].items())
        of = f" in {groups:,} groups" if split.grouped else ""
        screen.say(f"  {part:<10} {len(split.parts[part]):6,}{of}: {detail}")
    if unused := len(catalogue.records) - sum(map(len, split.parts.values())):
        screen.warn(f"{unused:,} images of the folder are in no part of the split that was given, and are not used")
    if not split.grouped:
        screen.warn(
            "no groups are known: slices of one patient may be on both sides, and the score is then too good. "
            "--groups CSV keeps patients together"
        )
