"""Keep a library's Python warnings to itself while it reads. Other threads read at the same time."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from typing import Any, cast


@contextlib.contextmanager
def quiet(package: str) -> Iterator[None]:
    """Ignore what the modules of `package` warn of, as if each warning were expected.

    `warnings.catch_warnings` would put back, in one thread, what another has just set. Here every reader adds a
    filter of its own and takes away one like it, so that the filters end as they began in any order of threads.
    """
    entry = ("ignore", None, Warning, re.compile(rf"{re.escape(package)}\b"), 0)
    cast("list[Any]", warnings.filters).insert(0, entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # somebody else's catch_warnings has put back an older list
            cast("list[Any]", warnings.filters).remove(entry)
