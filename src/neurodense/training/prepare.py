"""Before a run trains: is its folder free, are its files those that it began with, which images belong together."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from neurodense.data.catalogue import Catalogue, Record, scan_folder
from neurodense.data.glance import glance_folder
from neurodense.data.grouping import find_groups
from neurodense.data.groups import GroupTable, apply_groups, read_table
from neurodense.data.split import PARTS, Split
from neurodense.errors import DataError, RunError
from neurodense.screen import Screen
from neurodense.training.plan import FINAL
from neurodense.training.sheet import GroupsFrom, RunSheet

_STARTED = frozenset({"split.csv", "checkpoints", ".lock"})
"""What a start that was interrupted may have left in a run folder."""
_FOLD_STARTED = _STARTED | {"run.json", "recipe.toml"}
"""Likewise in the folder of a fold, which is complete before the run itself is."""


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
    if foreign := sorted(path.name for path in run.glob("*") if not _is_started(path)):
        shown = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        raise RunError(f"{run} is not empty: it holds {shown}.", "Give a new folder as --out.")


def _is_started(path: Path) -> bool:
    if path.is_dir() and re.fullmatch(rf"fold-\d+|{FINAL}", path.name):
        return {inner.name for inner in path.iterdir()} <= _FOLD_STARTED
    return path.name in _STARTED


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


def recorded_split(run: Path, sheet: RunSheet) -> Split:
    """The split as it was written to RUN/split.csv."""
    rows = read_table(run / "split.csv")
    parts = {
        part: tuple(Record(r["path"], r["label"], r["group"], r["sha256"]) for r in rows if r["part"] == part)
        for part in PARTS
    }
    return Split(parts, sheet.split_by)


def check_files(run: Path, root: Path, split: Split, screen: Screen) -> None:
    """Compare every file with its hash in the split, since the run is about those very files.

    Raises:
        DataError: The folder or a file is gone, or a file has changed.
    """
    moved = f"neurodense train NEW_PLACE --resume '{run}', if the images were moved."
    if not root.is_dir():
        raise DataError(f"{root}, which the run trains on, is not there.", moved)
    records = [record for part in PARTS for record in split.parts[part]]
    with screen.bar("checking images", len(records), "images") as bar:
        for record in records:
            try:
                with (root / record.path).open("rb") as handle:
                    same = hashlib.file_digest(handle, "sha256").hexdigest() == record.sha256
            except OSError as error:
                raise DataError(f"{root / record.path} cannot be read: {error.strerror}.", moved) from error
            if not same:
                raise DataError(
                    f"{root / record.path} is not the file that the run began with.",
                    "Bring the old file back, or start a new run with --split of the old one less its sha256 column.",
                )
            bar.advance()


def read_images(
    data: Path, table: GroupTable | None, *, search: bool, cache: Path | None, screen: Screen
) -> tuple[Catalogue, GroupsFrom | None]:
    """Read the folder and find out which images belong together.

    Args:
        data: The folder.
        table: Its group table, where one was given.
        search: Look for twins, where there is no table.
        cache: Where looks at images are kept; the user's cache folder where None.
        screen: Told what is found.

    Returns:
        The catalogue with its groups, and where they come from.

    Raises:
        DataError: As `scan_folder` and `apply_groups`.
    """
    with screen.bar("reading images", 1, "images") as bar:
        if table is not None or not search:
            catalogue = scan_folder(data, bar.reach)
        else:
            catalogue, glances = glance_folder(data, cache, bar.reach)
    say_catalogue(catalogue, screen)
    if table is not None:
        catalogue, unlisted = apply_groups(catalogue, table)
        if unlisted:
            screen.warn(f"{table.source} does not list {unlisted:,} images; each is taken as a group of its own")
        return catalogue, "table"
    if not search:
        return catalogue, None
    with screen.bar("looking for twins", 100) as bar:
        catalogue = find_groups(catalogue, glances, cache, bar.reach)
    size = Counter(record.group for record in catalogue.records)
    twins = [count for count in size.values() if count > 1]
    screen.say(f"twins: {sum(twins):,} images in {len(twins):,} groups; the others stand alone: {len(size):,} in all")
    screen.warn(
        "groups are clusters of twins: two slices of one patient that look different may be on both sides. "
        "--groups CSV keeps patients together"
    )
    return catalogue, "twins"


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
