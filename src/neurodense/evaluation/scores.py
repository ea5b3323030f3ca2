"""Every figure of a classifier, for any weighting of the groups of images. docs/metrics.md has the definitions.

A resample of a bootstrap is a weighting: how often each group stands in it. So the images are looked at once, and
become sums per group: the confusion matrix, the loss, the Brier score and the gaps of the calibration bins are then
one matrix product for all resamples, and the areas under the curves running sums (`ranking.py`). The figures of the
sample itself are those under weights of 1, by the same code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.evaluation.ranking import areas, rank, share

Floats = NDArray[np.float64]

ECE_BINS: Final = 15
"""Equal widths, as in Guo et al., "On calibration of modern neural networks" (ICML 2017)."""

OF_CLASS: Final = ("precision", "recall", "f1", "specificity", "auroc", "auprc")
"""The figures of one class against all others."""


class Scored:
    """N predictions over C classes as sums over G groups.

    Args:
        labels: The C class names.
        truth: int64 (N,): index of the true class.
        probabilities: float64 (N, C), rows sum to 1.
        groups: intp (N,) in 0..G-1, each of which occurs; None makes all images one group.
    """

    def __init__(
        self,
        labels: Sequence[str],
        truth: NDArray[np.int64],
        probabilities: Floats,
        groups: NDArray[np.intp] | None = None,
    ) -> None:
        n, n_classes = probabilities.shape
        groups = np.zeros(n, dtype=np.intp) if groups is None else groups
        n_groups = int(groups.max()) + 1
        rows = np.arange(n)
        predicted = probabilities.argmax(axis=1)
        confidence = probabilities[rows, predicted]
        eps = np.finfo(np.float64).eps
        loss = -np.log(probabilities[rows, truth].clip(eps, 1 - eps))
        brier = ((probabilities - (truth[:, None] == np.arange(n_classes))) ** 2).sum(axis=1)
        bins = bin_of(confidence)

        def per_group(cells: NDArray[np.integer[Any]] | int, count: int, values: Floats | None = None) -> Floats:
            flat = np.bincount(groups * count + cells, values, minlength=n_groups * count)
            return flat.reshape(n_groups, count).T.astype(np.float64)

        self.labels, self.n_images, self.n_groups = tuple(labels), n, n_groups
        # float64 (C * C + 2 + bins, G): of each group the cells of its confusion matrix, and what is summed over images
        self._sums = np.concatenate(
            [
                per_group(truth * n_classes + predicted, n_classes**2),
                per_group(0, 1, loss),
                per_group(0, 1, brier),
                per_group(bins, ECE_BINS, (predicted == truth) - confidence),
            ]
        )
        self._rankings = [rank(probabilities[:, c], truth == c, groups) for c in range(n_classes)]
        whole = np.ones((n_groups, 1))
        of_class = self._classes(self.confusion(whole), whole)
        self._known = {name: ~np.isnan(values[0]) for name, values in of_class.items()}  # bool (C,): in the sample
        self.values: dict[str, float] = {name: float(value[0]) for name, value in self.under(whole).items()}

    def confusion(self, weights: Floats) -> Floats:
        """Confusion matrices under B weightings (G, B): float64 (B, C, C), rows true, columns predicted."""
        n_classes = len(self.labels)
        return np.asarray((self._sums[: n_classes**2] @ weights).T.reshape(-1, n_classes, n_classes))

    def calibration(self, weights: Floats) -> dict[str, Floats]:
        """How far the probabilities can be believed, under B weightings (G, B): loss, brier and ece, float64 (B,)."""
        n_cells = len(self.labels) ** 2
        n = self._sums[:n_cells].sum(axis=0) @ weights
        loss, brier, *gaps = self._sums[n_cells:] @ weights
        return {"loss": share(loss, n), "brier": share(brier, n), "ece": share(np.abs(gaps).sum(axis=0), n)}

    @property
    def trials(self) -> dict[str, int]:
        """Of each figure that is a share of images: the groups that hold such images. Without those that have none."""
        n_classes = len(self.labels)
        cells = self._sums[: n_classes**2].reshape(n_classes, n_classes, -1)
        of_class, given = cells.sum(axis=1), cells.sum(axis=0)  # (C, G) each
        counts = {"recall": of_class, "precision": given, "specificity": of_class.sum(axis=0) - of_class}
        found = {"accuracy": self.n_groups}
        for name, images in counts.items():
            holding = (images > 0).sum(axis=1).tolist()
            found |= {f"per_class.{label}.{name}": n for label, n in zip(self.labels, holding, strict=True) if n}
        return found

    def under(self, weights: Floats) -> dict[str, Floats]:
        """Every figure under B weightings of the groups.

        Args:
            weights: float64 (G, B), whole numbers: how often each group stands in the sample.

        Returns:
            Dotted name, such as accuracy, macro.f1 or per_class.glioma.recall -> float64 (B,). NaN where a figure has
            no value. An average has none where a class that counts in the sample has none; of a class that has no
            value in the sample itself either, the average takes 0, as scikit-learn's `zero_division=0` does, and
            macro AUROC and AUPRC leave it out.
        """
        confusion = self.confusion(weights)
        n = confusion.sum(axis=(1, 2))
        support, given = confusion.sum(axis=2), confusion.sum(axis=1)  # (B, C) each
        hits = np.trace(confusion, axis1=1, axis2=2)
        of_class, known = self._classes(confusion, weights), self._known

        def average(name: str) -> Floats:
            values = of_class[name]
            if name in {"auroc", "auprc"}:
                return _mean(values[:, known[name]])
            return _mean(np.where(known[name], values, 0.0))

        # Multi-class forms: Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation
        # coefficient"; Cohen (1960). Both compare the hits with those that the margins give by chance.
        beyond_chance = hits * n - (support * given).sum(axis=1)
        spread_true, spread_given = (n**2 - (margin**2).sum(axis=1) for margin in (support, given))
        figures = {
            "accuracy": share(hits, n),
            "balanced_accuracy": _mean(of_class["recall"][:, known["recall"]]),
            "mcc": share(beyond_chance, np.sqrt(spread_true * spread_given)),
            "kappa": share(beyond_chance, n**2 - (support * given).sum(axis=1)),
            **self.calibration(weights),
        }
        figures |= {f"macro.{name}": average(name) for name in OF_CLASS}
        for name in ("precision", "recall", "f1"):
            values = np.where(known[name] & (support > 0), of_class[name], 0.0)
            figures[f"weighted.{name}"] = share((values * support).sum(axis=1), n)
        for c, label in enumerate(self.labels):
            figures |= {f"per_class.{label}.{name}": of_class[name][:, c] for name in OF_CLASS}
        return figures

    def _classes(self, confusion: Floats, weights: Floats) -> dict[str, Floats]:
        """The figures of each class, float64 (B, C)."""
        hits, support, given = np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2), confusion.sum(axis=1)
        rest = confusion.sum(axis=(1, 2))[:, None] - support
        auroc, auprc = zip(*(areas(ranking, weights) for ranking in self._rankings), strict=True)
        return {
            "precision": share(hits, given),
            "recall": share(hits, support),
            "f1": share(2 * hits, given + support),
            "specificity": share(rest - (given - hits), rest),
            "auroc": np.stack(auroc, axis=1),
            "auprc": np.stack(auprc, axis=1),
        }


def bin_of(confidence: Floats) -> NDArray[np.int64]:
    """Number of the calibration bin of each confidence in (0, 1]: bins are open below and closed above."""
    return np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)


def _mean(values: Floats) -> Floats:
    """Mean over the second axis, NaN where there is nothing on it."""
    return np.asarray(values.mean(axis=1)) if values.shape[1] else np.full(len(values), np.nan)
