"""The scores of a classifier on a labelled set, as scikit-learn defines them but without needing it.

Definitions, for class c with TP true positives, predicted(c) images given to c and support(c) images truly c
(scikit-learn user guide, "Classification metrics": "Precision, recall and F-measures" and "Log loss"):

    precision = TP / predicted        recall = TP / support        F1 = 2 TP / (predicted + support)
    macro     = plain mean over classes        weighted = mean over classes, weighted by support
    loss      = mean over images of -ln p(true class), p clipped to [eps, 1 - eps]

Where a denominator is 0 the score is 0, as with scikit-learn's `zero_division=0`, and `Metrics.undefined` says so.
A test holds every number to scikit-learn's within 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

# A softmax computed in float16 or float32 sums to 1 only within its own rounding;
# logits, sigmoids and percentages miss by far more than this.
SUM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True)
class Scores:
    """Precision, recall and F1, each in [0, 1]."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassScores(Scores):
    """The scores of one class against all others, and how many images are truly of it."""

    support: int


@dataclass(frozen=True, eq=False)
class Metrics:
    """What `measure` found. Equality is identity, because it holds an array; compare `as_dict()` instead."""

    n: int
    """Images measured, at least 1."""
    loss: float
    """Mean negative log likelihood in nats, at least 0."""
    accuracy: float
    """Share of images whose most probable class is the true one, in [0, 1]."""
    per_class: dict[str, ClassScores]
    """Class name -> its scores, in the order of `labels`."""
    macro: Scores
    """Plain mean over all C classes, those that never occur included (as 0)."""
    weighted: Scores
    """Mean over classes weighted by support."""
    confusion_matrix: NDArray[np.int64]
    """int64 (C, C), read-only: rows true, columns predicted, both in the order of `labels`."""
    labels: tuple[str, ...]
    """The C class names."""
    undefined: tuple[str, ...]
    """One sentence for each score that has no value, and for which 0 stands."""

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON takes them: the shape of `metrics.json`."""
        return {
            "n": self.n,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "per_class": {name: asdict(scores) for name, scores in self.per_class.items()},
            "confusion_matrix": {
                "labels": list(self.labels),
                "counts": self.confusion_matrix.tolist(),
                "rows": "true",
                "columns": "predicted",
            },
            "undefined": list(self.undefined),
        }


def measure(
    labels: Sequence[str], truth: NDArray[np.integer[Any]], probabilities: NDArray[np.floating[Any]]
) -> Metrics:
    """Score the predicted probabilities of N images against their true classes.

    The predicted class is the most probable one; of equals, the first in the order of `labels`.

    Args:
        labels: The C class names, in the order of the columns of `probabilities`.
        truth: Integers (N,), the index in `labels` of each image's true class.
        probabilities: Floats (N, C) in [0, 1], each row summing to 1.

    Raises:
        ValueError: An argument is not as described, or N is 0.
    """
    names, truth, probabilities = checked(labels, truth, probabilities)
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)

    # int64 (C, C): each image falls in cell true * C + predicted of the flattened matrix.
    cells = np.bincount(truth * n_classes + predicted, minlength=n_classes**2)
    confusion = cells.reshape(n_classes, n_classes).astype(np.int64)
    confusion.flags.writeable = False

    # int64 (C,) each.
    hits, support, given = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    # float64 (C, 3): precision, recall, F1.
    scores = np.stack([_ratio(hits, given), _ratio(hits, support), _ratio(2 * hits, given + support)], axis=1)

    eps = np.finfo(np.float64).eps
    likelihood = probabilities[np.arange(n), truth].clip(eps, 1 - eps)
    return Metrics(
        n=n,
        loss=float(-np.log(likelihood).mean()),
        accuracy=float(hits.sum() / n),
        per_class={
            name: ClassScores(precision, recall, f1, count)
            for name, (precision, recall, f1), count in zip(names, scores.tolist(), support.tolist(), strict=True)
        },
        macro=Scores(*scores.mean(axis=0).tolist()),
        weighted=Scores(*(support @ scores / n).tolist()),
        confusion_matrix=confusion,
        labels=names,
        undefined=_undefined(names, given.tolist(), support.tolist()),
    )


def checked(
    labels: Sequence[str], truth: NDArray[Any], probabilities: NDArray[Any]
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float64]]:
    """Return the arguments of `measure` as a tuple, int64 (N,) and float64 (N, C), or say what is wrong with them.

    Raises:
        ValueError: An argument is not as `measure` describes it.
    """
    names = tuple(labels)
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(f"labels must be at least two class names, each once. Got {names}.")
    truth, probabilities = np.asarray(truth), np.asarray(probabilities)
    if truth.ndim != 1 or truth.size == 0 or not np.issubdtype(truth.dtype, np.integer):
        raise ValueError(f"truth must be integers of shape (N,), N >= 1. Got {truth.dtype} of shape {truth.shape}.")
    if truth.min() < 0 or truth.max() >= len(names):
        raise ValueError(f"truth must be in 0..{len(names) - 1}. Got values from {truth.min()} to {truth.max()}.")
    wanted = (len(truth), len(names))
    if probabilities.shape != wanted or not np.issubdtype(probabilities.dtype, np.floating):
        raise ValueError(
            f"probabilities must be floats of shape (N, C) = {wanted}. "
            f"Got {probabilities.dtype} of shape {probabilities.shape}."
        )
    if not np.isfinite(probabilities).all():
        row = int(np.flatnonzero(~np.isfinite(probabilities).all(axis=1))[0])
        raise ValueError(f"probabilities must be finite. Got {probabilities[row].tolist()} in row {row}.")
    probabilities = probabilities.astype(np.float64)
    if probabilities.min() < 0 or probabilities.max() > 1:
        got = f"values from {probabilities.min()} to {probabilities.max()}"
        raise ValueError(f"probabilities must be in [0, 1]. Got {got}.")
    off = np.abs(probabilities.sum(axis=1) - 1)
    if off.max() > SUM_TOLERANCE:
        row = int(off.argmax())
        raise ValueError(f"probabilities must sum to 1 in each row. Got {probabilities[row].sum()} in row {row}.")
    return names, truth.astype(np.int64), probabilities


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return part / whole, float64 (C,), with 0 where `whole` is 0."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _undefined(names: Sequence[str], given: Sequence[int], support: Sequence[int]) -> tuple[str, ...]:
    sentences = []
    for name, n_predicted, n_true in zip(names, given, support, strict=True):
        if not n_predicted:
            sentences.append(f"precision of '{name}' is undefined: nothing was predicted as '{name}'; 0 is used")
        if not n_true:
            sentences.append(f"recall of '{name}' is undefined: no image is truly '{name}'; 0 is used")
        if not n_predicted and not n_true:
            sentences.append(f"F1 of '{name}' is undefined: '{name}' is neither true nor predicted; 0 is used")
    return tuple(sentences)
