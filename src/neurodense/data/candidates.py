"""Which pairs of pictures are alike enough to be worth a closer look: the nearest in description, under all turns.

All pairs are compared, block by block: nothing is missed and the order of insertion plays no part, as it does in an
index of near neighbours. Two matrix products bound what a pair can reach in any of its eight turns
(`fingerprint.best_turn_bounds`), and only where that is enough to be among the `KEEP` nearest of the picture that asks,
as far as they are known, the eight are worked out. So thousands of near-copies give thousands of pairs and not
millions. The products are quadratic in the number of pictures, the rest is nearly linear.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense.data.fingerprint import FLIPS, Floats, best_turn_bounds, turned_description

ALIKE: Final = 0.78
"""Least inner product of the descriptions of a candidate."""
KEEP: Final = 16
"""Candidates that a picture asks for."""

_BLOCK: Final = 512
_CHUNK: Final = 1024  # pairs looked at one by one, at a time: what the cache holds
_SLACK: Final = 1e-5  # what rounding may take from a bound

PAIR: Final = np.dtype(
    [("first", np.int32), ("second", np.int32), ("turn", np.uint8), ("view", np.uint8), ("alike", np.float32)]
)
"""One candidate: `second`, turned by `turn`, resembles `first` in `view`."""

Pairs = NDArray[np.void]


@dataclass(frozen=True)
class View:
    """Descriptions to compare: one of each picture that asks, with another of every picture.

    Attributes:
        asks: bool (N,).
        queries: float32 (N, D).
        stock: float32 (N, D).
    """

    asks: NDArray[np.bool_]
    queries: Floats
    stock: Floats


def nearest(views: list[View], workers: int, advance: Callable[[float], None]) -> Pairs:
    """Find the candidates, each pair once, in its best view and turn, sorted by the lower number, then the higher.

    Args:
        views: What to compare; the number of a view in this list goes into `PAIR`.
        workers: Threads.
        advance: Called with the share done, 0 to 1.
    """
    bounds = [best_turn_bounds(view.stock) for view in views]
    starts = range(0, len(views[0].stock) if views else 0, _BLOCK)
    found = [np.empty(0, PAIR)]
    with ThreadPoolExecutor(workers) as pool:
        for done, pairs in enumerate(pool.map(lambda start: _block(views, bounds, start), starts), 1):
            found.append(pairs)
            advance(done / len(starts))
    pairs = np.concatenate(found)
    return _each_once(pairs, np.minimum(pairs["first"], pairs["second"]), np.maximum(pairs["first"], pairs["second"]))


def _block(views: list[View], bounds: list[tuple[Floats, Floats]], start: int) -> Pairs:
    """The nearest of each of one block of pictures."""
    floor = np.full(len(views[0].stock[start : start + _BLOCK]), ALIKE, np.float32)  # what is less is not among them
    kept, new, waiting = np.empty(0, PAIR), [], 0
    products = np.empty((2, len(floor) * _BLOCK), np.float32)
    for number, (view, (stock_totals, stock_differences)) in enumerate(zip(views, bounds, strict=True)):
        asking = np.flatnonzero(view.asks[start : start + _BLOCK])
        queries = view.queries[start + asking]
        swapped = turned_description(queries, 4)
        totals, differences = best_turn_bounds(queries)
        for column in range(0, len(view.stock), _BLOCK):
            part = slice(column, column + _BLOCK)
            stock = view.stock[part]
            bound, other = products[:, : len(asking) * len(stock)].reshape(2, len(asking), len(stock))
            np.matmul(totals, stock_totals[part].T, out=bound)
            np.matmul(differences, stock_differences[part].T, out=other)
            bound += np.abs(other, out=other)
            hits = np.flatnonzero(bound >= floor[asking, None] - np.float32(_SLACK))
            for at in range(0, len(hits), _CHUNK):
                i, j = np.divmod(hits[at : at + _CHUNK], len(stock))
                near = stock[j]
                alike = np.concatenate([(queries[i] * near) @ FLIPS, (swapped[i] * near) @ FLIPS], axis=1)
                turn = alike.argmax(1)
                pairs = np.empty(len(i), PAIR)
                pairs["first"], pairs["second"], pairs["alike"] = start + asking[i], column + j, alike.max(1)
                pairs["turn"], pairs["view"] = INVERSE[turn], number
                new.append(pairs[(pairs["alike"] >= floor[asking[i]]) & (pairs["first"] != pairs["second"])])
                waiting += len(new[-1])
            if waiting > KEEP * len(floor):
                kept, new, waiting = _strongest(np.concatenate([kept, *new]), floor, start), [], 0
    return _strongest(np.concatenate([kept, *new]), floor, start)


def _strongest(pairs: Pairs, floor: Floats, start: int) -> Pairs:
    """The `KEEP` best pairs of each first, each in its best view; `floor`, of the pictures from `start` on, rises."""
    pairs = _each_once(pairs, pairs["first"], pairs["second"])
    pairs = pairs[np.lexsort((-pairs["alike"], pairs["first"]))]
    count = np.bincount(pairs["first"] - start, minlength=len(floor))
    rank = np.arange(len(pairs)) - np.repeat(np.cumsum(count) - count, count)
    last = pairs[rank == KEEP - 1]
    floor[last["first"] - start] = last["alike"]
    return pairs[rank < KEEP]


def _each_once(pairs: Pairs, one: NDArray[np.int32], other: NDArray[np.int32]) -> Pairs:
    """Of the pairs of the same two numbers the best, sorted by the numbers."""
    key = one.astype(np.int64) << 32 | other
    order = np.lexsort((pairs["first"], pairs["view"], -pairs["alike"], key))
    return pairs[order[np.flatnonzero(np.diff(key[order], prepend=-1))]]


INVERSE: Final = np.array([0, 1, 2, 3, 4, 6, 5, 7], np.uint8)
"""The turn that undoes each turn: the queries are turned, the candidate says how to turn the second."""
