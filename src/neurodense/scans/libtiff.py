"""Hear what libtiff complains of, instead of letting it print.

Pillow leaves libtiff's error handler as it is: complaints go to stderr, and a fax image with bad code words is
handed on as if it were whole. The handler is one for the process, so it passes on what other code causes.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from PIL import _imaging

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""TIFFErrorHandler: module, printf format, va_list, which every ABI of Linux and macOS passes as an address."""

_heard = threading.local()


@contextlib.contextmanager
def complaints() -> Iterator[list[str]]:
    """What libtiff says in this thread meanwhile. Always empty where Pillow's libtiff cannot be reached."""
    _listen()
    said: list[str] = []
    _heard.complaints = said
    try:
        yield said
    finally:
        del _heard.complaints


@cache
def _listen() -> Any:
    """Install the handler, once; what is returned must live as long as the process, or libtiff would call nothing."""
    try:
        install = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (OSError, AttributeError):  # a build of Pillow that has libtiff inside itself
        return None
    install.argtypes, install.restype = [ctypes.c_void_p], ctypes.c_void_p
    before: list[Any] = []

    def hear(module: bytes | None, text: bytes | None, values: int | None) -> None:
        said = getattr(_heard, "complaints", None)
        if said is None:
            if before[0]:
                before[0](module, text, values)
        elif len(said) < 10:
            words = b": ".join(part for part in (module, text) if part).decode("latin-1")
            said.append(re.sub(r"%[-+ #0-9.*]*[hlqjzt]*[a-zA-Z]", "...", words))  # the values are left where they are

    handle = _HANDLER(hear)
    address = install(ctypes.cast(handle, ctypes.c_void_p))
    before.append(_HANDLER(address) if address else None)
    return handle
