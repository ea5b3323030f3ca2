"""The scores of a classifier on a labelled set, as scikit-learn defines them but without needing it.

`scores.py` computes them; here they get names and types. The definitions, with their sources, are in docs/metrics.md.
Where a denominator is 0 the score is 0, as with scikit-learn's `zero_division=0`; an area under a curve that has no
value is None. `Metrics.undefined` says so. A test holds every number to scikit-learn's within 1e-12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.scores import OF_CLASS, Scored

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
class RestScores(Scores):
    """The scores of a class against all others, or their mean over classes."""

    specificity: float
    """Share of the images of other classes that were not given to this one, in [0, 1]."""
    auroc: float | None
    """Area under the ROC curve in [0, 1]; None where there is no image of the class, or of no other."""
    auprc: float | None
    """Average precision in [0, 1]; None where there is no image of the class."""


@dataclass(frozen=True)
class ClassScores(RestScores):
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
    balanced_accuracy: float
    """Mean recall of the classes that occur, in [0, 1]."""
    mcc: float
    """Matthews correlation coefficient of several classes, in [-1, 1]."""
    kappa: float
    """Cohen's kappa, in [-1, 1]."""
    brier: float
    """Mean squared error of the probabilities, summed over classes, in [0, 2]."""
    ece: float
    """Expected calibration error of the most probable class in 15 bins of equal width, in [0, 1]."""
    per_class: dict[str, ClassScores]
    """Class name -> its scores, in the order of `labels`."""
    macro: RestScores
    """Plain mean over all C classes, those that never occur included (as 0; areas under curves leave them out)."""
    weighted: Scores
    """Mean over classes weighted by support."""
    confusion_matrix: NDArray[np.int64]
    """int64 (C, C), read-only: rows true, columns predicted, both in the order of `labels`."""
    labels: tuple[str, ...]
    """The C class names."""
    undefined: tuple[str, ...]
    """One sentence for each score that has no value."""

    @property
    def figures(self) -> dict[str, float | None]:
        """Every figure by the dotted name that intervals and folds.json have: accuracy, per_class.glioma.recall, ..."""
        flat = {name: getattr(self, name) for name in OF_SAMPLE}
        for average in ("macro", "weighted"):
            flat |= {f"{average}.{name}": value for name, value in asdict(getattr(self, average)).items()}
        for label, scores in self.per_class.items():
            flat |= {f"per_class.{label}.{name}": getattr(scores, name) for name in OF_CLASS}
        return flat

    def as_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON takes them: the shape of `metrics.json`."""
        return {
            "n": self.n,
            **{name: getattr(self, name) for name in OF_SAMPLE},
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


HEADLINE: Final = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro.f1": "Macro F1",
    "macro.auroc": "Macro AUROC",
    "macro.auprc": "Macro AUPRC",
    "mcc": "Matthews correlation",
    "kappa": "Cohen's kappa",
    "loss": "Log loss (nats)",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
}
"""The figures that are shown first, by the names of `Metrics.figures`, and their titles."""

OF_SAMPLE: Final = ("loss", "accuracy", "balanced_accuracy", "mcc", "kappa", "brier", "ece")
"""The figures of all images together."""


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
    scored = Scored(names, truth, probabilities)
    confusion = scored.confusion(np.ones((1, 1)))[0].astype(np.int64)
    confusion.flags.writeable = False
    values: dict[str, Any] = {name: None if np.isnan(value) else value for name, value in scored.values.items()}

    def of(prefix: str) -> dict[str, Any]:
        """The scores below a dotted name; 0 for those without a value, but for areas."""
        found = {name: values[f"{prefix}.{name}"] for name in OF_CLASS if f"{prefix}.{name}" in values}
        return {name: value if name in {"auroc", "auprc"} else value or 0.0 for name, value in found.items()}

    return Metrics(
        n=len(truth),
        **{name: values[name] or 0.0 for name in OF_SAMPLE},
        per_class={
            name: ClassScores(**of(f"per_class.{name}"), support=count)
            for name, count in zip(names, confusion.sum(axis=1).tolist(), strict=True)
        },
        macro=RestScores(**of("macro")),
        weighted=Scores(**of("weighted")),
        confusion_matrix=confusion,
        labels=names,
        undefined=_undefined(names, confusion),
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


def _undefined(names: Sequence[str], confusion: NDArray[np.int64]) -> tuple[str, ...]:
    sentences = []
    given, support, n = confusion.sum(axis=0), confusion.sum(axis=1), int(confusion.sum())
    for name, n_predicted, n_true in zip(names, given.tolist(), support.tolist(), strict=True):
        if not n_predicted:
            sentences.append(f"precision of '{name}' is undefined: nothing was predicted as '{name}'; 0 is used")
        if not n_true:
            sentences.append(f"recall of '{name}' is undefined: no image is truly '{name}'; 0 is used")
        if not n_predicted and not n_true:
            sentences.append(f"F1 of '{name}' is undefined: '{name}' is neither true nor predicted; 0 is used")
        if n_true == n:
            sentences.append(f"specificity of '{name}' is undefined: every image is truly '{name}'; 0 is used")
    without = [name for name, count in zip(names, support.tolist(), strict=True) if count in {0, n}]
    if without:
        listed = ", ".join(f"'{name}'" for name in without)
        sentences.append(f"AUROC of {listed} is undefined: it takes images of the class and of others; left out")
    if n in support or n in given:
        sentences.append("the Matthews correlation is undefined: all images are, or are called, one class; 0 is used")
    if n in support and n in given and support.argmax() == given.argmax():
        sentences.append("Cohen's kappa is undefined: all images are, and are called, one class; 0 is used")
    return tuple(sentences)
