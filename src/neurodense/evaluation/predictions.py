"""predictions.csv: what a model said of each image of a labelled set, so that any score can be computed again.

    source,true[,group],predicted,p:glioma,p:meningioma,...
    Te-gl_0010.jpg,glioma,glioma,0.9931640625,0.0041,...

One row an image, UTF-8. The `p:` columns give the class names and their order. Probabilities are written with the
fewest digits that read back as the same float64 (Python's `repr`), so a file that is read and written again
is the same file. `predicted` repeats the most probable class for readers of the table, and is checked on reading.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from neurodense.atomic import replacing
from neurodense.errors import DataError
from neurodense.evaluation.metrics import SUM_TOLERANCE, checked


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions for N images over C classes, checked when built.

    Raises:
        ValueError: The parts do not fit together, as `measure` and the fields below describe them.
    """

    labels: tuple[str, ...]
    """The C class names."""
    sources: tuple[str, ...]
    """N names of images, as the data set gives them: usually paths relative to its folder."""
    truth: NDArray[np.int64]
    """int64 (N,): the index in `labels` of the true class."""
    probabilities: NDArray[np.float64]
    """float64 (N, C) in [0, 1], each row summing to 1."""
    groups: tuple[str, ...] | None = None
    """N groups (patients, or clusters of twins), or None where they are not known."""

    def __post_init__(self) -> None:
        """Check the parts, and bring them to the types that the fields state."""
        labels, truth, probabilities = checked(self.labels, self.truth, self.probabilities)
        sources = tuple(self.sources)
        groups = None if self.groups is None else tuple(self.groups)
        for name, values in (("sources", sources), ("groups", groups)):
            if values is not None and len(values) != len(truth):
                raise ValueError(f"{name} must have one entry an image, {len(truth)} in all. Got {len(values)}.")
        parts = {"labels": labels, "sources": sources, "truth": truth, "probabilities": probabilities, "groups": groups}
        for name, value in parts.items():
            object.__setattr__(self, name, value)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (N,): the index in `labels` of the most probable class; of equals, the first."""
        best: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return best

    @property
    def units(self) -> tuple[str, ...]:
        """N names of what a bootstrap draws: the group of each image; where none are known, each image by itself."""
        return self.sources if self.groups is None else self.groups


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Write `predictions` to `path`, whole or not at all."""
    labels, groups = predictions.labels, predictions.groups
    head = ["source", "true", *(() if groups is None else ("group",)), "predicted", *(f"p:{name}" for name in labels)]
    columns: list[list[str] | tuple[str, ...]] = [predictions.sources, [labels[i] for i in predictions.truth]]
    if groups is not None:
        columns.append(groups)
    columns.append([labels[i] for i in predictions.predicted])
    rows = zip(*columns, predictions.probabilities.tolist(), strict=True)

    # Before Python 3.13 csv leaves a carriage return unquoted, and would read it back as the end of the row.
    careful = any("\r" in text for text in chain(labels, predictions.sources, groups or ()))
    quoting: Literal[0, 2] = csv.QUOTE_NONNUMERIC if careful else csv.QUOTE_MINIMAL
    # A file name need not be UTF-8; Python holds its odd bytes as surrogates, and this writes them as they were.
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n", quoting=quoting)
        writer.writerow(head)
        writer.writerows((*texts, *values) for *texts, values in rows)


def read_predictions(path: str | Path) -> Predictions:
    """Read a file that `write_predictions` wrote, or one of the same form.

    Raises:
        DataError: The file cannot be read, or a line of it is not as the module describes; the message names the line.
    """
    try:
        with Path(path).open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            return _parse(Path(path), file)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.",
            "give a predictions.csv with the columns source, true, predicted and one p:<class> a class",
        ) from error


def _parse(path: Path, lines: Iterator[str]) -> Predictions:
    reader = csv.reader(lines, strict=True)

    def wrong(what: str) -> DataError:
        return DataError(f"{path}, line {max(reader.line_num, 1)}: {what}")

    try:
        head = next(reader, [])
        labels = tuple(column.removeprefix("p:") for column in head if column.startswith("p:"))
        first = ["source", "true", "group", "predicted"] if "group" in head else ["source", "true", "predicted"]
        if head != [*first, *(f"p:{name}" for name in labels)] or len(set(labels)) < max(len(labels), 2):
            raise wrong(
                "the columns must be source, true, group (may be left out), predicted, then p:<class> for two or more "
                f"classes, each once. Got {', '.join(head) or 'nothing'}."
            )
        index = {name: i for i, name in enumerate(labels)}
        sources, truth, groups, probabilities = [], [], [], []
        for row in reader:
            if len(row) != len(head):
                raise wrong(f"a row must have {len(head)} values, as the first line has. Got {len(row)}.")
            source, true, *group, predicted = row[: len(first)]
            if true not in index:
                raise wrong(f"true must be one of {', '.join(labels)}. Got '{true}'.")
            values = _probabilities(row[len(first) :])
            if values is None:
                raise wrong(f"probabilities must be in [0, 1] and sum to 1. Got {', '.join(row[len(first) :])}.")
            best = labels[int(np.argmax(values))]
            if predicted != best:
                raise wrong(f"predicted must be the most probable class, '{best}'. Got '{predicted}'.")
            sources.append(source)
            truth.append(index[true])
            groups += group
            probabilities.append(values)
    except csv.Error as error:
        raise wrong(f"not a line of comma-separated values: {error}.") from error
    if not sources:
        raise wrong("the file must have one row an image. Got a first line and nothing below it.")
    return Predictions(
        labels, tuple(sources), np.array(truth), np.array(probabilities), tuple(groups) if "group" in head else None
    )


def _probabilities(texts: list[str]) -> list[float] | None:
    """Return the numbers of one row, or None where they are no probabilities."""
    try:
        values = [float(text) for text in texts]
    except ValueError:
        return None
    # Not a chain of refusals: NaN fails every comparison, so only a test that it must pass catches it.
    fine = all(0 <= value <= 1 for value in values) and abs(sum(values) - 1) <= SUM_TOLERANCE
    return values if fine else None
