"""Whose the mistakes are: a figure over images may hang on the slices of two patients, and does not say so."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

from neurodense.evaluation.predictions import Predictions

_LISTED: Final = 5


@dataclass(frozen=True)
class HardGroup:
    """A group, and what of it is named wrong.

    Attributes:
        group: Its name.
        images: How many it has.
        wrong: How many of them are called another class than their own.
        true: The class of most of these.
        called: What most of these are called.
    """

    group: str
    images: int
    wrong: int
    true: str
    called: str


@dataclass(frozen=True)
class Hardest:
    """The fewest groups that hold half of the mistakes.

    Attributes:
        groups: Them, the one with most mistakes first; at least half of all mistakes are theirs.
        wrong: Mistakes in all.
        units: Groups in all.
    """

    groups: tuple[HardGroup, ...]
    wrong: int
    units: int

    @property
    def listed(self) -> tuple[HardGroup, ...]:
        """The first few, for a table."""
        return self.groups[:_LISTED]

    @property
    def sentence(self) -> str:
        """It in words."""
        held, first = sum(one.wrong for one in self.groups), self.groups[0]
        share = f"{held:,} of the {self.wrong:,} mistakes are of {len(self.groups):,} of {self.units:,} groups"
        return f"{share}; most of {first.group}, {first.wrong} of its {first.images} images."

    def as_dict(self) -> dict[str, Any]:
        """The shape of metrics.json."""
        return asdict(self)


def hardest(predictions: Predictions) -> Hardest | None:
    """Count the mistakes of each group; None where no groups are known, or nothing is wrong."""
    if predictions.groups is None:
        return None
    images = Counter(predictions.groups)
    truth, called = predictions.truth.tolist(), predictions.predicted.tolist()
    kinds: dict[str, Counter[tuple[int, int]]] = {}
    for group, true, said in zip(predictions.groups, truth, called, strict=True):
        if true != said:
            kinds.setdefault(group, Counter())[true, said] += 1
    if not kinds:
        return None
    wrong = sum(kind.total() for kind in kinds.values())
    found: list[HardGroup] = []
    for group, kind in sorted(kinds.items(), key=lambda pair: (-pair[1].total(), pair[0])):
        if 2 * sum(one.wrong for one in found) >= wrong:
            break
        (true, said), _ = kind.most_common(1)[0]
        labels = predictions.labels
        found.append(HardGroup(group, images[group], kind.total(), labels[true], labels[said]))
    return Hardest(tuple(found), wrong, len(images))
