"""Do the prediction sets keep their promise: temperature and thresholds from half of the groups, coverage on the rest.

Twenty times, each with other halves. The promise is about an image of a new group, so that each group counts once. The
mean over twenty rounds, with K groups to fit and n to test, may be expected to be 1 - error or more, within three
standard errors of a share of 20 n draws whose threshold is itself an order statistic of K:

    sqrt( error (1 - error) (1 / (20 K) + 1 / (20 n)) )

Without a model the groups are synthetic: their images share an offset, so that they err together. There the same is
done with images as units, to show what that loses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.data.split_table import read_part
from neurodense.evaluation.calibrate import outputs_of
from neurodense.evaluation.certainty import coverage
from neurodense.evaluation.fit_scaling import fit_temperature
from neurodense.evaluation.fit_sets import fit_sets
from neurodense.evaluation.predictions import Predictions
from neurodense.inference.predictor import Predictor
from neurodense.inference.scaling import softmax
from neurodense.inference.sets import ERRORS, members
from neurodense.screen import Screen

ROUNDS = 20
Case = tuple[NDArray[np.floating[Any]], NDArray[np.int64], NDArray[Any]]
"""Logits (N, C), classes (N,) and groups (N,)."""


def measure(model: Path | None, data: Path | None, split: Path | None, out: Path) -> None:
    """Print and write what twenty rounds cover: of synthetic groups, or of a model's validation and test parts."""
    if model is None or data is None or split is None:
        cases = [synthetic(np.random.default_rng(seed)) for seed in range(ROUNDS)]
        rows = {"groups": [halves(case, seed) for seed, case in enumerate(cases)]}
        rows["images"] = [halves(case, seed, by_image=True) for seed, case in enumerate(cases)]
    else:
        case = pooled(model, data, split)
        rows = {"groups": [halves(case, seed) for seed in range(ROUNDS)]}
    result: dict[str, Any] = {}
    print(f"{'unit':<8}{'error':>6}{'promise':>12}{'covered':>9}{'least':>7}{'most':>7}{'mean >=':>9}"
          f"{'sets of one':>13}{'empty':>7}  of each class")  # fmt: skip
    for unit, rounds in rows.items():
        for error in ERRORS:
            found = [one[error] for one in rounds if error in one]
            if not found:
                print(f"{unit:<8}{error:>6g}   too few groups")
                continue
            covered = [one["covered"] for one in found]
            each = {True: "each class", False: "all", None: "mixed"}
            kinds = {bool(one["each_class"]) for one in found}
            below = 1 - error - 3 * max(one["standard_error"] for one in found)
            row = {
                "promise": each[next(iter(kinds)) if len(kinds) == 1 else None],
                "covered": float(np.mean(covered)),
                "least": min(covered),
                "most": max(covered),
                "band": below,
                "per_class": np.mean([one["per_class"] for one in found], axis=0).tolist(),
                "sets_of_one": float(np.mean([one["sets_of_one"] for one in found])),
                "empty": float(np.mean([one["empty"] for one in found])),
            }
            result[f"{unit} {error:g}"] = row
            print(f"{unit:<8}{error:>6g}{row['promise']:>12}{row['covered']:>9.3f}{row['least']:>7.3f}"
                  f"{row['most']:>7.3f}{below:>9.3f}{row['sets_of_one']:>13.3f}{row['empty']:>7.3f}  "
                  + " ".join(f"{value:.3f}" for value in row["per_class"]))  # fmt: skip
    atomic.write_json(out, {"rounds": ROUNDS, "model": model.name if model else None, "rows": result})


def halves(case: Case, seed: int, *, by_image: bool = False) -> dict[float, dict[str, Any]]:
    """Fit on a random half of the groups, test on the others: for each error rate what was covered."""
    logits, truth, groups = case
    rng = np.random.default_rng((seed, 1))
    names = np.unique(groups)
    fitted = np.isin(groups, names[rng.permutation(len(names))[: len(names) // 2]])
    classes = [str(k) for k in range(logits.shape[1])]
    temperature = fit_temperature(logits[fitted], truth[fitted])
    probabilities = softmax(logits / temperature)
    units = np.arange(len(truth)) if by_image else groups
    names_of = tuple(map(str, np.flatnonzero(~fitted)))
    tested = Predictions(
        tuple(classes), names_of, truth[~fitted], probabilities[~fitted], tuple(map(str, groups[~fitted]))
    )
    conformal = fit_sets(classes, truth[fitted], probabilities[fitted], units[fitted])
    found = {}
    for sets in conformal.sets:
        least = np.array([sets.least[name] for name in classes])
        got = coverage(tested, members(tested.probabilities, least), sets.error, sets.each_class)
        few, many = len(np.unique(groups[fitted])), len(np.unique(groups[~fitted]))
        found[sets.error] = {
            "covered": got.covered.value or 0.0,
            "per_class": [one.value for one in got.per_class.values()],
            "each_class": sets.each_class,
            "standard_error": float(np.sqrt(sets.error * (1 - sets.error) * (1 / few + 1 / many) / ROUNDS)),
            "sets_of_one": got.sizes[1] / sum(got.sizes),
            "empty": got.sizes[0] / sum(got.sizes),
        }
    return found


def synthetic(rng: np.random.Generator, groups: int = 240, classes: int = 4, sharpness: float = 2.0) -> Case:
    """Groups of 1 to 40 images of one class; the images of a group share most of their error."""
    sizes = np.ceil(40 ** rng.random(groups)).astype(np.int64)
    label = rng.integers(classes, size=groups)
    shared = rng.normal(size=(groups, classes)) * 1.5
    where = np.repeat(np.arange(groups), sizes)
    own = rng.normal(size=(len(where), classes)) * 0.7
    logits = sharpness * (3 * np.eye(classes)[label[where]] + shared[where] + own)
    return logits, label[where], where


def pooled(model: Path, data: Path, split: Path) -> Case:
    """The model's outputs for its validation and test parts, which it was not trained on."""
    predictor, screen = Predictor(model, precision="fp32", threads=1), Screen.on_stderr()
    both = [outputs_of(predictor, data, read_part(split, data, part), part, screen) for part in ("validation", "test")]
    return (
        np.concatenate([one.logits for one in both]),
        np.concatenate([one.truth for one in both]),
        np.concatenate([one.groups for one in both]),
    )
