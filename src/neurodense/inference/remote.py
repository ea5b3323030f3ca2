"""Files by URL: what pyarrow reaches by itself (file, s3, gs, abfs, hdfs), else what an installed fsspec package does.

pyarrow takes what stands in a URL as percent-encoded, fsspec takes it as it is; a URL that `find` gives can be read by
`fetch` on any machine that reaches the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from neurodense.errors import DataError, ScanError
from neurodense.scans.memory import MemoryFile
from neurodense.scans.study import SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 2**31
"""Bytes of a file; a larger one is refused before it fills the memory."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_PARTS = re.compile(r"(\w[^:]+://(?:.*?[^/])??)/*((?:\?|::).*)?", re.DOTALL)
"""The place, and what stands behind it: ?region=..., ::file://..."""


def is_url(name: str) -> bool:
    """Whether a name is a URL and no path; a drive letter is no scheme."""
    return _URL.match(name) is not None


def find(url: str) -> Iterator[str]:
    """The URLs of the files below a folder whose suffix is that of an image, folder by folder; of a file its own.

    Raises:
        DataError: There is nothing, or it cannot be listed.
    """
    from pyarrow import fs

    place, rest = _parts(url)
    try:
        system, root, encoded = _filesystem(url)
        (top,) = system.get_file_info([root])
    except Exception as error:  # each kind of storage has errors of its own
        raise DataError(f"{url} cannot be listed: {error}") from None
    if top.type == fs.FileType.File:
        yield url
        return
    if top.type == fs.FileType.NotFound:
        raise DataError(f"{url} does not exist.")
    folders = [root]
    while folders:
        try:
            found = sorted(system.get_file_info(fs.FileSelector(folders.pop())), key=lambda one: str(one.path))
        except Exception as error:
            raise DataError(f"{url} cannot be listed: {error}") from None
        folders += [one.path for one in reversed(found) if one.type == fs.FileType.Directory]
        for one in found:
            if one.type == fs.FileType.File and one.path.lower().endswith(tuple(SUFFIXES)):
                below = one.path[len(root) :].lstrip("/")
                yield f"{place}{'' if place.endswith('/') else '/'}{quote(below) if encoded else below}{rest}"


def fetch(url: str) -> MemoryFile:
    """The file of a URL, in memory.

    Raises:
        ScanError: It cannot be reached or is larger than `LIMIT`.
    """
    place, rest = _parts(url)
    name = place[place.rindex("/") + 1 :]
    try:
        system, root, encoded = _filesystem(place[: -len(name)] + rest)
        path = "/".join([*([root.rstrip("/")] if root else []), unquote(name) if encoded else name])
        with system.open_input_stream(path) as stream:
            content = stream.read(LIMIT + 1)
    except Exception as error:
        raise ScanError(f"{url} cannot be read: {error}") from None
    if len(content) > LIMIT:
        raise ScanError(f"{url} has more than {LIMIT:,} bytes.")
    return MemoryFile(place.partition("://")[2], content)


def _parts(url: str) -> tuple[str, str]:
    match = _PARTS.fullmatch(url)
    assert match is not None
    return match[1], match[2] or ""


@lru_cache(maxsize=256)
def _filesystem(url: str) -> tuple[Any, str, bool]:
    """The file system of a folder's URL, its path there, and whether URLs of its files are percent-encoded."""
    import pyarrow
    from pyarrow import fs

    from_uri: Callable[[str], tuple[Any, str]] = fs.FileSystem.from_uri
    try:
        return *from_uri(url), True
    except pyarrow.ArrowInvalid:  # a scheme that it does not know
        import fsspec

        system, root = fsspec.core.url_to_fs(url)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), root, False
