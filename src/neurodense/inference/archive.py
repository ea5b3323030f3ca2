"""Millions of files through a model, on all cores or a cluster: in shards, restartable, with a count at the end.

    inputs -> listing.parquet (sorted, each file once) -> shards -> predictions/part-*.parquet, errors/part-*.parquet

`manifest.json` says what the results are of. The same call goes on where a killed one ended; a call with another model,
other settings or other files is refused. See `docs/scaling.md`.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

from neurodense import atomic
from neurodense.errors import MissingExtra, RunError
from neurodense.inference.card import sha256_of
from neurodense.inference.cluster import run_shards
from neurodense.inference.engine import Precision
from neurodense.inference.listing import Listing, write_listing
from neurodense.inference.predictor import Predictor
from neurodense.inference.shard import ERRORS, LISTING, PREDICTIONS, Plan
from neurodense.scans.slices import Slices
from neurodense.screen import Screen
from neurodense.versions import versions

SHARD: Final = 5000
MANIFEST: Final = "manifest.json"

_MUST_AGREE: Final = ("model", "precision", "slices", "error", "shard", "files", "listing")


@dataclass(frozen=True)
class Archived:
    """The results of an archive, counted.

    Attributes:
        folder: Where they are.
        files: In the listing, each once.
        predictions: Rows of `predictions/`.
        errors: Rows of `errors/`; with `predictions` they are `files`.
        shards: Of the listing.
        answered_now: Files that this call answered; the others were there.
        seconds: That this call took for them, the start of Ray included.
    """

    folder: Path
    files: int
    predictions: int
    errors: int
    shards: int
    answered_now: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The count, in words."""
        now = f"; now {self.answered_now:,} in {self.seconds:.0f} s" if self.answered_now else ""
        return (
            f"{self.files:,} files in {self.shards:,} shards: {self.predictions:,} answered, {self.errors:,} errors. "
            f"Every file is there once{now}."
        )


def predict_archive(
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    model: str | Path = "brain",
    precision: Precision | Literal["auto"] = "auto",
    slices: str = "brain",
    error: float | None = None,
    address: str | None = None,
    workers: int | None = None,
    shard: int = SHARD,
    screen: Screen | None = None,
) -> Archived:
    """Predict every file of an archive with Ray and write the answers as Parquet; goes on where a call before ended.

    Each file is answered by itself: a picture, a DICOM file or a NIfTI volume. The DICOM files of a series are not put
    together. A file that cannot be read is a row of the error table.

    Args:
        inputs: Files, folders, patterns with * or **, URLs of pyarrow and fsspec, and @LIST, a text with a name a line
            or a .csv or .parquet with a column `source` or `path`.
        out: Folder of the results; on a cluster all nodes see it, the model and the files at the same paths.
        model: Model folder, or "brain".
        precision: As `Predictor` has it; "auto" is decided here, and all workers obey.
        slices: Which slices of a volume are looked at.
        error: Error rate of the prediction sets, as `Predictor` has it.
        address: Of a Ray cluster, such as 10.0.0.1:6379; None starts Ray here, or takes what `ray.init` has joined.
        workers: Of one thread each; None is one for each CPU that Ray has.
        shard: Files that are written, and after a kill done again, together.
        screen: For the count of files a second and the time left.

    Raises:
        DataError: An input is not there, or there is no file.
        ModelError: The model cannot be loaded.
        RunError: `out` holds the results of something else, no cluster answers, or a worker cannot go on.
        MissingExtra: Ray is not installed.
    """
    if find_spec("ray") is None or find_spec("pyarrow") is None:
        raise MissingExtra("ray", "ray")
    if shard < 1:
        raise RunError(f"shard is {shard}; allowed are whole numbers from 1.")
    screen, out, start = screen or Screen(), Path(os.path.abspath(out)), time.monotonic()  # noqa: PTH100
    predictor = Predictor(model, precision=precision, threads=1, error=error)
    folder = predictor.folder.absolute() if str(model) != "brain" else Path("brain")
    plan = Plan(
        out, str(folder), sha256_of(predictor.folder / "card.json"), predictor.precision,
        str(Slices.parse(slices)), error,
    )  # fmt: skip
    listing = _begin(plan, predictor, [str(item) for item in inputs], shard)
    shards = math.ceil(listing.files / shard)
    missing = [number for number in range(shards) if not plan.part(PREDICTIONS, number).is_file()]
    if done := shards - len(missing):
        screen.say(f"{done:,} of {shards:,} shards are there already.")
    sizes = [_size(number, shard, listing.files) for number in missing]
    if missing:
        try:
            _run(plan, missing, sum(sizes), address, workers, screen)
        except KeyboardInterrupt:
            screen.say(f"{plan.out}: what is done stays, and the same command goes on.")
            raise
    counts = [_checked(plan, number, _size(number, shard, listing.files)) for number in range(shards)]
    answered, wrong = (sum(column) for column in zip(*counts, strict=True))
    result = Archived(out, listing.files, answered, wrong, shards, sum(sizes), time.monotonic() - start)
    manifest = _manifest(out)
    atomic.write_json(out / MANIFEST, manifest | {"done": {"predictions": answered, "errors": wrong}})
    return result


def _run(
    plan: Plan, shards: Sequence[int], files: int, address: str | None, workers: int | None, screen: Screen
) -> None:
    """Answer shards, which have so many files together, and show how far it is."""
    finished, failed, begun = 0, 0, time.monotonic()
    with screen.bar("classify", files, "files") as bar:
        for predictions, errors in run_shards(plan, shards, address, workers):
            finished, failed = finished + predictions + errors, failed + errors
            rate = f"{finished / (time.monotonic() - begun):.0f} files/s"
            bar.advance(predictions + errors, f"{rate}, {failed:,} errors" if failed else rate)


def _begin(plan: Plan, predictor: Predictor, inputs: Sequence[str], shard: int) -> Listing:
    """Write the listing and the manifest, or hold them to those that are there."""
    old = _manifest(plan.out)
    if not old and (plan.out / PREDICTIONS).exists():
        raise RunError(f"{plan.out} holds predictions but no {MANIFEST}.", "Give another folder with --out.")
    fresh = plan.out / ("listing-now.parquet" if old else LISTING)
    listing = write_listing(inputs, fresh, shard)
    again = ["neurodense", "predict", "--engine", "ray", *inputs, "--out", str(plan.out), "--model", plan.model]
    new: dict[str, Any] = {
        "schema_version": 1,
        "model": plan.card,
        "model_name": predictor.card.name,
        "classes": list(predictor.card.classes),
        "precision": plan.precision,
        "slices": plan.slices,
        "error": plan.error,
        "files": listing.files,
        "listing": listing.sha256,
        "shard": shard,
        "shards": math.ceil(listing.files / shard),
        "continue": shlex.join([*again, "--precision", plan.precision, "--slices", plan.slices, "--shard", str(shard)]),
        "versions": versions(),
    }
    if not old:
        atomic.write_json(plan.out / MANIFEST, new)
        return listing
    fresh.unlink()
    differ = [f"{key} is {new[key]}, was {old.get(key)}" for key in _MUST_AGREE if new[key] != old.get(key)]
    if differ:
        raise RunError(
            f"{plan.out} was begun with something else: {'; '.join(differ)}.",
            f"To go on with the files of then, give @{plan.out / LISTING} and the settings of {MANIFEST}; "
            "for anything else, another --out.",
        )
    return listing


def _manifest(out: Path) -> dict[str, Any]:
    path = out / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RunError(f"{path} is not what predict --engine ray writes.", "Give another folder with --out.")
    return found


def _size(number: int, shard: int, files: int) -> int:
    """Files of a shard; the last one has the rest."""
    return min(shard, files - number * shard)


def _checked(plan: Plan, number: int, size: int) -> tuple[int, int]:
    """Rows of a shard's predictions and errors, from the files themselves.

    Raises:
        RunError: Together they are not the shard's files.
    """
    from pyarrow import ArrowInvalid, parquet

    path = plan.part(PREDICTIONS, number)
    try:
        good, bad = (
            parquet.read_metadata(part).num_rows if part.is_file() else 0 for part in (path, plan.part(ERRORS, number))
        )
    except (ArrowInvalid, OSError) as error:
        raise RunError(f"{path} cannot be read: {error}", "Delete it and give the same command.") from None
    if good + bad != size:
        raise RunError(
            f"{path} and its error table have {good + bad:,} rows for {size:,} files.",
            "Delete it and give the same command: the shard is done anew.",
        )
    return good, bad
