"""Which slices of a volume are looked at: `brain`, `all`, `middle`, `every:N` or `range:A-B`.

Slices are numbered from 1, as viewers show them; an axial volume from the feet upwards.

`brain` is a rule about the head, cheap and the same every time; it looks for no brain:

1. Foreground is what is brighter than half of the threshold of Otsu (IEEE Trans. Syst. Man Cybern. 9:62, 1979) over the
   whole volume. Otsu's own threshold divides fat from brain where fat is bright; half of it divides head from air.
2. From the slice with the most foreground, upwards and downwards while a slice has at least `SHARE` of it. That leaves
   out the air above the head, slices that were never filled, and the thin end of the vertex.
3. Where the file states the distance of the slices and which end is up: at most `HEAD_MM` down from the top, which
   leaves out the neck. 170 mm is what FSL's `robustfov` keeps of a head.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import DataError

SHARE = 0.5
"""Foreground of a slice that is taken, as a share of the largest slice's."""
HEAD_MM = 170.0
"""Height of what is taken, in millimetres."""

_BINS = 256
_FORM = re.compile(r"(brain|all|middle)|every:(\d{1,6})|range:(\d{1,6})-(\d{1,6})")


@dataclass(frozen=True)
class Slices:
    """A choice of slices; `Slices.parse` makes one from its text.

    Attributes:
        kind: The rule.
        numbers: (N,) of `every`, (A, B) of `range`; empty otherwise.
    """

    kind: Literal["brain", "all", "middle", "every", "range"] = "brain"
    numbers: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Slices:
        """Read `brain`, `all`, `middle`, `every:N` (slices 1, 1 + N, ...) or `range:A-B` (A to B, both taken).

        Raises:
            DataError: The text is none of these, or the numbers make no sense.
        """
        match = _FORM.fullmatch(text.strip().lower())
        if match is None:
            raise DataError(
                f"slices is {text!r}; allowed are brain, all, middle, every:N and range:A-B.",
                "For example every:5, or range:40-90: slices are numbered from 1, as viewers show them.",
            )
        word, step, first, last = match.groups()
        if word is not None:
            return cls(cast("Literal['brain', 'all', 'middle']", word))
        if step is not None:
            if int(step) < 1:
                raise DataError(f"slices is {text!r}; N of every:N must be 1 or more.")
            return cls("every", (int(step),))
        if not 1 <= int(first) <= int(last):
            raise DataError(f"slices is {text!r}; range:A-B needs 1 <= A <= B: slices are numbered from 1.")
        return cls("range", (int(first), int(last)))

    def __str__(self) -> str:
        if self.kind == "every":
            return f"every:{self.numbers[0]}"
        return f"range:{self.numbers[0]}-{self.numbers[1]}" if self.kind == "range" else self.kind

    def choose(self, total: int, brain: Callable[[], range]) -> range:
        """Numbers of the slices to take, in 1..total; a range beyond the last slice ends there.

        Args:
            total: Slices that there are, at least 1.
            brain: Called for `brain` only: the numbers that `brain_slices` gives.

        Raises:
            DataError: A range that begins beyond the last slice.
        """
        if self.kind == "brain":
            return brain()
        if self.kind == "middle":
            return range((total + 1) // 2, (total + 1) // 2 + 1)
        if self.kind == "every":
            return range(1, total + 1, self.numbers[0])
        if self.kind == "range":
            first, last = self.numbers
            if first > total:
                raise DataError(f"{self} begins beyond the last of the {total} slices.")
            return range(first, min(last, total) + 1)
        return range(1, total + 1)


def brain_slices(slices: Sequence[NDArray[np.float32]], step_mm: float | None = None) -> range:
    """Numbers (from 1) of the slices that `brain` takes, by the rule at the top of this file.

    Args:
        slices: float32 (h, w) in [0, 1] each, scaled alike; small ones do.
        step_mm: Distance of neighbours in millimetres where the last slice is the uppermost; None where unknown.
    """
    histogram = np.zeros(_BINS, dtype=np.int64)
    for pixels in slices:
        histogram += np.histogram(pixels, _BINS, (0, 1))[0]
    threshold = otsu(histogram) / 2
    areas = np.array([np.count_nonzero(pixels > threshold) / pixels.size for pixels in slices])
    largest = int(areas.argmax())
    enough = areas >= SHARE * areas[largest]
    below, above = np.flatnonzero(~enough[:largest]), np.flatnonzero(~enough[largest:])
    first = int(below[-1]) + 1 if below.size else 0
    last = largest + int(above[0]) - 1 if above.size else len(slices) - 1
    if step_mm:
        first = max(first, last - int(HEAD_MM // step_mm))
    return range(first + 1, last + 2)


def otsu(histogram: NDArray[np.int64]) -> float:
    """The threshold in [0, 1] that leaves the most variance between the two sides of a histogram over [0, 1].

    Where several do, since nothing lies between them, their middle.
    """
    bins = len(histogram)
    share = histogram / max(histogram.sum(), 1)
    centre = (np.arange(bins) + 0.5) / bins
    low, moment = np.cumsum(share), np.cumsum(share * centre)
    product = low * (1 - low)
    between = np.zeros(bins)
    np.divide((moment[-1] * low - moment) ** 2, product, out=between, where=product > 1e-12)
    best = np.flatnonzero(between >= between.max() * (1 - 1e-9))
    return float(((best[0] + best[-1]) / 2 + 1) / bins)
