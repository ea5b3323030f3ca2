"""What belongs together: given groups and clusters of twins, joined wherever they share an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neurodense.data.catalogue import Catalogue
from neurodense.data.grouping import with_groups


def join_groups(catalogue: Catalogue, clusters: NDArray[np.intp]) -> tuple[Catalogue, int]:
    """Join the groups of the catalogue with clusters of twins, (N,), wherever they share an image.

    Returns:
        The catalogue with its new groups, named as `with_groups` does, and how many given groups went into another.
    """
    number = components(len(clusters), chain(number_names([r.group for r in catalogue.records])), chain(clusters))
    joined = with_groups(catalogue, number)
    given = {record.group for record in catalogue.records if record.group != record.path}
    return joined, len(given - {record.group for record in joined.records})


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
