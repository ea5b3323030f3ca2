"""All that is fitted on the validation part: temperature, thresholds, prediction sets, and the limit of what is known.

In this order, since each goes by the probabilities that the one before it left: the temperature, the thresholds of the
operating points and of the sets, and the limit of rejection. What the model knows, against which an image is held, is
what it was trained on: training images give the means and the covariance, and are what the
rule on appearances is to tell from drawings. The test part is never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from neurodense.data.catalogue import Record
from neurodense.data.folds import deal
from neurodense.errors import DataError
from neurodense.evaluation.fit_appearance import fit_appearance
from neurodense.evaluation.fit_rejection import ACCEPTANCE, fit_reach, fit_rejection
from neurodense.evaluation.fit_scaling import fit_temperature, fit_vector, proves_better
from neurodense.evaluation.fit_sets import fit_sets, group_quantile, groups_needed
from neurodense.evaluation.operating import choose_thresholds
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.reliability import quality
from neurodense.inference.appearance import describe, pictures
from neurodense.inference.card import Calibration, Card, OutOfDistribution, read_card, sha256_of, write_card
from neurodense.inference.predictor import MANY, Predictor
from neurodense.inference.rejection import REJECTION
from neurodense.inference.scaling import calibrated, softmax
from neurodense.inference.shift import one_of_each
from neurodense.scans.study import Failure
from neurodense.screen import Screen

FOLDS: Final = 5
KNOWN_IMAGES: Final = 4000
"""Training images that say what the model knows, at most."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The graph's outputs for N labelled images: float32 logits (N, C) and features (N, 1024), and their records.

    What is seen without the graph: numbers, float32 (N, appearance.NUMBERS), and pictures, float16 (N, SIDE, SIDE).
    """

    records: tuple[Record, ...]
    logits: NDArray[np.float32]
    features: NDArray[np.float32]
    truth: NDArray[np.int64]
    numbers: NDArray[np.float32]
    pictures: NDArray[np.float16]

    @property
    def groups(self) -> NDArray[Any]:
        """(N,): the group of each image."""
        return np.array([record.group for record in self.records])


def calibrate(
    model: str | Path,
    root: str | Path,
    training: Sequence[Record],
    validation: Sequence[Record],
    screen: Screen | None = None,
) -> Card:
    """Give a model folder its temperature, its thresholds, its prediction sets, and ood.safetensors.

    Args:
        model: The folder. What it had of these before is replaced.
        root: The paths of the records are relative to it.
        training: What the model knows; KNOWN_IMAGES of them, evenly spread, are read.
        validation: What everything is fitted on.
        screen: Told what happens; None is quiet.

    Returns:
        The card as it now is.

    Raises:
        ModelError: The folder is no model folder.
        DataError: A part has no image that can be read, or the validation part is of one group.
    """
    folder, root, screen = Path(model), Path(root), screen or Screen()
    predictor = Predictor(folder, precision="fp32", streams=MANY)
    if foreign := sorted({one.label for one in (*training, *validation)} - set(predictor.card.classes)):
        raise DataError(
            f"{', '.join(map(repr, foreign))} are no classes of the model; it knows "
            f"{', '.join(map(repr, predictor.card.classes))}.",
            "Give the folder and the split that the model was trained on.",
        )
    spread = training[:: max(1, -(-len(training) // KNOWN_IMAGES))]
    held = outputs_of(predictor, root, validation, "validation", screen)
    known = outputs_of(predictor, root, spread, "training", screen)
    card = read_card(folder)

    temperature = fit_temperature(held.logits, held.truth)
    calibration = _compared(held, temperature, f"{predictor.engine} {predictor.precision}")
    card = card.model_copy(update={"temperature": temperature, "calibration": calibration})
    unit: Literal["group", "image"] = "group" if any(one.group != one.path for one in held.records) else "image"
    sources, probabilities = tuple(one.path for one in held.records), softmax(calibrated(card, held.logits))
    thresholds = choose_thresholds(Predictions(card.classes, sources, held.truth, probabilities))
    sets = fit_sets(card.classes, held.truth, probabilities, held.groups, unit)

    files = {name: digest for name, digest in card.files.items() if name != REJECTION}
    described = None
    if len(set(held.groups)) < groups_needed(1 - ACCEPTANCE):
        (folder / REJECTION).unlink(missing_ok=True)
    else:
        rejection = replace(
            fit_rejection(known.features, known.truth), appearance=fit_appearance(known.pictures, card.preprocess)
        )
        rejection = fit_reach(rejection, held.features, held.numbers, held.groups)
        limit = group_quantile(rejection.scores_of(held.features, held.numbers), held.groups, 1 - ACCEPTANCE)
        assert limit is not None
        drawn = one_of_each([one.group for one in held.records], sources)
        rejection = replace(
            rejection.scaled(limit),
            reference=rejection.coordinates(held.features[drawn]),
            called=probabilities[drawn].argmax(axis=1),
        )
        rejection.save(folder / REJECTION)
        files[REJECTION] = sha256_of(folder / REJECTION)
        described = OutOfDistribution(
            score=rejection.name,
            acceptance=ACCEPTANCE,
            known_images=len(known.records),
            images=len(held.records),
            groups=len(set(held.groups)),
        )
    changes = {"thresholds": thresholds, "conformal": sets, "out_of_distribution": described, "files": files}
    card = card.model_copy(update=changes)
    write_card(folder, card)
    return card


def outputs_of(predictor: Predictor, root: Path, records: Sequence[Record], part: str, screen: Screen) -> Measured:
    """Run the graph over the images of a part; what cannot be read, or is a volume, is left out.

    Raises:
        DataError: Nothing is left.
    """
    kept, logits, features, numbers, shown = [], [], [], [], []
    with screen.bar(f"calibrating: {part} part", len(records), "images") as bar:
        results = predictor.run([root / record.path for record in records])
        for record, result in zip(records, results, strict=True):
            bar.advance()
            if isinstance(result, Failure):
                screen.say(f"left out: {result.message}")
            elif result[0].total > 1:
                screen.say(f"left out: {record.path} is a volume; single images are calibrated on")
            else:
                kept.append(record)
                logits.append(result[1].logits)
                features.append(result[1].features)
                picture = pictures(result[0].pixels)
                numbers.append(describe(picture))
                shown.append(picture.astype(np.float16))
    if not kept:
        raise DataError(f"None of the {len(records)} images of the {part} part can be read.")
    truth = np.array([predictor.card.classes.index(record.label) for record in kept])
    outputs = np.concatenate(logits), np.concatenate(features), truth, np.concatenate(numbers), np.concatenate(shown)
    return Measured(tuple(kept), *outputs)


def _compared(held: Measured, temperature: float, engine: str) -> Calibration:
    """Temperature against vector scaling, each image scored by what the other folds gave."""
    folds = min(FOLDS, len(set(held.groups)))
    if folds < 2:
        raise DataError("The validation part is of one group; two at least are needed to calibrate on.")
    warm, vector = (np.empty(held.logits.shape) for _ in range(2))
    for taken in deal(held.records, folds, "calibration"):
        out = np.isin(held.groups, list(taken))
        logits, truth = held.logits[~out], held.truth[~out]
        one = fit_temperature(logits, truth)
        many = fit_vector(logits, truth, one)
        warm[out] = softmax(held.logits[out] / one)
        vector[out] = softmax(held.logits[out] * np.array(many.scale) + np.array(many.shift))
    rows = np.arange(len(held.truth))
    losses, current = (-np.log(p[rows, held.truth].clip(1e-300)) for p in (vector, warm))
    better = proves_better(losses, current, held.groups)
    return Calibration(
        images=len(held.records),
        groups=len(set(held.groups)),
        folds=folds,
        engine=engine,
        before=quality(held.truth, softmax(held.logits)),
        temperature=quality(held.truth, warm),
        vector=quality(held.truth, vector),
        chosen=fit_vector(held.logits, held.truth, temperature) if better else None,
    )


def summary(card: Card) -> list[str]:
    """What was fitted and what it changed, a line each."""
    fitted, sets, known = card.calibration, card.conformal, card.out_of_distribution
    assert fitted is not None
    after = fitted.vector if fitted.chosen else fitted.temperature
    how = "vector scaling" if fitted.chosen else f"temperature {card.temperature:.3f}"
    said = [
        f"calibrated on {fitted.images:,} validation images of {fitted.groups:,} groups, {how}: out of fold, log loss "
        f"{fitted.before.loss:.4f} -> {after.loss:.4f}, expected calibration error {fitted.before.ece:.4f} -> "
        f"{after.ece:.4f}"
    ]
    assert sets is not None
    promised = {f"{one.error:g}": one for one in sets.sets}
    counts = ", ".join(f"{name} {count}" for name, count in sets.groups.items())
    for error, needed in sets.needed.items():
        if error not in promised:
            said.append(
                f"no prediction sets with an error of {error}: needs {needed} {sets.unit}s, there are: {counts}"
            )
        elif promised[error].each_class:
            said.append(f"prediction sets with an error of {error} of each class")
        else:
            said.append(
                f"prediction sets with an error of {error} of all classes together: of each class it would need "
                f"{needed} {sets.unit}s, there are: {counts}"
            )
    said.append(
        f"images unlike {known.known_images:,} training images are rejected; {known.acceptance:.0%} of others are not"
        if known
        else f"nothing is rejected: that needs {groups_needed(1 - ACCEPTANCE)} {sets.unit}s, there are {fitted.groups}"
    )
    return said
