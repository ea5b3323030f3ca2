"""`python -m benchmarks all`: every job beside its peer and its floor, in one table that docs/performance.md shows."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import jobs
from benchmarks.floors import Ceilings, macs, measure_ceilings
from benchmarks.machine import describe
from neurodense import atomic
from neurodense.data.catalogue import scan_folder

BEGIN, END = "<!-- made by `python -m benchmarks all`: begin -->", "<!-- end -->"


@dataclass(frozen=True)
class Job:
    """What is run, what it is held against, and how many times as fast it has to be."""

    title: str
    peer: str
    bar: float
    run: Callable[[jobs.Setting], jobs.Times]


JOBS = {
    "decode": Job("decode and preprocess a folder", "ImageFolder, Resize, ToTensor, 2 workers", 2, jobs.decode),
    "second": Job("second training, another head", "the first training", 5, jobs.second),
    "evaluate": Job("evaluate, all figures and report", "torch fp32 and scikit-learn", 5, jobs.evaluate),
    "finetune": Job("`finetune` to its best epoch", "the same with --no-cache", 5, jobs.finetune),
    "recipe": Job("notebook recipe, 23 epochs", "plain loop, fp32", 30, jobs.notebook),
    "folds": Job("5 folds, whole", "5 runs, each with a cache of its own", 3, jobs.folds),
}


def measure(
    data: Path,
    images: int,
    names: Sequence[str],
    rounds: int,
    device: Literal["cpu", "cuda"],
    quick: bool,
    out: Path,
    document: Path | None,
) -> bool:
    """Measure the ceilings and then each job; after each the table's JSON is written. False where a job failed.

    Rows of jobs that are not asked for stay as `out` has them, if they are of the same machine and device.
    """
    start = time.perf_counter()
    setting = (min(images, 40), 1) if quick else (images, rounds)
    pictures = [data / record.path for record in scan_folder(data).records][:: 40 if not quick else 1][:200]
    ceilings = measure_ceilings(pictures, device)
    machine = describe()
    result: dict[str, Any] = {
        "machine": machine,
        "device": device,
        "quick": quick,
        "ceilings": asdict(ceilings),
        "gmac_an_image": {size: sum(macs(size).values()) / 1e9 for size in (224, 128)},
        "rows": _kept(out, machine, device, quick, names),
    }
    print(_ceilings(ceilings), flush=True)
    for name in names:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as room:
            row = _row(name, jobs.Setting(data, Path(room), *setting, device, quick), ceilings)
        row["took_s"] = time.perf_counter() - began
        result["rows"][name] = row
        result["rows"] = {key: result["rows"][key] for key in JOBS if key in result["rows"]}
        atomic.write_json(out, result)
        print(f"{name}: {row['took_s']:.0f} s{', failed: ' + row['error'] if 'error' in row else ''}", flush=True)
    print("\n".join(table(result["rows"])))
    print(f"on {_place(result)}; {(time.perf_counter() - start) / 60:.1f} minutes; {out}")
    if document is not None:
        write_document(result, document)
    return not any("error" in result["rows"][name] for name in names)


def _kept(out: Path, machine: Mapping[str, Any], device: str, quick: bool, names: Sequence[str]) -> dict[str, Any]:
    if not out.exists():
        return {}
    old = json.loads(out.read_text(encoding="utf-8"))
    same = {**old["machine"], "date": ""} == {**machine, "date": ""} and old["device"] == device
    return {k: v for k, v in old["rows"].items() if k not in names} if same and old["quick"] == quick else {}


def _row(name: str, setting: jobs.Setting, ceilings: Ceilings) -> dict[str, Any]:
    """A job as a row; one that fails is a row that says why."""
    job = JOBS[name]
    about = {"job": job.title, "peer": job.peer, "bar": job.bar}
    try:
        times = job.run(setting)
    except Exception as error:  # the others go on
        traceback.print_exc()
        return {**about, "error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    floor, by = times.work.floor(ceilings)
    measured, peer = statistics.median(times.ours), statistics.median(times.peer)
    return {
        **about,
        "rounds": len(times.ours),
        "measured_s": _spread(times.ours),
        "peer_s": _spread(times.peer),
        "floor_s": floor,
        "floor_by": by,
        "floors_s": times.work.seconds(ceilings),
        "share_of_floor": floor / measured,
        "ratio": peer / measured,
        "met": peer / measured >= job.bar,
        "others": {
            name: {"peer_s": _spread(seconds), "ratio": statistics.median(seconds) / measured}
            for name, seconds in times.others.items()
        },
        "about": times.about,
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(seconds), "least": min(seconds), "most": max(seconds)}


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    lines = [
        "| job | measured, s | floor, s | share of floor | peer | peer, s | ratio | bar | met |",
        "|---|---:|---:|---:|---|---:|---:|---:|---|",
    ]
    for row in rows.values():
        if "error" in row:
            lines.append(f"| {row['job']} | failed: {row['error']} | | | {row['peer']} | | | {row['bar']:g} | no |")
            continue
        lines.append(
            f"| {row['job']} | {_seconds(row['measured_s'])} | {_plain(row['floor_s'])}, {row['floor_by']} "
            f"| {row['share_of_floor']:.1%} | {row['peer']} | {_seconds(row['peer_s'])} | {row['ratio']:.1f} "
            f"| {row['bar']:g} | {'yes' if row['met'] else '**no**'} |"
        )
        lines += [
            f"| | | | | {name} | {_seconds(other['peer_s'])} | {other['ratio']:.1f} | | |"
            for name, other in row.get("others", {}).items()
        ]
    return lines


def _seconds(spread: Mapping[str, float]) -> str:
    return f"{_plain(spread['median'])} ({_plain(spread['least'])} to {_plain(spread['most'])})"


def _plain(seconds: float) -> str:
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _ceilings(ceilings: Ceilings) -> str:
    peaks = ", ".join(f"{name} {value:,.0f}" for name, value in ceilings.gmac_s.items())
    return (
        f"ceilings: matrix product {peaks} GMAC/s; copying {ceilings.gb_s:.1f} GB/s read and written; "
        f"decoding {ceilings.pictures_s:,.0f} pictures/s"
    )


def _place(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    gpu = f"GPU: {machine['gpu']}" if machine["gpu"] != "none" else "no GPU on this machine"
    return f"{machine['cores']} cores of an {machine['cpu']} ({machine['bf16']}), {result['device']}; {gpu}"


def write_document(result: Mapping[str, Any], path: Path) -> None:
    """Put the table between the two marks of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} lacks the lines {BEGIN!r} and {END!r}")
    versions = result["machine"]["versions"]
    about = ", ".join(f"{name} {versions[name]}" for name in ("torch", "openvino", "onnxruntime") if name in versions)
    ceilings = Ceilings(**result["ceilings"])
    lines = [
        f"On {_place(result)}; {result['machine']['date']}, {about}. Medians (least to most) of as many rounds as the",
        "JSON says." if not result["quick"] else "JSON says. A quick run: small subsets, no figure to quote.",
        "",
        *table(result["rows"]),
        "",
        _ceilings(ceilings)[0].upper() + _ceilings(ceilings)[1:] + ".",
    ]
    extra = result["rows"].get("folds", {}).get("about", {}).get("runs_without_cache_s")
    if extra:
        row = result["rows"]["folds"]
        seconds, ratio = statistics.median(extra), statistics.median(extra) / row["measured_s"]["median"]
        lines.append(f"Five runs with `--no-cache` would take {_plain(seconds)} s, {ratio:.1f} times the five folds.")
    atomic.write_text(path, head + begin + "\n" + "\n".join(lines) + "\n" + end + tail)
