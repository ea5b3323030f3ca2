"""A model on labelled images: predictions, metrics, and the folder of files that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodense import atomic
from neurodense.data.catalogue import Record, scan_folder
from neurodense.data.groups import apply_groups, read_groups
from neurodense.data.split import PARTS, Part, read_part
from neurodense.errors import DataError
from neurodense.evaluation.figures import confusion_figure, curves_figure
from neurodense.evaluation.metrics import Metrics, measure
from neurodense.evaluation.predictions import Predictions, write_predictions
from neurodense.inference.predictor import Failure, Predictor
from neurodense.screen import Screen

Figure = tuple[str, Path, str]
"""Caption, PNG file, text for those who cannot see it."""


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of labelled images.

    Attributes:
        predictions: One row an image, in the order of the paths.
        metrics: Measured on them.
        failures: Images that could not be read, which are in neither.
    """

    predictions: Predictions
    metrics: Metrics
    failures: tuple[Failure, ...]


def evaluate(
    data: str | Path,
    model: str | Path | Predictor,
    *,
    split: str | Path | None = None,
    part: Part | None = None,
    groups: str | Path | None = None,
    screen: Screen | None = None,
) -> Evaluation:
    """Measure a model on a folder of images, one sub-folder a class, or on one part of a split of it.

    Args:
        data: The folder. Its class folders must be classes of the model; a class may be absent.
        model: A model folder or a loaded one.
        split: CSV of path and part, such as a run's split.csv.
        part: train, validation or test: which rows of `split` to take; needs `split`.
        groups: CSV of path and group or patient, carried into the predictions; `split` has its own column for them.
        screen: Told what happens; None is quiet.

    Raises:
        DataError: The folder, the table or a class name is not as it must be.
        ModelError: The model folder is not one.
    """
    if part is not None and part not in PARTS:
        raise DataError(f"part is {part!r}; allowed are {', '.join(PARTS)}.")
    if (split is None) != (part is None):
        raise DataError("--split and --part go together.", "--split RUN/split.csv --part test")
    screen = screen or Screen()
    predictor = model if isinstance(model, Predictor) else Predictor(model)
    lost: tuple[Failure, ...] = ()
    if split is not None and part is not None:
        records = read_part(split, data, part)
    else:
        with screen.bar("reading images", 1, "images") as bar:
            catalogue = scan_folder(data, bar.reach)
        if groups is not None:
            catalogue, _ = apply_groups(catalogue, read_groups(groups))
        records = catalogue.records
        lost = tuple(Failure(path, "ScanError", reason) for path, reason in catalogue.unreadable)
    known = predictor.card.classes
    if foreign := sorted({record.label for record in records} - set(known)):
        raise DataError(
            f"Class folders {', '.join(map(repr, foreign))} of {data} are no classes of the model; "
            f"it knows {', '.join(map(repr, known))}.",
            "Rename the folders to the model's classes, or move these away.",
        )
    result = evaluate_records(predictor, Path(data), records, screen)
    return Evaluation(result.predictions, result.metrics, (*lost, *result.failures))


def evaluate_records(predictor: Predictor, root: Path, records: Sequence[Record], screen: Screen) -> Evaluation:
    """Measure a model on records whose paths are relative to `root`."""
    classes = predictor.card.classes
    sources: list[str] = []
    truth: list[int] = []
    rows: list[list[float]] = []
    kept: list[Record] = []
    failures: list[Failure] = []
    answers = predictor.predict(root / record.path for record in records)
    with screen.bar("evaluating", len(records), "images") as bar:
        for record, answer in zip(records, answers, strict=True):
            bar.advance()
            if isinstance(answer, Failure):
                failures.append(Failure(record.path, answer.type, answer.message))
                continue
            kept.append(record)
            sources.append(record.path)
            truth.append(classes.index(record.label))
            rows.append([answer.probabilities[name] for name in classes])
    if not rows:
        raise DataError(f"None of the {len(records)} images could be read; the first says: {failures[0].message}")
    predictions = Predictions(
        labels=classes,
        sources=tuple(sources),
        truth=np.array(truth, dtype=np.int64),
        probabilities=np.array(rows, dtype=np.float64),
        groups=tuple(record.group for record in kept) if any(r.group != r.path for r in kept) else None,
    )
    return Evaluation(predictions, measure(classes, predictions.truth, predictions.probabilities), tuple(failures))


def write_evaluation(
    evaluation: Evaluation, out: str | Path, *, subject: str, note: str = "", history: Sequence[Mapping[str, Any]] = ()
) -> list[Figure]:
    """Write metrics.json, predictions.csv and the figures to a folder.

    Args:
        evaluation: What to write.
        out: The folder, made if need be.
        subject: What was measured, such as "Test part"; stands above the figures.
        note: What must be said of the images, such as "synthetic images"; stands behind it.
        history: The epochs of the model's training; its curves are drawn where there are any.

    Returns:
        The figures.

    Raises:
        MissingExtra: matplotlib is not installed; metrics.json and predictions.csv are written all the same.
    """
    out = Path(out)
    unread = [failure.as_dict() for failure in evaluation.failures]
    atomic.write_json(out / "metrics.json", {**evaluation.metrics.as_dict(), "unreadable": unread})
    write_predictions(evaluation.predictions, out / "predictions.csv")
    metrics, figures, remark = evaluation.metrics, list[Figure](), f" ({note})" if note else ""
    for shares, name, caption in (
        (False, "confusion-counts.png", "Confusion matrix, images"),
        (True, "confusion-shares.png", "Confusion matrix, share of each true class"),
    ):
        confusion_figure(metrics, out / name, shares=shares, title=subject + remark)
        scores = f"Accuracy {metrics.accuracy:.3f}, macro F1 {metrics.macro.f1:.3f}."
        alt = f"{caption}: rows true, columns predicted. {scores}"
        figures.append((caption, out / name, alt))
    if history:
        curves_figure(history, out / "curves.png", "Training" + remark)
        last = history[-1]
        alt = (
            f"Loss, accuracy and macro F1 over {len(history)} epochs; the last has a validation loss of "
            f"{last['validation_loss']:.3f} and a macro F1 of {last['validation_macro_f1']:.3f}."
        )
        figures.append(("Training: loss, accuracy and macro F1 by epoch", out / "curves.png", alt))
    return figures
