"""How a model does on images whose class is only partly known: of how many does it name a class that may be.

Where the classes that may be are all tumours, and the one that may not is "no tumour", that is the sensitivity. It says
nothing of which tumour, and a model that calls everything a tumour has 1: read it beside the scores of the test part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neurodense.data.catalogue import Record
from neurodense.data.partial import Partial, either
from neurodense.data.split import Part
from neurodense.inference.predictor import Predictor
from neurodense.scans.study import Failure
from neurodense.screen import Screen

HELD_BACK: tuple[Part, ...] = ("validation", "test")


@dataclass(frozen=True)
class Called:
    """What a model calls images that are each of some of its classes.

    Attributes:
        images: Images that could be read.
        allowed: Of how many the most probable class is one that may be.
        predicted: Images that were called each class.
        others: Paths of the images that were called a class that may not be.
        unreadable: What could not be read, as `Failure.as_dict` has it.
    """

    images: int
    allowed: int
    predicted: Mapping[str, int]
    others: tuple[str, ...]
    unreadable: tuple[Mapping[str, Any], ...] = ()

    @property
    def share(self) -> float | None:
        """`allowed` of `images`; None of none."""
        return self.allowed / self.images if self.images else None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of `partial.json`."""
        return {**asdict(self), "share": self.share}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Called:
        """Back from JSON."""
        known = {name: value for name, value in values.items() if name != "share"}
        return cls(**{**known, "others": tuple(known["others"]), "unreadable": tuple(known["unreadable"])})

    def __str__(self) -> str:
        share = "" if self.share is None else f" ({self.share:.1%})"
        return f"{self.allowed:,} of {self.images:,}{share}"


Calls = Mapping[str, Mapping[Part, Called]]
"""Name of a folder -> part -> what the model calls its images."""


def call_partial(
    predictor: Predictor, partial: Sequence[Partial], parts: Mapping[Part, Sequence[Record]], screen: Screen
) -> dict[str, dict[Part, Called]]:
    """Ask a model about the images that validated and tested; parts without any are left out.

    Args:
        predictor: The model.
        partial: The folders.
        parts: Their images, as `Split.partial` has them.
        screen: Told what could not be read.
    """
    return {
        one.name: {
            part: _call(predictor, one, records, screen) for part in HELD_BACK if (records := one.of(parts[part]))
        }
        for one in partial
    }


def _call(predictor: Predictor, one: Partial, records: Sequence[Record], screen: Screen) -> Called:
    predicted, others, unreadable = Counter[str](), [], []
    files = [Path(one.folder, record.path.removeprefix(one.prefix)) for record in records]
    with screen.bar(f"evaluating {one.name}", len(records), "images") as bar:
        for record, answer in zip(records, predictor.predict(files), strict=True):
            bar.advance()
            if isinstance(answer, Failure):
                screen.warn(f"left out of {one.name}: {answer.message}")
                unreadable.append(Failure(record.path, answer.type, answer.message).as_dict())
                continue
            predicted[answer.named] += 1
            if answer.named not in one.classes:
                others.append(record.path)
    count = predicted.total()
    each = {name: predicted[name] for name in predictor.card.classes}
    return Called(count, count - len(others), each, tuple(others), tuple(unreadable))


def pool_calls(folds: Iterable[Called]) -> Called:
    """What the models of several folds call the images that each of them tested."""
    folds = list(folds)
    return Called(
        sum(one.images for one in folds),
        sum(one.allowed for one in folds),
        dict(sum((Counter(one.predicted) for one in folds), Counter())),
        tuple(path for one in folds for path in one.others),
        tuple(failure for one in folds for failure in one.unreadable),
    )


def calls_as_dict(partial: Sequence[Partial], calls: Calls) -> dict[str, Any]:
    """The shape of `partial.json`."""
    return {
        one.name: {
            "classes": list(one.classes),
            "parts": {part: called.as_dict() for part, called in calls[one.name].items()},
        }
        for one in partial
    }


def facts_of(partial: Sequence[Partial], calls: Calls) -> dict[str, str]:
    """Lines for people: "NAME, test part" -> "50 of 52 (96.2%) called glioma, meningioma or pituitary"."""
    return {
        f"{one.name}, {part} part": f"{called} called {either(one.classes)}"
        for one in partial
        for part, called in calls[one.name].items()
    }
