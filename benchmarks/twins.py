"""Twins: what is found of those planted among real slices, what a folder holds, and how the time grows.

Thresholds were chosen on one half of the groups of the table, and figures are of the other: a group belongs to the
half that a hash of its name says. Originals are pairwise no twins as far as is known: one slice of each cluster that is
found before anything is planted, drawn by a hash of its path. Several are slices of one patient, which must not be
joined either. The rest of the half, their twins, stands around as distractors in the last count.

Whatever plants join that was apart before counts as false and is listed (`joined`), for a person to look at. What the
search joins before, against the table's groups, is listed by `--folder` (`twins_the_table_splits`).
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import describe
from benchmarks.plants import PLANTS
from neurodense import atomic
from neurodense.data.fingerprint import SIDE, Thumbs, thumb_of, turned
from neurodense.data.groups import read_table
from neurodense.data.twins import Twins, find_twins
from neurodense.scans.read import read_scan

Half = Literal["development", "report"]
PLAIN = [name for name in PLANTS if not any(word in name for word in ("border", "crop", "shift"))]
"""Plants that keep the frame, for which recall is promised."""


ORIGINALS = 1000


def planted(data: Path, groups: Path, half: Half, out: Path) -> None:
    """Plant each kind of copy in turn, then all at once, and count what is found."""
    rows = [row for row in read_table(groups) if _half(row["group"]) == half]
    rows.sort(key=lambda row: hashlib.sha256(row["path"].encode()).digest())
    pixels = [read_scan(data / row["path"]).pixels for row in rows]
    thumbs = np.stack([thumb_of(p) for p in pixels])
    before = find_twins(thumbs).clusters
    originals = sorted(np.unique(before, return_index=True)[1].tolist())[:ORIGINALS]
    print(f"{half} half: {len(rows)} images, {len(np.unique(before))} clusters, {len(originals)} originals", flush=True)
    plants = {name: np.stack([thumb_of(make(pixels[n])) for n in originals]) for name, make in PLANTS.items()}
    own = thumbs[originals]
    group = np.array([row["group"] for row in rows])
    family = np.arange(len(own))
    result: dict[str, Any] = {"originals": len(originals), "groups": len(set(group[originals].tolist())), "each": {}}
    wrong = right = 0
    joined: set[tuple[int, int]] = set()
    for name, copies in plants.items():
        start = time.perf_counter()
        twins = find_twins(np.concatenate([own, copies]))
        seconds = time.perf_counter() - start
        families = np.tile(family, 2)
        found = twins.clusters[: len(own)] == twins.clusters[len(own) :]
        false = _false(twins, families)
        wrong, right = wrong + false, right + int(found.sum())
        joined.update(_joined(twins, families))
        result["each"][name] = {"recall": float(found.mean()), "false": false, "seconds": seconds}
        print(f"{name:<40} recall {found.mean():.4f}  false pairs {false}", flush=True)
    result["precision"] = right / max(right + wrong, 1)
    result["joined"] = [[rows[originals[n]]["path"] for n in pair] for pair in sorted(joined)]
    plain = [result["each"][name]["recall"] for name in PLAIN]
    result["recall_same_frame"] = [min(plain), float(np.mean(plain))]
    print(f"same frame: recall {min(plain):.4f} to {max(plain):.4f}, mean {np.mean(plain):.4f}")
    print(f"precision over all: {result['precision']:.5f} ({wrong} false pairs, of {len(joined)} pairs of originals)")
    result["together"] = _together(thumbs, plants, originals, before, group, family, [row["path"] for row in rows])
    atomic.write_json(out, {"machine": describe(), "half": half, **result})


def _together(
    thumbs: Thumbs,
    plants: dict[str, Thumbs],
    originals: list[int],
    before: NDArray[np.intp],
    group: NDArray[np.str_],
    family: NDArray[np.intp],
    paths: list[str],
) -> dict[str, Any]:
    """All plants and all distractors in one set."""
    everything = np.concatenate([thumbs, *plants.values()])
    start = time.perf_counter()
    twins = find_twins(everything)
    seconds = time.perf_counter() - start
    of_original = twins.clusters[originals]
    recall = {}
    for k, name in enumerate(plants):
        begin = len(thumbs) + k * len(originals)
        recall[name] = float((twins.clusters[begin : begin + len(originals)] == of_original).mean())
    families = np.full(len(everything), -1)
    families[originals] = family
    families[len(thumbs) :] = np.tile(family, len(plants))
    false = _false(twins, families)
    # Distractors: other images of the half, in one cluster with an original or a plant.
    others = np.setdiff1d(np.arange(len(thumbs)), originals)
    joined = {cluster: set(family[of_original == cluster].tolist()) for cluster in set(of_original.tolist())}
    same = [n for n in others if twins.clusters[n] in joined]
    with_original = set(before[originals].tolist())
    already = sum(1 for n in same if before[n] in with_original)
    own_group = sum(1 for n in same if group[n] in set(group[np.array(originals)[of_original == twins.clusters[n]]]))
    print(
        f"together: {len(everything)} images in {seconds:.1f} s, recall of same-frame plants "
        f"{np.mean([recall[name] for name in PLAIN]):.4f}, false pairs {false}; {len(same)} of {len(others)} other "
        f"images join an original ({own_group} of its own group, {already} also without plants)",
        flush=True,
    )
    return {
        "images": len(everything), "seconds": seconds, "recall": recall, "false": false,
        "joined": [[paths[originals[n]] for n in pair] for pair in _joined(twins, families)],
        "distractors": len(others),
        "distractors_joined": len(same), "of_own_group": own_group, "joined_without_plants": already,
        "pairs": len(twins.pairs), "neighbours": len(twins.neighbours),
    }  # fmt: skip


def _joined(twins: Twins, family: NDArray[np.intp]) -> list[tuple[int, int]]:
    """Originals that a pair of twins joins, each by its number."""
    ends = ((int(family[pair.first]), int(family[pair.second])) for pair in twins.pairs)
    return sorted({(min(a, b), max(a, b)) for a, b in ends if -1 < a != b > -1})


def _false(twins: Twins, family: NDArray[np.intp]) -> int:
    """Pairs of two families in one cluster; family -1 is of no account."""
    wrong = 0
    for cluster in set(twins.clusters.tolist()):
        sizes = np.bincount(family[(twins.clusters == cluster) & (family >= 0)])
        wrong += int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    return wrong


def _half(group: str) -> Half:
    return "report" if hashlib.sha256(group.encode()).digest()[0] & 1 else "development"


def folder(data: Path, groups: Path, out: Path) -> None:
    """Find the twins of a whole folder and set them beside the groups of a table."""
    rows = read_table(groups)
    start = time.perf_counter()
    thumbs = np.stack([thumb_of(read_scan(data / row["path"]).pixels) for row in rows])
    read = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as room:
        result = _in_process(thumbs, Path(room))
    group = [row["group"] for row in rows]
    label = [row["label"] for row in rows]
    sizes = Counter(Counter(result["clusters"]).values())
    pairs = [(a, b) for a, b, _ in result["pairs"]]
    near = result.pop("neighbours")
    result |= {
        "images": len(rows),
        "read_and_draw_s": read,
        "twin_clusters": sum(count for size, count in sizes.items() if size > 1),
        "images_in_them": sum(size * count for size, count in sizes.items() if size > 1),
        "sizes": {str(size): count for size, count in sorted(sizes.items())},
        "kinds": Counter(kind for _, _, kind in result["pairs"]),
        "twins_of_one_group": sum(group[a] == group[b] for a, b in pairs),
        "twins_the_table_splits": sum(group[a] != group[b] for a, b in pairs),
        "twins_of_two_labels": [[rows[a]["path"], rows[b]["path"]] for a, b in pairs if label[a] != label[b]],
        "neighbours": len(near),
        "neighbours_of_one_group": sum(group[a] == group[b] for a, b in near),
    }
    del result["pairs"], result["clusters"]
    print(json.dumps(result, indent=1))
    atomic.write_json(out, {"machine": describe(), **result})


def growth(data: Path, groups: Path, sizes: tuple[int, ...], out: Path) -> None:
    """Seconds and memory at each size, a process each; then with 10,000 near-copies of one slice.

    The first pictures are the slices themselves in random order. When they are used up, the thumbnails of all are
    turned, get another gamma and noise of two grey levels, and so on round by round.
    """
    paths = [row["path"] for row in read_table(groups)]
    rng = np.random.default_rng(0)
    paths = [paths[k] for k in rng.permutation(len(paths))]
    own = np.stack([thumb_of(read_scan(data / path).pixels) for path in paths])
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "all.npy"
        thumbs = np.lib.format.open_memmap(path, "w+", np.uint8, (max(sizes), 2, SIDE, SIDE))
        for start in range(0, len(thumbs), len(own)):
            part = own[: len(thumbs) - start]
            thumbs[start : start + len(own)] = part if start == 0 else _varied(part, rng)
        thumbs.flush()
        sets = {f"{size}": thumbs[:size] for size in sizes}
        sets["10000 near-copies of one"] = _varied(np.repeat(own[:1], 10_000, axis=0), rng)
        for name, part in sets.items():
            result[name] = row = _in_process(part, Path(room))
            clusters = Counter(row.pop("clusters"))
            row |= {"pairs": len(row["pairs"]), "neighbours": len(row["neighbours"]), "clusters": len(clusters)}
            row["largest"] = max(clusters.values())
            print(
                f"{name:>25}: {row['seconds']:.1f} s, {row['cpu_s']:.1f} s of CPU, {row['rss_mib']:.0f} MiB, "
                f"{row['clusters']} clusters, load {row['load']}",
                flush=True,
            )
            atomic.write_json(out, {"machine": describe(), "sets": result})


def _varied(thumbs: Thumbs, rng: np.random.Generator) -> Thumbs:
    """Turn each picture by a turn of its own, and give it a gamma of 0.8 to 1.25 and noise of two grey levels."""
    varied = np.empty_like(thumbs)
    turns = rng.integers(0, 8, len(thumbs))
    for number, (both, which) in enumerate(zip(thumbs, turns, strict=True)):
        grey = (turned(both, which) / 255.0) ** rng.uniform(0.8, 1.25) * 255 + rng.normal(0, 2, both.shape)
        varied[number] = np.clip(grey + 0.5, 0, 255)
    return varied


def _in_process(thumbs: Thumbs, room: Path) -> dict[str, Any]:
    """Run `find_twins` on a memory map in a fresh process: seconds, CPU seconds, growth of resident memory."""
    np.save(room / "part.npy", thumbs)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.twins", str(room / "part.npy")], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _alone(path: Path) -> dict[str, Any]:
    thumbs = np.load(path, mmap_mode="r")
    find_twins(thumbs[:200])  # the libraries are loaded
    before = _peak_mib()
    start, cpu = time.perf_counter(), time.process_time()
    twins = find_twins(thumbs)
    return {
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
        "load": Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "",
        "rss_mib": _peak_mib() - before,
        "thumbs_mib": thumbs.nbytes / 2**20,
        "pairs": [(pair.first, pair.second, pair.kind) for pair in twins.pairs],
        "neighbours": [(pair.first, pair.second) for pair in twins.neighbours],
        "clusters": twins.clusters.tolist(),
    }


def _peak_mib() -> float:
    """Peak of resident memory, the pages of the memory map that were read included. Linux only.

    Not `getrusage`: a child begins with the peak of its parent there.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    print(json.dumps(_alone(Path(sys.argv[1]))))
