"""Which score tells what is no brain MRI, and how much of it is rejected.

A limit is set so that 95% of images of a new group pass, on the validation part (`evaluation/fit_sets.py` says how
groups count). A score is chosen by what it then rejects of half of the kinds of `probes.py`; what it rejects of the
other half, and what it lets pass of the test part, is the report. Two ways of saying what is known are compared: the
training part, and the validation part alone, where each image is scored by what the other four fifths give.

These scores go by the graph's outputs. The model's own gate, as it was calibrated, which goes by what an image looks
like as well, is reported apart.

Brain MRIs of other sources are no mistakes of a user, and how many of them are rejected is said apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.probes import write_probes
from benchmarks.scores import SCORES, Fit
from neurodense import atomic
from neurodense.data.folds import deal
from neurodense.data.split_table import read_part
from neurodense.evaluation.calibrate import FOLDS, Measured, outputs_of
from neurodense.evaluation.fit_rejection import ACCEPTANCE
from neurodense.evaluation.fit_sets import group_quantile
from neurodense.inference.appearance import describe as looks
from neurodense.inference.appearance import pictures
from neurodense.inference.pipeline import Input
from neurodense.inference.predictor import Predictor
from neurodense.inference.rejection import REJECTION, Rejection
from neurodense.scans.study import Failure, find_studies
from neurodense.screen import Screen

CHOSEN = "Mahalanobis, 128"


@dataclass(frozen=True)
class Shown:
    """Of images that have no label: logits (N, C), features (N, 1024), and what `appearance.describe` gives."""

    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    numbers: NDArray[np.float32]


@dataclass(frozen=True)
class Rated:
    """One score: what it does to each set of images. `accepted`: of images, and where each group counts once."""

    score: str
    known: str
    validation_accepted: tuple[float, float]
    test_accepted: tuple[float, float]
    rejected: dict[str, float]
    auroc: dict[str, float]


def measure(model: Path, data: Path, split: Path, shifted: Iterable[Path], out: Path) -> None:
    """Compare all scores, print the tables, write `out`."""
    predictor, screen = Predictor(model, precision="fp32", threads=1), Screen.on_stderr()
    train, held, test = (
        outputs_of(predictor, data, read_part(split, data, part), part, screen)
        for part in ("train", "validation", "test")
    )
    with tempfile.TemporaryDirectory() as room:
        choosing, reporting = (
            {kind: shown(predictor, files) for kind, files in half.items()} for half in write_probes(Path(room))
        )
    others = {
        path.name if path.is_dir() else f"{path.parent.name}/{path.name}": shown(predictor, find_studies([path]))
        for path in shifted
    }
    rated = [
        rate(name, fit, known, train, held, test, {**choosing, **reporting, **others})
        for known in ("training", "validation")
        for name, fit in SCORES.items()
    ]
    print(f"\nChosen by: rejected at {ACCEPTANCE:.0%} acceptance, mean over {len(choosing)} kinds")
    print(f"{'known':<12}{'score':<28}{'rejected':>9}{'AUROC':>8}{'validation accepted':>21}")
    for one in rated:
        mean, area = (np.mean([values[kind] for kind in choosing]) for values in (one.rejected, one.auroc))
        print(f"{one.known:<12}{one.score:<28}{mean:>9.3f}{area:>8.3f}{one.validation_accepted[1]:>21.3f}")
    halves = {"chosen by": choosing, "reported": reporting, "brain MRI of other sources": others}
    show(next(one for one in rated if one.score == CHOSEN and one.known == "training"), halves)
    if (folder := predictor.folder / REJECTION).exists():
        rated.append(gate(Rejection.load(folder), held, test, {**choosing, **reporting, **others}))
        show(rated[-1], halves)
    atomic.write_json(
        out,
        {
            "machine": describe(),
            "model": predictor.card.name,
            "model_sha256": predictor.card.files["model.onnx"],
            "acceptance": ACCEPTANCE,
            "images": {kind: len(one.logits) for kind, one in {**choosing, **reporting, **others}.items()},
            "choosing": list(choosing),
            "reporting": list(reporting),
            "other_sources": list(others),
            "scores": [vars(one) for one in rated],
        },
    )


def show(one: Rated, halves: dict[str, dict[str, Shown]]) -> None:
    """Print what one score accepts of the test part and rejects of each kind."""
    of_images, of_groups = one.test_accepted
    print(f"\n{one.score}, {one.known}. Of the test part {of_images:.3f} of the images are accepted, "
          f"{of_groups:.3f} where each group counts once.")  # fmt: skip
    for head, kinds in halves.items():
        print(f"\n{head:<30}{'images':>7}{'rejected':>10}{'AUROC':>8}")
        for kind, images in kinds.items():
            print(f"{kind:<30}{len(images.logits):>7}{one.rejected[kind]:>10.3f}{one.auroc[kind]:>8.3f}")
        if kinds:
            print(f"{'mean of the kinds':<37}{np.mean([one.rejected[kind] for kind in kinds]):>10.3f}")


def shown(predictor: Predictor, inputs: Iterable[Input]) -> Shown:
    """Outputs for what can be read; of a volume, for the slices that show brain."""
    results = [one for one in predictor.run(inputs) if not isinstance(one, Failure)]
    return Shown(
        np.concatenate([outputs.logits for _, outputs in results]),
        np.concatenate([outputs.features for _, outputs in results]),
        np.concatenate([looks(pictures(item.pixels)) for item, _ in results]),
    )


def gate(rejection: Rejection, held: Measured, test: Measured, sets: dict[str, Shown]) -> Rated:
    """The model's own gate, as it was calibrated: its limit is a score of 1."""
    inside, later = (rejection.scores_of(one.features, one.numbers) for one in (held, test))
    values = {kind: rejection.scores_of(one.features, one.numbers) for kind, one in sets.items()}
    return Rated(
        rejection.name,
        "as calibrated",
        accepted(inside <= 1, held.groups),
        accepted(later <= 1, test.groups),
        {kind: float((of > 1).mean()) for kind, of in values.items()},
        {kind: auroc(inside, of) for kind, of in values.items()},
    )


def rate(
    name: str, fit: Fit, known: str, train: Measured, held: Measured, test: Measured, sets: dict[str, Shown]
) -> Rated:
    """Fit a score to what is known, set its limit on the validation part, and apply it to sets of images."""
    if known == "training":
        score = fit(train.features, train.truth)
        inside = score(held.features, held.logits)
    else:
        score = fit(held.features, held.truth)
        inside = np.empty(len(held.truth))
        for taken in deal(held.records, FOLDS, "rejection"):
            out = np.isin(held.groups, list(taken))
            inside[out] = fit(held.features[~out], held.truth[~out])(held.features[out], held.logits[out])
    limit = group_quantile(inside, held.groups, 1 - ACCEPTANCE)
    assert limit is not None, "too few groups for a limit"
    values = {kind: score(one.features, one.logits) for kind, one in sets.items()}
    return Rated(
        name,
        known,
        accepted(inside <= limit, held.groups),
        accepted(score(test.features, test.logits) <= limit, test.groups),
        {kind: float((of > limit).mean()) for kind, of in values.items()},
        {kind: auroc(inside, of) for kind, of in values.items()},
    )


def accepted(passed: NDArray[np.bool_], groups: NDArray[Any]) -> tuple[float, float]:
    """Share of (N,) that passed: of images, and where each group counts once."""
    _, where, counts = np.unique(groups, return_inverse=True, return_counts=True)
    return float(passed.mean()), float((passed / counts[where]).sum() / len(counts))


def auroc(inside: NDArray[np.float64], outside: NDArray[np.float64]) -> float:
    """Probability that an image from outside has the larger score; of equals, a half."""
    order = np.sort(inside)
    below = np.searchsorted(order, outside, "left") + np.searchsorted(order, outside, "right")
    return float(below.mean() / 2 / len(order))
