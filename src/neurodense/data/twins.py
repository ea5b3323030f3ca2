"""Find twins: the same slice twice, whether mirrored, turned, re-encoded, rescaled, brightened, framed or cropped.

    thumbnails -> descriptions -> candidates (`candidates`) -> each compared closely (`align`) -> clusters

A cluster is a star: its centre is the picture with the most and nearest candidates, and each other picture was
compared with the centre itself. Where a picture resembles a member and not the centre (a crop and a framed copy of one
slice), a closer agreement is asked for before two stars become one, so that no chain of half-resemblances runs from
patient to patient. Slices that lie next to each other in one head resemble each other and are no twins: they are given
apart, as neighbours.

The pictures are sorted by their content first, so that the result does not depend on the order they come in.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from neurodense.data.align import HALF, half_size, similarities
from neurodense.data.candidates import INVERSE, Pairs, View, nearest
from neurodense.data.fingerprint import HEAD, SIDE, WHOLE, Floats, Thumbs, describe, equalised, turned_description
from neurodense.errors import MissingExtra

VERSION: Final = 1
"""Counts up when the same thumbnails would give other twins, so that what an older program found is not used."""
TWIN: Final = 0.92
"""Least similarity of twins."""
LINK: Final = 0.94
"""Least similarity of two pictures that make two clusters one."""
NEIGHBOUR: Final = 0.70
"""Least similarity of neighbours."""

_CROPS: Final = (0.92, 0.84)
"""Shares of a picture's sides that are compared with pictures that seem cropped; each reaches 0.05 either way."""
_FRAMES: Final = (WHOLE, HEAD, *(WHOLE for _ in _CROPS))
_SCALES: Final = (1.0, 1.0, *_CROPS)
_BATCH: Final = 128
_CONTRAST: Final = 8  # grey levels; what has fewer is blank
_SAME_FRAME: Final = 0.95  # likeness of whole pictures with the same frame

Kind = Literal["exact", "copy", "reframed", "neighbour"]


@dataclass(frozen=True)
class Pair:
    """Two pictures that belong together.

    Attributes:
        first: Number of a picture.
        second: Number of another, larger.
        turn: What makes the second look like the first: see `fingerprint.turned`.
        similarity: How well they agree, up to 1: see `align`.
        kind: "exact": thumbnails equal to the bit; "copy": the same frame; "reframed": cropped, shifted, or with
            another border; "neighbour": alike, but no twins.
    """

    first: int
    second: int
    turn: int
    similarity: float
    kind: Kind


@dataclass(frozen=True)
class Twins:
    """What `find_twins` finds.

    Attributes:
        pairs: Twins, sorted: in a cluster of n pictures, n - 1 pairs that hold it together, not all n (n - 1) / 2.
        clusters: intp (N,): of each picture the lowest number in its cluster, its own where it has no twin.
        neighbours: Pairs of pictures that are probably one patient's slices, or otherwise alike; each stands for the
            clusters of its two. Nothing is said about neighbours of neighbours.
        blank: Numbers of the pictures that show nothing. They have no twins.
    """

    pairs: tuple[Pair, ...]
    clusters: NDArray[np.intp]
    neighbours: tuple[Pair, ...]
    blank: tuple[int, ...]


def find_twins(thumbs: Thumbs, *, advance: Callable[[int, int], None] = lambda done, total: None) -> Twins:
    """Find the twins among N pictures. For those between two sets, concatenate the thumbnails.

    Args:
        thumbs: uint8 (N, 2, 64, 64), what `fingerprint.thumb_of` makes of each picture; may be a memory map.
        advance: Called as advance(done, total) every now and then.

    Returns:
        The same pairs and clusters whatever the order of the pictures.

    Raises:
        ValueError: `thumbs` has another shape or type.
        MissingExtra: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingExtra("threadpoolctl", "audit") from error
    if thumbs.dtype != np.uint8 or thumbs.ndim != 4 or thumbs.shape[1:] != (2, SIDE, SIDE):
        raise ValueError(f"thumbs must be uint8 (N, 2, {SIDE}, {SIDE}). Got {thumbs.dtype} {thumbs.shape}.")
    distinct, copies, blank = _distinct(thumbs)
    with threadpool_limits(1, user_api="blas"):  # the search has its own; these would wait for one another
        gallery = _Gallery(thumbs, distinct, lambda share: advance(int(20 * share), 100))
        candidates = nearest(gallery.views(), gallery.workers, lambda share: advance(20 + int(40 * share), 100))
        twins, near = _stars(gallery, candidates, lambda share: advance(60 + int(40 * share), 100))
    pairs = [gallery.pair(candidates[k], similarity) for k, similarity in twins]
    pairs, clusters = _joined(len(thumbs), pairs + [Pair(a, b, 0, 1.0, "exact") for a, b in copies])
    neighbours = [replace(gallery.pair(candidates[k], similarity), kind="neighbour") for k, similarity in near]
    neighbours = [pair for pair in neighbours if clusters[pair.first] != clusters[pair.second]]
    advance(100, 100)
    return Twins(_in_order(pairs), clusters, _in_order(neighbours), blank)


def _in_order(pairs: list[Pair]) -> tuple[Pair, ...]:
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def _distinct(thumbs: Thumbs) -> tuple[NDArray[np.intp], list[tuple[int, int]], tuple[int, ...]]:
    """Numbers of the pictures to look at in the order of their content, copies to the bit of these, and the blank."""
    number_of: dict[bytes, int] = {}
    copies, blank = [], []
    for number, both in enumerate(thumbs):
        if np.ptp(both[WHOLE]) < _CONTRAST:
            blank.append(number)
            continue
        first = number_of.setdefault(hashlib.blake2b(both.tobytes(), digest_size=16).digest(), number)
        if first != number:
            copies.append((first, number))
    return np.array([number_of[key] for key in sorted(number_of)], np.intp), copies, tuple(blank)


def _joined(count: int, pairs: list[Pair]) -> tuple[list[Pair], NDArray[np.intp]]:
    """The pairs that join two clusters when taken in turn, and of each picture the lowest number in its cluster."""
    root = list(range(count))

    def find(number: int) -> int:
        while root[number] != number:
            root[number] = number = root[root[number]]
        return number

    kept = []
    for pair in pairs:
        low, high = sorted((find(pair.first), find(pair.second)))
        if low != high:
            root[high] = low
            kept.append(pair)
    return kept, np.array([find(number) for number in range(count)], np.intp)


class _Gallery:
    """The distinct pictures, and what is known of each."""

    def __init__(self, thumbs: Thumbs, distinct: NDArray[np.intp], advance: Callable[[float], None]) -> None:
        self.thumbs, self.number = thumbs, distinct
        self.workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        count = len(distinct)
        self.halves = np.empty((count, 2, HALF, HALF), np.uint8)
        self.cropped = np.zeros(count, bool)
        parts: list[list[Floats]] = []
        for start in range(0, count, _BATCH):
            part = slice(start, start + _BATCH)
            both = thumbs[distinct[part]]
            whole, head = equalised(both[:, WHOLE]), equalised(both[:, HEAD])
            parts.append([describe(x) for x in (whole, head, *(_middle(whole, share) for share in _CROPS))])
            self.halves[part, WHOLE], self.halves[part, HEAD] = half_size(whole), half_size(head)
            self.cropped[part] = _seems_cropped(both[:, WHOLE])
            advance(start / count)
        self.descriptions = [np.concatenate(column) for column in zip(*parts, strict=True)]

    def views(self) -> list[View]:
        """What to compare: whole pictures, heads, and pictures that seem cropped with the middles of all others."""
        if not self.descriptions:
            return []
        every = np.ones(len(self.number), bool)
        whole, head, *middles = self.descriptions
        cropped = [View(self.cropped, whole, middle) for middle in middles]
        return [View(every, whole, whole), View(every, head, head), *cropped]

    def compare(self, candidates: Pairs) -> Floats:
        """The similarity of each, float32 (len(candidates),), by threads."""
        batches = [candidates[start : start + _BATCH] for start in range(0, len(candidates), _BATCH)]
        with ThreadPoolExecutor(self.workers) as pool:
            return np.concatenate([np.empty(0, np.float32), *pool.map(self._compare, batches)])

    def _compare(self, candidates: Pairs) -> Floats:
        frame, scale = np.array(_FRAMES)[candidates["view"]], np.array(_SCALES, np.float32)[candidates["view"]]
        similarity = self._compare_in(candidates, frame, scale)
        # The middle of a framed picture is coarser than a picture like it; their heads are equally fine.
        doubtful = np.flatnonzero((scale < 1) & (similarity < TWIN))
        if doubtful.size:
            heads = self._compare_in(candidates[doubtful], np.full(doubtful.size, HEAD), np.ones_like(scale[doubtful]))
            similarity[doubtful] = np.maximum(similarity[doubtful], heads)
        return similarity

    def _compare_in(self, candidates: Pairs, frame: NDArray[np.intp], scale: Floats) -> Floats:
        first, second = candidates["first"], candidates["second"]
        return similarities(
            self.thumbs[self.number[first], frame],
            self.thumbs[self.number[second], frame],
            self.halves[first, frame],
            self.halves[second, frame],
            candidates["turn"],
            scale,
        )

    def pair(self, candidate: np.void, similarity: float) -> Pair:
        """Say it in the caller's numbers."""
        first, second, turn = int(candidate["first"]), int(candidate["second"]), int(candidate["turn"])
        whole = self.descriptions[WHOLE]
        alike = float(whole[first] @ turned_description(whole[[second]], turn)[0])
        a, b = int(self.number[first]), int(self.number[second])
        if a > b:
            a, b, turn = b, a, int(INVERSE[turn])
        return Pair(a, b, turn, round(similarity, 4), "copy" if alike > _SAME_FRAME else "reframed")


_Found = list[tuple[int, float]]
"""Numbers of candidates, and their similarity."""


def _stars(gallery: _Gallery, candidates: Pairs, advance: Callable[[float], None]) -> tuple[_Found, _Found]:
    """Compare candidates until every picture is a centre or a centre's twin: twins, and neighbours of centres.

    In each round the pictures with more and nearer candidates than all of their candidates become centres, and are
    compared with these; a twin leaves with its centre. So a cluster costs one comparison a member.
    """
    count = len(gallery.number)
    first, second, alike = candidates["first"], candidates["second"], candidates["alike"]
    weight = np.bincount(first, alike, count) + np.bincount(second, alike, count)
    rank = np.empty(count, np.intp)
    rank[np.lexsort((np.arange(count), -weight))] = np.arange(count)[::-1]
    centre = np.full(count, -1)
    twins: _Found = []
    near: _Found = []
    seen = np.zeros(len(candidates), bool)
    left = np.arange(len(candidates))  # candidates between two pictures that are neither
    while left.size:
        advance(1 - left.size / len(candidates))
        a, b = first[left], second[left]
        best = np.full(count, -1)
        np.maximum.at(best, a, rank[b])
        np.maximum.at(best, b, rank[a])
        new = (best >= 0) & (rank > best)
        centre[new] = np.flatnonzero(new)
        asked = left[new[a] | new[b]]
        seen[asked] = True
        similarity = gallery.compare(candidates[asked])
        some = (similarity >= NEIGHBOUR) & (similarity < TWIN)
        near += zip(asked[some].tolist(), similarity[some].tolist(), strict=True)
        order = np.argsort(-similarity, kind="stable")
        order = order[similarity[order] >= TWIN]
        middle = np.where(new[first[asked]], first[asked], second[asked])
        other = np.where(new[first[asked]], second[asked], first[asked])
        nearest_centre = order[np.unique(other[order], return_index=True)[1]]
        centre[other[nearest_centre]] = middle[nearest_centre]
        twins += zip(asked[nearest_centre].tolist(), similarity[nearest_centre].tolist(), strict=True)
        left = left[(centre[first[left]] < 0) & (centre[second[left]] < 0)]
    centre = np.where(centre < 0, np.arange(count), centre)

    # Two stars may be of one slice: their nearest candidates of which neither was a centre.
    apart = np.flatnonzero(~seen & (centre[first] != centre[second]))
    low, high = (end(centre[first[apart]], centre[second[apart]]) for end in (np.minimum, np.maximum))
    order = np.lexsort((-alike[apart], high, low))
    asked = apart[order[np.unique(np.stack([low, high])[:, order], axis=1, return_index=True)[1]]]
    similarity = gallery.compare(candidates[asked])
    for k in np.argsort(-similarity, kind="stable"):
        if similarity[k] >= NEIGHBOUR:
            (twins if similarity[k] >= LINK else near).append((int(asked[k]), float(similarity[k])))
    return twins, near


def _middle(pictures: Floats, share: float) -> Floats:
    """The middle of pictures, `share` of each side, stretched to the whole."""
    pixel = np.arange(SIDE)
    at = share * (pixel - (SIDE - 1) / 2) + (SIDE - 1) / 2
    weights = np.maximum(0, 1 - np.abs(at[:, None] - pixel)).astype(np.float32)
    return np.asarray(weights @ pictures @ weights.T)


def _seems_cropped(thumbs: Thumbs) -> NDArray[np.bool_]:
    """Whether a part of the head lies on an edge of the picture."""
    bright = thumbs > 0.15 * np.percentile(thumbs, 99, axis=(1, 2), keepdims=True)
    edges = [bright[:, 1], bright[:, -2], bright[:, :, 1], bright[:, :, -2]]
    return np.asarray(np.max([edge.mean(1) for edge in edges], axis=0) > 0.12)
