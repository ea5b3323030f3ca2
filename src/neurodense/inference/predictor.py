"""Files in, predictions out: reads and preprocesses in threads while the engine runs; a bad file is an answer too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import DataError, EngineError, ModelError, ScanError
from neurodense.inference.card import Card, model_notes, read_card, sha256_of
from neurodense.inference.engine import PRECISIONS, Engine, EngineName, Outputs, Precision, choose_engine
from neurodense.inference.explain import Explanation, enlarge, evidence
from neurodense.inference.pipeline import Input, Loaded, run_through
from neurodense.scans.scan import Scan
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure, read_study

GRAPH: Final = "model.onnx"
INT8_GRAPH: Final = "model.int8.onnx"
MANY: Final = 1024
"""As `streams`: one for each thread, for the most images a second."""

_BATCH = 4  # on a CPU with a stream a thread, 1 to 16 are equally fast, and 16 takes three times the memory
_BATCH_ELSEWHERE = 32


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


class Predictor:
    """A loaded model folder.

    Args:
        model: The folder.
        engine: What runs the graph, one of `engine.ENGINES`; "auto" is the fastest one that is installed.
        precision: "fp32" is the graph as it was exported, within 1e-4 in probability of torch on every machine; "bf16"
            the same graph in bfloat16, where engine and CPU have it; "int8" the folder's int8 graph. "auto" is int8
            on OpenVINO where the folder has such a graph, since it has passed the gate of `training/quantise.py`,
            else fp32.
        threads: Threads of the engine; `threads.usable_cores()` where None.
        streams: Runs of the graph that may go on at once and share the threads. 1 gives the answer for one image
            soonest; MANY, which is one for each thread, the most images a second.
        cache: Folder in which OpenVINO keeps what it made of a graph, by the graph's hash, so that the next start takes
            a tenth of a second for int8 in place of one. Nothing is kept where None.

    Attributes:
        card: What the folder says of itself.
        engine: The engine that was chosen.
        precision: The precision that was chosen.
        streams: Runs that may go on at once.
        batch: Pictures or slices a run with which the engine is fastest in least memory.

    Raises:
        ModelError: The folder is no model folder, a file of it is damaged, or it has no int8 graph.
        EngineError: The engine or the precision is not to be had here.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        engine: EngineName | Literal["auto"] = "auto",
        precision: Precision | Literal["auto"] = "auto",
        threads: int | None = None,
        streams: int = 1,
        cache: str | Path | None = None,
    ) -> None:
        folder = Path(model)
        self.card: Card = read_card(folder)
        self.engine = choose_engine(engine)
        self.precision = self._choose(precision, folder)
        graph = folder / (INT8_GRAPH if self.precision == "int8" else GRAPH)
        _check(graph, self.card)
        kept = None if cache is None else Path(cache) / self.card.files[graph.name][:16]
        self._engine = Engine(graph, self.engine, self.precision, threads, streams, kept)
        self.streams = self._engine.streams
        self.batch = _BATCH if self.engine in ("openvino", "onnxruntime") else _BATCH_ELSEWHERE

    def _choose(self, precision: str, folder: Path) -> Precision:
        there = INT8_GRAPH in self.card.files
        if precision == "auto":
            return "int8" if there and self.engine == "openvino" else "fp32"  # elsewhere int8 was measured to be slower
        if precision == "int8" and not there:
            raise ModelError(
                f"{folder} has no {INT8_GRAPH}; it can be run in fp32 or bf16.",
                f"neurodense quantise {folder} --data DATA --split RUN/split.csv   makes one, if it is good enough",
            )
        for known in PRECISIONS:
            if precision == known:
                return known
        raise EngineError(f"precision is {precision!r}; allowed are auto, {', '.join(PRECISIONS)}.")

    def outputs(self, pixels: NDArray[np.float32]) -> Outputs:
        """The graph's outputs for preprocessed pixels (N, 1, size, size)."""
        return self._engine.run(pixels)

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Softmax of the logits (N, classes), by the card's temperature: float64 (N, classes), rows sum to 1."""
        scaled = logits.astype(np.float64) / (self.card.temperature or 1.0)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def predict(
        self, inputs: Iterable[Input], slices: Slices | str = "brain", batch: int | None = None
    ) -> Iterator[Prediction | Failure]:
        """Predict pictures and volumes in order, one answer for each input.

        A few batches of pictures and, preprocessed, a few volumes are in memory at most; of volumes as they are read,
        one at a time.

        Args:
            inputs: Files, series and the like; see `Input`.
            slices: Which slices of a volume are looked at; see `scans/slices.py`.
            batch: Pictures or slices a run of the graph; where None, what the engine is fastest with in least memory.

        Raises:
            DataError: `slices` is a text that says nothing known.
        """
        for result in self._run(inputs, slices, batch, keep=False):
            yield result if isinstance(result, Failure) else self.answer(*result)

    def explained(
        self, inputs: Iterable[Input], slices: Slices | str = "brain", batch: int | None = None
    ) -> Iterator[tuple[Prediction, Iterator[Explanation]] | Failure]:
        """Predict as `predict` does, and give with each answer the heat maps of its class.

        Of a study there is a map for each chosen slice, of the class that this slice was given. Maps are made as they
        are taken; the scans that they lie on are held until then.

        Raises:
            DataError: `slices` is a text that says nothing known.
        """
        for result in self._run(inputs, slices, batch, keep=True):
            if isinstance(result, Failure):
                yield result
            else:
                item, outputs = result
                triples = zip(item.scans, outputs.logits, outputs.activation_maps, strict=True)
                yield self.answer(item, outputs), (self._explanation(*triple) for triple in triples)

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
        window = self.card.preprocess.window(scan)
        top, left, bottom, right = window
        return Explanation(
            scan=scan,
            label=self.card.classes[index],
            probability=float(row[index]),
            heat=enlarge(evidence(maps[np.newaxis], self.card.temperature)[0, index], scan.pixels.shape, window),
            place=((bottom - top) / maps.shape[1], (right - left) / maps.shape[2]),
            notes=(*scan.notes, *model_notes(self.card)),
            window=window,
        )

    def _run(
        self, inputs: Iterable[Input], slices: Slices | str, batch: int | None, *, keep: bool
    ) -> Iterator[tuple[Loaded, Outputs] | Failure]:
        slices = Slices.parse(slices) if isinstance(slices, str) else slices
        return run_through(self._engine, self.card.preprocess, inputs, slices, batch or self.batch, keep=keep)

    def answer(self, item: Loaded, outputs: Outputs) -> Prediction:
        """The answer from the outputs for the slices of one input."""
        logits = outputs.logits
        if item.total == 1:
            return self._named(item.source, self.probabilities(logits)[0], item.notes)
        slices = [self._named(*pair) for pair in zip(item.sources, self.probabilities(logits), strict=True)]
        mean = logits.mean(axis=0, dtype=np.float64, keepdims=True)  # dividing by the temperature commutes with it
        return self._named(item.source, self.probabilities(mean)[0], item.notes, tuple(slices), item.total)

    def _named(self, source: str, row: NDArray[np.float64], *more: Any) -> Prediction:
        classes = self.card.classes
        return Prediction(source, classes[int(row.argmax())], dict(zip(classes, row.tolist(), strict=True)), *more)


def _check(graph: Path, card: Card) -> None:
    """Hold the file to the card: names of one model and answers of another do not go together."""
    try:
        digest = sha256_of(graph)
    except OSError as error:
        raise ModelError(
            f"{graph} cannot be read: {error.strerror or error}.", "Copy the whole model folder again."
        ) from None
    said = card.files.get(graph.name, "nothing")
    if digest != said:
        raise ModelError(
            f"{graph} is not the file that {graph.parent / 'card.json'} describes: its sha256 is {digest[:16]}..., "
            f"the card says {said[:16]}...",
            "Copy the whole model folder again.",
        )
