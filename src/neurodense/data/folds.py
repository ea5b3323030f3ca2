"""Cross-validation: K splits whose test parts together are all images, each image once; whole groups, stratified.

Groups are dealt like cards, the largest first, each to the fold that has least of its classes so far. "Least" is what
adds least to the sum of squares of (images of the class in the fold / images of the class): the rule of scikit-learn's
StratifiedGroupKFold, with whole numbers instead of floats, so that no rounding depends on the order of the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import lcm

from neurodense.data.catalogue import Catalogue, Record, in_order
from neurodense.data.split import VALIDATION_SHARE, Split, carve, drawn, groups_of, held_by
from neurodense.errors import DataError

_ATTEMPTS = 20  # at orders of the groups; the first does unless groups hold several classes


def fold_records(
    catalogue: Catalogue, folds: int, seed: int, validation_share: float = VALIDATION_SHARE
) -> tuple[Split, ...]:
    """Make `folds` splits whose test parts are a partition of the records.

    Args:
        catalogue: Its records' groups decide what moves together.
        folds: At least 2.
        seed: Any integer; the same seed gives the same folds.
        validation_share: Share of each class that validation takes of what the test part leaves.

    Raises:
        DataError: A part of a fold would have none of a class: it has too few groups, or shares them with others.
    """
    if folds < 2:
        raise DataError(f"{folds} folds; at least 2 are needed.")
    groups = groups_of(catalogue)
    needed = max(folds, 4 if folds == 2 else 3)  # the test part of a fold has to leave two groups to the others
    fewest, name = min((len(groups[name]), name) for name in catalogue.classes)
    if fewest < needed:
        unit = "groups" if catalogue.grouped else "images"
        raise DataError(
            f"Class {name!r} has {fewest} {unit}; {folds} folds need {needed}, one for each test part"
            f"{' and one each to train and validate on' if needed > folds else ''}.",
            f"{f'--folds {fewest}, or add' if fewest > 2 else 'Add'} images of other patients.",
        )
    rest = 1 - 1 / folds
    for attempt in range(_ATTEMPTS):
        salt = f"{seed}.{attempt}" if attempt else f"{seed}"
        splits: list[Split] = []
        dealt = deal(catalogue.records, folds, f"{salt}:folds", largest_first=not attempt)
        for number, tested in enumerate(dealt, 1):
            train, validation = carve(
                [record for record in catalogue.records if record.group not in tested],
                f"{salt}:fold {number}:validation",
                validation_share,
            )
            split = Split(
                {
                    "train": train,
                    "validation": validation,
                    "test": in_order(record for record in catalogue.records if record.group in tested),
                },
                "group" if catalogue.grouped else "image",
                {"train": rest * (1 - validation_share), "validation": rest * validation_share, "test": 1 / folds},
            )
            if not split.holds(catalogue.classes):
                break
            splits.append(split)
        else:
            return tuple(splits)
    raise DataError(
        f"No deal in {_ATTEMPTS} attempts gave every part of {folds} folds images of every class: groups that hold "
        f"several classes leave no room. Groups of each class: "
        f"{', '.join(f'{name} {len(groups[name])}' for name in catalogue.classes)}.",
        "Fewer folds, images of other patients, or --split CSV with parts of your own.",
    )


def train_on_all(catalogue: Catalogue, seed: int, validation_share: float = VALIDATION_SHARE) -> Split:
    """A split without a test part, for a model that is trained on everything; validation chooses its epoch."""
    train, validation = carve(catalogue.records, f"{seed}:final:validation", validation_share)
    return Split(
        {"train": train, "validation": validation, "test": ()},
        "group" if catalogue.grouped else "image",
        {"train": 1 - validation_share, "validation": validation_share, "test": 0},
    )


def deal(records: Sequence[Record], folds: int, salt: str, *, largest_first: bool = True) -> list[set[str]]:
    """The groups of each fold: as many images of each label in each, as near as whole groups allow."""
    held = held_by(records)
    total = Counter(record.label for record in records)
    scale = lcm(*total.values())
    weight = {name: (scale // count) ** 2 for name, count in total.items()}
    dealt: list[tuple[set[str], Counter[str]]] = [(set(), Counter()) for _ in range(folds)]
    for group in sorted(held, key=lambda group: (-held[group].total() if largest_first else 0, drawn(salt, group))):
        labels = held[group]
        groups, images = min(
            dealt,
            key=lambda fold: (
                sum(weight[name] * count * fold[1][name] for name, count in labels.items()),
                fold[1].total(),
            ),
        )
        groups.add(group)
        images.update(labels)
    return [groups for groups, _ in dealt]
