"""An evaluation as a folder: metrics.json, tables of predictions, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurodense import atomic
from neurodense.evaluation.certainty import write_certainty
from neurodense.evaluation.certainty_figures import reliability_figure, selective_figure
from neurodense.evaluation.decision import write_decision_curve
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.figures import confusion_figure, curves_figure, decision_figure
from neurodense.evaluation.predictions import write_predictions

Figure = tuple[str, Path, str]
"""Caption, PNG file, text for those who cannot see it."""


def write_evaluation(
    evaluation: Evaluation, out: str | Path, *, subject: str, note: str = "", history: Sequence[Mapping[str, Any]] = ()
) -> list[Figure]:
    """Write metrics.json, predictions.csv and the figures to a folder.

    Also slices.csv where there are volumes, decision-curve.csv where a healthy class is known, and certainty.csv of a
    model that was calibrated.

    Args:
        evaluation: What to write.
        out: The folder, made if need be.
        subject: What was measured, such as "Test part"; stands above the figures.
        note: What must be said of the images, such as "synthetic images"; stands behind it.
        history: The epochs of the model's training; its curves are drawn where there are any.

    Returns:
        The figures of a report.

    Raises:
        MissingExtra: matplotlib is not installed; the tables are written all the same.
    """
    out = Path(out)
    atomic.write_json(out / "metrics.json", evaluation.as_dict())
    write_predictions(evaluation.predictions, out / "predictions.csv")
    for name in (
        "slices.csv",
        "decision-curve.csv",
        "decision-curve.png",
        "reliability.png",
        "selective.png",
        "certainty.csv",
    ):
        (out / name).unlink(missing_ok=True)  # of an earlier evaluation
    if evaluation.slices is not None:
        write_predictions(evaluation.slices, out / "slices.csv")
    if evaluation.certainty is not None:
        write_certainty(evaluation.certainty, out / "certainty.csv")
    if evaluation.decision is not None:
        write_decision_curve(evaluation.decision, out / "decision-curve.csv")
    metrics, figures, remark = evaluation.metrics, list[Figure](), f" ({note})" if note else ""
    for shares, name in ((False, "confusion-counts.png"), (True, "confusion-shares.png")):
        confusion_figure(metrics, out / name, shares=shares, title=subject + remark)  # the report has it as a table
    if (curve := evaluation.decision) is not None:
        decision_figure(curve, out / "decision-curve.png", subject + remark)
        caption = "Decision curve: what calling a tumour is worth, by the false alarms that one found tumour is worth"
        alt = (
            f"Net benefit of the model over threshold probabilities, beside calling every image and none; "
            f"{curve.prevalence:.0%} of the images show a tumour. decision-curve.csv has the numbers."
        )
        figures.append((caption, out / "decision-curve.png", alt))
    if (found := evaluation.certainty) is not None:
        ece, loss = found.calibration["ece"], found.calibration["loss"]
        reliability_figure(found, out / "reliability.png", subject + remark)
        alt = (
            f"Reliability diagrams before and after calibration: the expected calibration error goes from {ece.before} "
            f"to {ece.after}, the log loss from {loss.before} to {loss.after}."
        )
        figures.append(("Reliability: how often the model is right when it is so sure", out / "reliability.png", alt))
        selective_figure(found.selective, out / "selective.png", subject + remark)
        caption = "Does abstaining buy accuracy? Accuracy by how many images are answered"
        points = ", ".join(f"{found.selective.curve[k]} of the surest {(k + 1) / 20:.0%}" for k in (19, 14, 9))
        figures.append((caption, out / "selective.png", f"Share of the answered images that is right: {points}."))
    if history:
        curves_figure(history, out / "curves.png", "Training" + remark)
        last = history[-1]
        alt = (
            f"Loss, accuracy and macro F1 over {len(history)} epochs; the last has a validation loss of "
            f"{last['validation_loss']:.3f} and a macro F1 of {last['validation_macro_f1']:.3f}."
        )
        figures.append(("Training: loss, accuracy and macro F1 by epoch", out / "curves.png", alt))
    return figures
