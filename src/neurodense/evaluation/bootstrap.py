"""Intervals from resamples of whole groups, with numpy alone.

Images of one patient are alike, so the unit that is drawn is the patient, or the cluster of twins, never the image
(Davison and Hinkley, "Bootstrap methods and their application", 1997, section 3.8; Field and Welsh, JRSS B 69, 2007).
A resample is written as a weight for each group: how often it was drawn.

The interval is BCa: percentiles of the resamples, moved for the bias and the skewness of the figure (Efron, JASA 82,
1987; DiCiccio and Efron, Statistical Science 11, 1996). It stays within the range of a figure, as plain percentiles
do, and covers better near 1, where scores are: docs/metrics.md has what was measured for either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bounds = tuple[float, float]

RESAMPLES: Final = 2000
SEED: Final = 0
LEVEL: Final = 0.95

_CELLS: Final = 2**19
"""Numbers of a block of weights, spread over the images: 4 MB, which stay in a CPU's cache from step to step."""
_LEFT_OUT: Final = 200
"""Parts of the jackknife at most. Leaving out several groups at once estimates the same acceleration: the skewness of
a sum of k groups falls as 1 / sqrt(k), as does the root of their number."""
_ROUNDING: Final = 1e-12
_NORMAL: Final = NormalDist()


def numbered(names: Sequence[str]) -> NDArray[np.intp]:
    """The groups of N images as intp (N,) in 0..G-1, in the order of their names, so that the order of rows is free."""
    return np.unique(np.array(names, dtype=object), return_inverse=True)[1].astype(np.intp)


def draws(n_groups: int, n_images: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Floats]:
    """Yield the weights of `resamples` resamples in blocks, float64 (G, B): each column sums to G.

    Args:
        n_groups: G.
        n_images: Decides how many resamples make a block, so that memory stays bounded. It changes no weight.
        resamples: How many in all.
        seed: The same seed gives the same resamples of as many groups.
    """
    rng = np.random.default_rng(seed)
    block = max(8, _CELLS // max(n_images, n_groups))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = rng.integers(n_groups, size=(size, n_groups))
        cells = drawn + n_groups * np.arange(size)[:, None]
        counts = np.bincount(cells.ravel(), minlength=size * n_groups).reshape(size, n_groups)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def left_out(n_groups: int, n_images: int) -> Iterator[Floats]:
    """Yield the weights of the jackknife in blocks, float64 (G, B): 0 for the groups that are left out, else 1."""
    parts = min(n_groups, _LEFT_OUT)
    block = max(8, _CELLS // max(n_images, n_groups))
    for start in range(0, parts, block):
        numbers = np.arange(start, min(start + block, parts))
        yield (np.arange(n_groups)[:, None] % parts != numbers).astype(np.float64)


def bca(values: Floats, point: float, jackknife: Floats, level: float = LEVEL) -> Bounds | None:
    """The bias-corrected and accelerated interval of a figure.

    Args:
        values: float64 (B,): the figure in each resample; NaN, where it has no value, is passed over.
        point: The figure in the sample.
        jackknife: float64 (J,): the figure with part of the groups left out; NaN is passed over.
        level: Coverage in (0, 1).

    Returns:
        Lower and upper end; None where the figure has no value, or the same one in every resample: a bootstrap says
        nothing then.
    """
    values, jackknife = values[~np.isnan(values)], jackknife[~np.isnan(jackknife)]
    if np.isnan(point) or not len(values) or np.ptp(values) <= _ROUNDING:
        return None
    tails = [(1 - level) / 2, (1 + level) / 2]
    # Ties count half; what rounding alone tells apart is a tie.
    below = float((values < point - _ROUNDING).mean() + (values <= point + _ROUNDING).mean()) / 2
    gaps = jackknife.mean() - jackknife if len(jackknife) else np.zeros(1)
    if 0 < below < 1 and gaps.any():
        bias = _NORMAL.inv_cdf(below)
        acceleration = float((gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5))
        shifted = [bias + _NORMAL.inv_cdf(tail) for tail in tails]
        if all(1 - acceleration * z > 0 for z in shifted):
            tails = [_NORMAL.cdf(bias + z / (1 - acceleration * z)) for z in shifted]
    low, high = np.quantile(values, tails).tolist()
    return low, high


def basic(values: Floats, point: float, level: float = LEVEL) -> Bounds | None:
    """The basic interval of a figure that is 0 or more and too high in small samples.

    Resamples are too high once more by as much, so the percentiles are mirrored at the figure (Davison and Hinkley,
    section 5.2): the interval is one for what the figure would be in a large sample, and may lie below the figure.

    Args and Returns: As `bca` has them.
    """
    values = values[~np.isnan(values)]
    if np.isnan(point) or not len(values) or np.ptp(values) <= _ROUNDING:
        return None
    low, high = np.quantile(values, ((1 - level) / 2, (1 + level) / 2)).tolist()
    return max(2 * point - high, 0.0), max(2 * point - low, 0.0)


def exact(point: float, trials: int, level: float = LEVEL) -> Bounds:
    """The interval of a share that is 0 or 1 in all of `trials` independent groups (Clopper and Pearson, 1934)."""
    reach = ((1 - level) / 2) ** (1 / trials)
    return (reach, 1.0) if point else (0.0, 1 - reach)


def interval(values: Floats, point: float, jackknife: Floats, level: float, trials: int | None) -> Bounds | None:
    """That of `bca`; where it has none since no resample differs, that of `exact` for a share of `trials` groups.

    Args:
        values: As `bca` has it, and the three that follow.
        point: In the sample.
        jackknife: With parts left out.
        level: In (0, 1).
        trials: Groups that hold images that count; None for a figure that is no share of images.
    """
    found = bca(values, point, jackknife, level)
    return exact(point, trials, level) if found is None and trials and point in {0.0, 1.0} else found
