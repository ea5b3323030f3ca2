"""Images unlike the rest: candidates for what is no brain MRI at all, for a person to look at.

An image is far off when even its nearest images of other groups are far. Distance is taken between thumbnails on
their principal axes, with the facts of `features.LOOK` at half their weight beside them. That a whole group is odd does
not hide it, since its own images do not count as company.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neurodense.data.audit.features import LOOK, columns
from neurodense.data.audit.parts import ResultPart

MOST_COMPARED: Final = 10_000
NEIGHBOURS: Final = 5
LISTED: Final = 100
FAR: Final = 3.5
"""Robust deviations above the median from which an image is counted.

Iglewicz and Hoaglin (1993), "How to Detect and Handle Outliers", ASQC, chapter 3."""

_AXES: Final = 50
_BLOCK: Final = 2048
_LOOK_WEIGHT: Final = 0.5


class Outlier(ResultPart):
    """An image far from all others."""

    path: str
    label: str
    score: float = Field(description="Robust deviations above the median of the log distance to the neighbours.")


class Outliers(ResultPart):
    """Images unlike the rest."""

    threshold: float
    count: int = Field(description="Images whose score is above the threshold.")
    compared: int = Field(description="Images that each was compared with: all, or a sample.")
    listed: tuple[Outlier, ...] = Field(description="The highest scores, whatever the threshold, one image a group.")


def find_outliers(
    facts: NDArray[np.void],
    thumbs: NDArray[np.uint8],
    groups: NDArray[np.intp],
    paths: tuple[str, ...],
    labels: tuple[str, ...],
    seed: int = 0,
) -> Outliers:
    """Rank images by how far they are from those of other groups.

    Args:
        facts: Records of `facts.FACTS`, (N,).
        thumbs: uint8 (N, 2, side, side), the whole picture first; read in blocks.
        groups: Number of each image's group, (N,).
        paths: Names of the images, N of them.
        labels: Their classes' names.
        seed: Of the sample that images are compared with.
    """
    rng = np.random.default_rng(seed)
    n = len(thumbs)
    compared = np.sort(rng.choice(n, min(n, MOST_COMPARED), replace=False))
    table = _table(facts, thumbs, compared)
    distance = np.empty(n)
    company, own = table[compared], groups[compared]
    square = (company**2).sum(1)
    for start in range(0, n, _BLOCK):
        block = table[start : start + _BLOCK]
        away = (block**2).sum(1)[:, None] + square - 2 * block @ company.T
        away[groups[start : start + _BLOCK, None] == own] = np.inf
        k = min(NEIGHBOURS, len(compared)) - 1
        distance[start : start + _BLOCK] = np.partition(away, k, axis=1)[:, k]
    known = np.isfinite(distance)
    if not known.any():
        return Outliers(threshold=FAR, count=0, compared=len(compared), listed=())
    level = np.where(known, 0.5 * np.log(np.maximum(distance, 1e-12)), -np.inf)
    middle = np.median(level[known])
    spread = 1.4826 * np.median(np.abs(level[known] - middle))  # the deviation of a normal distribution
    score = (level - middle) / max(spread, 1e-9)
    listed: dict[int, int] = {}  # group -> its furthest image
    for i in np.argsort(-score, kind="stable"):
        if len(listed) == LISTED or not known[i]:
            break
        listed.setdefault(int(groups[i]), int(i))
    return Outliers(
        threshold=FAR,
        count=int((score > FAR).sum()),
        compared=len(compared),
        listed=tuple(Outlier(path=paths[i], label=labels[i], score=float(score[i])) for i in listed.values()),
    )


def _table(facts: NDArray[np.void], thumbs: NDArray[np.uint8], fitted: NDArray[np.intp]) -> NDArray[np.float32]:
    """Place of each image, float32 (N, axes + columns): thumbnails, of mean square 1, then look, of `_LOOK_WEIGHT`."""
    from sklearn.decomposition import PCA

    def flat(rows: NDArray[np.uint8]) -> NDArray[np.float32]:
        return rows[:, 0].reshape(len(rows), -1).astype(np.float32) / np.float32(255)

    sample = fitted[:: -(-len(fitted) // 5000)]
    axes = PCA(min(_AXES, len(sample), thumbs[0, 0].size), svd_solver="randomized", random_state=0).fit(
        flat(thumbs[sample])
    )
    places = [axes.transform(flat(thumbs[start : start + _BLOCK])) for start in range(0, len(thumbs), _BLOCK)]
    place = np.concatenate(places)
    look = columns(facts, LOOK)
    look = np.clip((look - np.median(look, axis=0)) / np.maximum(look.std(0), 1e-9), -8, 8)
    weighed = [
        part * (weight / max(float(np.sqrt((part**2).sum(1).mean())), 1e-9))
        for part, weight in ((place, 1.0), (look, _LOOK_WEIGHT))
    ]
    return np.concatenate(weighed, axis=1, dtype=np.float32)
