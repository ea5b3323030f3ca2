"""Files in, predictions out: reads and preprocesses in threads while the engine runs; a bad file is an answer too."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import DataError, ModelError, ScanError
from neurodense.inference.card import Card, model_notes, read_card
from neurodense.inference.engine import Engine, Outputs, joined, usable_cores
from neurodense.inference.explain import Explanation, enlarge, evidence
from neurodense.scans import read
from neurodense.scans.scan import Scan, Study
from neurodense.scans.series import Series
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure, read_study

Input = str | Path | Series | Study | Scan | Failure
"""What is predicted: a file, a series, what was read already, or a failure to find something, which is passed on."""

_VOLUMES_AHEAD = 2  # that wait, preprocessed, while another one's slices run


@dataclass(frozen=True)
class Prediction:
    """The answer for one picture or one study.

    Attributes:
        source: The input, as the caller named it; a slice of a volume has its number behind a `#`, from 1.
        label: The most probable class.
        probabilities: Of each class, in the card's order; they sum to 1. Of a study: the softmax of the mean of its
            slices' calibrated logits, that is of the logits divided by the card's temperature.
        notes: What a reader of the result should know of the reading.
        slices: Of a study: the answer for each chosen slice, in order. Empty for a picture.
        total: Slices that the study has in all; 1 for a picture.
        overlay: Path of the heat map's picture where one was written. Of a study each slice has its own.
    """

    source: str
    label: str
    probabilities: Mapping[str, float]
    notes: tuple[str, ...] = ()
    slices: tuple[Prediction, ...] = ()
    total: int = 1
    overlay: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that `predict --format json` prints; what is empty is left out."""
        answer: dict[str, Any] = {
            "source": self.source, "label": self.label, "probabilities": dict(self.probabilities),
        }  # fmt: skip
        if self.notes:
            answer["notes"] = list(self.notes)
        if self.overlay is not None:
            answer["overlay"] = self.overlay
        if self.slices:
            answer |= {"total": self.total, "slices": [one.as_dict() for one in self.slices]}
        return answer


@dataclass(frozen=True)
class _Loaded:
    """An input, read and preprocessed: pixels (N, 1, S, S) of the slices that `sources` names; `scans` if kept."""

    source: str
    sources: tuple[str, ...]
    scans: tuple[Scan, ...]
    pixels: NDArray[np.float32]
    total: int
    notes: tuple[str, ...]


class Predictor:
    """A loaded model folder.

    Args:
        model: The folder.
        threads: Threads of the engine; the usable cores where None.

    Raises:
        ModelError: The folder is no model folder, or a file of it is damaged.
    """

    def __init__(self, model: str | Path, threads: int | None = None) -> None:
        folder = Path(model)
        self.card: Card = read_card(folder)
        graph = folder / "model.onnx"
        self._engine = Engine(graph, threads)
        with graph.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        if digest != self.card.files.get(graph.name):
            raise ModelError(
                f"{graph} is not the file that {folder / 'card.json'} describes: its sha256 is {digest[:16]}..., "
                f"the card says {self.card.files.get(graph.name, 'nothing')[:16]}...",
                "Copy the whole model folder again: names of one model and answers of another do not go together.",
            )

    def outputs(self, pixels: NDArray[np.float32]) -> Outputs:
        """The graph's outputs for preprocessed pixels (N, 1, size, size)."""
        return self._engine.run(pixels)

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Softmax of the logits (N, classes), by the card's temperature: float64 (N, classes), rows sum to 1."""
        scaled = logits.astype(np.float64) / (self.card.temperature or 1.0)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def predict(
        self, inputs: Iterable[Input], slices: Slices | str = "brain", batch: int = 16
    ) -> Iterator[Prediction | Failure]:
        """Predict pictures and volumes in order, one answer for each input.

        A few batches of pictures and, preprocessed, a few volumes are in memory at most; of volumes as they are read,
        one at a time.

        Args:
            inputs: Files, series and the like; see `Input`.
            slices: Which slices of a volume are looked at; see `scans/slices.py`.
            batch: Pictures or slices a run of the graph.

        Raises:
            DataError: `slices` is a text that says nothing known.
        """
        for result in self._run(inputs, slices, batch, keep=False):
            yield result if isinstance(result, Failure) else self._answer(result[0], result[1].logits)

    def explained(
        self, inputs: Iterable[Input], slices: Slices | str = "brain", batch: int = 4
    ) -> Iterator[tuple[Prediction, Iterator[Explanation]] | Failure]:
        """Predict as `predict` does, and give with each answer the heat maps of its class.

        Of a study there is a map for each chosen slice, of the class that this slice was given. Maps are made as they
        are taken; the scans that they lie on are held until then, hence the smaller batch.

        Raises:
            DataError: `slices` is a text that says nothing known.
        """
        for result in self._run(inputs, slices, batch, keep=True):
            if isinstance(result, Failure):
                yield result
            else:
                item, outputs = result
                triples = zip(item.scans, outputs.logits, outputs.activation_maps, strict=True)
                yield self._answer(item, outputs.logits), (self._explanation(*triple) for triple in triples)

    def explain(self, item: str | Path | Scan, label: str | None = None) -> Explanation:
        """Show where in one scan the model sees `label`: a heat map at the scan's own size.

        Args:
            item: A picture, or a scan that was read already, such as one of `read_study(volume).scans`.
            label: A class of the model; the most probable one where None.

        Raises:
            ScanError: The file cannot be read, or is a volume of several slices.
            DataError: The model knows no such class.
        """
        if label is not None and label not in self.card.classes:
            raise DataError(f"label is {label!r}; the model knows {', '.join(map(repr, self.card.classes))}.")
        if not isinstance(item, Scan):
            study = read_study(item, Slices("middle"))
            if study.is_volume:
                raise ScanError(
                    f"{item} is a volume of {study.total} slices; a heat map is of one.",
                    "Explain the scans that read_study(path).scans gives, or: neurodense predict FILE --explain DIR",
                )
            item = study.scans[0]
        outputs = self.outputs(self.card.preprocess(item)[np.newaxis])
        return self._explanation(item, outputs.logits[0], outputs.activation_maps[0], label)

    def _explanation(
        self, scan: Scan, logits: NDArray[np.float32], maps: NDArray[np.float32], label: str | None = None
    ) -> Explanation:
        """The heat map from the outputs for one scan: logits (classes,) and activation maps (classes, h, w)."""
        row = self.probabilities(logits[np.newaxis])[0]
        index = int(row.argmax()) if label is None else self.card.classes.index(label)
        height, width = scan.pixels.shape
        return Explanation(
            scan=scan,
            label=self.card.classes[index],
            probability=float(row[index]),
            heat=enlarge(evidence(maps[np.newaxis], self.card.temperature)[0, index], (height, width)),
            place=(height / maps.shape[1], width / maps.shape[2]),
            notes=(*scan.notes, *model_notes(self.card)),
        )

    def _run(
        self, inputs: Iterable[Input], slices: Slices | str, batch: int, *, keep: bool
    ) -> Iterator[tuple[_Loaded, Outputs] | Failure]:
        """Inputs in order, each with the outputs for its slices; `keep` keeps the scans as they were read."""
        slices = Slices.parse(slices) if isinstance(slices, str) else slices
        for items in self._batches(inputs, slices, batch, keep):
            stacks = [item.pixels for item in items if isinstance(item, _Loaded)]
            if stacks:
                pixels = np.concatenate(stacks)
                outputs = joined([self.outputs(pixels[k : k + batch]) for k in range(0, len(pixels), batch)])
            start = 0
            for item in items:
                if isinstance(item, Failure):
                    yield item
                else:
                    stop = start + len(item.sources)
                    yield item, outputs.rows(start, stop)
                    start = stop

    def _answer(self, item: _Loaded, logits: NDArray[np.float32]) -> Prediction:
        """The answer from the logits (N, classes) of the slices of one input."""
        if item.total == 1:
            return self._named(item.source, self.probabilities(logits)[0], item.notes)
        slices = [self._named(*pair) for pair in zip(item.sources, self.probabilities(logits), strict=True)]
        mean = logits.mean(axis=0, dtype=np.float64, keepdims=True)  # dividing by the temperature commutes with it
        return self._named(item.source, self.probabilities(mean)[0], item.notes, tuple(slices), item.total)

    def _named(self, source: str, row: NDArray[np.float64], *more: Any) -> Prediction:
        classes = self.card.classes
        return Prediction(source, classes[int(row.argmax())], dict(zip(classes, row.tolist(), strict=True)), *more)

    def _batches(
        self, inputs: Iterable[Input], slices: Slices, batch: int, keep: bool
    ) -> Iterator[list[_Loaded | Failure]]:
        """Inputs, read and preprocessed, in lists of `batch` slices or somewhat more.

        Pictures are read ahead by two batches, in several threads; volumes by `_VOLUMES_AHEAD`, in one.
        """
        waiting: deque[tuple[bool, Future[_Loaded | Failure]]] = deque()
        pictures = ThreadPoolExecutor(max_workers=min(8, usable_cores() + 1))
        volumes = ThreadPoolExecutor(max_workers=1)
        source = iter(inputs)
        exhausted = False
        now: list[_Loaded | Failure] = []
        count = 0
        try:
            while waiting or not exhausted:
                while not exhausted and len(waiting) < 3 * batch and sum(big for big, _ in waiting) < _VOLUMES_AHEAD:
                    item = next(source, None)
                    if item is None:
                        exhausted = True
                    else:
                        big = _may_be_a_volume(item)
                        waiting.append((big, (volumes if big else pictures).submit(self._load, item, slices, keep)))
                if waiting:
                    loaded = waiting.popleft()[1].result()
                    now.append(loaded)
                    count += 1 if isinstance(loaded, Failure) else len(loaded.sources)
                if now and (count >= batch or not (waiting or not exhausted)):
                    yield now
                    now, count = [], 0
        finally:
            for pool in (pictures, volumes):
                pool.shutdown(cancel_futures=True)

    def _load(self, item: Input, slices: Slices, keep: bool) -> _Loaded | Failure:
        if isinstance(item, Failure):
            return item
        if isinstance(item, Scan):
            item = Study(item.source, (item,), 1)
        source = str(item) if isinstance(item, str | Path) else item.source
        try:
            study = item if isinstance(item, Study) else read_study(item, slices)
            pixels = np.stack([self.card.preprocess(scan) for scan in study.scans])
        except ScanError as error:
            return Failure(source, type(error).__name__, error.message)
        except OSError as error:
            return Failure(source, type(error).__name__, f"{source} cannot be read: {error.strerror or error}.")
        notes = tuple(dict.fromkeys(note for scan in study.scans for note in scan.notes))
        sources = tuple(scan.source for scan in study.scans)
        return _Loaded(study.source, sources, study.scans if keep else (), pixels, study.total, notes)


def _may_be_a_volume(item: Input) -> bool:
    """By its name, since it is not open yet: a volume named as a picture is read all the same, but not alone."""
    if isinstance(item, str | Path):
        return Path(item).suffix.lower() not in read.SUFFIXES
    return isinstance(item, Series)
