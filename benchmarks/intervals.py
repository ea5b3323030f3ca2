"""Intervals: how long they take, and how often they hold what they should.

Coverage is counted on patients made by a computer, since only there the true figure is known: each has images of one
class, a leaning of its own that all its images share, and noise. The figures of 60,000 such patients are the truth.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from neurodense import atomic
from neurodense.evaluation.bootstrap import RESAMPLES, Bounds, Floats, basic, bca
from neurodense.evaluation.intervals import distribution, intervals
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.scores import Scored

LABELS = ("a", "b", "c", "d")
IMAGES = 8
"""Of a patient, in the mean."""
SHOWN = (
    "accuracy", "macro.f1", "per_class.a.recall", "per_class.a.precision", "macro.auroc", "per_class.a.auroc",
    "macro.auprc", "mcc", "loss", "brier", "ece",
)  # fmt: skip


def speed(images: int, rounds: int, out: Path) -> None:
    """Intervals of every figure, each image its own group, and ten images a group."""
    rng = np.random.default_rng(0)
    truth = rng.integers(len(LABELS), size=images)
    probabilities = rng.dirichlet(np.ones(len(LABELS)), size=images)
    probabilities[np.arange(images), truth] += 0.5
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    names = tuple(f"{i:06d}" for i in range(images))
    result: dict[str, Any] = {"images": images, "resamples": RESAMPLES, "classes": len(LABELS)}
    for title, groups in (("each image a group", None), ("ten images a group", tuple(name[:-1] for name in names))):
        predictions = Predictions(LABELS, names, truth, probabilities, groups)
        before = _peak_megabytes()
        times = []
        for _ in range(rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            found = intervals(predictions)
            times.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = min(times)[0], min(one[1] for one in times)
        result[title] = {"wall_s": wall, "cpu_s": cpu, "rounds": times, "more_memory_mb": _peak_megabytes() - before}
        print(
            f"{title}: {len(found.bounds)} figures, {RESAMPLES:,} resamples of {images:,} predictions: {wall:.2f} s "
            f"wall, {cpu:.2f} s CPU, best of {rounds}; {_peak_megabytes() - before:.0f} MB more than before"
        )
    atomic.write_json(out, {"machine": describe(), **result})


def coverage(patients: int, trials: int, ease: float, out: Path) -> None:
    """How often 95% intervals hold the true figure: percentiles, BCa and, for the calibration error, basic."""
    rng = np.random.default_rng(1)
    truth = _scored(rng, 60_000, ease).values
    held = {name: {method: [] for method in ("percentile", "bca", "basic")} for name in SHOWN}  # type: ignore[var-annotated]
    for trial in range(trials):
        scored = _scored(rng, patients, ease)
        values, jackknife = distribution(scored, RESAMPLES, trial)
        for name in SHOWN:
            point = scored.values[name]
            tried: dict[str, Bounds | None] = {
                "percentile": _percentile(values[name]),
                "bca": bca(values[name], point, jackknife[name]),
                "basic": basic(values[name], point),
            }
            for method, bounds in tried.items():
                if bounds is not None:
                    held[name][method].append((bounds[0] <= truth[name] <= bounds[1], bounds[1] - bounds[0]))
    print(f"{patients} patients, {trials} trials, true accuracy {truth['accuracy']:.3f}, true ECE {truth['ece']:.4f}")
    result: dict[str, Any] = {"patients": patients, "trials": trials, "truth": {name: truth[name] for name in SHOWN}}
    for name, methods in held.items():
        rates = {method: np.mean(rows, axis=0).tolist() for method, rows in methods.items()}
        result[name] = {method: {"coverage": rate, "width": width} for method, (rate, width) in rates.items()}
        print(f"  {name:22}" + "".join(f"  {m} {rate:.3f} (width {width:.3f})" for m, (rate, width) in rates.items()))
    atomic.write_json(out, {"machine": describe(), **result})


def _scored(rng: np.random.Generator, patients: int, ease: float) -> Scored:
    groups = np.repeat(np.arange(patients), 1 + rng.poisson(IMAGES - 1, size=patients))
    truth = rng.integers(len(LABELS), size=patients)[groups]
    logits = rng.normal(size=(len(groups), len(LABELS))) + rng.normal(size=(patients, len(LABELS)))[groups]
    logits[np.arange(len(groups)), truth] += ease
    odds = np.exp(1.2 * logits)
    return Scored(LABELS, truth, odds / odds.sum(axis=1, keepdims=True), groups)


def _percentile(values: Floats) -> Bounds | None:
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return low, high


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
