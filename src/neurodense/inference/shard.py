"""One shard of an archive: its files through the model, and the answers as Parquet. Knows nothing of Ray.

A shard is done when `predictions/part-N.parquet` is there: it is written last, under another name, and renamed. What is
not done is done anew, by whichever worker, with the same outcome, so nothing is there twice.

**A file that ends the process.** A decoder that crashes, or a volume that the system will not give the memory for, ends
the worker, and Ray starts the shard again. `attempts/part-N` keeps what was tried: after a first death the files go one
by one, each written down before it is read; the file at which two such attempts ended is an error row from then on.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neurodense import atomic
from neurodense.errors import ModelError, ScanError
from neurodense.inference.card import sha256_of
from neurodense.inference.listing import read_shard
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.inference.remote import fetch, is_url
from neurodense.scans.memory import File
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure

LISTING: Final = "listing.parquet"
PREDICTIONS: Final = "predictions"
ERRORS: Final = "errors"

_AHEAD = 8  # URLs that are fetched while the model runs
_DEATHS = 2  # of attempts, at one file, before it is passed over
_ODD = 20  # files of a shard at which something fails that no reader should fail with; more, and it is not the files
_BEGUN = "begun"


@dataclass(frozen=True)
class Plan:
    """What every worker must know.

    Attributes:
        out: The folder of the results, with its listing.
        model: The model folder.
        card: sha256 of its card.json.
        precision: Of the graph.
        slices: Of volumes that are looked at.
        error: Error rate of the prediction sets; None for the model's own.
    """

    out: Path
    model: str
    card: str
    precision: str
    slices: str
    error: float | None

    def part(self, kind: str, number: int) -> Path:
        """The file of a shard, counted from 0."""
        return self.out / kind / f"part-{number:06d}.parquet"

    def predictor(self) -> Predictor:
        """The model, for one thread.

        Raises:
            ModelError: It is not there, or is not the one that the results are begun with.
        """
        predictor = Predictor(self.model, precision=self.precision, threads=1, error=self.error)  # type: ignore[arg-type]
        if (found := sha256_of(predictor.folder / "card.json")) != self.card:
            raise ModelError(
                f"{predictor.folder} holds another model than {self.out} was begun with: the sha256 of its card.json "
                f"is {found[:16]}..., not {self.card[:16]}...",
                "Every node must have the same model at this path.",
            )
        return predictor


def answer_shard(plan: Plan, predictor: Predictor, number: int) -> tuple[int, int]:
    """Predict the files of a shard and write its Parquet files.

    Returns:
        Rows of predictions and of errors.

    Raises:
        OSError: The listing cannot be read or the results cannot be written.
    """
    names = read_shard(plan.out / LISTING, number)
    attempts = Attempts(plan.out / "attempts" / f"part-{number:06d}")
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    for name, answer in zip(names, _answers(predictor, names, Slices.parse(plan.slices), attempts), strict=True):
        if isinstance(answer, Failure):
            bad.append({"source": text(name), "type": answer.type, "message": text(answer.message)})
        else:
            good.append({"source": text(name), **row(answer), "model": plan.card})
    errors = plan.part(ERRORS, number)
    if bad:
        _write(bad, error_schema(), errors)
    else:
        errors.unlink(missing_ok=True)  # of an attempt that met with errors and was ended before its predictions
    _write(good, schema(predictor.card.classes), plan.part(PREDICTIONS, number))
    attempts.over()
    return len(good), len(bad)


class Attempts:
    """What was tried of a shard by workers that did not finish it; lines of a text file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="ascii").split() if path.is_file() else []
        ends = Counter(a for a, b in zip(lines, [*lines[1:], _BEGUN], strict=False) if a != _BEGUN and b == _BEGUN)
        self.first = not lines
        self.fatal = {int(index) for index, deaths in ends.items() if deaths >= _DEATHS}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._add(_BEGUN)

    def at(self, index: int) -> None:
        """File `index` of the shard is read next."""
        self._add(str(index))

    def over(self) -> None:
        """The shard is done."""
        self._path.unlink(missing_ok=True)

    def _add(self, line: str) -> None:
        with self._path.open("a", encoding="ascii") as handle:
            handle.write(f"{line}\n")


def _answers(
    predictor: Predictor, names: Sequence[str], slices: Slices, attempts: Attempts
) -> Iterator[Prediction | Failure]:
    """An answer for each name, in order."""
    done = odd = 0
    if attempts.first:
        with suppress(Exception):  # whose file is not known: the files from there on go one by one
            for answer in predictor.predict(_opened(names), slices):
                done += 1
                yield answer
    for index in range(done, len(names)):
        attempts.at(index)
        if index in attempts.fatal:
            message = f"{names[index]}: the process that read it ended, {_DEATHS} times; it may need more memory."
            yield Failure(names[index], ScanError.__name__, message)
            continue
        try:
            (answer,) = predictor.predict([_open(names[index])], slices)
        except Exception as error:
            odd += 1
            if odd > _ODD:
                raise
            answer = Failure(names[index], type(error).__name__, f"{names[index]}: {error}")
        yield answer


def _opened(names: Sequence[str]) -> Iterator[File | Failure]:
    """Paths as they are; what is elsewhere is fetched ahead, a few at a time."""
    waiting: deque[Future[File | Failure]] = deque()
    with ThreadPoolExecutor(_AHEAD) as pool:
        for name in names:
            waiting.append(pool.submit(_open, name))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _open(name: str) -> File | Failure:
    try:
        return fetch(name) if is_url(name) else Path(name)
    except ScanError as error:
        return Failure(name, type(error).__name__, error.message)


def text(name: str) -> str:
    """A name as Parquet can hold it: bytes that are no UTF-8 are written by their numbers."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def schema(classes: Sequence[str]) -> Any:
    """Columns of the predictions; `docs/formats.md` says what they hold."""
    import pyarrow as pa

    return pa.schema(
        [
            ("source", pa.string()),
            ("label", pa.string()),
            ("named", pa.string()),
            ("verdict", pa.string()),
            *((f"p:{name}", pa.float32()) for name in classes),
            ("prediction_set", pa.list_(pa.string())),
            ("error_rate", pa.float64()),
            ("ood_score", pa.float32()),
            ("in_distribution", pa.bool_()),
            ("slices", pa.int32()),
            ("total", pa.int32()),
            ("notes", pa.list_(pa.string())),
            ("model", pa.string()),
        ]
    )


def error_schema() -> Any:
    """Columns of the error table."""
    import pyarrow as pa

    return pa.schema([(name, pa.string()) for name in ("source", "type", "message")])


def row(answer: Prediction) -> dict[str, Any]:
    """A row of the predictions, without its source and model."""
    return {
        "label": answer.label,
        "named": answer.named,
        "verdict": answer.verdict,
        **{f"p:{name}": share for name, share in answer.probabilities.items()},
        "prediction_set": answer.prediction_set,
        "error_rate": answer.error_rate,
        "ood_score": answer.ood_score,
        "in_distribution": answer.in_distribution,
        "slices": len(answer.slices),
        "total": answer.total,
        "notes": [text(note) for note in answer.notes],
    }


def _write(rows: list[dict[str, Any]], columns: Any, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    with atomic.replacing(path) as temporary:
        parquet.write_table(pa.Table.from_pylist(rows, columns), temporary, compression="zstd")
