"""Do the heat maps show what the model goes by, and is that the tumour?

Two questions, and two kinds of figures:

- **Deletion and insertion** (Petsiuk, Das and Saenko, RISE, BMVC 2018), on one part of a split. Pixels are replaced by
  those of a blurred copy, hottest first, and the probability of the class that was predicted is followed: the sooner it
  falls, the smaller the area under the curve, and the better the map. Insertion goes the other way, from the blurred
  copy to the scan. Scattered pixels do another kind of harm than a patch, so the random order is that of a random map
  of the same grid, not of random pixels.
- **Pointing and energy** (Zhang et al., Top-down Neural Attention, ECCV 2016; Wang et al., Score-CAM, CVPRW 2020), on
  volumes with tumour masks: is the hottest pixel inside the mask, and what share of the positive evidence is. Tumours
  are not just anywhere, so chance is not only the mask's share of the picture: a blob in the centre, the head, and the
  scan's own brightness are measured as maps too.

A choice between maps must not be made on the images that are then reported: `--part validation --patients 01` is for
choosing, `--part test --patients 02,03` for reporting.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.maps import GRID_MAPS, Graph, Map, layer_cam
from neurodense import atomic
from neurodense.data.split import Part
from neurodense.data.split_table import read_part
from neurodense.inference.explain import enlarge
from neurodense.inference.predictor import Predictor
from neurodense.scans.nifti import read_nifti
from neurodense.scans.read import read_scan
from neurodense.scans.scan import Scan

Floats = NDArray[np.float32]

STEPS = 8
"""Parts in which the pixels of an image are replaced."""
TUMOUR_PIXELS = 150
"""A slice of a volume is looked at if its mask has more than this."""
RESAMPLES = 2000
HEALTHY = "notumor"
_LAYER_CAM = "LayerCAM of block 3 (gradient)"
SCAN, MASK = "Pre_Scan_T1.nii.gz", "Pre_Mask.nii.gz"


@dataclass(frozen=True)
class Slice:
    """A slice of a volume and its tumour mask (H, W)."""

    patient: str
    scan: Scan
    mask: NDArray[np.bool_]


def measure(
    model: Path,
    volumes: Path | None,
    patients: Sequence[str],
    data: Path | None,
    split: Path | None,
    part: Part,
    images: int,
    out: Path,
) -> None:
    """Measure all maps on the volumes, on the images, or on both; print a table for each; write `out`.

    What `out` holds of the same model already, and is not measured now, stays.
    """
    predictor = Predictor(model, precision="fp32", threads=1)
    graph, card = Graph(predictor, model), predictor.card
    contestants = {**GRID_MAPS, _LAYER_CAM: layer_cam(model, card)}
    digest = card.files["model.onnx"]
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    result = kept if kept.get("model_sha256") == digest else {}
    result |= {"machine": describe(), "model": card.name, "model_sha256": digest}
    if volumes is not None:
        opposite = {**GRID_MAPS, _LAYER_CAM: layer_cam(model, card, against=True)}
        result["volumes"] = _volumes(graph, contestants, opposite, _slices(volumes, patients))
        atomic.write_json(out, result)
    if data is not None and split is not None:
        records = read_part(split, data, part)
        chosen = [records[k] for k in np.linspace(0, len(records) - 1, min(images, len(records))).round().astype(int)]
        pixels = np.stack([card.preprocess(read_scan(data / record.path)) for record in chosen])
        curves = _curves(graph, contestants, pixels, [record.group for record in chosen])
        result["images"] = {"part": part, "count": len(chosen), "steps": STEPS, **curves}
        atomic.write_json(out, result)


# Deletion and insertion


def _curves(graph: Graph, contestants: dict[str, Map], pixels: Floats, groups: Sequence[str]) -> dict[str, Any]:
    size = pixels.shape[-1]
    first = graph.probabilities(pixels)
    named = first.argmax(1)
    blurred = np.stack([_blur(image[0], size / 10)[None] for image in pixels])
    ends = first[np.arange(len(pixels)), named], graph.probabilities(blurred)[np.arange(len(pixels)), named]
    maps = {name: make(graph, pixels, named) for name, make in contestants.items()}
    usual = maps[next(iter(maps))]
    rng = np.random.default_rng(0)
    grid = rng.random((len(pixels), size // 32, size // 32), dtype=np.float32)
    maps |= {
        "mean map of the others of the class": _of_others(usual, named),
        "blob in the centre": np.repeat(_blob((size, size))[None], len(pixels), 0),
        "random map": np.stack([enlarge(one, (size, size)) for one in grid]),
    }
    areas: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, heat in maps.items():
        order = (-heat.reshape(len(pixels), -1)).argsort(1).argsort(1).reshape(heat.shape)  # rank of each pixel
        areas[name] = {
            "deletion": _area(graph, pixels, blurred, order, named, ends),
            "insertion": _area(graph, blurred, pixels, order, named, ends[::-1]),
        }
    print(f"\n{'map':<34}{'deletion':>9}{'random - it':>24}{'insertion':>11}{'it - random':>24}", flush=True)
    rows: dict[str, Any] = {}
    for name, area in areas.items():
        rows[name] = {}
        line = f"{name:<34}"
        for kind, sign, width in (("deletion", 1, 9), ("insertion", -1, 11)):
            better = sign * (areas["random map"][kind] - area[kind])
            low, high = _interval(better, groups)
            rows[name][kind] = float(area[kind].mean())
            rows[name][f"{kind}_better_than_random"] = [float(better.mean()), low, high]
            line += f"{area[kind].mean():>{width}.3f}{better.mean():>9.3f} [{low:6.3f},{high:6.3f}]"
        print(line, flush=True)
    return {"probability": float(ends[0].mean()), "probability_blurred": float(ends[1].mean()), "maps": rows}


def _of_others(maps: Floats, named: NDArray[np.int64]) -> Floats:
    """For each image the mean map of the other images of its class; of all others where it is alone."""
    means = []
    for k in range(len(maps)):
        others = (named == named[k]) & (np.arange(len(maps)) != k)
        means.append(maps[others if others.any() else np.arange(len(maps)) != k].mean(0))
    return np.stack(means)


def _area(
    graph: Graph,
    start: Floats,
    stop: Floats,
    order: NDArray[np.int64],
    named: NDArray[np.int64],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Area under each image's curve (N,), in [0, 1], while pixels of `start` become those of `stop`, by rank."""
    total = order[0].size
    rows = np.arange(len(start))
    values = [ends[0]]
    for step in range(1, STEPS):
        mixed = np.where(order[:, None] < total * step / STEPS, stop, start)
        values.append(graph.probabilities(mixed)[rows, named])
    values.append(ends[1])
    return np.asarray(np.trapezoid(np.stack(values), dx=1 / STEPS, axis=0))


def _blur(image: Floats, sigma: float) -> Floats:
    """Gaussian blur of (S, S); the edge is repeated."""
    radius = int(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        wide = np.pad(image, [(radius, radius) if k == axis else (0, 0) for k in (0, 1)], mode="edge")
        image = np.apply_along_axis(np.convolve, axis, wide, kernel, "valid").astype(np.float32)
    return image


# Pointing and energy


def _slices(volumes: Path, patients: Sequence[str]) -> list[Slice]:
    found = []
    for patient in patients:
        scans, masks = read_nifti(volumes / patient / SCAN), read_nifti(volumes / patient / MASK)
        for k in range(len(scans)):
            mask = masks.read(k).pixels > 0.5
            if mask.sum() > TUMOUR_PIXELS:
                found.append(Slice(patient, scans.read(k), mask))
    return found


def _volumes(
    graph: Graph, contestants: dict[str, Map], opposite: dict[str, Map], slices: Sequence[Slice]
) -> dict[str, Any]:
    pixels = np.stack([graph.predictor.card.preprocess(one.scan) for one in slices])
    classes = graph.predictor.card.classes
    probabilities = graph.probabilities(pixels)
    named = probabilities.argmax(1)
    missed = named == classes.index(HEALTHY)
    against = np.full(len(slices), classes.index(HEALTHY))
    maps: dict[str, Sequence[Floats]] = {}
    for name, make in contestants.items():
        maps[f"{name}, class named"] = _on_scans(graph, make(graph, pixels, named), slices)
        maps[f"{name}, against {HEALTHY}"] = _on_scans(graph, -opposite[name](graph, pixels, against), slices)
    maps |= {
        "the whole picture": [np.ones_like(one.scan.pixels) for one in slices],
        "the head": [(_blur(one.scan.pixels, 4) > 0.1).astype(np.float32) for one in slices],
        "blob in the centre": [_blob(one.mask.shape) for one in slices],
        "brightness": [_blur(one.scan.pixels, 4) for one in slices],
    }
    cases = {"all": np.ones_like(missed), "called a tumour": ~missed, f"called {HEALTHY}": missed}
    patients = np.array([one.patient for one in slices])
    cases |= {f"patient {one}": patients == one for one in sorted(set(patients))}
    print(", ".join(f"{name}: {int(of.sum())} slices" for name, of in cases.items()))
    print(f"{'map':<54}{'case':<17}{'n':>3}{'pointing':>9}{'energy in mask':>24}{'pixels away':>12}")
    rows: dict[str, Any] = {}
    for name, heats in maps.items():
        scores = np.array([_scores(heat, one.mask) for heat, one in zip(heats, slices, strict=True)])
        rows[name] = {}
        for case, of in cases.items():
            if not of.any():
                continue
            pointing, energy, away = scores[of].T
            low, high = _interval(energy, [str(k) for k in range(len(energy))])
            rows[name][case] = {
                "slices": int(of.sum()),
                "pointing": float(pointing.mean()),
                "energy": [float(energy.mean()), low, high],
                "pixels_away": float(np.median(away)),
            }
            if not case.startswith("patient"):
                print(
                    f"{name:<54}{case:<17}{int(of.sum()):>3}{pointing.mean():>9.2f}{energy.mean():>9.3f}"
                    f" [{low:5.3f},{high:6.3f}]{np.median(away):>12.0f}",
                    flush=True,
                )
    return {
        "patients": sorted(set(patients.tolist())),
        "slices": [
            {
                "source": f"{one.patient}/{one.scan.source.rpartition('/')[2]}",
                "tumour_pixels": int(one.mask.sum()),
                "probabilities": dict(zip(classes, row.tolist(), strict=True)),
            }
            for one, row in zip(slices, probabilities, strict=True)
        ],
        "maps": rows,
    }


def _on_scans(graph: Graph, heats: Floats, slices: Sequence[Slice]) -> list[Floats]:
    """Maps of the inputs (N, S, S), each laid on the scan that its input was made of."""
    window = graph.predictor.card.preprocess.window
    return [enlarge(heat, one.mask.shape, window(one.scan)) for heat, one in zip(heats, slices, strict=True)]


def _scores(heat: Floats, mask: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Pointing, the share of the positive evidence inside the mask, and pixels from the hottest place to the mask.

    Of several equally hot pixels, pointing counts the share that is inside, and the distance is their mean.
    """
    hottest = heat == heat.max()
    positive = heat.clip(0)
    inside = np.argwhere(mask)
    rows = np.argwhere(hottest)
    rows = rows[:: max(1, len(rows) // 200)]
    away = np.sqrt(((rows[:, None] - inside[None]) ** 2).sum(-1).min(1)).mean()
    share = positive[mask].sum(dtype=np.float64) / positive.sum(dtype=np.float64) if positive.any() else 0.0
    return float(mask[hottest].mean()), float(share), float(away)


def _blob(shape: tuple[int, int]) -> Floats:
    """A Gaussian in the centre, its deviation a quarter of each side."""
    rows, columns = (np.exp(-0.5 * (np.linspace(-2, 2, side)) ** 2) for side in shape)
    return np.outer(rows, columns).astype(np.float32)


def _interval(values: NDArray[np.float64], groups: Sequence[str]) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean; whole groups are drawn."""
    names, index = np.unique(np.array(groups), return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    drawn = np.random.default_rng(0).integers(0, len(names), (RESAMPLES, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)
