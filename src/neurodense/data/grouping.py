"""Groups that no table gives: each cluster of twins is one, so that copies of one slice stay on one side.

Twins are not patients. Two slices of one head that do not look alike are in two groups here, and only a table of
patients keeps them together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.data import glance, twins
from neurodense.data.catalogue import Catalogue
from neurodense.data.fingerprint import Thumbs
from neurodense.data.glance import Glances, default_cache
from neurodense.data.split import alone, folded
from neurodense.data.twins import Pair, Twins, find_twins


def find_groups(
    catalogue: Catalogue,
    glances: Glances,
    cache: Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Catalogue:
    """Look for twins, and give the records of each cluster one group.

    Args:
        catalogue: Its groups, if it has any, are put aside.
        glances: Of its records, in their order.
        cache: As `remembered_twins` takes it.
        advance: Called as advance(done, total) every now and then.

    Returns:
        The catalogue with groups.
    """
    hashes = [record.sha256 for record in catalogue.records]
    return with_groups(alone(catalogue), remembered_twins(hashes, glances.thumbs, cache, advance).clusters)


def remembered_twins(
    hashes: Sequence[str],
    thumbs: Thumbs,
    cache: str | Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Twins:
    """Find the twins among N images, or remember them where that was done before.

    Args:
        hashes: Of the images' files, (N,); with the versions of the look and the search, what the twins depend on.
        thumbs: As `find_twins` takes them.
        cache: As `glance_folder` takes it.
        advance: Called as advance(done, total) while they are looked for.
    """
    about = json.dumps([glance.VERSION, twins.VERSION, *hashes])
    name = hashlib.sha256(about.encode()).hexdigest()[:20]
    path = (default_cache() if cache is None else Path(cache)) / "twins" / f"{name}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        pairs, neighbours = (tuple(Pair(*pair) for pair in kept[kind]) for kind in ("pairs", "neighbours"))
        return Twins(pairs, np.array(kept["clusters"], np.intp), neighbours, tuple(kept["blank"]))
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged
        found = find_twins(thumbs, advance=advance)
        kept = {kind: [astuple(pair) for pair in getattr(found, kind)] for kind in ("pairs", "neighbours")}
        kept |= {"clusters": found.clusters.tolist(), "blank": found.blank}
        atomic.write_text(path, json.dumps(kept))
        return found


def with_groups(catalogue: Catalogue, numbers: NDArray[np.intp]) -> Catalogue:
    """Make the records of each number one group.

    Args:
        catalogue: Its groups lie within the numbers.
        numbers: intp (N,): of each record one that it shares with what belongs to it, and with nothing else.

    Returns:
        The catalogue with groups. A group has the name of the first of its given groups, or the path of its first image
        where none is given; "first" does not hang on case, slashes or the composition of letters, so that the name is
        the same on every system.
    """
    of_record: list[int] = numbers.tolist()
    first: dict[int, tuple[bool, str, str]] = {}
    for number, record in zip(of_record, catalogue.records, strict=True):
        own = (record.group == record.path, folded(record.group), record.group)  # False, that is a given one, is first
        first[number] = min(first.get(number, own), own)
    records = tuple(replace(r, group=first[number][2]) for number, r in zip(of_record, catalogue.records, strict=True))
    return replace(catalogue, records=records, grouped=True)
