"""What is odd about single files: names that belie the content, mixtures, empty images, letters and frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neurodense.data.audit.parts import ResultPart

LISTED: Final = 1000
EMPTY: Final = 0.02  # share of pixels that stand out from the background, or deviation of the greys
FRAME: Final = 0.1  # how much brighter, of the whole range, a line along an edge is than the image inside it
LETTERS: Final = 3  # letter-like marks in one line
COLOUR: Final = 0.02  # mean spread of the channels; what JPEG does to grey stays well below
MOST_KINDS: Final = 20

_SUFFIXES: Final = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "PNG": {".png"},
    "TIFF": {".tif", ".tiff"},
    "BMP": {".bmp"},
    "WEBP": {".webp"},
    "GIF": {".gif"},
}

Kind = Literal["wrong extension", "almost empty", "burned-in text", "frame", "colour"]


class Odd(ResultPart):
    """One odd image."""

    path: str
    label: str
    detail: str


class Oddity(ResultPart):
    """Images that are odd in one way."""

    kind: Kind
    count: int
    by_class: dict[str, int]
    listed: tuple[Odd, ...] = Field(description=f"The oddest first, at most {LISTED}.")


class Mixture(ResultPart):
    """A property of files that not all share."""

    of: Literal["format", "mode", "bit depth", "dimensions", "compression"]
    kinds: int
    counts: dict[str, dict[str, int]] = Field(
        description=f"The {MOST_KINDS} commonest, the commonest first: value -> images of each class."
    )


def find_oddities(facts: NDArray[np.void], paths: Sequence[str], labels: Sequence[str]) -> tuple[Oddity, ...]:
    """Find odd images; one entry a kind that there is.

    Args:
        facts: Records of `facts.FACTS`, (N,).
        paths: Names of the images.
        labels: Their classes' names.
    """
    found: list[Oddity] = []

    def add(kind: Kind, score: NDArray[np.float64], details: list[str] | str) -> None:
        order = [int(i) for i in np.argsort(-score, kind="stable") if score[i] > 0]
        if order:
            first = [
                Odd(path=paths[i], label=labels[i], detail=details if isinstance(details, str) else details[i])
                for i in order[:LISTED]
            ]
            by_class = dict(sorted(Counter(labels[i] for i in order).items()))
            found.append(Oddity(kind=kind, count=len(order), by_class=by_class, listed=tuple(first)))

    formats = [value.decode() for value in facts["format"]]
    wrong = [PurePosixPath(p).suffix.lower() not in _SUFFIXES.get(f, {""}) for p, f in zip(paths, formats, strict=True)]
    known = [name in _SUFFIXES for name in formats]
    add("wrong extension", np.array(wrong) * 1.0 * known, [f"is {name}" for name in formats])
    fill = np.minimum(facts["filled"], facts["deviation"])
    add("almost empty", np.where(fill < EMPTY, 1 - fill, 0), "hardly any pixel stands out from the background")
    glyphs = facts["glyphs"].astype(float)
    add(
        "burned-in text",
        np.where(glyphs >= LETTERS, glyphs, 0),
        [f"{n:.0f} letter-like marks in a line" for n in glyphs],
    )
    frame = facts["frame"].astype(float)
    add("frame", np.where(frame >= FRAME, frame, 0), "a bright even line along an edge")
    add("colour", np.where(facts["colour"] >= COLOUR, facts["colour"], 0), "is in colour")
    return tuple(found)


def find_mixtures(facts: NDArray[np.void], labels: Sequence[str]) -> tuple[Mixture, ...]:
    """Formats, modes, bit depths, dimensions and JPEG tables of the files, where there is more than one."""
    found = []
    for of, values in file_traces(facts).items():
        count = Counter(values)
        if len(count) > 1:
            held = Counter(zip(values, labels, strict=True))
            classes = sorted(set(labels))
            common = [name for name, _ in count.most_common(MOST_KINDS)]
            table = {name: {label: held[name, label] for label in classes} for name in common}
            found.append(Mixture(of=of, kinds=len(count), counts=table))
    return tuple(found)


def file_traces(
    facts: NDArray[np.void],
) -> dict[Literal["format", "mode", "bit depth", "dimensions", "compression"], list[str]]:
    """What the files state of themselves, in words, N of each."""
    quality = np.nan_to_num(facts["quality"], nan=-1)
    tables = {table: f"JPEG tables {k}" for k, table in enumerate(np.unique(facts["tables"]), 1)}
    return {
        "format": [value.decode() or "unknown" for value in facts["format"]],
        "mode": [value.decode() or "unknown" for value in facts["mode"]],
        "bit depth": [f"{value} bit" for value in facts["bit_depth"]],
        "dimensions": [f"{w} x {h}" for w, h in zip(facts["width"], facts["height"], strict=True)],
        "compression": [
            f"{tables[table]}, quality {q:.0f}" if q >= 0 else "no JPEG"
            for table, q in zip(facts["tables"], quality, strict=True)
        ],
    }
