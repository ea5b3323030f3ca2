"""card.json: what a model folder says about itself. The written schema is `docs/card.schema.json`.

A reader of a newer program reads older cards; an older program refuses a newer card by its schema version. Fields that
a later step fills (int8, calibration, conformal thresholds, out-of-distribution statistics) are None until it has.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurodense import atomic
from neurodense.errors import ModelError
from neurodense.notice import NOTICE
from neurodense.scans.preprocess import Preprocess

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Graph(_Part):
    """The exported graph's input and outputs."""

    architecture: Literal["densenet121"] = "densenet121"
    input: str = Field("pixels", description="float32 (N, 1, size, size) in [0, 1]; the graph normalises by itself.")
    outputs: tuple[str, ...] = Field(
        ("logits", "activation_maps", "features"),
        description="(N, classes); (N, classes, size/32, size/32), whose mean over places is the logit; (N, 1024).",
    )
    dropout: float = Field(description="Dropout before the classifier while training.")


class CalledPart(_Part):
    """What the model calls held back images that are each of some of its classes."""

    images: int
    allowed: int = Field(description="Of how many the most probable class is one that may be.")


class PartlyLabelled(_Part):
    """A folder of images whose class is only partly known."""

    name: str = Field(description="Name of the folder.")
    classes: tuple[str, ...] = Field(description="The classes that its images may be of.")
    counts: dict[str, int] = Field(description="Images in each part.")
    called: dict[str, CalledPart] = Field({}, description="Of the images that validated and tested.")


class Data(_Part):
    """What the model was trained on."""

    name: str = Field(description="Name of the folder.")
    synthetic: bool = Field(description="True when the images were made by a computer.")
    manifest_sha256: str = Field(description="Hash over path, label and file hash of every image of the parts.")
    counts: dict[str, dict[str, int]] = Field(description="Images of each class in each part.")
    groups: dict[str, int] | None = Field(description="Groups in each part; None when groups are not known.")
    split_by: Literal["group", "image", "file", "source"] = Field(
        description="What kept together: whole groups, single images, a table's own parts; or one source is the test."
    )
    groups_from: Literal["table", "twins", "split"] | None = Field(
        None, description="A group table, twins that were found, or the table of parts; None when groups are not known."
    )
    leaked: int | None = Field(
        None, description="Test images with an image of their group in training; None when groups are not known."
    )
    left_out: str | None = Field(None, description="The source that is the test part, as --leave-out was given.")
    partial: tuple[PartlyLabelled, ...] = Field(
        (), description="Folders of images whose class is only partly known; all that is counted above is without them."
    )
    seed: int


class Scored(_Part):
    """What one precision reaches on the validation part."""

    macro_f1: float = Field(ge=0, le=1)
    recall: dict[str, float] = Field(description="Of each class, in [0, 1].")


class Int8(_Part):
    """The int8 graph, and what it was held to before it was let into the folder."""

    calibration_images: int = Field(description="Training images that gave the ranges.")
    validation_images: int
    engine: str = Field(description="What ran both graphs, such as `openvino`.")
    fp32: Scored
    int8: Scored
    agreement: float = Field(ge=0, le=1, description="Share of validation images with the same label in both.")
    mean_difference: float = Field(ge=0, description="Mean absolute difference in probability.")


class Thresholds(_Part):
    """Where a probability counts as a finding: chosen on the validation part, for specificities that are aimed at."""

    images: int = Field(description="Validation images.")
    specificities: tuple[float, ...] = Field(description="Aimed at, in the order of the thresholds.")
    of_class: dict[str, tuple[float | None, ...]] = Field(
        description="An image is called the class at this probability of it or above; null where none is enough."
    )
    of_any_other: dict[str, tuple[float | None, ...]] = Field(
        description="An image is called something else than the class at this probability of all others or above: "
        "a tumour, where the class is the healthy one."
    )


class Quality(_Part):
    """How far probabilities can be believed; definitions in `evaluation/reliability.py`."""

    loss: float = Field(ge=0, description="Mean of -ln p(true class), in nats.")
    brier: float = Field(ge=0, le=2, description="Mean over images of the squared errors, summed over the classes.")
    ece: float = Field(ge=0, le=1, description="Expected calibration error of the most probable class, 15 even bins.")


class Vector(_Part):
    """Vector scaling: logit k becomes scale_k * logit_k + shift_k. It then stands in the temperature's place."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]


class Calibration(_Part):
    """What the probabilities were fitted to, and what that changed. All is of the validation part.

    `before`, `temperature` and `vector` are out of fold: each image is scored by what the other folds gave.
    """

    images: int
    groups: int
    folds: int = Field(description="Parts of whole groups that took turns.")
    engine: str = Field(description="Engine and precision that gave the logits, such as `openvino fp32`.")
    before: Quality
    temperature: Quality
    vector: Quality
    chosen: Vector | None = Field(description="Set where vector scaling proved better than one temperature.")


class Sets(_Part):
    """Prediction sets at one error rate: the classes whose probability is at least `least`."""

    error: float = Field(gt=0, lt=1)
    least: dict[str, float] = Field(description="Of each class, the smallest probability with which it is in the set.")
    each_class: bool = Field(
        description="True: the error holds for the images of each class. False: over all classes together, since a "
        "class has too few groups."
    )


class Conformal(_Part):
    """Thresholds of the prediction sets. Groups, not images, are what the validation part has so many of."""

    unit: Literal["group", "image"] = Field(description="`image` where no groups are known, and each image counts.")
    groups: dict[str, int] = Field(description="Groups of the validation part with images of each class.")
    sets: tuple[Sets, ...] = Field(description="One for each error rate that can be promised, smallest error first.")
    needed: dict[str, int] = Field(description="Error rate -> groups that a promise needs, of all or of each class.")


class OutOfDistribution(_Part):
    """What says that an image is unlike those of the validation part; the numbers are in ood.safetensors."""

    score: str = Field(description="Name of the score; 1 is the limit, larger is further away.")
    acceptance: float = Field(gt=0, lt=1, description="Share of images of a new group of the same kind that pass.")
    known_images: int = Field(description="Training images that say what the model knows.")
    images: int = Field(description="Validation images that set the limit.")
    groups: int


class Teacher(_Part):
    """Another model, whose answers were learnt beside the labels."""

    name: str = Field(description="Name of its ONNX file.")
    sha256: str
    weight: float = Field(ge=0, le=1, description="Share of the loss that was the teacher's.")
    temperature: float = Field(gt=0, description="What both models' logits were divided by.")


class Tracked(_Part):
    """Where the training was tracked: the run of that id holds its parameters, curves and this folder."""

    tool: Literal["mlflow"] = "mlflow"
    experiment: str
    run_id: str


class Card(_Part):
    """A model's identity, input, origin and results."""

    schema_version: int = SCHEMA_VERSION
    notice: str = NOTICE
    name: str
    created: str = Field(description="UTC, ISO 8601.")
    classes: tuple[str, ...] = Field(min_length=2, description="In the order of the logits.")
    preprocess: Preprocess
    graph: Graph
    recipe: dict[str, Any] = Field(description="The recipe as `neurodense recipes NAME` shows it.")
    weights_origin: str
    teacher: Teacher | None = Field(None, description="None where the labels alone were learnt.")
    arithmetic: str = Field(description="Device and precision of the training.")
    kept_epoch: int = Field(description="Epoch, counted from 1 over the run, whose weights these are.")
    data: Data
    validation: dict[str, Any] = Field(description="Figures of the kept epoch on the validation part.")
    history: tuple[dict[str, Any], ...] = Field((), description="One object an epoch, as in log.jsonl, and `kept`.")
    metrics: dict[str, Any] | None = Field(
        None, description="On the test part, in the shape of metrics.json, intervals included."
    )
    measured_with: str | None = Field(
        None, description="Engine and precision behind `metrics`, such as `openvino fp32`."
    )
    thresholds: Thresholds | None = Field(None, description="Operating points; None where nobody calibrated.")
    int8: Int8 | None = Field(None, description="Of model.int8.onnx; None where the folder has none.")
    temperature: float | None = Field(None, gt=0, description="Divides the logits before the softmax; None is 1.")
    calibration: Calibration | None = Field(None, description="Of the probabilities; None where nobody calibrated.")
    conformal: Conformal | None = Field(None, description="Prediction sets; None where no error rate can be promised.")
    out_of_distribution: OutOfDistribution | None = Field(None, description="None where nothing is rejected.")
    tracked: Tracked | None = Field(None, description="The run that was tracked; None where none was.")
    versions: dict[str, str]
    files: dict[str, str] = Field(description="sha256 of each file of the folder that a program loads.")


def sha256_of(path: Path) -> str:
    """Hash of a file, in hex, as `Card.files` has it."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def check_file(path: Path, card: Card) -> None:
    """Hold a file of a model folder to the card: names of one model and answers of another do not go together.

    Raises:
        ModelError: It cannot be read, or is another file than the card describes.
    """
    try:
        digest = sha256_of(path)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror or error}.", "Copy the whole model folder again."
        ) from None
    said = card.files.get(path.name, "nothing")
    if digest != said:
        raise ModelError(
            f"{path} is not the file that {path.parent / 'card.json'} describes: its sha256 is {digest[:16]}..., "
            f"the card says {said[:16]}...",
            "Copy the whole model folder again.",
        )


def read_card(folder: Path) -> Card:
    """Read FOLDER/card.json.

    Raises:
        ModelError: No model folder, no card, or a card that does not follow the schema.
    """
    path = folder / "card.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        what = "is not a folder" if not folder.is_dir() else "holds no readable card.json"
        raise ModelError(
            f"{folder} {what}; a model folder holds card.json, model.onnx and model.safetensors.",
            "Give RUN/model of a finished run: neurodense train DATA --out RUN",
        ) from None
    try:
        card = Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise ModelError(f"{path} does not follow the card's schema, at {where}: {first['msg']}.") from None
    if card.schema_version > SCHEMA_VERSION:
        raise ModelError(
            f"{path} has schema version {card.schema_version}; this program reads up to {SCHEMA_VERSION}.",
            "pip install --upgrade neurodense",
        )
    return card


def write_card(folder: Path, card: Card) -> None:
    """Write FOLDER/card.json, whole or not at all."""
    atomic.write_json(folder / "card.json", card.model_dump(mode="json"))


def model_notes(card: Card) -> list[str]:
    """What must be said of a model wherever its answers are shown."""
    if card.data.synthetic:
        return ["The model was trained on synthetic images: its answers mean nothing for patients."]
    return []
