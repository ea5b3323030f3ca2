"""What belongs together: given groups and clusters of twins, joined wherever they share an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurodense.data.catalogue import Catalogue


def join_groups(catalogue: Catalogue, clusters: NDArray[np.intp]) -> tuple[Catalogue, int]:
    """Join the groups of the catalogue with clusters of twins, (N,), wherever they share an image.

    A joined group is named after the first of its given groups, or after its first image where none is given.

    Returns:
        The catalogue with its new groups, and how many given groups went into another.
    """
    number = components(len(clusters), chain(number_names([r.group for r in catalogue.records])), chain(clusters))
    name: dict[int, tuple[bool, str]] = {}
    for k, record in zip(number.tolist(), catalogue.records, strict=True):
        own = (record.group == record.path, record.group)  # False, that is a given group, sorts first
        name[k] = min(name.get(k, own), own)
    given = {record.group for record in catalogue.records if record.group != record.path}
    records = tuple(
        replace(record, group=name[k][1]) for k, record in zip(number.tolist(), catalogue.records, strict=True)
    )
    kept = sum(not alone for alone, _ in name.values())
    return replace(catalogue, records=records, grouped=True), len(given) - kept


def straddling(catalogue: Catalogue, parts: Sequence[str]) -> tuple[str, ...]:
    """Given groups that have images in more than one part."""
    seen: dict[str, set[str]] = {}
    for record, part in zip(catalogue.records, parts, strict=True):
        if part:
            seen.setdefault(record.group, set()).add(part)
    return tuple(sorted(group for group, held in seen.items() if len(held) > 1))


def number_names(names: Sequence[str]) -> NDArray[np.intp]:
    """Number of each name among the different ones."""
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1].astype(np.intp)


def chain(numbers: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Edges that join all nodes of the same number."""
    order = np.argsort(numbers, kind="stable")
    same = numbers[order[1:]] == numbers[order[:-1]]
    return order[:-1][same], order[1:][same]


def components(n: int, *edges: tuple[ArrayLike, ArrayLike]) -> NDArray[np.intp]:
    """Number of each node's connected component, (n,): components in the order of their first node."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i = np.concatenate([np.asarray(a, dtype=np.intp) for a, _ in edges]) if edges else np.zeros(0, np.intp)
    j = np.concatenate([np.asarray(b, dtype=np.intp) for _, b in edges]) if edges else np.zeros(0, np.intp)
    graph = coo_array((np.ones(len(i), np.uint8), (i, j)), shape=(n, n))
    found = np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)
    _, first, inverse = np.unique(found, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first, kind="stable"), kind="stable")[inverse], dtype=np.intp)
