"""Where the activation cache is: NEURODENSE_CACHE, or the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def default_cache() -> Path:
    """The folder of the activation cache; safe to delete when nothing trains."""
    chosen = os.environ.get("NEURODENSE_CACHE")
    return Path(chosen).resolve() if chosen else user_cache_path("neurodense", appauthor=False) / "activations"
