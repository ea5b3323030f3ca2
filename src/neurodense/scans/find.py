"""Find files in folders: visible ones, links followed, each real folder once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def find_files(folder: Path, unlisted: Callable[[OSError], None]) -> Iterator[Path]:
    """Every visible file below `folder`, in the order of names.

    Links to folders are followed, each real folder once and none upwards, so that a loop of links ends.

    Args:
        folder: Where to look.
        unlisted: Called for a folder that cannot be listed; it may raise.
    """
    seen = {str(path) for path in (*(folder.parent.resolve() / folder.name).parents, *folder.resolve().parents)}
    for current, folders, files in os.walk(folder, onerror=unlisted, followlinks=True):
        real = os.path.realpath(current)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(current, name) for name in sorted(files) if not name.startswith("."))
