"""Every error the library raises on purpose.

    NeurodenseError
    ├── DataError        a folder, a table or a split that cannot be used
    │   └── ScanError    one file that cannot be read as an image
    ├── RecipeError      a recipe with an unknown key or an impossible value
    ├── WeightsError     starting weights that are missing or do not fit
    ├── RunError         a run folder in the wrong state for what was asked
    │   └── Diverged     a training whose numbers are no longer finite
    ├── ModelError       a model folder that is incomplete or not one, a graph that is no teacher
    ├── EngineError      an engine or a precision that is not to be had here
    ├── PacsError        an archive that cannot be reached, or refuses what it is asked for
    └── MissingExtra     a library that only an extra installs

A message says what was wrong, what was got and what is allowed; `hint` says what to try next.
Only the command line prints them and exits.
"""

from __future__ import annotations


class NeurodenseError(Exception):
    """Base of the tree.

    Args:
        message: What was wrong, the value that was got, what is allowed.
        hint: The next command or action to try, or None.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  -> {self.hint}"


class DataError(NeurodenseError):
    """A folder, a table or a split that cannot be used."""


class ScanError(DataError):
    """One file that cannot be read as an image."""


class RecipeError(NeurodenseError):
    """A recipe with an unknown key or an impossible value."""


class WeightsError(NeurodenseError):
    """Starting weights that are missing or do not fit."""


class RunError(NeurodenseError):
    """A run folder in the wrong state for what was asked."""


class Diverged(RunError):  # noqa: N818  (what happened to it)
    """A training whose numbers are no longer finite."""


class ModelError(NeurodenseError):
    """A model folder that is incomplete or not one, or a graph that is no teacher."""


class EngineError(NeurodenseError):
    """An engine or a precision that is not to be had here."""


class PacsError(NeurodenseError):
    """An archive that cannot be reached, or refuses what it is asked for."""


class MissingExtra(NeurodenseError):  # noqa: N818  (named for what it is, as click.UsageError's kin are)
    """A library that only an extra installs."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(
            f"{library} is not installed, and this needs it.",
            f"pip install 'neurodense[{extra}]'",
        )
