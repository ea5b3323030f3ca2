"""The space of a sweep: which settings of a recipe vary, and how far. Small TOML files. No torch.

Each key names a setting as the recipe has it: `dropout`, `augment.gamma`, `stage.0.learning_rate`, stages counted
from 0. Its value says from where to where, or which: `{low = 1e-5, high = 1e-3, log = true}`,
`{low = 2, high = 8, step = 2}`, `{choices = ["none", "balanced"]}`. What the recipe itself would refuse, the space
refuses before anything is trained.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, Field, ValidationError, model_validator

from neurodense.errors import RecipeError
from neurodense.training.recipe import Recipe, Stage
from neurodense.training.variation import Augment, Checked, Lesions, Teaching

Values = Mapping[str, Any]
"""Key of the space -> value, a choice in the form of `Range.labels`."""

_FIXED = {
    "": {"name", "summary", "keep", "weights", "stored_as", "augment", "lesions", "teacher", "stage"},
    "stage": {"name"},
}
"""Keys of a recipe that are no settings of a training, decide over what is compared, or are tables."""
_TABLES: dict[str, type[BaseModel]] = {
    "": Recipe,
    "augment": Augment,
    "lesions": Lesions,
    "teacher": Teaching,
    "stage": Stage,
}


class Range(Checked):
    """What one setting may be."""

    low: int | float | None = Field(None, description="Smallest value.")
    high: int | float | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Drawn evenly in its logarithm.")
    step: int | float | None = Field(None, gt=0, description="Distance of neighbouring values.")
    choices: tuple[Any, ...] | None = Field(None, strict=False, min_length=1, description="In place of low and high.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("choices excludes low, high, log and step")
            if len(set(self.labels)) < len(self.labels):
                raise ValueError("the choices must differ")
            return self
        if self.low is None or self.high is None:
            raise ValueError("low and high are needed, or choices")
        if not self.low < self.high:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log excludes step")
        if self.step is not None and (Decimal(str(self.high)) - Decimal(str(self.low))) % Decimal(str(self.step)):
            raise ValueError(f"step {self.step} does not lead from {self.low} to {self.high}")
        return self

    @property
    def labels(self) -> tuple[str | int | float | bool, ...]:
        """The choices as a study can keep them: what is no plain value, such as a list, as JSON."""
        return tuple(c if isinstance(c, str | int | float) else json.dumps(c) for c in self.choices or ())

    @property
    def ends(self) -> tuple[Any, ...]:
        """Values that a recipe must take for it to take all."""
        return self.choices if self.choices is not None else (self.low, self.high)


@dataclass(frozen=True)
class Space:
    """The settings that vary, each with its range; made by `load_space`, which checks it against the recipe.

    Attributes:
        base: The recipe that all other settings are of.
        ranges: By key, in the order of the file.
    """

    base: Recipe
    ranges: dict[str, Range]

    def recipe(self, values: Values) -> Recipe:
        """The recipe with these values.

        Raises:
            RecipeError: They exclude each other, though each alone is allowed.
        """
        changed = self.base.model_dump()
        for key, value in values.items():
            one = self.ranges[key]
            _put(changed, key, one.choices[one.labels.index(value)] if one.choices is not None else value)
        try:
            return Recipe.model_validate(changed)
        except ValidationError as error:
            raise RecipeError(f"{dict(values)} cannot be together: {_first(error)}.") from None

    def is_whole(self, key: str) -> bool:
        """True where the recipe wants a whole number."""
        return _field(key)[1] is int

    def as_dict(self) -> dict[str, Any]:
        """The space as its file says it."""
        return {key: one.model_dump(mode="json", exclude_defaults=True) for key, one in self.ranges.items()}


def load_space(file: str | Path | None, recipe: Recipe) -> Space:
    """Read a space and check it against the recipe.

    Args:
        file: A .toml file; None takes the package's space for the recipe's name, or the one for any recipe.
        recipe: What is varied.

    Raises:
        RecipeError: No such file, no TOML, an unknown key, or a range that the recipe refuses.
    """
    if file is None:
        folder = resources.files("neurodense.training") / "spaces"
        own = folder / f"{recipe.name}.toml"
        found = own if own.is_file() else folder / "default.toml"
        return parse_space(found.read_text(encoding="utf-8"), f"space {found.name}", recipe)
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RecipeError(f"{file} cannot be read: {reason}.", "Without --space the recipe's own is taken.") from None
    return parse_space(text, str(file), recipe)


def parse_space(text: str, source: str, recipe: Recipe) -> Space:
    """Parse TOML text; `source` names it in errors."""
    try:
        tables = dict(_leaves(tomllib.loads(text)))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{source} is not valid TOML: {error}") from None
    hint = "docs/sweep.md says what a space may hold."
    if not tables:
        raise RecipeError(f"{source} varies nothing: it holds no key.", hint)
    problems, ranges = [], dict[str, Range]()
    for key, table in tables.items():
        try:
            _check_key(key, recipe)
            ranges[key] = one = _range(key, table)
            _check_values(key, one, recipe)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError(f"{source}: " + "; ".join(problems), hint)
    return Space(recipe, ranges)


def _leaves(tables: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Key and range of each setting: `stage.0.mixup` may be written as one key or as tables in tables."""
    for key, value in tables.items():
        if isinstance(value, dict) and value and all(isinstance(inner, dict) for inner in value.values()):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _field(key: str) -> tuple[str, Any]:
    """Table of the recipe that a key is in, and the type that its values have there; None where there is none."""
    table, _, name = key.rpartition(".")
    table = "stage" if table.startswith("stage.") else table
    model = _TABLES.get(table)
    known = model is not None and name in model.model_fields and name not in _FIXED.get(table, set())
    return table, model.model_fields[name].annotation if model is not None and known else None


def _check_key(key: str, recipe: Recipe) -> None:
    """See that the recipe has the setting."""
    table, kind = _field(key)
    if table == "teacher" and recipe.teacher is None:
        raise ValueError(f"{key!r}: there is no teacher; --teacher FILE names one")
    if key.startswith("stage."):
        stages = ", ".join(f"{index} ({stage.name!r})" for index, stage in enumerate(recipe.stage))
        number = key.split(".")[1]
        if not (number.isdecimal() and int(number) < len(recipe.stage)):
            raise ValueError(f"{key!r}: there is no stage {number!r}; recipe {recipe.name!r} has {stages}")
    if kind is None:
        place = "stage.N" if table == "stage" else table
        model = _TABLES.get(table, Recipe)
        allowed = [name for name in model.model_fields if name not in _FIXED.get(table, set())]
        every = allowed + [f"augment.{name}" for name in Augment.model_fields]
        close = difflib.get_close_matches(key.rpartition(".")[2] if table else key, every, 1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        others = "" if table in _TABLES and table else "; and those of augment, lesions, teacher and stage.N"
        where = f" of {place}" if table in _TABLES and table else ""
        raise ValueError(f"unknown key {key!r}{meant}; allowed{where} are {', '.join(allowed)}{others}")


def _range(key: str, table: Any) -> Range:
    """The range that a key's table says."""
    if not isinstance(table, dict):
        raise ValueError(f"{key!r}: must be {{low = ..., high = ...}} or {{choices = [...]}}, got {table!r}")
    try:
        one = Range.model_validate(table)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = str(found["loc"][0]) if found["loc"] else ""
        if found["type"] == "extra_forbidden":
            raise ValueError(f"{key!r}: unknown {where!r}; allowed are {', '.join(Range.model_fields)}") from None
        raise ValueError(f"{key!r}: {where + ': ' if where else ''}{_first(error)}") from None
    kind = _field(key)[1]
    if one.choices is None:
        if kind not in (int, float):
            raise ValueError(f"{key!r} is no number: give choices = [...]")
        if kind is int and not all(isinstance(value, int | None) for value in (one.low, one.high, one.step)):
            raise ValueError(f"{key!r} is a whole number; low, high and step must be whole")
    return one


def _check_values(key: str, one: Range, recipe: Recipe) -> None:
    """See that the recipe takes both ends, or every choice."""
    for value in one.ends:
        changed = recipe.model_dump()
        _put(changed, key, value)
        try:
            Recipe.model_validate(changed)
        except ValidationError as error:
            raise ValueError(f"{key!r} = {value!r} is refused by recipe {recipe.name!r}: {_first(error)}") from None


def _put(recipe: dict[str, Any], key: str, value: Any) -> None:
    """Set one value of a recipe's dictionary, whose stages are a tuple."""
    *above, name = key.split(".")
    table: Any = recipe
    for part in above:
        table = table[int(part)] if isinstance(table, tuple | list) else table[part]
    table[name] = value


def _first(error: ValidationError) -> str:
    message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}"
