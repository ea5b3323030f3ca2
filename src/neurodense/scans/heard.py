"""What a C library writes on standard error, heard instead of shown.

The libjpeg inside gdcm has no other way to say that a JPEG is damaged and that the pixels it gives are made up. The
file descriptor belongs to the whole process: what others wrote there meanwhile is written on, line by line.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_STANDARD_ERROR = 2


@contextmanager
def heard(ours: Callable[[str], bool]) -> Iterator[list[str]]:
    """Inside the block standard error goes to a file; gives a list that holds the lines that are `ours` afterwards.

    The caller sees to it that one thread at a time is in such a block.
    """
    lines: list[str] = []
    try:
        shown = os.dup(_STANDARD_ERROR)
    except OSError:  # it is closed: nothing will be shown
        yield lines
        return
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), _STANDARD_ERROR)
        try:
            yield lines
        finally:
            os.dup2(shown, _STANDARD_ERROR)
            file.seek(0)
            for line in file:
                text = line.decode("utf-8", "replace").strip()
                if ours(text):
                    lines.append(text)
                else:
                    os.write(shown, line)
            os.close(shown)
