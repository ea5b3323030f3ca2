"""Which pairs of pictures are alike enough to be worth a closer look: the nearest in description, under all turns.

All pairs are compared, by matrix products over blocks: nothing is missed and the order of insertion plays no part, as
it does in an index. At 20,000 slices and their copies this took 7.7 s of one core; the HNSW graphs of faiss 6.2 s and
of usearch 9.8 s, for 99.5 % and 99.8 % of these candidates. So no library is needed. Only the `KEEP` nearest of each
picture are kept, so that thousands of near-copies give thousands of pairs and not millions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.data.fingerprint import TURNS, Floats, turned_description

ALIKE: Final = 0.78
"""Least inner product of the descriptions of a candidate."""
KEEP: Final = 16
"""Candidates kept a picture; a pair stays while it is among these for one of its two."""

_BLOCK: Final = 512
_BUFFER: Final = 4_000_000  # candidates held before the weaker ones are dropped

PAIR: Final = np.dtype(
    [("first", np.int32), ("second", np.int32), ("turn", np.uint8), ("view", np.uint8), ("alike", np.float32)]
)
"""One candidate: `second`, turned by `turn`, resembles `first` in `view`."""

Pairs = NDArray[np.void]


@dataclass(frozen=True)
class View:
    """Descriptions to compare: of the pictures `rows` with those of all pictures.

    Attributes:
        rows: Numbers of the pictures that `queries` describes, ascending.
        queries: float32 (len(rows), D).
        stock: float32 (N, D).
        same: True where `queries` and `stock` are the same descriptions, so that half the pairs say it all.
    """

    rows: NDArray[np.intp]
    queries: Floats
    stock: Floats
    same: bool


def nearest(views: list[View], workers: int, advance: Callable[[float], None]) -> Pairs:
    """Find the candidates, each pair once, in its best view and turn, sorted by (first, second).

    Args:
        views: What to compare; the number of a view in this list goes into `PAIR`.
        workers: Threads.
        advance: Called with the share done, 0 to 1.
    """
    tasks = [(number, start) for number, view in enumerate(views) for start in range(0, len(view.rows), _BLOCK)]
    # What lies below the floors of both its pictures is not among the nearest of either. Floors only rise, so that it
    # does not matter for the result when a thread reads them.
    floor = np.full(len(views[0].stock) if views else 0, ALIKE, np.float32)
    kept, new = np.empty(0, PAIR), []
    with ThreadPoolExecutor(workers) as pool:
        for done, pairs in enumerate(_in_order(pool, lambda task: _block(views, floor, *task), tasks, workers), 1):
            new.append(pairs)
            if done & (done - 1) == 0 or done == len(tasks) or sum(map(len, new)) > _BUFFER:
                kept, new = _strongest(np.concatenate([kept, *new]), floor), []
            advance(done / len(tasks))
    return kept


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Any], Pairs], tasks: list[tuple[int, int]], ahead: int
) -> Iterator[Pairs]:
    """Results in the order of the tasks, few of them waiting."""
    running = []
    for task in tasks:
        running.append(pool.submit(work, task))
        if len(running) > ahead:
            yield running.pop(0).result()
    for job in running:
        yield job.result()


def _block(views: list[View], floor: Floats, number: int, start: int) -> Pairs:
    """Candidates of one block of rows of one view."""
    view = views[number]
    rows = view.rows[start : start + _BLOCK]
    queries = [turned_description(view.queries[start : start + _BLOCK], turn) for turn in range(TURNS)]
    found: list[Pairs] = [np.empty(0, PAIR)]
    products = np.empty((len(rows), _BLOCK), np.float32)
    for column in range(int(rows[0]) if view.same else 0, len(view.stock), _BLOCK):
        stock = view.stock[column : column + _BLOCK]
        out = products[:, : len(stock)]
        least = np.minimum(floor[rows, None], floor[column : column + _BLOCK])
        for turn, turned in enumerate(queries):
            np.matmul(turned, stock.T, out=out)
            hits = np.flatnonzero(out >= least)
            if hits.size:
                i, j = np.divmod(hits, len(stock))
                pairs = np.empty(len(hits), PAIR)
                pairs["first"], pairs["second"], pairs["alike"] = rows[i], column + j, out[i, j]
                pairs["turn"], pairs["view"] = INVERSE[turn], number
                found.append(
                    pairs[pairs["second"] > pairs["first"] if view.same else pairs["second"] != pairs["first"]]
                )
        if sum(map(len, found)) > _BUFFER // 8:
            found = [_strongest(np.concatenate(found))]
    return _strongest(np.concatenate(found))


def _strongest(pairs: Pairs, floor: Floats | None = None) -> Pairs:
    """Each pair in its best view and turn, and of these the `KEEP` best of each picture, whose `floor` they raise."""
    low, high = np.minimum(pairs["first"], pairs["second"]), np.maximum(pairs["first"], pairs["second"])
    key = low.astype(np.int64) << 32 | high
    order = np.lexsort((pairs["view"] * TURNS + pairs["turn"], -pairs["alike"], key))
    order = order[np.r_[True, np.diff(key[order]) != 0]] if len(order) else order
    pairs, ends, alike = pairs[order], np.concatenate([low[order], high[order]]), np.tile(pairs["alike"][order], 2)

    order = np.lexsort((-alike, ends))  # of each picture, its pairs from the nearest on
    count = np.bincount(ends[order]) if len(ends) else np.zeros(0, np.intp)
    rank = np.empty(len(ends), np.intp)
    rank[order] = np.arange(len(ends)) - np.repeat(np.cumsum(count) - count, count)
    if floor is not None:
        last = rank == KEEP - 1
        floor[ends[last]] = alike[last]
    strong: Pairs = pairs[rank.reshape(2, -1).min(0) < KEEP]
    return strong


INVERSE: Final = np.array([0, 1, 2, 3, 4, 6, 5, 7], np.uint8)
"""The turn that undoes each turn: the queries are turned, the candidate says how to turn the second."""
