"""Which folder of another collection is which class of a model: a TOML file.

    [classes]
    no = "notumor"
    yes = ["glioma", "meningioma", "pituitary"]     # each image is one of these, nobody wrote down which

Several folders may be one class. Folders that are not named are left out, and counted. Where a folder stands for
several classes, the model is asked no more than the folder can answer: these classes are measured as one, whose
probability is their sum. So another folder cannot be one of them alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurodense.data.groups import comparable
from neurodense.data.partial import either
from neurodense.errors import DataError


@dataclass(frozen=True)
class LabelMap:
    """What is measured, of a model of C classes.

    Attributes:
        classes: The C classes of the model.
        labels: What they are measured as: one class or several, each of the C in exactly one, in their order.
        of_folder: Name of a class folder, `comparable` -> index of its label.
    """

    classes: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]
    of_folder: Mapping[str, int]

    def index(self, folder: str) -> int | None:
        """Index of the label of a class folder; None where the map does not name it."""
        return self.of_folder.get(comparable(folder))

    @property
    def names(self) -> tuple[str, ...]:
        """The labels in words."""
        return tuple(map(either, self.labels))

    @property
    def merged(self) -> NDArray[np.bool_]:
        """Bool (C, L): which classes each label stands for."""
        return np.array([[name in label for label in self.labels] for name in self.classes])


def as_named(classes: Sequence[str]) -> LabelMap:
    """The map of folders that have the names of the classes."""
    return LabelMap(
        tuple(classes), tuple((name,) for name in classes), {comparable(name): k for k, name in enumerate(classes)}
    )


def read_map(path: str | Path, classes: Sequence[str]) -> LabelMap:
    """Read a map.

    Args:
        path: The TOML file.
        classes: Of the model.

    Raises:
        DataError: It cannot be read, has other keys, names what is no class, or its sets of classes overlap.
    """
    path = Path(path)
    example = 'A map has one table, [classes], of lines such as   folder = "class"   or   folder = ["class", "class"]'
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", example) from None
    except (OSError, ValueError) as error:  # no TOML and no UTF-8 are ValueErrors
        raise DataError(f"{path} cannot be read as a map: {error}", example) from None
    rows = text.get("classes")
    if set(text) != {"classes"} or not isinstance(rows, dict) or not rows:
        raise DataError(f"{path} holds {', '.join(text) or 'nothing'}; [classes] and nothing else is allowed.", example)
    of_folder: dict[str, tuple[str, ...]] = {}
    for folder, value in rows.items():
        named = [value] if isinstance(value, str) else value
        if not isinstance(named, list) or not named or not all(isinstance(one, str) for one in named):
            raise DataError(f"{path}: {folder!r} is {value!r}; a class or a list of classes is allowed.", example)
        if foreign := sorted(set(named) - set(classes)):
            raise DataError(
                f"{path}: {folder!r} is said to be {', '.join(map(repr, foreign))}; "
                f"the model knows {', '.join(map(repr, classes))}."
            )
        of_folder[comparable(folder)] = tuple(name for name in classes if name in named)
    several = {label for label in of_folder.values() if len(label) > 1}
    taken = {name: label for label in several for name in label}
    for folder, label in of_folder.items():
        for name in label:
            if taken.get(name, label) != label:
                raise DataError(
                    f"{path}: {folder!r} is {either(label)}, another folder {either(taken[name])}. What is measured as "
                    "one for one folder cannot be told apart for another.",
                    "Make two maps, and evaluate twice.",
                )
    labels = tuple(dict.fromkeys(taken.get(name, (name,)) for name in classes))
    if len(labels) < 2:
        raise DataError(f"{path} makes one of all classes: there is nothing to tell apart.")
    return LabelMap(tuple(classes), labels, {folder: labels.index(label) for folder, label in of_folder.items()})
