"""A teacher on a part of a split: what another network, with ImageNet's weights, makes of the same patients.

Where it fails on the patients on whom its student fails, it is not the student's making.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import describe
from neurodense import atomic
from neurodense.data.catalogue import class_folders
from neurodense.data.split import Part
from neurodense.data.split_table import read_part
from neurodense.evaluation.hardest import hardest
from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.metrics import measure as measured
from neurodense.evaluation.predictions import Predictions
from neurodense.scans.preprocess import Preprocess
from neurodense.scans.study import read_image
from neurodense.training.teacher import Teacher

_BATCH = 32


def measure(file: Path, data: Path, split: Path, part: Part, side: int, out: Path) -> None:
    """Print and write what the teacher in `file` reaches on pictures of `side` pixels; it resizes them to its own."""
    classes = class_folders(data)
    teacher, records = Teacher(file, classes), read_part(split, data, part)
    preprocess = Preprocess(size=side)
    logits = []
    for first in range(0, len(records), _BATCH):
        pixels = [preprocess(read_image(data / one.path)) for one in records[first : first + _BATCH]]
        logits.append(teacher(torch.from_numpy(np.stack(pixels))))
    predictions = Predictions(
        classes,
        tuple(one.path for one in records),
        np.array([classes.index(one.label) for one in records]),
        torch.cat(logits).double().softmax(1).numpy(),
        tuple(one.group for one in records),
    )
    metrics = measured(predictions.labels, predictions.truth, predictions.probabilities)
    bounds, whose = intervals(predictions), hardest(predictions)
    print(f"{part}, {metrics.n:,} images at {side} px: macro F1 {bounds.spoken('macro.f1', metrics.macro.f1)}")
    for name, scores in metrics.per_class.items():
        print(f"  {name:<12} F1 {scores.f1:.3f}, recall {round(scores.recall * scores.support)} of {scores.support}")
    if whose is not None:
        print(whose.sentence)
    record = {"machine": describe(), "part": part, "side": side, "metrics": metrics.as_dict()}
    atomic.write_json(out, {**record, "hardest": whose and whose.as_dict()})
