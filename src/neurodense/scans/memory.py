"""A file that is in memory and nowhere else, for readers that open what they are given."""

from __future__ import annotations

import os
import stat
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Literal


class MemoryFile:
    """Bytes under a name, with as much of `Path` as the readers ask for. The name is a label: it is never opened.

    Args:
        name: What answers and errors call it; folders in it, by `/`, hold DICOM files of one series together.
        content: The file.
    """

    __slots__ = ("_name", "content")

    def __init__(self, name: str, content: bytes) -> None:
        self._name, self.content = PurePosixPath(name.lstrip("/") or "file"), content

    def __str__(self) -> str:
        return str(self._name)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return self._name.name

    @property
    def suffix(self) -> str:
        """With its dot, as `Path.suffix` has it."""
        return self._name.suffix

    @property
    def parent(self) -> PurePosixPath:
        """The folders of the name."""
        return self._name.parent

    def open(self, mode: Literal["rb"]) -> BytesIO:
        """A stream of its own over the content, which is not copied."""
        return BytesIO(self.content)

    def stat(self) -> os.stat_result:
        """A plain file of its size."""
        return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, len(self.content), 0, 0, 0))

    def is_file(self) -> bool:
        """It is one."""
        return True

    def is_dir(self) -> bool:
        """It is none."""
        return False

    def exists(self) -> bool:
        """It does."""
        return True


File = Path | MemoryFile


def as_file(item: str | File) -> File:
    """A path of a text; what is a file already stays what it is."""
    return Path(item) if isinstance(item, str) else item
