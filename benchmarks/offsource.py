"""Does a model see the tumour, or the collection that an image comes from?

Four looks at each model, none of which is at images that it was trained on:

- inside: one part of its own split; macro F1, the least F1 of a class, and of the healthy images how many are called
  healthy (the specificity for "there is a tumour");
- another collection: images of a folder given with `train --partial`, in which every image shows a tumour, of the same
  part of the split; how many are called a tumour. All of the folder for a model that was not trained with it;
- healthy images from elsewhere, likewise; how many are called healthy;
- volumes with tumour masks: slices with more than 150 tumour voxels against slices without one; the area under the ROC
  curve of the probability of a tumour (of all slices, and of those that show brain), and how many of each are called a
  tumour. A volume's slices resemble each other, so each patient is given too.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.faithfulness import HEALTHY, MASK, SCAN, TUMOUR_PIXELS
from benchmarks.machine import describe
from neurodense import atomic
from neurodense.data.split import Part
from neurodense.evaluation.evaluate import evaluate
from neurodense.evaluation.ranking import areas, rank
from neurodense.inference.predictor import MANY, Predictor
from neurodense.scans.nifti import read_nifti
from neurodense.scans.slices import brain_slices
from neurodense.scans.study import Failure
from neurodense.screen import Screen

_BATCH = 16


def measure(
    models: Sequence[str],
    data: Path,
    split: Path,
    part: Part,
    tumours: Path,
    volumes: Path | None,
    healthy_folders: Sequence[Path],
    out: Path,
) -> None:
    """Measure each model, print a line for each, write `out`; `tumours` is the folder of the other collection."""
    result: dict[str, Any] = {"machine": describe(), "part": part, "models": {}}
    print(f"{'model':<28}{'macro F1':>9}{'least':>7}{'healthy':>16}{'elsewhere':>20}{'AUROC':>7}{'brain':>7}  each")
    files = _elsewhere(split, tumours, part)
    healthy_files = {folder.name: _elsewhere(split, folder, part) for folder in healthy_folders}
    for name in models:
        predictor = Predictor(name, precision="fp32", streams=MANY)
        found = evaluate(data, predictor, split=split, part=part, screen=Screen())
        inside = found.metrics
        called = _called_tumour(predictor, files)
        others = {folder: _called_tumour(predictor, there) for folder, there in healthy_files.items()}
        healthy = inside.per_class[HEALTHY]
        row: dict[str, Any] = {
            "macro_f1": inside.macro.f1,
            "f1": {label: scores.f1 for label, scores in inside.per_class.items()},
            "images": inside.n,
            "hardest": found.hardest and found.hardest.as_dict(),
            "healthy_called_healthy": [round(healthy.recall * healthy.support), healthy.support],
            "elsewhere_called_tumour": [sum(called), len(called)],
            "healthy_elsewhere_called_healthy": {
                folder: [len(answers) - sum(answers), len(answers)] for folder, answers in others.items()
            },
        }
        if volumes is not None:
            row["volumes"] = _volumes(predictor, volumes)
        result["models"][Path(name).parent.name + "/" + Path(name).name if "/" in name else name] = row
        right, total = row["healthy_called_healthy"]
        line = f"{name[-27:]:<28}{inside.macro.f1:>9.3f}{min(row['f1'].values()):>7.3f}"
        line += f"{f'{right}/{total} {right / total:.3f}':>16}"
        line += f"{f'{sum(called)}/{len(called)} {np.mean(called):.3f}':>20}"
        if volumes is not None:
            pooled = row["volumes"]["pooled"]
            line += f"{pooled['auroc']:>7.3f}{pooled['auroc_brain']:>7.3f}  "
            line += ", ".join(f"{key} {one['auroc']:.2f}" for key, one in row["volumes"].items() if key != "pooled")
            line += f"; called a tumour: {pooled['with_called']:.2f} with, {pooled['without_called']:.2f} without"
        for folder, (kept, count) in row["healthy_elsewhere_called_healthy"].items():
            line += f"; healthy of {folder}: {kept}/{count}"
        print(line, *([found.hardest.sentence] if found.hardest else []), sep="\n    ", flush=True)
        atomic.write_json(out, result)


def _elsewhere(split: Path, folder: Path, part: Part) -> list[Path]:
    """Images of the folder in this part of the split; all of them where the split does not know the folder."""
    with split.open(encoding="utf-8", newline="") as handle:
        rows = [(row["path"], row["part"]) for row in csv.DictReader(handle)]
    prefix = f"partial:{folder.name}/"
    there = [folder / path.removeprefix(prefix) for path, its in rows if path.startswith(prefix) and its == part]
    known = any(path.startswith(prefix) for path, _ in rows)
    return there if known else sorted(path for path in folder.rglob("*") if path.is_file())


def _called_tumour(predictor: Predictor, files: Sequence[Path]) -> list[bool]:
    return [answer.named != HEALTHY for answer in predictor.predict(files) if not isinstance(answer, Failure)]


def _volumes(predictor: Predictor, folder: Path) -> dict[str, Any]:
    rows: dict[str, tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]] = {}
    healthy = predictor.card.classes.index(HEALTHY)
    for patient in sorted(path.parent for path in folder.glob(f"*/{SCAN}")):
        scans, masks = read_nifti(patient / SCAN), read_nifti(patient / MASK)
        voxels = np.array([(masks.read(k).pixels > 0.5).sum() for k in range(len(scans))])
        slices = [scans.read(k) for k in range(len(scans))]
        brain = np.isin(np.arange(len(slices)), list(brain_slices([one.pixels for one in slices])))
        pixels = np.stack([predictor.card.preprocess(one) for one in slices])
        logits = np.concatenate(
            [predictor.outputs(pixels[k : k + _BATCH]).logits for k in range(0, len(pixels), _BATCH)]
        )
        probabilities = predictor.probabilities(logits)
        counted = (voxels > TUMOUR_PIXELS) | (voxels == 0)
        called = probabilities.argmax(1) != healthy
        rows[patient.name] = (
            1 - probabilities[counted, healthy], voxels[counted] > 0, brain[counted], called[counted],
        )  # fmt: skip
    rows["pooled"] = tuple(np.concatenate(columns) for columns in zip(*rows.values(), strict=True))  # type: ignore[assignment]
    return {
        name: {
            "with": int(shown.sum()),
            "without": int((~shown).sum()),
            "auroc": _auroc(scores, shown),
            "auroc_brain": _auroc(scores[brain], shown[brain]),
            "with_called": float(called[shown].mean()),
            "without_called": float(called[~shown].mean()),
        }
        for name, (scores, shown, brain, called) in rows.items()
    }


def _auroc(scores: NDArray[np.float64], shown: NDArray[np.bool_]) -> float:
    ranking = rank(scores, shown, np.zeros(len(scores), dtype=np.intp))
    return float(areas(ranking, np.ones((1, 1)))[0][0])
