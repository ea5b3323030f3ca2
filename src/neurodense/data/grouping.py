"""Groups that no table gives: each cluster of twins is one, so that copies of one slice stay on one side.

Twins are not patients. Two slices of one head that do not look alike are in two groups here, and only a table of
patients keeps them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from neurodense.data.catalogue import Catalogue
from neurodense.data.split import folded


def find_groups(catalogue: Catalogue, clusters: Sequence[int]) -> Catalogue:
    """Give the records of each cluster one group.

    Args:
        catalogue: Its groups, if it has any, are put aside.
        clusters: Of each record a number that it shares with its twins and with no others, as `Twins.clusters` has it.

    Returns:
        The catalogue with groups. A group's name is the path of one of its images, the same one on every system.
    """
    first: dict[int, str] = {}
    for cluster, path in zip(map(int, clusters), (record.path for record in catalogue.records), strict=True):
        first[cluster] = min(first.get(cluster, path), path, key=lambda name: (folded(name), name))
    records = tuple(
        replace(record, group=first[int(cluster)]) for record, cluster in zip(catalogue.records, clusters, strict=True)
    )
    return replace(catalogue, records=records, grouped=True)
