"""A model on labelled images: predictions, metrics, and the folder of files that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from neurodense import atomic
from neurodense.data.catalogue import Catalogue, Record
from neurodense.data.groups import apply_groups, read_groups
from neurodense.data.split import PARTS, Part
from neurodense.data.split_table import read_part
from neurodense.errors import DataError
from neurodense.evaluation.certainty import Certainty, certainty
from neurodense.evaluation.decision import DecisionCurve, decision_curve, write_decision_curve
from neurodense.evaluation.figures import confusion_figure, curves_figure, decision_figure
from neurodense.evaluation.intervals import Intervals, intervals
from neurodense.evaluation.metrics import Metrics, measure
from neurodense.evaluation.operating import OperatingPoint, healthy_class, operating_points
from neurodense.evaluation.predictions import Predictions, write_predictions
from neurodense.evaluation.reliability_figure import reliability_figure
from neurodense.evaluation.studies import group_studies, labelled_studies
from neurodense.inference.card import Thresholds
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
        thresholds: Those of the model's card, for operating points.
        healthy: The class without a tumour, for operating points and the decision curve; None where it is not known.
        certainty: Calibration, prediction sets and rejection; None where the model was never calibrated.
    """

    predictions: Predictions
    metrics: Metrics
    failures: tuple[Failure, ...]
    slices: Predictions | None = None
    thresholds: Thresholds | None = None
    healthy: str | None = None
    certainty: Certainty | None = None

    @cached_property
    def intervals(self) -> Intervals:
        """Of every figure of the metrics, by a bootstrap over groups. Computed when first asked for."""
        return intervals(self.predictions)

    @cached_property
    def operating(self) -> list[OperatingPoint]:
        """What the thresholds of the card find; empty where it has none."""
        return operating_points(self.predictions, self.thresholds, self.healthy) if self.thresholds else []

    @cached_property
    def decision(self) -> DecisionCurve | None:
        """The decision curve for a tumour; None where no healthy class is known, or all images or none show one."""
        if self.healthy is None or not 0 < self.metrics.per_class[self.healthy].support < self.metrics.n:
            return None
        return decision_curve(self.predictions, self.healthy)

    def spoken(self, name: str) -> str:
        """A figure with its interval, by its dotted name: "0.912 (0.870 to 0.951)"."""
        return self.intervals.spoken(name, self.metrics.figures[name])

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as metrics.json has it."""
        return {
            **self.metrics.as_dict(),
            "intervals": self.intervals.as_dict(),
            "operating": None
            if self.thresholds is None
            else {
                "healthy": self.healthy,
                "validation_images": self.thresholds.images,
                "points": [point.as_dict() for point in self.operating],
            },
            "unreadable": [failure.as_dict() for failure in self.failures],
        }

    @property
    def notes(self) -> list[str]:
        """What must be said beside the metrics."""
        said = [*self.intervals.notes, *self.intervals.warnings]
        if self.slices is not None:
            studies = len({source.rpartition("#")[0] for source in self.slices.sources})
            said.append(f"{studies:,} of the {self.metrics.n:,} are studies, which count once each. {STUDY_RULE}")
        return said + (self.certainty.sentences() if self.certainty else [])


def evaluate(
    data: str | Path,
    model: str | Path | Predictor,
    *,
    split: str | Path | None = None,
    part: Part | None = None,
    groups: str | Path | None = None,
    healthy: str | None = None,
    slices: Slices | str = "brain",
    screen: Screen | None = None,
) -> Evaluation:
    """Measure a model on a folder of images or studies, one sub-folder a class, or on one part of a split of it.

    Args:
        data: The folder. Its class folders must be classes of the model; a class may be absent.
        model: A model folder, which is run in fp32, or a loaded one.
        split: CSV of path and part, such as a run's split.csv.
        part: train, validation or test: which rows of `split` to take; needs `split`.
        groups: CSV of path and group or patient, of which intervals draw whole groups; where None, the column of
            `split`. A series may be listed by its folder or by its files.
        healthy: The class without a tumour, where its name does not say so.
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
    healthy = healthy_class(predictor.card.classes, healthy)
    lost: list[Failure] = []
    if split is not None and part is not None:
        records: Sequence[Record] = read_part(split, data, part)
        if groups is not None:
            records = apply_groups(Catalogue(Path(data), (), tuple(records)), read_groups(groups))[0].records
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
    return _evaluate(predictor, records, inputs, lost, healthy, slices, screen)


def evaluate_records(predictor: Predictor, root: Path, records: Sequence[Record], screen: Screen) -> Evaluation:
    """Measure a model on records whose paths are relative to `root`."""
    inputs, healthy = [root / record.path for record in records], healthy_class(predictor.card.classes)
    return _evaluate(predictor, records, inputs, [], healthy, Slices(), screen)


def _evaluate(
    predictor: Predictor,
    records: Sequence[Record],
    inputs: Sequence[Input],
    lost: Sequence[Failure],
    healthy: str | None,
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
        predictor.card.thresholds,
        healthy,
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
    """Write metrics.json, predictions.csv and the figures to a folder.

    Also slices.csv where there are volumes, decision-curve.csv where a healthy class is known, and uncertainty.json of
    a model that was calibrated; see `evaluation/certainty.py`.

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
    atomic.write_json(out / "metrics.json", evaluation.as_dict())
    write_predictions(evaluation.predictions, out / "predictions.csv")
    for name in ("slices.csv", "decision-curve.csv", "decision-curve.png"):
        (out / name).unlink(missing_ok=True)  # of an earlier evaluation
    if evaluation.slices is not None:
        write_predictions(evaluation.slices, out / "slices.csv")
    if evaluation.decision is not None:
        write_decision_curve(evaluation.decision, out / "decision-curve.csv")
    if evaluation.certainty is not None:
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
    if (curve := evaluation.decision) is not None:
        decision_figure(curve, out / "decision-curve.png", subject + remark)
        caption = "Decision curve: what calling a tumour is worth, by the false alarms that one found tumour is worth"
        alt = (
            f"Net benefit of the model over threshold probabilities, beside calling every image and none; "
            f"{curve.prevalence:.0%} of the images show a tumour. decision-curve.csv has the numbers."
        )
        figures.append((caption, out / "decision-curve.png", alt))
    if evaluation.certainty is not None:
        before, after = evaluation.certainty.before, evaluation.certainty.after
        reliability_figure(evaluation.certainty, out / "reliability.png", subject + remark)
        alt = (
            f"Reliability diagrams before and after calibration: the expected calibration error goes from "
            f"{before.ece:.3f} to {after.ece:.3f}, the log loss from {before.loss:.3f} to {after.loss:.3f}."
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
