"""Look-up tables of DICOM: modality and VOI LUTs (Part 3, C.11.1, C.11.2) and palettes (C.7.6.3.1.5, C.7.9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2  # kinds of segment, C.7.9.2


@dataclass(frozen=True, eq=False)
class Lut:
    """A look-up table: `first` and what is below give entries[0], what is beyond the end gives the last entry.

    Attributes:
        entries: float64, shape (N,).
        first: The value that gives entries[0].
        top: The largest entry that the table's bits can hold.
    """

    entries: NDArray[np.float64]
    first: int
    top: float

    def __call__(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The entries of values, which are rounded to integers."""
        index = np.clip(np.rint(values.astype(np.float64)) - self.first, 0, len(self.entries) - 1)
        entries: NDArray[np.float64] = self.entries[index.astype(np.int64)]
        return entries

    def shown(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entries as a share of the largest possible one, in [0, 1]."""
        return self(values) / self.top


def read_lut(item: Dataset, prefix: str, *, little: bool, signed: bool) -> Lut | None:
    """The table of the elements `prefix`Descriptor and `prefix`Data, or of a palette's segmented data.

    Args:
        item: The data set that holds them.
        prefix: "LUT", or such as "RedPaletteColorLookupTable".
        little: Byte order of `item`.
        signed: Whether the values looked up may be negative.

    Returns:
        None where there is no table, or it is broken.
    """
    try:
        count, first, bits = (int(value) for value in item[f"{prefix}Descriptor"].value)
    except (KeyError, TypeError, ValueError):
        return None
    count = count & 0xFFFF or 1 << 16  # 0 says 65,536; where the descriptor is signed, large counts come negative
    if signed and first > 0x7FFF:
        first -= 1 << 16
    data = item.get(f"{prefix}Data")
    if data is not None:
        # A table of up to 8 bits may have one byte an entry, or two.
        entries = _words(data, wide=not isinstance(data, bytes) or len(data) >= 2 * count, little=little)[:count]
    else:
        segments = item.get(f"Segmented{prefix}Data")
        wide = bits > 8
        entries = _expanded(_words(segments, wide=wide, little=little), count, wide=wide, little=little)
    if not len(entries) or not 1 <= bits <= 16:
        return None
    return Lut(entries, first, max(2.0**bits - 1, float(entries.max())))


def _words(data: Any, *, wide: bool, little: bool) -> NDArray[np.float64]:
    if isinstance(data, bytes):
        data = np.frombuffer(data[: len(data) // 2 * 2] if wide else data, f"{'<' if little else '>'}u{1 + wide}")
    return np.atleast_1d(np.asarray([] if data is None else data, dtype=np.float64))


def _expanded(words: NDArray[np.float64], count: int, *, wide: bool, little: bool) -> NDArray[np.float64]:
    """The entries of a segmented table, at most `count` of them."""
    table: list[float] = []
    _expand(words.astype(int).tolist(), 0, len(words), table, count, wide=wide, little=little)
    return np.array(table[:count], dtype=np.float64)


def _expand(
    words: Sequence[int], at: int, segments: int, table: list[float], count: int, *, wide: bool, little: bool
) -> None:
    """Append what `segments` segments from words[at] on stand for, until `table` has `count` entries."""
    nested = segments < len(words)
    while segments and len(table) < count and at + 2 < len(words):
        kind, length = words[at : at + 2]
        at, segments = at + 2, segments - 1
        if kind == _DISCRETE:
            table.extend(words[at : at + length])
            at += length
        elif kind == _LINEAR and table and length:
            table.extend(np.rint(np.linspace(table[-1], words[at], length + 1)[1:]))
            at += 1
        elif kind == _INDIRECT and not nested and length < len(words):  # an indirect segment names no other
            if wide:
                start, at = (words[at] | words[at + 1] << 16) // 2 if at + 1 < len(words) else len(words), at + 2
            else:
                start, at = int.from_bytes(bytes(words[at : at + 4]), "little" if little else "big"), at + 4
            _expand(words, start, length, table, count, wide=wide, little=little)
        else:
            return
