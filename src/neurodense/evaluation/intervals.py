"""An interval for every figure of `metrics.py`, by a bootstrap over groups, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from neurodense.evaluation.bootstrap import (
    LEVEL,
    RESAMPLES,
    SEED,
    Bounds,
    Floats,
    basic,
    draws,
    interval,
    left_out,
    numbered,
)
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.scores import Scored

FEW: Final = 20
"""With fewer groups of a class, intervals of its figures were measured to be too narrow: docs/metrics.md."""


@dataclass(frozen=True)
class Intervals:
    """The intervals of the figures of some predictions.

    Attributes:
        bounds: Dotted name of a figure, as `Metrics.figures` has it -> lower and upper end. Some have none.
        undefined: Name -> number of resamples in which the figure has no value, such as the recall of a class that was
            not drawn. They are left out of its interval.
        exact: Names of shares in which no resample differs, because no error or no hit was seen: their interval is
            that of Clopper and Pearson, each group one trial.
        units: What was drawn: groups, or images where no groups are known.
        grouped: Whether groups are known.
        units_of: Class name -> how many of the units hold images of it.
        resamples: How many.
        seed: Of the resamples.
        level: Coverage aimed at.
    """

    bounds: dict[str, Bounds]
    undefined: dict[str, int]
    exact: tuple[str, ...]
    units: int
    grouped: bool
    units_of: dict[str, int]
    resamples: int
    seed: int
    level: float

    def spoken(self, name: str, value: float | None) -> str:
        """A figure with its interval, for people: what `spoken` makes of it."""
        return spoken(value, self.bounds.get(name))

    @property
    def method(self) -> str:
        """How the intervals were made, as one sentence."""
        what = "groups" if self.grouped else "images"
        return (
            f"Intervals: {self.level:.0%}, BCa bootstrap over {self.units:,} {what}, {self.resamples:,} resamples, "
            f"seed {self.seed}."
        )

    @property
    def notes(self) -> list[str]:
        """How the intervals were made, and which resamples or figures had to be treated apart."""
        said = [self.method]
        if self.undefined:
            name, count = max(self.undefined.items(), key=lambda item: item[1])
            said.append(
                f"{len(self.undefined)} figures have no value in some resamples, which lack images or predictions of a "
                f"class; those resamples are left out of their intervals, at most {count:,} ({name})."
            )
        if self.exact:
            said.append(
                f"No error, or no hit, was seen in {', '.join(self.exact)}: the interval is that of Clopper and "
                f"Pearson, each {'group' if self.grouped else 'image'} one trial."
            )
        return said

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before relying on the intervals."""
        said = []
        if not self.grouped:
            said.append(
                "No groups are known, so the intervals take each image for a patient of its own. Where several images "
                "are of one patient they are too narrow: --groups CSV names the patients."
            )
        if few := [f"{name} ({count})" for name, count in self.units_of.items() if 0 < count < FEW]:
            said.append(
                f"Few {'groups' if self.grouped else 'images'} hold images of {', '.join(few)}: intervals from so few "
                "are rough, and more often too narrow than too wide."
            )
        return said

    def as_dict(self) -> dict[str, Any]:
        """The intervals as metrics.json has them."""
        return {
            "level": self.level,
            "method": "BCa bootstrap over groups; basic for ece",
            "drawn": "groups" if self.grouped else "images",
            "units": self.units,
            "units_of_class": self.units_of,
            "resamples": self.resamples,
            "seed": self.seed,
            "figures": {name: list(bounds) for name, bounds in self.bounds.items()},
            "undefined_resamples": self.undefined,
            "exact": list(self.exact),
            "notes": self.notes,
            "warnings": self.warnings,
        }


def spoken(value: float | None, bounds: Sequence[float] | None) -> str:
    """A figure with its interval, for people: "0.912 (0.870 to 0.951)", the figure alone, or a dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if bounds is None else f"{value:.3f} ({bounds[0]:.3f} to {bounds[1]:.3f})"


def intervals(
    predictions: Predictions, *, resamples: int = RESAMPLES, seed: int = SEED, level: float = LEVEL
) -> Intervals:
    """Intervals of every figure. Whole groups are resampled; where none are known, each image is a group of its own.

    Args:
        predictions: N images over C classes.
        resamples: Of the bootstrap, at least 1.
        seed: The same seed gives the same intervals, whatever the order of the images.
        level: Coverage aimed at, in (0, 1).
    """
    scored = Scored(predictions.labels, predictions.truth, predictions.probabilities, numbered(predictions.units))
    trials, (values, jackknife) = scored.trials, distribution(scored, resamples, seed)
    bounds: dict[str, Bounds] = {}
    settled = []
    for name, point in scored.values.items():
        if name == "ece":
            found = basic(values[name], point, level)
        else:
            found = interval(values[name], point, jackknife[name], level, trials.get(name))
        if found is not None:
            bounds[name] = found
            if point in {0.0, 1.0} and name in trials:
                settled.append(name)
    missing = {name: int(np.isnan(values[name]).sum()) for name in bounds}
    return Intervals(
        bounds=bounds,
        undefined={name: count for name, count in missing.items() if count},
        exact=tuple(settled),
        units=scored.n_groups,
        grouped=predictions.groups is not None,
        units_of={label: trials.get(f"per_class.{label}.recall", 0) for label in predictions.labels},
        resamples=resamples,
        seed=seed,
        level=level,
    )


def distribution(
    scored: Scored, resamples: int, seed: int, under: Callable[[Floats], dict[str, Floats]] | None = None
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Every figure in each resample, name -> float64 (resamples,), and with each part of the jackknife left out.

    Args:
        scored: The predictions.
        resamples: How many.
        seed: Of the resamples.
        under: The figures under weightings of its groups; all of them where None, `Scored.under`.
    """
    size, under = (scored.n_groups, scored.n_images), under or scored.under
    return _joined(under, draws(*size, resamples, seed)), _joined(under, left_out(*size))


def _joined(under: Callable[[Floats], dict[str, Floats]], blocks: Iterable[Floats]) -> dict[str, Floats]:
    parts = [under(weights) for weights in blocks]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
