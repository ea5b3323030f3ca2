"""The model that comes with the package, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import neurodense
from neurodense.errors import ModelError

BRAIN: Final = "brain"
"""Its name, wherever a model folder may be given."""


def model_folder(model: str | Path) -> Path:
    """The folder of a model: of the shipped one for "brain", else the path itself (`./brain` is a folder of yours).

    Raises:
        ModelError: This installation came without the shipped model.
    """
    if str(model) != BRAIN:
        return Path(model)
    folder = Path(neurodense.__file__).parent / "models" / BRAIN
    if not (folder / "card.json").is_file():
        raise ModelError(
            f"This installation has no shipped model: {folder} is not there.",
            "Install neurodense anew, or give --model RUN/model of a run of your own.",
        )
    return folder
