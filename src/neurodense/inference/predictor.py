"""Files in, predictions out: reads and preprocesses in threads while the engine runs; a bad file is an answer too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import DataError, EngineError, ModelError, ScanError
from neurodense.inference.card import Card, check_file, model_notes, read_card
from neurodense.inference.engine import PRECISIONS, Engine, EngineName, Outputs, Precision, choose_engine
from neurodense.inference.explain import Explanation, enlarge, evidence
from neurodense.inference.pipeline import Input, Loaded, run_through
from neurodense.inference.prediction import Prediction
from neurodense.inference.rejection import REJECTION, Rejection
from neurodense.inference.scaling import calibrated, softmax
from neurodense.inference.sets import chosen_sets, members
from neurodense.inference.shift import Shift, far_apart, one_of_each, shift
from neurodense.inference.shipped import model_folder
from neurodense.scans.scan import Scan
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure, read_study

GRAPH: Final = "model.onnx"
INT8_GRAPH: Final = "model.int8.onnx"
MANY: Final = 1024
"""As `streams`: one for each thread, for the most images a second."""

_BATCH_PIXELS = 2 * 224**2  # on a CPU with a stream a thread: the maps of more leave the cache, and runs get slower
_BATCH_ELSEWHERE = 32


class Predictor:
    """A loaded model folder.

    Args:
        model: The folder, or "brain" for the model that comes with the package.
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
        error: Error rate of the prediction sets, one of `sets.ERRORS`. Where None: 10%, or no sets if the model cannot
            promise that.

    Attributes:
        folder: The model folder.
        card: What it says of itself.
        engine: The engine that was chosen.
        precision: The precision that was chosen.
        streams: Runs that may go on at once.
        sets: Thresholds of the prediction sets; None where the model has none.
        batch: Pictures or slices a run with which the engine is fastest in least memory.

    Raises:
        ModelError: The folder is no model folder, a file of it is damaged, it has no int8 graph, or it promises no
            prediction sets with this error.
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
        error: float | None = None,
    ) -> None:
        self.folder = folder = model_folder(model)
        self.card: Card = read_card(folder)
        self.sets = chosen_sets(self.card, error)
        self.engine = choose_engine(engine)
        self.precision = self._choose(precision, folder)
        graph = folder / (INT8_GRAPH if self.precision == "int8" else GRAPH)
        check_file(graph, self.card)
        kept = None if cache is None else Path(cache) / self.card.files[graph.name][:16]
        self._engine = Engine(graph, self.engine, self.precision, threads, streams, kept)
        self.streams = self._engine.streams
        self._rejection: Rejection | None = None
        if self.card.out_of_distribution is not None:
            check_file(folder / REJECTION, self.card)
            self._rejection = Rejection.load(folder / REJECTION)
        on_cpu = self.engine in ("openvino", "onnxruntime")
        self.batch = max(1, _BATCH_PIXELS // self.card.preprocess.size**2) if on_cpu else _BATCH_ELSEWHERE

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
        """The graph's outputs for preprocessed pixels (N, 1, size, size); without `scores`, see `scored`."""
        return self._engine.run(pixels)

    def scored(self, pixels: NDArray[np.float32]) -> Outputs:
        """The same with the scores that `answer` needs, for which 16 at once take half the time of one by one."""
        found = self._engine.run(pixels)
        return replace(found, scores=self._rejection.scores(found.features, pixels)) if self._rejection else found

    def probabilities(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Softmax of the logits (N, classes), as the card scales them: float64 (N, classes), rows sum to 1."""
        return softmax(calibrated(self.card, logits))

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
        for result in self.run(inputs, slices, batch):
            yield result if isinstance(result, Failure) else self.answer(*result)

    def explained(
        self, inputs: Iterable[Input], slices: Slices | str = "brain", batch: int | None = None
    ) -> Iterator[tuple[Prediction, Iterator[Explanation]] | Failure]:
        """Predict as `predict` does, and give with each answer the heat maps of its most probable class.

        Of a study there is a map for each chosen slice, of the most probable class of this slice. Maps are made as they
        are taken; the scans that they lie on are held until then.

        Raises:
            DataError: `slices` is a text that says nothing known.
        """
        for result in self.run(inputs, slices, batch, keep=True):
            if isinstance(result, Failure):
                yield result
            else:
                item, outputs = result
                answer = self.answer(item, outputs)
                rows = zip(item.scans, outputs.activation_maps, answer.slices or (answer,), strict=True)
                yield answer, (self._explanation(*row) for row in rows)

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
        pixels = self.card.preprocess(item)[np.newaxis]
        outputs = self.scored(pixels)
        (said,) = self._named((item.source,), outputs.logits, outputs.scores)
        return self._explanation(item, outputs.activation_maps[0], said, label)

    def _explanation(
        self,
        scan: Scan,
        maps: NDArray[np.float32],
        said: Prediction,
        label: str | None = None,
    ) -> Explanation:
        """The heat map from one scan's activation maps (classes, h, w) and what was said of it."""
        label = label or said.named
        window = self.card.preprocess.window(scan)
        top, left, bottom, right = window
        heat = evidence(calibrated(self.card, maps[np.newaxis]).astype(np.float32))[0, self.card.classes.index(label)]
        abstained = (f"{said.verdict}.",) if said.label is None else ()
        return Explanation(
            scan=scan,
            label=label,
            probability=said.probabilities[label],
            heat=enlarge(heat, scan.pixels.shape, window),
            place=((bottom - top) / maps.shape[1], (right - left) / maps.shape[2]),
            notes=(*abstained, *scan.notes, *model_notes(self.card)),
            window=window,
        )

    def run(
        self, inputs: Iterable[Input], slices: Slices | str = "brain", batch: int | None = None, *, keep: bool = False
    ) -> Iterator[tuple[Loaded, Outputs] | Failure]:
        """The graph's outputs for inputs in order, as `predict` reads them; `Loaded.scans` is empty unless `keep`.

        Raises:
            DataError: `slices` is a text that says nothing known.
        """
        slices = Slices.parse(slices) if isinstance(slices, str) else slices
        return run_through(
            self.scored, self.streams, self.card.preprocess, inputs, slices, batch or self.batch, keep=keep
        )

    def answer(self, item: Loaded, outputs: Outputs, *, placed: bool = True) -> Prediction:
        """The answer from what `scored` gave for the slices of one input; `shift` needs it to be `placed`."""
        scores = outputs.scores
        slices = self._named(item.sources, outputs.logits, scores)
        middle = len(slices) // 2
        place = self._rejection.coordinates(outputs.features[[middle]])[0] if self._rejection and placed else None
        if item.total == 1:
            return replace(slices[0], source=item.source, notes=item.notes, coordinates=place)
        mean = outputs.logits.mean(axis=0, dtype=np.float64, keepdims=True)  # scaling commutes with it
        median = None if scores is None else np.sort(scores)[[(len(scores) - 1) // 2]]
        (whole,) = self._named((item.source,), mean, median)
        return replace(whole, notes=item.notes, slices=tuple(slices), total=item.total, coordinates=place)

    def shift(self, answers: Sequence[Prediction], groups: Sequence[str] | None = None) -> Shift | None:
        """How far answers, taken together, are from the validation part: see `shift.py`.

        Args:
            answers: Of this model.
            groups: The group of each, of which one image is drawn; where None, a few answers are taken, each for a
                patient of its own.

        Returns:
            None where the model rejects nothing, or the answers are too few.
        """
        if self._rejection is None or not answers:
            return None
        sources = [one.source for one in answers]
        drawn = far_apart(sources) if groups is None else one_of_each(groups, sources)
        those = [answers[k] for k in drawn]
        places = np.stack([one.coordinates for one in those if one.coordinates is not None])
        called = np.array([self.card.classes.index(one.named) for one in those])
        return shift(places, called, self._rejection.reference, self._rejection.called, grouped=groups is not None)

    def _named(
        self, sources: Sequence[str], logits: NDArray[np.floating[Any]], scores: NDArray[np.float64] | None
    ) -> list[Prediction]:
        """An answer for each row of logits (N, classes) and, if the model has such, scores (N,) of rejection."""
        classes, sets = self.card.classes, self.sets
        rows, plain = self.probabilities(logits), softmax(logits)
        inside = members(rows, np.array([sets.least[name] for name in classes])) if sets else None
        answers = []
        for k, source in enumerate(sources):
            order = np.argsort(-rows[k], kind="stable")
            fits = None if inside is None else tuple(classes[j] for j in order if inside[k, j])
            score = None if scores is None else float(scores[k])
            abstains = fits == () or (score is not None and score > 1)
            answers.append(
                Prediction(
                    source,
                    None if abstains else classes[int(rows[k].argmax())],
                    dict(zip(classes, rows[k].tolist(), strict=True)),
                    prediction_set=fits,
                    error_rate=sets.error if sets else None,
                    ood_score=score,
                    in_distribution=None if score is None else score <= 1,
                    uncalibrated=tuple(plain[k].tolist()),
                )
            )
        return answers
