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

from neurodense.errors import ModelError, ScanError
from neurodense.inference.card import Card, read_card
from neurodense.inference.engine import Engine, Outputs, usable_cores
from neurodense.scans.find import find_files
from neurodense.scans.read import SUFFIXES, read_scan
from neurodense.scans.scan import Scan


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        source: The image, as the caller named it.
        label: The most probable class.
        probabilities: Of each class, in the card's order; they sum to 1.
    """

    source: str
    label: str
    probabilities: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that `predict --format json` prints."""
        return {"source": self.source, "label": self.label, "probabilities": dict(self.probabilities)}


@dataclass(frozen=True)
class Failure:
    """An image that could not be read.

    Attributes:
        source: The image, as the caller named it.
        type: Name of the error's class.
        message: What was wrong.
    """

    source: str
    type: str
    message: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that `predict --format json` prints."""
        return {"source": self.source, "error": {"type": self.type, "message": self.message}}


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

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Softmax of the logits (N, classes), by the card's temperature: float64 (N, classes), rows sum to 1."""
        scaled = logits.astype(np.float64) / (self.card.temperature or 1.0)
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def predict(self, inputs: Iterable[str | Path | Scan | Failure], batch: int = 16) -> Iterator[Prediction | Failure]:
        """Predict images in order, one answer for each, holding a few batches in memory at most.

        Args:
            inputs: Paths, scans that were read already, or failures to find some, which are passed on.
            batch: Images a run of the graph.
        """
        for names, pixels in self._batches(inputs, batch):
            good = [k for k, p in enumerate(pixels) if not isinstance(p, Failure)]
            answers: dict[int, Prediction] = {}
            if good:
                stacked = np.stack([p for p in pixels if not isinstance(p, Failure)])
                rows = self.probabilities(self.outputs(stacked).logits)
                for k, row in zip(good, rows, strict=True):
                    answers[k] = self._answer(names[k], row)
            for k, item in enumerate(pixels):
                yield item if isinstance(item, Failure) else answers[k]

    def _answer(self, source: str, row: NDArray[np.float64]) -> Prediction:
        classes = self.card.classes
        return Prediction(source, classes[int(row.argmax())], dict(zip(classes, row.tolist(), strict=True)))

    def _batches(
        self, inputs: Iterable[str | Path | Scan | Failure], batch: int
    ) -> Iterator[tuple[list[str], list[NDArray[np.float32] | Failure]]]:
        """Named, preprocessed inputs in batches, read ahead by at most two batches."""
        waiting: deque[tuple[str, Future[NDArray[np.float32] | Failure]]] = deque()
        with ThreadPoolExecutor(max_workers=min(8, usable_cores() + 1)) as pool:
            source = iter(inputs)
            exhausted = False
            while waiting or not exhausted:
                while not exhausted and len(waiting) < 3 * batch:
                    item = next(source, None)
                    if item is None:
                        exhausted = True
                    else:
                        name = item.source if isinstance(item, Scan | Failure) else str(item)
                        waiting.append((name, pool.submit(self._load, item)))
                now = [waiting.popleft() for _ in range(min(batch, len(waiting)))]
                if now:
                    yield [name for name, _ in now], [future.result() for _, future in now]

    def _load(self, item: str | Path | Scan | Failure) -> NDArray[np.float32] | Failure:
        if isinstance(item, Failure):
            return item
        try:
            return self.card.preprocess(item if isinstance(item, Scan) else read_scan(item))
        except ScanError as error:
            return Failure(str(item), type(error).__name__, error.message)
        except OSError as error:
            return Failure(str(item), type(error).__name__, f"{item} cannot be read: {error.strerror or error}.")


def find_images(inputs: Iterable[str | Path]) -> list[Path | Failure]:
    """Files as they are named, and the images in folders, nested ones too; hidden ones are passed over.

    A folder that holds no image, or that cannot be listed, gives a `Failure`, so that the rest is still done.
    """
    found: list[Path | Failure] = []

    def unlisted(error: OSError) -> None:
        message = f"{error.filename} cannot be listed: {error.strerror}."
        found.append(Failure(str(error.filename), type(error).__name__, message))

    for item in map(Path, inputs):
        if not item.is_dir():
            found.append(item)  # a missing file gets its own error row when it is read
            continue
        before = len(found)
        found += [path for path in find_files(item, unlisted) if path.suffix.lower() in SUFFIXES]
        if len(found) == before:
            message = f"{item} holds no image; files with {', '.join(sorted(SUFFIXES))} are looked for."
            found.append(Failure(str(item), ScanError.__name__, message))
    return found
