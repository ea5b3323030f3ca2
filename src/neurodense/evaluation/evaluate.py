"""A model on labelled images: predictions, metrics, and the folder of files that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurodense import atomic
from neurodense.data.catalogue import Record
from neurodense.data.split import PARTS, Part, read_part
from neurodense.errors import DataError
from neurodense.evaluation.certainty import Certainty, certainty
from neurodense.evaluation.figures import confusion_figure, curves_figure
from neurodense.evaluation.metrics import Metrics, measure
from neurodense.evaluation.predictions import Predictions, write_predictions
from neurodense.evaluation.reliability_figure import reliability_figure
from neurodense.evaluation.studies import group_studies, labelled_studies
from neurodense.inference.pipeline import Input
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import MANY, Predictor
from neurodense.inference.table import STUDY_RULE
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure
from neurodense.screen import Screen

Figure = tuple[str, Path, str]
"""Caption, PNG file, text for those who cannot see it."""


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of labelled images.

    Attributes:
        predictions: One row an image or study, in the order of the paths.
        metrics: Measured on them: a volume counts once, since not every slice of it need show what it is labelled.
        failures: Images that could not be read, which are in neither.
        slices: One row for each slice that was looked at, with its study as its group; None where all were images.
        certainty: Calibration, prediction sets and rejection; None where the model was never calibrated.
    """

    predictions: Predictions
    metrics: Metrics
    failures: tuple[Failure, ...]
    slices: Predictions | None = None
    certainty: Certainty | None = None

    @property
    def notes(self) -> list[str]:
        """What must be said beside the metrics."""
        said = self.certainty.sentences() if self.certainty else []
        if self.slices is None:
            return said
        studies = len({source.rpartition("#")[0] for source in self.slices.sources})
        return [f"{studies:,} of the {self.metrics.n:,} are studies, which count once each. {STUDY_RULE}", *said]


def evaluate(
    data: str | Path,
    model: str | Path | Predictor,
    *,
    split: str | Path | None = None,
    part: Part | None = None,
    groups: str | Path | None = None,
    slices: Slices | str = "brain",
    screen: Screen | None = None,
) -> Evaluation:
    """Measure a model on a folder of images or studies, one sub-folder a class, or on one part of a split of it.

    Args:
        data: The folder. Its class folders must be classes of the model; a class may be absent.
        model: A model folder, which is run in fp32, or a loaded one.
        split: CSV of path and part, such as a run's split.csv.
        part: train, validation or test: which rows of `split` to take; needs `split`.
        groups: CSV of path and group or patient, carried into the predictions; `split` has its own column for them.
            A series may be listed by its folder or by its files.
        slices: Which slices of a volume are looked at; see `scans/slices.py`.
        screen: Told what happens; None is quiet.

    Raises:
        DataError: The folder, the table, a class name or `slices` is not as it must be.
        ModelError: The model folder is not one.
    """
    if part is not None and part not in PARTS:
        raise DataError(f"part is {part!r}; allowed are {', '.join(PARTS)}.")
    if (split is None) != (part is None):
        raise DataError("--split and --part go together.", "--split RUN/split.csv --part test")
    slices = Slices.parse(slices) if isinstance(slices, str) else slices
    screen = screen or Screen()
    predictor = model if isinstance(model, Predictor) else Predictor(model, precision="fp32", streams=MANY)
    lost: list[Failure] = []
    if split is not None and part is not None:
        records: Sequence[Record] = read_part(split, data, part)
        inputs: Sequence[Input] = [Path(data) / record.path for record in records]
    else:
        studies, lost = labelled_studies(Path(data))
        records = group_studies(Path(data), studies, groups)
        inputs = [item for _, item in studies]
    known = predictor.card.classes
    if foreign := sorted({record.label for record in records} - set(known)):
        raise DataError(
            f"Class folders {', '.join(map(repr, foreign))} of {data} are no classes of the model; "
            f"it knows {', '.join(map(repr, known))}.",
            "Rename the folders to the model's classes, or move these away.",
        )
    return _evaluate(predictor, records, inputs, lost, slices, screen)


def evaluate_records(predictor: Predictor, root: Path, records: Sequence[Record], screen: Screen) -> Evaluation:
    """Measure a model on records whose paths are relative to `root`."""
    return _evaluate(predictor, records, [root / record.path for record in records], [], Slices(), screen)


def _evaluate(
    predictor: Predictor,
    records: Sequence[Record],
    inputs: Sequence[Input],
    lost: Sequence[Failure],
    slices: Slices,
    screen: Screen,
) -> Evaluation:
    rows: list[tuple[Record, Prediction]] = []
    failures = list(lost)
    with screen.bar("evaluating", len(records), "images") as bar:
        for record, answer in zip(records, predictor.predict(inputs, slices), strict=True):
            bar.advance()
            if isinstance(answer, Failure):
                failures.append(Failure(record.path, answer.type, answer.message))
            else:
                rows.append((record, answer))
    if not rows:
        raise DataError(f"None of the {len(failures)} images could be read; the first says: {failures[0].message}")
    classes = predictor.card.classes
    grouped = any(record.group != record.path for record, _ in rows)
    predictions = _table(classes, [(record.path, record, answer) for record, answer in rows], grouped)
    each = [
        (record.path + one.source.removeprefix(answer.source), record, one)
        for record, answer in rows
        for one in answer.slices
    ]
    return Evaluation(
        predictions,
        measure(classes, predictions.truth, predictions.probabilities),
        tuple(failures),
        _table(classes, each, grouped=True) if each else None,
        certainty(
            predictor.card, predictions.truth, [answer for _, answer in rows], [record.group for record, _ in rows]
        ),
    )


def _table(classes: tuple[str, ...], rows: Sequence[tuple[str, Record, Prediction]], grouped: bool) -> Predictions:
    """Rows of source, record and answer as a table."""
    return Predictions(
        labels=classes,
        sources=tuple(source for source, _, _ in rows),
        truth=np.array([classes.index(record.label) for _, record, _ in rows], dtype=np.int64),
        probabilities=np.array([[answer.probabilities[name] for name in classes] for _, _, answer in rows]),
        groups=tuple(record.group for _, record, _ in rows) if grouped else None,
    )


def write_evaluation(
    evaluation: Evaluation, out: str | Path, *, subject: str, note: str = "", history: Sequence[Mapping[str, Any]] = ()
) -> list[Figure]:
    """Write metrics.json, predictions.csv and the figures to a folder; slices.csv where there are volumes.

    Of a model that was calibrated there is uncertainty.json as well; see `evaluation/certainty.py`.

    Args:
        evaluation: What to write.
        out: The folder, made if need be.
        subject: What was measured, such as "Test part"; stands above the figures.
        note: What must be said of the images, such as "synthetic images"; stands behind it.
        history: The epochs of the model's training; its curves are drawn where there are any.

    Returns:
        The figures.

    Raises:
        MissingExtra: matplotlib is not installed; the tables are written all the same.
    """
    out = Path(out)
    unread = [failure.as_dict() for failure in evaluation.failures]
    atomic.write_json(out / "metrics.json", {**evaluation.metrics.as_dict(), "unreadable": unread})
    write_predictions(evaluation.predictions, out / "predictions.csv")
    if evaluation.slices is None:
        (out / "slices.csv").unlink(missing_ok=True)  # of an earlier evaluation
    else:
        write_predictions(evaluation.slices, out / "slices.csv")
    if evaluation.certainty is None:
        (out / "uncertainty.json").unlink(missing_ok=True)
    else:
        atomic.write_json(out / "uncertainty.json", evaluation.certainty.as_dict())
    metrics, figures, remark = evaluation.metrics, list[Figure](), f" ({note})" if note else ""
    for shares, name, caption in (
        (False, "confusion-counts.png", "Confusion matrix, images"),
        (True, "confusion-shares.png", "Confusion matrix, share of each true class"),
    ):
        confusion_figure(metrics, out / name, shares=shares, title=subject + remark)
        scores = f"Accuracy {metrics.accuracy:.3f}, macro F1 {metrics.macro.f1:.3f}."
        alt = f"{caption}: rows true, columns predicted. {scores}"
        figures.append((caption, out / name, alt))
    if evaluation.certainty is not None:
        before, after = evaluation.certainty.before, evaluation.certainty.after
        reliability_figure(evaluation.certainty, out / "reliability.png", subject + remark)
        alt = (
            f"Reliability diagrams before and after calibration: the expected calibration error goes from "
            f"{before.ece:.3f} to {after.ece:.3f}, the log loss from {before.log_loss:.3f} to {after.log_loss:.3f}."
        )
        figures.append(("Reliability: how often the model is right when it is so sure", out / "reliability.png", alt))
    if history:
        curves_figure(history, out / "curves.png", "Training" + remark)
        last = history[-1]
        alt = (
            f"Loss, accuracy and macro F1 over {len(history)} epochs; the last has a validation loss of "
            f"{last['validation_loss']:.3f} and a macro F1 of {last['validation_macro_f1']:.3f}."
        )
        figures.append(("Training: loss, accuracy and macro F1 by epoch", out / "curves.png", alt))
    return figures
