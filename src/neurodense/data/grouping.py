"""Groups that no table gives: each cluster of twins is one, so that copies of one slice stay on one side.

Twins are not patients. Two slices of one head that do not look alike are in two groups here, and only a table of
patients keeps them together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurodense import __version__, atomic
from neurodense.data.catalogue import Catalogue
from neurodense.data.glance import VERSION, Glances, default_cache
from neurodense.data.split import folded
from neurodense.data.twins import LINK, TWIN, find_twins


def find_groups(
    catalogue: Catalogue,
    glances: Glances,
    cache: Path | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Catalogue:
    """Look for twins, and give the records of each cluster one group; what was found is kept in the cache.

    Args:
        catalogue: Its groups, if it has any, are put aside.
        glances: Of its records, in their order.
        cache: As `glance_folder` takes it.
        advance: Called as advance(done, total) every now and then.

    Returns:
        The catalogue with groups.
    """
    about = [__version__, VERSION, TWIN, LINK, catalogue.manifest_sha256]  # what the result depends on
    name = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:20]
    path = (cache or default_cache()) / "twins" / f"{name}.json"
    try:
        group_of = json.loads(path.read_text(encoding="utf-8"))
        records = tuple(replace(record, group=group_of[record.path]) for record in catalogue.records)
    except (OSError, ValueError, KeyError):
        grouped = with_groups(catalogue, find_twins(glances.thumbs, advance=advance).clusters)
        atomic.write_json(path, {record.path: record.group for record in grouped.records})
        return grouped
    return replace(catalogue, records=records, grouped=True)


def with_groups(catalogue: Catalogue, clusters: NDArray[np.intp]) -> Catalogue:
    """Give the records of each cluster one group.

    Args:
        catalogue: Its groups, if it has any, are put aside.
        clusters: intp (N,): of each record a number that it shares with its twins and with no others.

    Returns:
        The catalogue with groups. A group's name is the path of one of its images, the same one on every system.
    """
    numbers: list[int] = clusters.tolist()
    first: dict[int, str] = {}
    for number, record in zip(numbers, catalogue.records, strict=True):
        first[number] = min(first.get(number, record.path), record.path, key=lambda path: (folded(path), path))
    records = tuple(replace(r, group=first[number]) for number, r in zip(numbers, catalogue.records, strict=True))
    return replace(catalogue, records=records, grouped=True)
