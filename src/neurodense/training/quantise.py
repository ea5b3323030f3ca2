"""An int8 graph for a model folder: calibrated on training images, held to the fp32 graph on validation images.

The gate: macro F1 may drop by 0.3 points at most, and the recall of any class by 1 point, else the folder stays as it
is. Needs onnx but no torch.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from neurodense import atomic
from neurodense.data.catalogue import Record
from neurodense.errors import DataError, ModelError, ScanError
from neurodense.evaluation.evaluate import evaluate_records
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.metrics import Metrics
from neurodense.inference.card import Card, Int8, Scored, read_card, sha256_of, write_card
from neurodense.inference.engine import Pixels, choose_engine, load
from neurodense.inference.predictor import GRAPH, INT8_GRAPH, MANY, Predictor
from neurodense.inference.threads import usable_cores
from neurodense.scans.study import read_image
from neurodense.screen import Screen
from neurodense.training.half import whole_graph
from neurodense.training.qdq import Ranges, observed, quantised

MACRO_F1_DROP: Final = 0.003
RECALL_DROP: Final = 0.01
CALIBRATION_IMAGES: Final = (400, 1600)  # the second where the first keep the gate shut
_BATCH = 8


def quantise(
    model: str | Path,
    root: str | Path,
    calibration: Sequence[Record],
    validation: Sequence[Record],
    screen: Screen | None = None,
) -> Card:
    """Add an int8 graph to a model folder, if it passes the gate.

    Args:
        model: The folder; it gets model.int8.onnx, and its card says what both graphs reach on the validation part.
        root: The paths of the records are relative to it.
        calibration: Training images; CALIBRATION_IMAGES of them, evenly spread, give the ranges.
        validation: What the gate is measured on. Never the test part.
        screen: Told what happens; None is quiet.

    Returns:
        The card as it now is.

    Raises:
        ModelError: The gate is shut; the folder is as it was. Or the folder is no model folder.
        DataError: There are no images, or none can be read.
    """
    folder, root, screen = Path(model), Path(root), screen or Screen()
    if not calibration or not validation:
        raise DataError(
            "An int8 graph needs training images to calibrate on and validation images to be held to.",
            "--data takes the folder that the model was trained on, and --split its RUN/split.csv",
        )
    exact = Predictor(folder, precision="fp32", streams=MANY)
    card = read_card(folder).model_copy(update={"int8": None})
    before = evaluate_records(exact, root, validation, screen)
    losses: list[str] = []
    for chosen in _samples(calibration):
        if losses:
            screen.say(f"int8: not good enough ({'; '.join(losses)}): once more, with more images")
        screen.say(f"int8: calibrating on {len(chosen):,} training images, then {len(validation):,} validation images")
        ranges = calibrate(folder / GRAPH, _pixels(root, chosen, card))
        with tempfile.TemporaryDirectory() as room:
            graph = Path(room) / INT8_GRAPH
            graph.write_bytes(quantised(whole_graph(folder / GRAPH), ranges).SerializeToString())
            files = {**card.files, INT8_GRAPH: sha256_of(graph)}
            alone = {"files": files, "out_of_distribution": None}  # the graph is judged, and its folder holds no more
            write_card(Path(room), card.model_copy(update=alone))
            after = evaluate_records(Predictor(room, precision="int8", streams=MANY), root, validation, screen)
            if losses := shortfalls(before.metrics, after.metrics):
                continue
            with atomic.replacing(folder / INT8_GRAPH) as target:
                target.write_bytes(graph.read_bytes())
        card = card.model_copy(update={"files": files, "int8": _record(len(chosen), before, after, exact.engine)})
        write_card(folder, card)
        return card
    raise ModelError(
        f"The int8 graph is not good enough, so {folder} stays without: on {before.metrics.n:,} images "
        + "; ".join(losses) + ".",
        "It runs without one: --precision auto takes bf16 where the CPU has it, else fp32.",
    )  # fmt: skip


def _samples(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Evenly spread records: as many as CALIBRATION_IMAGES says first, then more where there are more."""
    for most in CALIBRATION_IMAGES:
        yield records[:: max(1, len(records) // most)][:most]
        if len(records) <= most:
            return


def shortfalls(before: Metrics, after: Metrics) -> list[str]:
    """What keeps the gate shut, a clause each; empty where it opens."""
    losses = []
    if before.macro.f1 - after.macro.f1 > MACRO_F1_DROP:
        losses.append(
            f"macro F1 falls from {before.macro.f1:.4f} to {after.macro.f1:.4f}, by more than {MACRO_F1_DROP}"
        )
    for name, scores in before.per_class.items():
        recall = after.per_class[name].recall
        if scores.recall - recall > RECALL_DROP:
            losses.append(
                f"the recall of {name} falls from {scores.recall:.4f} to {recall:.4f}, by more than {RECALL_DROP}"
            )
    return losses


def calibrate(graph: Path, batches: Iterable[Pixels]) -> Ranges:
    """Run the fp32 graph over images and note the ranges of what its layers give.

    The largest value seen is kept, not a percentile of it: measured, clipping rare large activations costs whole points
    of macro F1 (docs/engines.md).

    Raises:
        DataError: There is not one image.
    """
    model, streams, inputs = observed(whole_graph(graph))
    names = [f"{name}:peak" for name in streams]
    names += [f"{name}:{what}" for name in inputs for what in ("min", "max")]
    seen: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "observed.onnx"
        path.write_bytes(model.SerializeToString())
        run = load(path, names, choose_engine(), "fp32", usable_cores(), 1)
        for pixels in batches:
            for name, value in zip(names, run(pixels), strict=True):
                wider = np.minimum if name.endswith(":min") else np.maximum
                seen[name] = wider(seen[name], value) if name in seen else value
    if not seen:
        raise DataError("None of the images to calibrate on can be read.")
    return Ranges(
        {name: seen[f"{name}:peak"] for name in streams},
        {name: (float(seen[f"{name}:min"]), float(seen[f"{name}:max"])) for name in inputs},
    )


def _pixels(root: Path, records: Sequence[Record], card: Card) -> Iterator[Pixels]:
    """Records, read and preprocessed, in batches; what cannot be read is left out."""
    for start in range(0, len(records), _BATCH):
        batch = []
        for record in records[start : start + _BATCH]:
            with contextlib.suppress(ScanError):
                batch.append(card.preprocess(read_image(root / record.path)))
        if batch:
            yield np.stack(batch)


def _record(images: int, before: Evaluation, after: Evaluation, engine: str) -> Int8:
    old, new = before.predictions.probabilities, after.predictions.probabilities
    return Int8(
        calibration_images=images,
        validation_images=before.metrics.n,
        engine=engine,
        fp32=_scored(before.metrics),
        int8=_scored(after.metrics),
        agreement=float((old.argmax(axis=1) == new.argmax(axis=1)).mean()),
        mean_difference=float(np.abs(old - new).mean()),
    )


def _scored(metrics: Metrics) -> Scored:
    recall = {name: scores.recall for name, scores in metrics.per_class.items()}
    return Scored(macro_f1=metrics.macro.f1, recall=recall)


def summary(result: Int8) -> str:
    """What was measured, as one line."""
    worst = min(result.int8.recall, key=lambda name: result.int8.recall[name] - result.fp32.recall[name])
    return (
        f"int8 on {result.validation_images:,} validation images: macro F1 {result.int8.macro_f1:.4f}, "
        f"fp32 {result.fp32.macro_f1:.4f}; the recall of {worst} changes most, from {result.fp32.recall[worst]:.4f} to "
        f"{result.int8.recall[worst]:.4f}; {result.agreement:.2%} have the same label in both"
    )
