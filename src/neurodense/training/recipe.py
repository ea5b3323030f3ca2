"""A recipe: what is trained, in which stages, and how. Small TOML files, checked when they are read. No torch."""

from __future__ import annotations

import difflib
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import ErrorDetails

from neurodense.errors import RecipeError
from neurodense.scans.preprocess import Crop, Intensity, Preprocess
from neurodense.training.variation import Augment, Checked, Lesions, Teaching

STEPS = (
    "pixels", "stem",
    "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3", "denseblock4",
    "norm5", "pool", "classifier",
)  # fmt: skip
"""DenseNet121 from input to logits. "pixels" normalises and "pool" averages: they have nothing to train."""

Trainable = Literal[
    "all", "stem", "denseblock1", "transition1", "denseblock2", "transition2", "denseblock3", "transition3",
    "denseblock4", "norm5", "classifier",
]  # fmt: skip


Balance = Literal["none", "root", "group"]


class Stage(Checked):
    """One stage: what is trainable cuts the network into a frozen prefix and a trainable suffix."""

    name: str = Field(min_length=1, max_length=40)
    trainable: tuple[Trainable, ...] = Field(
        strict=False, min_length=1, description='Parts of the network, or ["all"].'
    )
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = Field(gt=0, le=10)
    weight_decay: float = Field(0, ge=0, le=1)
    schedule: Literal["constant", "cosine", "one-cycle"] = Field(
        "constant", description="cosine falls to 0; one-cycle rises over the first fifth, then falls to 0."
    )
    epochs: int = Field(ge=1, le=10_000)
    batch_norm: Literal["batch", "still"] = Field(
        "batch", description="Trainable BatchNorm uses the batch's statistics, or holds its running ones still."
    )
    mixup: float = Field(0, ge=0, le=10, description="Alpha of the Beta that images are blended by; 0 is off.")
    ema: float = Field(0, ge=0, lt=1, description="Decay of the moving average of weights that is kept; 0 is off.")
    continued: bool = Field(
        False, description="Keeps the optimiser's state of the stage before, which must train the same."
    )

    @property
    def cut(self) -> int:
        """Index in STEPS of the first step that trains: everything before it is the frozen prefix."""
        if "all" in self.trainable:
            return 0
        return min(STEPS.index(name) for name in self.trainable)


class Recipe(Checked):
    """A training from start to end."""

    name: str = Field(min_length=1, max_length=60)
    summary: str = Field(min_length=1)
    image_size: int = Field(224, ge=64, le=512, description="Side of the network's input, in pixels.")
    crop: Crop = Field("none", description="head shows the square around the head in place of the whole picture.")
    intensity: Intensity = Field("asis", description="percentile brings the head's grey levels to one range.")
    batch_size: int = Field(32, ge=2, le=4096)
    dropout: float = Field(0.3, ge=0, lt=1, description="Before the classifier.")
    label_smoothing: float = Field(0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced weighs each class by n / (classes x n of the class), as scikit-learn does."
    )
    balance: Balance = Field(
        "none",
        description="none trains on each image once an epoch; root and group draw as many of each class with "
        "replacement, a group by the root of its images, or each group with the same chance.",
    )
    keep: Literal["best", "last"] = Field("best", description="Best epoch by validation macro F1, or the last one.")
    weights: Literal["imagenet", "brain", "none"] = Field(
        "imagenet", description="What is started from, where --weights does not say."
    )
    stored_as: Literal["fp32", "fp16"] = Field(
        "fp32", description="fp16 rounds the weights at the end; the model folder takes half the bytes."
    )
    views: int = Field(
        1, ge=1, le=1000, description="Augmented views an image behind a frozen prefix; epochs go round them."
    )
    augment: Augment = Augment()
    lesions: Lesions = Lesions()
    teacher: Teaching | None = Field(None, description="Needs --teacher FILE.")
    stage: tuple[Stage, ...] = Field(strict=False, min_length=1, max_length=50)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [stage.name for stage in self.stage]
        if len(set(names)) < len(names):
            raise ValueError(f"stage names must differ, got {', '.join(names)}")
        for before, stage in zip((None, *self.stage), self.stage, strict=False):
            if stage.continued and (
                before is None or set(before.trainable) != set(stage.trainable) or before.optimizer != stage.optimizer
            ):
                raise ValueError(
                    f"stage {stage.name!r} is continued, so the stage before must train the same parts "
                    "with the same optimizer"
                )
            if self.teacher is not None and stage.cut:
                raise ValueError(
                    f"a teacher needs the pixels, and stage {stage.name!r} is frozen before {STEPS[stage.cut]}: "
                    'with a teacher every stage has trainable = ["all"], as in recipe scratch'
                )
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if value is not None}  # TOML has no word for it

    def taught(self) -> Recipe:
        """The recipe with a teacher: its table [teacher], or the defaults of one.

        Raises:
            RecipeError: A stage does not train the whole network.
        """
        teaching = self.teacher or Teaching()
        return _checked({**self.model_dump(), "teacher": teaching.model_dump()}, f"recipe {self.name}")

    def continue_for(self, epochs: int) -> Recipe:
        """The same recipe with its last stage continued: the notebook's "continue training"."""
        last = self.stage[-1]
        names = {stage.name for stage in self.stage}
        name = next(name for n in range(1, 1000) if (name := f"continued {n}") not in names)
        more = last.model_copy(update={"name": name, "epochs": epochs, "continued": True})
        return _checked(self.model_copy(update={"stage": (*self.stage, more)}).model_dump(), f"recipe {self.name}")

    @property
    def preprocess(self) -> Preprocess:
        """The preprocessing of the images, which the model's card takes over."""
        return Preprocess(size=self.image_size, crop=self.crop, intensity=self.intensity)

    @property
    def augmented(self) -> bool:
        """True when views differ from the image: any change is switched on, or lesions are."""
        return self.augment != Augment() or self.lesions.share > 0

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stage)


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    folder = resources.files("neurodense.training") / "recipes"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def recipe_text(name: str) -> str:
    """The TOML text of a recipe in the package.

    Raises:
        RecipeError: There is none of that name.
    """
    if name not in recipe_names():
        close = difflib.get_close_matches(name, recipe_names(), 1)
        raise RecipeError(
            f"There is no recipe {name!r}; there are {', '.join(recipe_names())}, or give a file ending in .toml.",
            f"Did you mean {close[0]}?" if close else "neurodense recipes lists them.",
        )
    return (resources.files("neurodense.training") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def load_recipe(name_or_file: str | Path) -> Recipe:
    """Load a recipe by name, or from a file ending in .toml.

    Raises:
        RecipeError: No such recipe or file, no TOML, an unknown key or an impossible value.
    """
    if not str(name_or_file).endswith(".toml"):
        return parse_recipe(recipe_text(str(name_or_file)), f"recipe {name_or_file}")
    try:
        text = Path(name_or_file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(
            f"{name_or_file} cannot be read: {reason}.", "neurodense recipes lists the built-in ones."
        ) from None
    return parse_recipe(text, str(name_or_file))


def parse_recipe(text: str, source: str) -> Recipe:
    """Parse TOML text; `source` names it in errors."""
    try:
        return _checked(tomllib.loads(text), source)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{source} is not valid TOML: {error}") from None


def _checked(values: dict[str, Any], source: str) -> Recipe:
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A list whose items are wrong is called too short as well; the items say enough.
        inner = {problem["loc"][:depth] for problem in found for depth in range(1, len(problem["loc"]))}
        problems = [_explain(problem) for problem in found if problem["loc"] not in inner]
        raise RecipeError(
            f"{source}: " + "; ".join(problems), "neurodense recipes finetune shows a complete recipe."
        ) from None


def _explain(problem: ErrorDetails) -> str:
    """One problem as: where, what was got, what is allowed."""
    where = ".".join(str(part + 1) if isinstance(part, int) else part for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *tables, key = map(str, problem["loc"])
        allowed = _KEYS[tables[0] if tables else ""]
        close = difflib.get_close_matches(key, allowed, 1)
        home = next((table for table, keys in _KEYS.items() if key in keys), None)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        meant = f" (it belongs {_PLACES[home]})" if home is not None else meant
        return f"unknown key {where!r}{meant}; allowed are {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing"
    message = problem["msg"].removeprefix("Value error, ").replace("Tuple", "List")
    if problem["type"] == "tuple_type":
        message = "each stage begins with [[stage]]" if where == "stage" else 'must be a list such as ["classifier"]'
    elif problem["type"] == "model_type":
        message = f"must be a table, [{where}]"
    return f"{where!r}: {message[:1].lower()}{message[1:]}, got {problem['input']!r}" if where else message


_TABLES: dict[str, type[BaseModel]] = {
    "": Recipe,
    "augment": Augment,
    "lesions": Lesions,
    "teacher": Teaching,
    "stage": Stage,
}
_KEYS = {table: list(model.model_fields) for table, model in _TABLES.items()}
_PLACES = {"": "above the first [table]", "stage": "below [[stage]]"} | {
    t: f"below [{t}]" for t in ("augment", "lesions", "teacher")
}
