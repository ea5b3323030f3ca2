"""Parts for images whose class is only partly known: they train, or are held back to validate and to test.

What is twice there, in such a folder and in DATA, follows DATA's split, which is the same with such a folder and
without, so that two models can be compared on one test part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurodense.data.audit.grouping import join_groups, number_names
from neurodense.data.catalogue import PARTIAL, Catalogue, Record, in_order
from neurodense.data.folds import deal
from neurodense.data.groups import GroupTable, comparable, numbered_rows
from neurodense.data.partial import Partial, owner
from neurodense.data.split import PARTS, TEST_SHARE, Part, Split, carve
from neurodense.errors import DataError


@dataclass(frozen=True)
class PartialImages:
    """The images of all such folders.

    Attributes:
        records: By folder, then in the order of `in_order`. A group is one of DATA's only where a table says so.
        tied: Group -> paths of the images of DATA that are twins of one of its images, or of the same group by the
            table. Groups without any are left out.
        contradicted: Images whose twins in DATA are all of classes that they may not be of.
    """

    records: tuple[Record, ...]
    tied: Mapping[str, frozenset[str]]
    contradicted: tuple[Record, ...] = ()


def tie(
    catalogue: Catalogue,
    partial: Sequence[Partial],
    records: Sequence[Record],
    clusters: Sequence[str],
    table: GroupTable | None,
) -> PartialImages:
    """Group the images of such folders, and find what of DATA they belong to.

    Args:
        catalogue: DATA, with its groups.
        partial: The folders.
        records: Their images.
        clusters: Of each image of DATA, then of each of `records`: the cluster of twins that it is in.
        table: The group table where one was given; it may list images of these folders too.
    """
    of_table = {} if table is None else table.group_of
    listed = [of_table.get(comparable(record.path)) for record in records]
    own = tuple(replace(record, group=group or record.path) for record, group in zip(records, listed, strict=True))
    here = clusters[len(catalogue.records) :]
    joined = join_groups(replace(catalogue, records=own), number_names(here))[0].records
    twins, by_table = defaultdict[str, list[Record]](list), defaultdict[str, list[Record]](list)
    for record, cluster in zip(catalogue.records, clusters, strict=False):
        twins[cluster].append(record)
        by_table[record.group].append(record)
    tied = defaultdict[str, set[str]](set)
    contradicted = []
    for record, cluster, group in zip(joined, here, listed, strict=True):
        one = owner(record, partial)
        labels = {twin.label for twin in twins.get(cluster, ())}
        if one is not None and labels and not labels & set(one.classes):
            contradicted.append(record)
        both = [*twins.get(cluster, ()), *(by_table.get(group, ()) if group is not None else ())]
        tied[record.group] |= {twin.path for twin in both}
    ties = {group: frozenset(paths) for group, paths in tied.items() if paths}
    return PartialImages(joined, ties, tuple(contradicted))


def groups_to_test(images: PartialImages, seed: int, folds: int | None) -> list[set[str]]:
    """Groups that test: of one split, or of each fold. They are of those that are tied to none of DATA."""
    records = _by_folder(images)
    if folds is not None:
        return deal(records, folds, f"{seed}:folds", largest_first=True)
    return [{record.group for record in carve(records, f"{seed}:test", TEST_SHARE)[1]}]


def draw_parts(images: PartialImages, tested: Collection[str], salt: str) -> dict[str, Part]:
    """Give the groups that are tied to none of DATA a part: `tested`, and of the others the share that validates.

    A folder of few groups trains first, and its other parts may be empty.
    """
    train, validation = carve([r for r in _by_folder(images) if r.group not in tested], f"{salt}:validation")
    drawn: dict[str, Part] = dict.fromkeys(tested, "test")
    return drawn | {r.group: "validation" for r in validation} | {r.group: "train" for r in train}


def _by_folder(images: PartialImages) -> list[Record]:
    # Stratified by folder, not by what it allows: each has something to train on and something that is held back.
    free = [record for record in images.records if record.group not in images.tied]
    return [replace(record, label=record.path.partition("/")[0]) for record in free]


def place(
    split: Split, catalogue: Catalogue, images: PartialImages, partial: Sequence[Partial], drawn: Mapping[str, Part]
) -> Split:
    """Put the images of such folders into the parts of a split of DATA.

    A group that is tied to DATA goes where its ties are, and is in no part where these are in several parts or in none:
    so what is trained on has no twin that validates or tests. Of a folder that the split lists by itself, as one that
    was read from a table may, each image is where it is listed or in no part.

    Args:
        split: Of DATA.
        catalogue: DATA.
        images: Those of the folders.
        partial: The folders.
        drawn: Group -> part, for the groups that are tied to none of DATA.

    Raises:
        DataError: An image is listed in another part than a twin of it, or nothing of a folder is left to train on.
    """
    placed = [(part, record) for part in PARTS for record in split.parts[part]]
    group_of = {record.path: record.group for record in (*catalogue.records, *(record for _, record in placed))}
    parts_of = defaultdict[str, set[Part]](set)  # group of DATA -> its parts
    for part, record in placed:
        parts_of[record.group].add(part)
    listed = {record.path: (part, record) for part in PARTS for record in split.partial[part]}
    as_listed = {owner(record, partial) for _, record in listed.values()}
    held = defaultdict[str, set[Part]](set)  # group of the folders -> parts of what it belongs to
    for group, paths in images.tied.items():
        held[group].update(*(parts_of[group_of[path]] for path in paths))
    for record in images.records:
        if record.path in listed:
            held[record.group].add(listed[record.path][0])

    parts: dict[Part, list[Record]] = {part: [] for part in PARTS}
    for record in images.records:
        sides, ties = held[record.group], [group_of[path] for path in images.tied.get(record.group, ())]
        if record.path in listed:
            part, record = listed[record.path]
            if sides != {part}:
                others = ", ".join(side for side in PARTS if side in sides - {part})
                raise DataError(
                    f"{record.path} is listed in {part}, and a twin of it or an image of its group is in {others}.",
                    "Leave its line out, or leave out all lines of its folder and the parts are drawn.",
                )
        elif owner(record, partial) in as_listed:
            continue
        elif ties or sides:
            if len(sides) != 1:
                continue
            (part,) = sides
        else:
            part = drawn[record.group]
        group = min((name for name in ties if part in parts_of[name]), default=record.group)
        parts[part].append(replace(record, group=group))
    for one in partial:
        if not one.of(parts["train"]):
            raise DataError(
                f"Nothing of {one.folder} is left to train on: of its {len(one.of(images.records)):,} images "
                f"{len(one.of(parts['validation'])):,} validate and {len(one.of(parts['test'])):,} test, and the "
                "others are twins of images that are in several parts or in none.",
                "Leave out this --partial, or add images that DATA does not have.",
            )
    return replace(split, partial={part: in_order(parts[part]) for part in PARTS})


def not_given(table: Path, partial: Iterable[Partial]) -> list[str]:
    """Names of folders whose images a table of parts lists, and that are not given."""
    listed = {comparable(row.get("path", "")).partition("/")[0] for _, row in numbered_rows(table)}
    names = {name.removeprefix(PARTIAL) for name in listed if name.startswith(PARTIAL)}
    return sorted(names - {comparable(one.name) for one in partial})
