"""Prediction sets: the classes that cannot be ruled out at an error rate. What is promised: `docs/uncertainty.md`.

A class is in the set if its probability is at least its threshold (Sadinle, Lei and Wasserman, Least Ambiguous
Set-Valued Classifiers, JASA 2019). The most probable class joins every set that is not empty, so that an answer is in
its own set; a set that grows keeps its promise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ModelError
from neurodense.inference.card import Card, Sets

ERRORS: Final = (0.05, 0.1, 0.2)
"""Error rates that thresholds are kept for."""
DEFAULT: Final = 0.1


def chosen_sets(card: Card, error: float | None) -> Sets | None:
    """The thresholds for an error rate; for None, those of DEFAULT where the model has them.

    Raises:
        ModelError: The model has none for `error`; the message says how many groups that would need.
    """
    has = card.conformal.sets if card.conformal else ()
    for sets in has:
        if np.isclose(sets.error, DEFAULT if error is None else error):
            return sets
    if error is None:
        return None
    there = ", ".join(f"{sets.error:g}" for sets in has)
    why = ""
    if card.conformal and f"{error:g}" in card.conformal.needed:
        groups = ", ".join(f"{name} {count}" for name, count in card.conformal.groups.items())
        why = f" It needs {card.conformal.needed[f'{error:g}']} groups in the validation part, which has: {groups}."
    raise ModelError(
        f"The model promises no prediction sets with an error of {error:g}; it has {there or 'none'}.{why}",
        "Leave out --error, or neurodense calibrate MODEL --data DATA --split CSV   with more patients in validation",
    )


def members(probabilities: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which classes are in the sets.

    Args:
        probabilities: (N, C), calibrated.
        least: (C,), the thresholds.

    Returns:
        (N, C), True for a class in the set.
    """
    inside = np.asarray(probabilities >= least)
    some = inside.any(axis=1)
    inside[some, probabilities[some].argmax(axis=1)] = True
    return inside
