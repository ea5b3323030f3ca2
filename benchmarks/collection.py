"""The alarm for a whole collection: how often it rings for batches of the model's own kind, and for others.

Batches of its own kind are groups of the validation and test parts, against other groups of these, dealt anew each
round; one image of each group. Of other sources, images are drawn and held against the model's own reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.rejection import shown
from neurodense import atomic
from neurodense.data.split_table import read_part
from neurodense.evaluation.calibrate import outputs_of
from neurodense.inference.predictor import Predictor
from neurodense.inference.rejection import REJECTION, Rejection
from neurodense.inference.shift import ALARM, Floats, shift
from neurodense.scans.study import find_studies
from neurodense.screen import Screen

SIZES = (10, 20, 50, 100)
REFERENCE = 84
"""Groups held against, of the model's own kind: as many as the validation part has in the runs that are documented."""

Units = tuple[Floats, NDArray[np.int64]]
"""Coordinates (N, R) and the class that is called (N,)."""


def measure(model: Path, data: Path, split: Path, shifted: Iterable[Path], rounds: int, out: Path) -> None:
    """Print and write the share of batches for which the alarm rings."""
    predictor, screen = Predictor(model, precision="fp32", threads=1), Screen.on_stderr()
    rejection = Rejection.load(model / REJECTION)

    def units(features: Floats, logits: Floats) -> Units:
        return rejection.coordinates(features), predictor.probabilities(logits).argmax(axis=1)

    parts = [outputs_of(predictor, data, read_part(split, data, part), part, screen) for part in ("validation", "test")]
    own = units(*(np.concatenate([getattr(one, name) for one in parts]) for name in ("features", "logits")))
    groups = np.concatenate([one.groups for one in parts])
    rng = np.random.default_rng(0)
    reference = rejection.reference, rejection.called
    result: dict[str, dict[str, float]] = {}
    kinds = {path.name: shown(predictor, find_studies([path])) for path in shifted}
    print(f"{'share of ' + str(rounds) + ' batches that ring':<34}" + "".join(f"{size:>8}" for size in SIZES))
    names = np.unique(groups)
    result["own kind, other groups"] = {}
    for size in SIZES:
        if size + REFERENCE > len(names):
            continue
        rings = []
        for _ in range(rounds):
            dealt = [int(rng.choice(np.flatnonzero(groups == name))) for name in rng.permutation(names)]
            batch, held = dealt[:size], dealt[size : size + REFERENCE]
            rings.append(_rings(_rows(own, batch), _rows(own, held)))
        result["own kind, other groups"][str(size)] = float(np.mean(rings))
    for kind, images in kinds.items():
        found = units(images.features, images.logits)
        result[kind] = {
            str(size): float(
                np.mean(
                    [
                        _rings(_rows(found, rng.choice(len(found[1]), size, replace=False).tolist()), reference)
                        for _ in range(rounds)
                    ]
                )
            )
            for size in SIZES
            if size <= len(found[1])
        }
    for kind, rates in result.items():
        print(
            f"{kind:<34}" + "".join(f"{rates[str(size)]:>8.2f}" if str(size) in rates else "       –" for size in SIZES)
        )
    atomic.write_json(out, {"machine": describe(), "rounds": rounds, "alarm": ALARM, "rings": result})


def _rows(units: Units, rows: list[int]) -> Units:
    return units[0][rows], units[1][rows]


def _rings(batch: Units, reference: Units) -> bool:
    found = shift(*batch, *reference, grouped=True)
    return found is not None and found.alarm
