"""The facts of the images as columns of numbers, by family: what a model could read off instead of the anatomy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

import numpy as np
from numpy.typing import NDArray

FAMILIES: Final = {
    "file": (
        "bytes",
        "bytes_per_pixel",
        "format",
        "mode",
        "bit_depth",
        "exif",
        "colour_profile",
        "resolution",
        "comment",
    ),
    "dimensions": ("width", "height", "aspect"),
    "compression": ("quality", "tables", "subsampling", "progressive", "blockiness"),
    "framing": ("top", "bottom", "left", "right", "filled", "frame", "glyphs"),
    "brightness": ("mean", "deviation", "percentiles", "black", "white", "background", "colour"),
    "grain": ("background_noise", "noise", "bands"),
}
"""Family -> facts, and two that follow from them. Each fact is in one family."""

LOOK: Final = (
    "bytes_per_pixel", "blockiness", "top", "bottom", "left", "right", "filled", "mean", "deviation", "percentiles",
    "black", "white", "background", "background_noise", "noise", "bands",
)  # fmt: skip
"""How an image was made and cut out, as far as it is a matter of degree: what sources are told apart by."""


def columns(facts: NDArray[np.void], names: Sequence[str]) -> NDArray[np.float64]:
    """The named facts as numbers, float64 (N, columns); a category is its place in the order of how common it is."""
    parts = []
    for name in names:
        if name == "bytes_per_pixel":
            values = np.log2(np.maximum(facts["bytes"], 1) / (facts["width"].astype(float) * facts["height"]))
        elif name == "aspect":
            values = facts["width"] / facts["height"]
        else:
            values = facts[name]
            if values.dtype.kind == "S" or name == "tables":
                values = _ranks(values)
        parts.append(np.asarray(values, dtype=np.float64).reshape(len(facts), -1))
    return np.concatenate(parts, axis=1)


def name_columns(paths: Sequence[str], classes: Sequence[str]) -> NDArray[np.float64]:
    """What names of files give away beside the class's own name, float64 (N, 3): pattern, length, size of the number.

    Words that begin as a class does are taken out first: that `Te-gl_0010.jpg` holds "gl" says that somebody named
    it so, and the label itself is no shortcut.
    """
    starts = [name.casefold() for name in classes]

    def neutral(word: re.Match[str]) -> str:
        text = word.group().casefold()
        return "*" if any(start.startswith(text) or text.startswith(start) for start in starts) else word.group()

    patterns, magnitudes = [], []
    for path in paths:
        stem = PurePosixPath(path).stem
        digits = re.findall(r"\d+", stem)
        patterns.append(re.sub(r"\d+", "0", re.sub(r"[A-Z]?[a-z]+|[A-Z]+|[^\W\d_a-zA-Z]+", neutral, stem)))
        # A number by itself would tell an image from the numbers that its class still lacks.
        magnitudes.append(round(np.log2(1 + float(digits[-1][-12:]))) if digits else -1)
    plain = np.array(patterns)
    return np.column_stack([_ranks(plain), np.char.str_len(plain), magnitudes]).astype(np.float64)


def _ranks(values: NDArray[np.generic]) -> NDArray[np.intp]:
    """Each value's place in the order of how common it is."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    place = np.empty(len(counts), np.intp)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    return place[inverse]
