"""How well the probabilities of one class rank its images above the others, for any weighting of the groups.

AUROC is the chance that an image of the class is given a higher probability of it than an image of the rest, ties
counting half (Hanley and McNeil, Radiology 143, 1982). AUPRC is average precision: the sum over thresholds of the rise
in recall times the precision there, without interpolation, as scikit-learn's `average_precision_score` has it.

Images are sorted once. A weight then multiplies an image as if it stood there that many times, so that both areas of
every resample come from running sums down one order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ranking:
    """N images from the most probable to the least, of which P are of the class. Equal probabilities are one run."""

    groups: NDArray[np.intp]
    """intp (N,): the group of each image, in that order."""
    positives: NDArray[np.intp]
    """intp (P,): the group of each image of the class, in that order."""
    run: tuple[NDArray[np.intp], NDArray[np.intp]]
    """intp (P,) each: images above the run of each positive, and down to its end."""
    run_of_positives: tuple[NDArray[np.intp], NDArray[np.intp]]
    """The same, counting images of the class only."""


def rank(scores: NDArray[np.float64], positive: NDArray[np.bool_], groups: NDArray[np.intp]) -> Ranking:
    """Sort N images by `scores`, float64 (N,); `positive`, bool (N,), says which are of the class."""
    order = np.argsort(-scores, kind="stable")
    scores, positive = scores[order], positive[order]
    edges = np.concatenate([[0], np.flatnonzero(np.diff(scores)) + 1, [len(scores)]])
    run = np.repeat(np.arange(len(edges) - 1), np.diff(edges))[positive]
    above, end = edges[run], edges[run + 1]
    hits = np.concatenate([[0], np.cumsum(positive)])
    return Ranking(groups[order], groups[order][positive], (above, end), (hits[above], hits[end]))


def areas(ranking: Ranking, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """AUROC and AUPRC, float64 (B,) each, under B weightings of G groups.

    Args:
        ranking: What `rank` returned.
        weights: float64 (G, B), whole numbers: how often each group stands in the sample.

    Returns:
        Both in [0, 1]; NaN where the class, or for AUROC the rest, has no weight.
    """
    images, hits = _running(weights[ranking.groups]), weights[ranking.positives]
    found = _running(hits)
    n_positive = found[-1]
    n_negative = images[-1] - n_positive
    false_above, false_end = (
        images[at] - found[of] for at, of in zip(ranking.run, ranking.run_of_positives, strict=True)
    )
    # Pairs of a positive and a negative that are ranked wrongly, ties counting half.
    wrong = np.einsum("pb,pb->b", hits, false_above + false_end) / 2
    end, of_positives = ranking.run[1], ranking.run_of_positives[1]
    precision = found[of_positives] / np.maximum(images[end], 1)  # a weight of 0 makes that term 0 whatever it is
    pairs = n_positive * n_negative
    return share(pairs - wrong, pairs), share(np.einsum("pb,pb->b", hits, precision), n_positive)


def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole, with NaN where `whole` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0))


def _running(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the first 0, 1, ..., N rows of (N, B): float64 (N + 1, B)."""
    sums = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums
