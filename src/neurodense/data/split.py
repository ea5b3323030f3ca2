"""Training, validation and test parts: stratified by class, whole groups only, the same on every machine.

Groups are taken in the order of a hash of seed and name, so that the order of files, the operating system (its
slashes, its case, how it composes letters) and Python's own random numbers have no say. A group goes to the part when
that brings every class it holds nearer to its share.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from neurodense.data.catalogue import Catalogue, Record, in_order
from neurodense.data.groups import comparable
from neurodense.errors import DataError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
SplitBy = Literal["group", "image", "file", "source"]
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.125  # of what the test part leaves: 70 / 10 / 20 in all

_ATTEMPTS = 100  # at orders of the groups; the first does unless groups hold several classes
_CARVINGS = 20  # likewise, where only validation is carved
_TIE = 1e-9  # images; less than that is rounding, whose sign depends on the order of a sum


@dataclass(frozen=True)
class Split:
    """Which part each record is in.

    Attributes:
        parts: Records of each part, in the order of `catalogue.in_order`.
        by: "group" when whole groups were moved, "image" when every image stood alone, "file" when a table was given,
            "source" when one source was left out as the test part.
        target: Share of each class that each part was to get; empty where it is not ours to choose.
        partial: Likewise the records whose class is only partly known; `parts`, and all that is counted, is without.
    """

    parts: Mapping[Part, tuple[Record, ...]]
    by: SplitBy
    target: Mapping[Part, float] = field(default_factory=dict)
    partial: Mapping[Part, tuple[Record, ...]] = field(default_factory=lambda: dict.fromkeys(PARTS, ()))

    @property
    def grouped(self) -> bool:
        """True when any group is known, that is, other than an image by itself."""
        return any(record.group != record.path for records in self.parts.values() for record in records)

    def counts(self, classes: Iterable[str]) -> dict[Part, dict[str, int]]:
        """Images of each class in each part."""
        count = {part: Counter(record.label for record in records) for part, records in self.parts.items()}
        return {part: {name: count[part][name] for name in classes} for part in PARTS}

    def holds(self, classes: Iterable[str], parts: Iterable[Part] = PARTS) -> bool:
        """True when each of `parts` has images of each of `classes`."""
        return all(set(classes) <= {record.label for record in self.parts[part]} for part in parts)


def split_records(
    catalogue: Catalogue, seed: int, test_share: float = TEST_SHARE, validation_share: float = VALIDATION_SHARE
) -> Split:
    """Split 80/20 into training and test, then carve validation from training by the same rule: 70/10/20 in all.

    Args:
        catalogue: Its records' groups decide what moves together.
        seed: Any integer; the same seed gives the same split.
        test_share: Share of each class's images that goes to the test part.
        validation_share: Share of what remains that goes to validation.

    Raises:
        DataError: One part would have none of a class: it has fewer than three groups, or shares them with others.
    """
    groups = groups_of(catalogue)
    for name in catalogue.classes:
        if len(groups[name]) < 3:
            unit = "groups" if catalogue.grouped else "images"
            raise DataError(
                f"Class {name!r} has {len(groups[name])} {unit}; training, validation and test need one each.",
                "Add images of other patients, or give your own parts with --split CSV (path,label,group,part).",
            )
    rest_share = 1 - test_share
    target: dict[Part, float] = {
        "train": rest_share * (1 - validation_share),
        "validation": rest_share * validation_share,
        "test": test_share,
    }
    for attempt in range(_ATTEMPTS):
        salt = f"{seed}.{attempt}" if attempt else f"{seed}"
        rest, test = _take(catalogue.records, test_share, f"{salt}:test", leave=2)
        train, validation = _take(rest, validation_share, f"{salt}:validation", leave=1)
        parts: dict[Part, tuple[Record, ...]] = {"train": train, "validation": validation, "test": test}
        split = Split(parts, "group" if catalogue.grouped else "image", target)
        if split.holds(catalogue.classes):
            return split
    raise DataError(
        f"No split in {_ATTEMPTS} attempts gave every part images of every class: groups that hold several classes "
        f"leave no room. Groups of each class: {', '.join(f'{n} {len(groups[n])}' for n in catalogue.classes)}.",
        "Add images of other patients, or give your own parts with --split CSV (path,label,group,part).",
    )


def carve(
    records: Sequence[Record], salt: str, share: float = VALIDATION_SHARE
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Part `records` into training and about `share` of each class for validation, moving whole groups.

    A class with one group, or one whose groups others share, may be missing on one side: that is for the caller to see.
    """
    classes = {record.label for record in records}
    for attempt in range(_CARVINGS):
        sides = _take(records, share, f"{salt}.{attempt}" if attempt else salt, leave=1)
        if all({record.label for record in side} == classes for side in sides):
            return sides
    return _take(records, share, salt, leave=1)


def alone(catalogue: Catalogue) -> Catalogue:
    """The catalogue with every image a group of its own, for a split by image."""
    records = tuple(replace(record, group=record.path) for record in catalogue.records)
    return replace(catalogue, records=records, grouped=False)


def leaked(split: Split, catalogue: Catalogue) -> int:
    """Test images with another image of their group, by the catalogue's groups, in training."""
    group_of = {record.path: record.group for record in catalogue.records}
    trained = {group_of[record.path] for record in split.parts["train"]}
    return sum(group_of[record.path] in trained for record in split.parts["test"])


def groups_of(catalogue: Catalogue) -> dict[str, set[str]]:
    """The groups that hold images of each class."""
    groups: dict[str, set[str]] = {name: set() for name in catalogue.classes}
    for record in catalogue.records:
        groups[record.label].add(record.group)
    return groups


def held_by(records: Iterable[Record]) -> dict[str, Counter[str]]:
    """Images of each class in each group: group -> class -> count."""
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        held[record.group][record.label] += 1
    return held


def drawn(salt: str, group: str) -> tuple[bytes, str]:
    """Place of a group in the order that `salt` draws; of names that some system takes for one, by the name."""
    return hashlib.sha256(f"{salt}:{folded(group)}".encode()).digest(), group


def folded(name: str) -> str:
    """The name without what systems change in it: kind of slash, case, composition of letters."""
    return unicodedata.normalize("NFC", comparable(name).casefold())


def _take(
    records: Sequence[Record], share: float, salt: str, leave: int
) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Part `records` into (the rest, about `share` of each class), moving whole groups.

    Every class keeps at least `leave` groups, and gives at least one where groups that it shares with others allow it.
    """
    held = held_by(records)
    target = {name: share * count for name, count in Counter(record.label for record in records).items()}
    left = Counter(name for labels in held.values() for name in labels)  # groups a class that are not taken
    taken_images: Counter[str] = Counter()
    taken: set[str] = set()

    place = {group: drawn(salt, group) for group in held}
    for group in sorted(held, key=place.__getitem__):
        labels = held[group]
        gain = sum(
            abs(taken_images[name] - target[name]) - abs(taken_images[name] + count - target[name])
            for name, count in labels.items()
        )
        if gain > _TIE and all(left[name] > leave for name in labels):
            taken.add(group)
            taken_images.update(labels)
            left.subtract(labels.keys())
    for name in sorted(
        target, key=lambda name: (folded(name), name)
    ):  # a class whose every group is larger than its share still gives its smallest one
        if not taken_images[name]:
            free = [g for g in held if name in held[g] and all(left[other] > leave for other in held[g])]
            if free:
                smallest = min(free, key=lambda g: (held[g].total(), place[g]))
                taken.add(smallest)
                taken_images.update(held[smallest])
                left.subtract(held[smallest].keys())
    return (
        in_order(record for record in records if record.group not in taken),
        in_order(record for record in records if record.group in taken),
    )
