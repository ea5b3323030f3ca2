"""Which images train, validate and test, as the options of `train` say: one split, K folds, or one source left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurodense.data.catalogue import Catalogue
from neurodense.data.folds import fold_records, train_on_all
from neurodense.data.groups import GroupTable
from neurodense.data.partial import Partial
from neurodense.data.partial_parts import PartialImages, draw_parts, groups_to_test, not_given, place
from neurodense.data.sources import leave_out
from neurodense.data.split import PARTS, Split, alone, leaked, split_records
from neurodense.data.split_table import read_split
from neurodense.errors import DataError
from neurodense.screen import Screen

FINAL = "final"
"""Folder of the model that is trained on all images after the folds."""


@dataclass(frozen=True)
class Plan:
    """The options of `train` that decide over the parts, checked when built.

    Attributes:
        split: CSV of path and part.
        split_by: "group" moves whole groups; "image" every image by itself, as the notebook does; None is "group".
        folds: Number of folds of a cross-validation.
        final: After the folds, train one model on all images.
        leave_out: COLUMN=VALUE or a regular expression: the source that is the test part.

    Raises:
        DataError: Two of them contradict each other.
    """

    split: Path | None = None
    split_by: Literal["group", "image"] | None = None
    folds: int | None = None
    final: bool = False
    leave_out: str | None = None

    def __post_init__(self) -> None:
        ways = {"--split": self.split is not None, "--folds": self.folds is not None}
        ways["--leave-out"] = self.leave_out is not None
        if len(given := [option for option, is_given in ways.items() if is_given]) > 1:
            raise DataError(
                f"{' and '.join(given)} exclude each other: each decides which images are tested.",
                "--split CSV takes parts of your own, --folds K tests on every image once, --leave-out SOURCE on one "
                "source; none of them is the split 70/10/20.",
            )
        if self.split is not None and self.split_by is not None:
            raise DataError("--split-by is for parts that are drawn; --split gives them.", "Leave out one of the two.")
        if self.leave_out is not None and self.split_by == "image":
            raise DataError(
                "--leave-out keeps groups whole and excludes --split-by image.", "Leave out --split-by, or --leave-out."
            )
        if self.split_by not in {None, "group", "image"}:
            raise DataError(f"--split-by is {self.split_by!r}; allowed are group, image.")
        if self.folds is not None and self.folds < 2:
            raise DataError(f"--folds is {self.folds}; at least 2 are needed.")
        if self.final and self.folds is None:
            raise DataError(
                "--final goes with --folds K: it trains one more model, on all images.",
                "Without folds a run keeps a test part, and its model is RUN/model.",
            )

    def parts(
        self,
        catalogue: Catalogue,
        table: GroupTable | None,
        seed: int,
        screen: Screen,
        partial: Sequence[Partial] = (),
        images: PartialImages | None = None,
    ) -> dict[str, Split]:
        """Make, check and show the parts.

        Args:
            catalogue: With its groups.
            table: The group table, where one was given.
            seed: Of the draw.
            screen: Told what is in each part.
            partial: Folders of images whose class is only partly known.
            images: Theirs; None where there are no such folders.

        Returns:
            The split of each training by its folder in the run: fold-1, fold-2, ..., final; "" for the run itself.

        Raises:
            DataError: The parts cannot be made as asked for.
        """
        drawn_from = alone(catalogue) if self.split_by == "image" else catalogue
        if self.folds is not None:
            splits = {f"fold-{number}": s for number, s in enumerate(fold_records(drawn_from, self.folds, seed), 1)}
            if self.final:
                splits[FINAL] = train_on_all(drawn_from, seed)
        elif self.leave_out is not None:
            left = leave_out(catalogue, self.leave_out, table, seed)
            splits = {"": left.split}
            screen.say(f"left out as the test part: {self.leave_out}, {len(left.split.parts['test']):,} images")
            if left.shared:
                screen.warn(
                    f"{left.shared:,} images of other sources are in a group with an image of the test part, and are "
                    "not used"
                )
            if left.unknown:
                screen.warn(f"{left.unknown:,} images, whose source the table does not say, are not used")
        elif self.split is not None:
            splits = {"": read_split(self.split, catalogue, seed, partial=images.records if images is not None else ())}
            if others := not_given(self.split, partial):
                screen.warn(f"not used: the images of {', '.join(others)}, which the split lists and --partial lacks")
        else:
            splits = {"": split_records(drawn_from, seed)}
        for name, split in splits.items():
            check_parts(split, catalogue, tested=name != FINAL)
            say_split(split, catalogue, screen, name)
        if self.split_by == "image":
            say_leaks(splits, catalogue, screen)
        return splits if images is None else self._placed(splits, catalogue, partial, images, seed, screen)

    def _placed(
        self,
        splits: Mapping[str, Split],
        catalogue: Catalogue,
        partial: Sequence[Partial],
        images: PartialImages,
        seed: int,
        screen: Screen,
    ) -> dict[str, Split]:
        """The splits with the images whose class is only partly known."""
        tested = groups_to_test(images, seed, self.folds)  # of each fold; a final model has no test part
        placed = {
            name: place(split, catalogue, images, partial, draw_parts(images, held_back, f"{seed}:{name}"))
            for (name, split), held_back in zip(splits.items(), [*tested, set[str]()], strict=False)
        }
        for name, split in placed.items():
            say_partial(split, partial, images, screen, name)
        return placed


def check_parts(split: Split, catalogue: Catalogue, *, tested: bool = True) -> None:
    """See that every class trains and validates, and that there is something to test on.

    Raises:
        DataError: One has not.
    """
    counts = split.counts(catalogue.classes)
    for part in PARTS[:2]:
        if empty := [name for name, count in counts[part].items() if not count]:
            raise DataError(
                f"The {part} part holds no image of {', '.join(map(repr, empty))}.",
                "Each class needs images in training and validation.",
            )
    if tested and not split.parts["test"]:
        raise DataError("The test part is empty.", "Give images of each class the part 'test'.")


def say_split(split: Split, catalogue: Catalogue, screen: Screen, name: str = "") -> None:
    """Say what is in each part, next to what it was to get, and what is wrong with it."""
    for line in split_table(split, catalogue.classes, name):
        screen.say(line)
    unused = len(catalogue.records) - sum(map(len, split.parts.values()))
    if unused and split.by == "file":
        screen.warn(f"{unused:,} images of the folder are in no part of the split that was given, and are not used")
    lacking = [label for label, count in split.counts(catalogue.classes)["test"].items() if not count]
    if lacking and split.parts["test"]:
        screen.warn(
            f"the test part holds no image of {', '.join(lacking)}: the recall of such a class is undefined, and macro "
            "averages count it as 0"
        )
    if not (split.grouped or catalogue.grouped):
        screen.warn(
            "no groups are known: slices of one patient may be on both sides, and the score is then too good. "
            "--groups CSV keeps patients together"
        )


def say_partial(
    split: Split, partial: Sequence[Partial], images: PartialImages, screen: Screen, name: str = ""
) -> None:
    """Say how many images whose class is only partly known are in each part."""
    for one in partial:
        count = {part: len(one.of(split.partial[part])) for part in PARTS}
        held = ", ".join(f"{part} {number:,}" for part, number in count.items())
        screen.say(f"  {f'{name} ' if name else ''}{one.name} ({one.label}): {held}")
        if unused := len(one.of(images.records)) - sum(count.values()):
            screen.warn(
                f"{unused:,} images of {one.name} are not used: the split does not list them, or their twins in DATA "
                "are in several parts or in none"
            )


def split_table(split: Split, classes: tuple[str, ...], name: str = "") -> list[str]:
    """Lines of a table: a row a part, with its target; a column a class, with images and their share of the class."""
    counts = split.counts(classes)
    total = {label: sum(counts[part][label] for part in PARTS) for label in classes}
    rows = [[name or "part", *(("target",) if split.target else ()), *classes, "all", "groups"]]
    for part in PARTS:
        if not split.parts[part]:
            continue
        row: list[str] = [part, *((f"{split.target[part]:.1%}",) if split.target else ())]
        for label in classes:
            count = counts[part][label]
            row.append(f"{count:,} ({count / total[label]:.1%})" if total[label] else "0")
        groups = len({record.group for record in split.parts[part]})
        rows.append([*row, f"{len(split.parts[part]):,}", f"{groups:,}" if split.grouped else "-"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(line))
        for line in ([*zip(row, widths, strict=True)] for row in rows)
    ]


def say_leaks(splits: Mapping[str, Split], catalogue: Catalogue, screen: Screen) -> None:
    """Say how many test images a split by image leaves with a twin or a slice of the same patient in training."""
    tested = sum(len(split.parts["test"]) for split in splits.values())
    count = sum(leaked(split, catalogue) for split in splits.values())
    screen.warn(
        f"split by image, as the notebook does: {count:,} of {tested:,} test images ({count / tested:.0%}) have a twin "
        "or an image of the same patient in training, and the score is too good by them"
    )
