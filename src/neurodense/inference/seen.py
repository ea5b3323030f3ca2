"""The images a model has seen, by their files' hashes, so that nobody tests on them unawares."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from neurodense import atomic
from neurodense.errors import ModelError
from neurodense.inference.card import Card

SEEN: Final = "seen.txt"
_DIGITS = 16  # of a sha256: among a million files, the chance that two share them is one in forty million


def write_seen(folder: Path, hashes: Iterable[str]) -> None:
    """Write FOLDER/seen.txt: the first digits of the sha256 of each file, a line each, in order."""
    atomic.write_text(folder / SEEN, "".join(f"{digits}\n" for digits in sorted({sha[:_DIGITS] for sha in hashes})))


def read_seen(folder: Path, card: Card) -> frozenset[str]:
    """The digits that `write_seen` wrote; empty for a model without.

    Raises:
        ModelError: The file is missing.
    """
    if SEEN not in card.files:
        return frozenset()
    try:
        return frozenset((folder / SEEN).read_text(encoding="ascii").split())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / SEEN} cannot be read: {error}", "Copy the model folder again.") from None


def count_seen(seen: frozenset[str], files: Iterable[Path]) -> int:
    """How many of these files the model was trained or validated on; one that cannot be read is none of them."""
    if not seen:
        return 0
    count = 0
    for path in files:
        try:
            with path.open("rb") as handle:
                count += hashlib.file_digest(handle, "sha256").hexdigest()[:_DIGITS] in seen
        except OSError:
            continue
    return count
