"""How well the label can be told from what is not anatomy.

A forest of shallow rules is shown the facts of the images, never their content, and must name the class of images
whose groups it has not seen. What it reaches, a network can reach as well without having looked at a single tumour.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neurodense.data.audit.features import FAMILIES, columns
from neurodense.data.audit.parts import ResultPart

FOLDS: Final = 5
MOST_IMAGES: Final = 20_000
_RESAMPLES: Final = 1000
_TREES: Final = 25


class Score(ResultPart):
    """Balanced accuracy, that is, the mean recall of the classes, from one family of facts."""

    family: str
    score: float
    low: float = Field(description="Lower end of the 95% interval, by resampling groups.")
    high: float


class Shortcuts(ResultPart):
    """What the facts of the images say about the label."""

    metric: str = "balanced accuracy"
    chance: float = Field(description="What guessing gives: one divided by the number of classes.")
    folds: int = Field(description="Parts of the cross-validation; whole groups move.")
    images: int = Field(description="Images used: all, or a sample of whole groups where there are very many.")
    groups: int
    everything: Score = Field(description="All families together, without the names of files.")
    families: tuple[Score, ...]
    names: Score = Field(description="Names of files less the class's own name; kept apart from `everything`.")
    recall: dict[str, float] = Field(description="Recall of each class from all families together.")


def find_shortcuts(
    facts: NDArray[np.void],
    names: NDArray[np.float64],
    labels: NDArray[np.intp],
    groups: NDArray[np.intp],
    classes: tuple[str, ...],
    seed: int = 0,
) -> Shortcuts | None:
    """Measure how well each family of facts tells the label of unseen groups.

    Args:
        facts: Records of `facts.FACTS`, shape (N,).
        names: What `features.name_columns` gives for the N files.
        labels: Index of each image's class, (N,).
        groups: Number of each image's group, (N,).
        classes: Class names.
        seed: Of the folds, the forests and the resampling.

    Returns:
        None where a class has fewer than two groups: nothing can be held back then.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    rng = np.random.default_rng(seed)
    chosen = sample_groups(groups, MOST_IMAGES, rng)
    facts, names, labels, groups = facts[chosen], names[chosen], labels[chosen], groups[chosen]
    folds = min([FOLDS, *(len(np.unique(groups[labels == k])) for k in range(len(classes)))])
    if folds < 2:
        return None
    parts = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(labels, labels, groups))
    tables = {family: columns(facts, fields) for family, fields in FAMILIES.items()}
    tables = {"everything": np.concatenate(list(tables.values()), axis=1), **tables, "names": names}
    held = _groups_by_class(groups, labels, len(classes))
    scores, recall = {}, np.zeros(len(classes))
    for family, table in tables.items():
        right = _predict(table, labels, parts, seed) == labels
        scores[family], found = _score(family, right, groups, labels, held, np.random.default_rng(seed))
        if family == "everything":
            recall = found
    return Shortcuts(
        chance=1 / len(classes),
        folds=folds,
        images=len(labels),
        groups=len(held),
        everything=scores.pop("everything"),
        names=scores.pop("names"),
        families=tuple(sorted(scores.values(), key=lambda score: -score.score)),
        recall=dict(zip(classes, recall.tolist(), strict=True)),
    )


def sample_groups(groups: NDArray[np.intp], most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices, in order, of at most about `most` images that make up whole groups; all where there are no more."""
    if len(groups) <= most:
        return np.arange(len(groups))
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    taken = np.zeros(len(sizes), bool)
    taken[order[: max(1, int(np.searchsorted(sizes[order].cumsum(), most, side="right")))]] = True
    return np.flatnonzero(taken[groups])


def _predict(
    table: NDArray[np.float64],
    labels: NDArray[np.intp],
    parts: list[tuple[NDArray[np.intp], NDArray[np.intp]]],
    seed: int,
) -> NDArray[np.intp]:
    """The class that a forest names for each image when it has not seen its fold, (N,)."""
    from sklearn.ensemble import ExtraTreesClassifier

    table = np.nan_to_num(table, nan=-1.0).astype(np.float32)
    predicted = np.empty_like(labels)
    for seen, held_back in parts:
        forest = ExtraTreesClassifier(_TREES, min_samples_leaf=5, class_weight="balanced", random_state=seed)
        predicted[held_back] = forest.fit(table[seen], labels[seen]).predict(table[held_back])
    return predicted


def _groups_by_class(groups: NDArray[np.intp], labels: NDArray[np.intp], classes: int) -> NDArray[np.float64]:
    """Images of each class in each group, (groups, classes)."""
    _, number = np.unique(groups, return_inverse=True)
    held = np.zeros((number.max() + 1, classes))
    np.add.at(held, (number, labels), 1)
    return held


def _score(
    family: str,
    right: NDArray[np.bool_],
    groups: NDArray[np.intp],
    labels: NDArray[np.intp],
    held: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[Score, NDArray[np.float64]]:
    """Balanced accuracy with its interval, and the recall of each class."""
    hits = np.zeros_like(held)
    np.add.at(hits, (np.unique(groups, return_inverse=True)[1], labels), right)
    draws = []
    for _ in range(0, _RESAMPLES, 100):
        weight = rng.multinomial(len(held), np.full(len(held), 1 / len(held)), size=100).astype(np.float64)
        with np.errstate(invalid="ignore"):
            draws.append(np.nanmean((weight @ hits) / (weight @ held), axis=1))  # a class may miss in a resample
    recall = hits.sum(0) / held.sum(0)
    low, high = np.quantile(np.concatenate(draws), (0.025, 0.975))
    return Score(family=family, score=float(recall.mean()), low=float(low), high=float(high)), recall
