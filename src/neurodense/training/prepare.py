"""Before a run trains: is its folder free, are its files those that it began with, which images belong together."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from neurodense.data.catalogue import PARTIAL, Catalogue, Record, scan_folder
from neurodense.data.glance import Glances, glance_folder, join_thumbs
from neurodense.data.grouping import find_groups
from neurodense.data.groups import GroupTable, apply_groups, read_table
from neurodense.data.partial import Partial, file_of
from neurodense.data.partial_parts import PartialImages, tie
from neurodense.data.split import PARTS, Split
from neurodense.errors import DataError, RunError
from neurodense.screen import Screen
from neurodense.training.plan import FINAL
from neurodense.training.sheet import GroupsFrom, RunSheet

_STARTED = frozenset({"split.csv", "checkpoints", ".lock"})
"""What a start that was interrupted may have left in a run folder."""
_FOLD_STARTED = _STARTED | {"run.json", "recipe.toml"}
"""Likewise in the folder of a fold, which is complete before the run itself is."""


def check_free(run: Path, data: Path, partial: Sequence[Partial] = ()) -> None:
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
    for one in partial:
        if run.resolve().is_relative_to(one.folder):
            raise RunError(
                f"{run} lies inside {one.folder}, where its figures would be images of the next run.",
                "Give an --out outside of it.",
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
    parts, partial = (
        {
            part: tuple(
                Record(r["path"], r["label"], r["group"], r["sha256"])
                for r in rows
                if r["part"] == part and r["path"].startswith(PARTIAL) == partly
            )
            for part in PARTS
        }
        for partly in (False, True)
    )
    return Split(parts, sheet.split_by, partial=partial)


def check_files(run: Path, root: Path, split: Split, partial: Sequence[Partial], screen: Screen) -> None:
    """Compare every file with its hash in the split, since the run is about those very files.

    Raises:
        DataError: The folder or a file is gone, or a file has changed.
    """
    moved = f"neurodense train NEW_PLACE --resume '{run}', if the images were moved."
    for folder in (root, *(Path(one.folder) for one in partial)):
        if not folder.is_dir():
            elsewhere = f"neurodense train --resume '{run}' --partial NEW_PLACE=..., if it was moved."
            raise DataError(f"{folder}, which the run trains on, is not there.", moved if folder == root else elsewhere)
    files = [
        (file_of(record, root, partial), record.sha256)
        for parts in (split.parts, split.partial)
        for part in PARTS
        for record in parts[part]
    ]
    with screen.bar("checking images", len(files), "images") as bar:
        for path, sha256 in files:
            try:
                with path.open("rb") as handle:
                    same = hashlib.file_digest(handle, "sha256").hexdigest() == sha256
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}.", moved) from error
            if not same:
                raise DataError(
                    f"{path} is not the file that the run began with.",
                    "Bring the old file back, or start a new run with --split of the old one less its sha256 column.",
                )
            bar.advance()


def read_images(
    data: Path, table: GroupTable | None, *, search: bool, look: bool, cache: Path | None, screen: Screen
) -> tuple[Catalogue, GroupsFrom | None, Glances | None]:
    """Read the folder and find out which images belong together.

    Args:
        data: The folder.
        table: Its group table, where one was given.
        search: Look for twins, where there is no table.
        look: Look at the images in any case, since twins elsewhere are looked for.
        cache: Where looks at images are kept; the user's cache folder where None.
        screen: Told what is found.

    Returns:
        The catalogue with its groups, where they come from, and the looks, if there was one.

    Raises:
        DataError: As `scan_folder` and `apply_groups`.
    """
    glances = None
    with screen.bar("reading images", 1, "images") as bar:
        if look or (search and table is None):
            catalogue, glances = glance_folder(data, cache, bar.reach)
        else:
            catalogue = scan_folder(data, bar.reach)
    say_catalogue(catalogue, screen)
    if table is not None:
        catalogue, unlisted = apply_groups(catalogue, table)
        if unlisted:
            screen.warn(f"{table.source} does not list {unlisted:,} images; each is taken as a group of its own")
        return catalogue, "table", glances
    if not search or glances is None:
        return catalogue, None, glances
    with screen.bar("looking for twins", 100) as bar:
        catalogue = find_groups(catalogue, glances, cache, bar.reach)
    size = Counter(record.group for record in catalogue.records)
    twins = [count for count in size.values() if count > 1]
    screen.say(f"twins: {sum(twins):,} images in {len(twins):,} groups; the others stand alone: {len(size):,} in all")
    screen.warn(
        "groups are clusters of twins: two slices of one patient that look different may be on both sides. "
        "--groups CSV keeps patients together"
    )
    return catalogue, "twins", glances


def read_partial(
    partial: Sequence[Partial],
    catalogue: Catalogue,
    glances: Glances,
    table: GroupTable | None,
    cache: Path | None,
    screen: Screen,
) -> tuple[PartialImages, tuple[tuple[str, str], ...]]:
    """Read folders of images whose class is only partly known, and look for their twins, among them and in DATA.

    Args:
        partial: The folders.
        catalogue: DATA, with its groups.
        glances: Of DATA.
        table: The group table, where one was given; it may list images of these folders too.
        cache: As `read_images` takes it.
        screen: Told what is found.

    Returns:
        The images, and (path, reason) of each that is left out.

    Raises:
        DataError: There is no image in a folder.
    """
    records: list[Record] = []
    unreadable: list[tuple[str, str]] = []
    for one in partial:
        with screen.bar(f"reading {one.name}", 1, "images") as bar:
            found, looks = glance_folder(one.folder, cache, bar.reach, labelled=False)
        own = [replace(r, path=one.prefix + r.path, group=one.prefix + r.path) for r in found.records]
        records += own
        unreadable += [(one.prefix + path, reason) for path, reason in found.unreadable]
        glances = Glances(np.concatenate([glances.facts, looks.facts]), join_thumbs(glances.thumbs, looks.thumbs))
        screen.say(f"{len(own):,} images in {one.name}, each one of: {', '.join(one.classes)}")
        say_left_out(found, screen)
    every = replace(catalogue, records=(*catalogue.records, *records))
    with screen.bar(f"looking for twins of {', '.join(one.name for one in partial)}", 100) as bar:
        clusters = [record.group for record in find_groups(every, glances, cache, bar.reach).records]
    # Their labels come after the search, which does not depend on them: what it finds is kept in the cache.
    label_of = {record.path: one.label for one in partial for record in one.of(records)}
    images = tie(catalogue, partial, [replace(r, label=label_of[r.path]) for r in records], clusters, table)
    tied = sum(record.group in images.tied for record in images.records)
    screen.say(f"{tied:,} of {len(records):,} have a twin in {catalogue.root.name}, and go where it goes")
    if images.contradicted:
        screen.warn(
            f"{len(images.contradicted):,} images are said to be of classes that their twins in {catalogue.root.name} "
            f"are not of, such as {images.contradicted[0].path}"
        )
    return images, tuple(unreadable)


def say_catalogue(catalogue: Catalogue, screen: Screen) -> None:
    """Say how many images there are, and which are left out."""
    counts = ", ".join(f"{name} {count:,}" for name, count in catalogue.counts.items())
    kind = "synthetic images" if catalogue.synthetic else "images"
    screen.say(f"{len(catalogue.records):,} {kind} in {len(catalogue.classes)} classes: {counts}")
    say_left_out(catalogue, screen)


def say_left_out(catalogue: Catalogue, screen: Screen) -> None:
    """Say which files of a folder are no images, or cannot be read."""
    if catalogue.ignored:
        screen.say(f"{catalogue.ignored:,} files that are no images by their name were passed over")
    if catalogue.unreadable:
        reasons = [reason for _, reason in catalogue.unreadable]
        more = f"\n  and {len(reasons) - 20:,} more; run.json lists all" if len(reasons) > 20 else ""
        screen.warn(f"{len(reasons):,} unreadable images are left out:\n  " + "\n  ".join(reasons[:20]) + more)
