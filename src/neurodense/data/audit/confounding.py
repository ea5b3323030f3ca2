"""Does the label follow the source? Sources are given, or guessed from the look of the images alone.

The guess: continuous facts (`features.LOOK`), standardised, on their principal axes, as a mixture of normal
distributions. Neither labels nor names go in. How many looks there are is decided by prediction strength: half of the
groups must find the same looks as the other half does. Tibshirani and Walther (2005), "Cluster validation by
prediction strength", Journal of Computational and Graphical Statistics 14(3), 511-528, who take 0.8 as strong enough.

How far label follows source is said by Cramér's V and normalised mutual information, beside what they are when the
labels of whole groups are shuffled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neurodense.data.audit.features import LOOK, columns
from neurodense.data.audit.parts import ResultPart
from neurodense.data.audit.shortcuts import sample_groups

STRENGTH: Final = 0.8
MOST_LOOKS: Final = 8
MOST_IMAGES: Final = 20_000
PERMUTATIONS: Final = 999
MOST_SOURCES: Final = 12
"""Of formats, dimensions, given sources: the rarer ones are counted together."""
CRITERION: Final = (
    f"the largest number of looks up to {MOST_LOOKS} with a prediction strength of at least {STRENGTH} "
    "between halves of the groups (Tibshirani and Walther 2005); one look where there is none"
)
_HALVINGS: Final = 5
_FAR: Final = 4.0  # deviations at which a column is cut off, so that one odd image is no source of its own
_VARIANCE: Final = 0.95  # share that the kept axes hold

_WORDS: Final = {
    "bytes_per_pixel": ("fewer bytes a pixel", "more bytes a pixel"),
    "blockiness": ("fainter JPEG blocks", "stronger JPEG blocks"),
    "top": ("less margin above", "more margin above"),
    "bottom": ("less margin below", "more margin below"),
    "left": ("less margin on the left", "more margin on the left"),
    "right": ("less margin on the right", "more margin on the right"),
    "filled": ("a smaller head", "a larger head"),
    "mean": ("darker", "brighter"),
    "deviation": ("flatter contrast", "stronger contrast"),
    "black": ("less pure black", "more pure black"),
    "white": ("less pure white", "more pure white"),
    "background": ("blacker background", "greyer background"),
    "background_noise": ("quieter background", "noisier background"),
    "noise": ("smoother", "noisier"),
}


class Tie(ResultPart):
    """A class that comes mostly from a source that the other classes hardly come from."""

    label: str
    source: str
    share: float = Field(description="Of the class's images, those of this source.")
    elsewhere: float = Field(description="Of the other classes' images together, those of this source.")


class Partition(ResultPart):
    """The images parted by source, given or guessed, against their labels."""

    by: str = Field(description="look, format, mode, dimensions, compression, or the name of the given column.")
    sources: tuple[str, ...]
    described: tuple[str, ...] = Field((), description="Of looks: what sets each apart, in words.")
    counts: tuple[tuple[int, ...], ...] = Field(description="Images: one row a source, one column a class.")
    against: tuple[int, ...] | None = Field(None, description="Images of OTHER of each source.")
    cramers_v: float = Field(description="0: label and source are independent. 1: one gives the other away.")
    mutual_information: float = Field(description="Normalised by the mean of the two entropies; 0 to 1.")
    expected_v: float = Field(description="Mean of Cramér's V when the labels of whole groups are shuffled.")
    p_value: float = Field(description="Share of shuffles that reach this Cramér's V, this one counted in.")
    ties: tuple[Tie, ...] = Field(description="Classes that are tied to a source, the strongest first.")


class Confounding(ResultPart):
    """Partitions of the images by what may be their source."""

    criterion: str
    strengths: dict[str, float] = Field(description="Number of looks -> prediction strength.")
    partitions: tuple[Partition, ...] = Field(description="Those with at least two sources, the look first.")


@dataclass(frozen=True)
class Looks:
    """The fitted looks: what gives each image its own."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    axes: Any
    mixture: Any
    strengths: dict[int, float]

    def standard(self, facts: NDArray[np.void]) -> NDArray[np.float64]:
        """The columns of `LOOK` in deviations from their mean, cut off at `_FAR`, (N, columns)."""
        return np.clip((columns(facts, LOOK) - self.centre) / self.scale, -_FAR, _FAR)

    def of(self, facts: NDArray[np.void]) -> NDArray[np.intp]:
        """Number of each image's look, the most frequent one of the fitted images first, (N,)."""
        if self.mixture is None:
            return np.zeros(len(facts), np.intp)
        place = np.argsort(np.argsort(-self.mixture.weights_, kind="stable"))
        found: NDArray[np.intp] = self.mixture.predict(self.axes.transform(self.standard(facts)))
        return place[found]

    def describe(self, facts: NDArray[np.void], look: NDArray[np.intp]) -> tuple[str, ...]:
        """What sets each look apart, in words: its three columns that are furthest from those of the other images."""
        standard = self.standard(facts)
        names = [name for name in LOOK for _ in range(columns(facts[:1], [name]).shape[1])]
        sentences = []
        for k in range(look.max() + 1):
            gap = standard[look == k].mean(0) - standard[look != k].mean(0)
            order = [i for i in np.argsort(-np.abs(gap), kind="stable") if names[i] in _WORDS]
            sentences.append(", ".join(_WORDS[names[i]][int(gap[i] > 0)] for i in order[:3]))
        return tuple(sentences)


def fit_looks(facts: NDArray[np.void], groups: NDArray[np.intp], seed: int = 0) -> Looks:
    """Find the looks of the images; one alone where no number of them is stable.

    Args:
        facts: Records of `facts.FACTS`, shape (N,).
        groups: Number of each image's group, (N,).
        seed: Of sampling, halving and fitting.
    """
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(seed)
    chosen = sample_groups(groups, MOST_IMAGES, rng)
    facts, groups = facts[chosen], np.unique(groups[chosen], return_inverse=True)[1]
    raw = columns(facts, LOOK)
    looks = Looks(raw.mean(0), np.maximum(raw.std(0), 1e-9), None, None, {})
    standard = looks.standard(facts)
    if len(facts) < 10 * MOST_LOOKS or groups.max() + 1 < 2 * MOST_LOOKS or not standard.any():
        return looks
    axes = PCA(_VARIANCE, svd_solver="full").fit(standard)
    table = axes.transform(standard)
    strengths = {}
    for k in range(2, MOST_LOOKS + 1):
        halves = np.random.default_rng(seed)  # the same halves for each k
        strengths[k] = float(np.mean([_strength(table, groups, k, halves, seed) for _ in range(_HALVINGS)]))
    strong = [k for k, strength in strengths.items() if strength >= STRENGTH]
    mixture = _mixture(max(strong), seed).fit(table) if strong else None
    return Looks(looks.centre, looks.scale, axes, mixture, strengths)


def _mixture(k: int, seed: int) -> Any:
    from sklearn.mixture import GaussianMixture

    return GaussianMixture(k, covariance_type="diag", n_init=2, reg_covar=1e-2, random_state=seed, max_iter=300)


def _strength(
    table: NDArray[np.float64], groups: NDArray[np.intp], k: int, rng: np.random.Generator, seed: int
) -> float:
    """Prediction strength of k clusters: of the pairs that one half puts together, those that the other half does.

    The worst of the clusters counts, and each half judges the other.
    """
    side = rng.permutation(groups.max() + 1) % 2 == 0
    halves = table[side[groups]], table[~side[groups]]
    if min(map(len, halves)) <= 2 * k:
        return 0.0
    fitted = [_mixture(k, seed).fit(half) for half in halves]
    worst = []
    for own, other in ((0, 1), (1, 0)):
        pairs = np.zeros((k, k))
        np.add.at(pairs, (fitted[own].predict(halves[own]), fitted[other].predict(halves[own])), 1)
        sizes = pairs.sum(1)
        together = (pairs * (pairs - 1)).sum(1) / np.maximum(sizes * (sizes - 1), 1)
        worst.append(np.where(sizes > 1, together, 0).min())
    return float(np.mean(worst))


def compare(
    by: str,
    source: NDArray[np.intp],
    sources: Sequence[str],
    labels: NDArray[np.intp],
    classes: Sequence[str],
    groups: NDArray[np.intp],
    *,
    described: Sequence[str] = (),
    against: NDArray[np.intp] | None = None,
    seed: int = 0,
) -> Partition:
    """Hold labels against sources.

    Args:
        by: What the images are parted by.
        source: Number of each image's source, (N,).
        sources: Their names.
        labels: Index of each image's class, (N,).
        classes: Class names.
        groups: Number of each image's group, (N,): labels are shuffled by whole groups.
        described: What sets each source apart.
        against: Number of the source of each image of OTHER, (M,).
        seed: Of the shuffles.
    """
    n_sources, n_classes = len(sources), len(classes)
    counts = np.bincount(source * n_classes + labels, minlength=n_sources * n_classes).reshape(n_sources, n_classes)
    observed = _cramers_v(counts[None].astype(float))[0]
    null = _null(source, n_sources, labels, n_classes, groups, np.random.default_rng(seed))
    p_value = (1 + int((null >= observed - 1e-12).sum())) / (1 + len(null))
    return Partition(
        by=by,
        sources=tuple(sources),
        described=tuple(described),
        counts=tuple(tuple(row) for row in counts.tolist()),
        against=None if against is None else tuple(np.bincount(against, minlength=n_sources).tolist()),
        cramers_v=float(observed),
        mutual_information=_mutual_information(counts),
        expected_v=float(null.mean()),
        p_value=p_value,
        ties=_ties(counts, classes, sources) if p_value <= 0.01 else (),
    )


def _null(
    source: NDArray[np.intp],
    n_sources: int,
    labels: NDArray[np.intp],
    n_classes: int,
    groups: NDArray[np.intp],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Cramér's V when each group gets the labels, as shares, of a group drawn without return, (PERMUTATIONS,)."""
    _, number = np.unique(groups, return_inverse=True)
    n = number.max() + 1
    sources = np.bincount(number * n_sources + source, minlength=n * n_sources).reshape(n, n_sources).astype(float)
    shares = np.bincount(number * n_classes + labels, minlength=n * n_classes).reshape(n, n_classes).astype(float)
    shares /= shares.sum(1, keepdims=True)
    shuffled = np.stack([sources.T @ shares[rng.permutation(n)] for _ in range(PERMUTATIONS)])
    return _cramers_v(shuffled)


def _cramers_v(tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cramér's V of tables of counts, (T, rows, columns) -> (T,); 0 for a table of one row or one column.

    Cramér (1946), Mathematical Methods of Statistics, section 21.9.
    """
    total = tables.sum((1, 2), keepdims=True)
    expected = tables.sum(2, keepdims=True) * tables.sum(1, keepdims=True) / total
    chi2 = np.divide((tables - expected) ** 2, expected, out=np.zeros_like(tables), where=expected > 0).sum((1, 2))
    freedom = np.minimum((tables.sum(2) > 0).sum(1), (tables.sum(1) > 0).sum(1)) - 1
    return np.where(freedom > 0, np.sqrt(chi2 / (total[:, 0, 0] * np.maximum(freedom, 1))), 0.0)


def _mutual_information(counts: NDArray[np.intp]) -> float:
    """Mutual information of rows and columns over the mean of their entropies; 0 where both are constant."""
    share = counts / counts.sum()

    def entropy(p: NDArray[np.float64]) -> float:
        return float(-(p[p > 0] * np.log(p[p > 0])).sum())

    rows, columns_, both = entropy(share.sum(1)), entropy(share.sum(0)), entropy(share.ravel())
    return 2 * max(rows + columns_ - both, 0.0) / (rows + columns_) if rows + columns_ else 0.0


def _ties(counts: NDArray[np.intp], classes: Sequence[str], sources: Sequence[str]) -> tuple[Tie, ...]:
    """Classes of which most come from one source, and at least twice as large a share as of the other classes."""
    ties = []
    for k, label in enumerate(classes):
        others = counts.sum(1) - counts[:, k]
        s = int(np.argmax(counts[:, k]))
        share, elsewhere = counts[s, k] / counts[:, k].sum(), others[s] / max(others.sum(), 1)
        if share >= 0.5 and share >= 2 * elsewhere:
            ties.append(Tie(label=label, source=sources[s], share=float(share), elsewhere=float(elsewhere)))
    return tuple(sorted(ties, key=lambda tie: tie.elsewhere - tie.share))
