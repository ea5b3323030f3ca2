"""The files of a request, read from the stream into memory. Limits hold while it is read; nothing touches a disk.

Starlette's own form parser writes what is large to a temporary file, so `multipart`'s push parser is used here.
"""

from __future__ import annotations

import asyncio
import threading
from http import HTTPStatus
from types import TracebackType

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import Request

from neurodense.scans.memory import MemoryFile
from neurodense.serving.limits import Limits
from neurodense.serving.problems import Problem, busy

FIELD = "files"
_RETRY_S = 2


class Held:
    """Bytes of requests in memory, all requests together; safe to use from several threads.

    Attributes:
        total: Now.
    """

    def __init__(self, most: int) -> None:
        self._most, self.total, self.lock = most, 0, threading.Lock()

    def add(self, count: int) -> None:
        """Count more, with the lock held.

        Raises:
            Problem: There is no room for them; nothing was counted.
        """
        if self.total + count > self._most:
            raise busy("Other requests hold the memory that this one needs; send it again later.", _RETRY_S)
        self.total += count


class Share:
    """What one request holds, given back when the block ends."""

    def __init__(self, held: Held) -> None:
        self._held, self._mine, self._over = held, 0, False

    def add(self, count: int) -> None:
        """Hold more, as `Held.add` does."""
        with self._held.lock:
            if self._over:  # a thread that unpacks for a request which was given up
                raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "The request was given up.")
            self._held.add(count)
            self._mine += count

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held.lock:
            self._over = True
            self._held.total -= self._mine


async def read_files(request: Request, limits: Limits, share: Share) -> list[MemoryFile]:
    """The files of a multipart/form-data request: parts of the name `files`, whatever type they are said to be of.

    Raises:
        Problem: 400 damaged, 408 stalled, 411 without a length or chunks, 413 too large, 415 another type, 429 no room.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != "multipart/form-data":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"The body is {kind or 'of no type'}; allowed is multipart/form-data, each file a part {FIELD!r}.",
            {"Accept-Post": "multipart/form-data"},
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.request_bytes:
        raise _too_large(limits)
    files: list[MemoryFile] = []
    try:
        parser = PushMultipartParser(options.get("boundary", ""), max_segment_count=limits.files, strict=True)
        with parser:
            await _read(request, parser, limits, share, files)
    except ParserLimitReached:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A request has at most {limits.files:,} files, with short headers."
        ) from None
    except (MultipartError, ValueError) as error:  # a ValueError of a header that is no UTF-8
        said = str(error) if isinstance(error, MultipartError) else "a header that is no text"
        raise Problem(HTTPStatus.BAD_REQUEST, f"The body is no sound multipart/form-data: {said}.") from None
    if not files:
        raise Problem(HTTPStatus.BAD_REQUEST, f"The request has no file; each is a part named {FIELD!r}.")
    return files


async def _read(
    request: Request, parser: PushMultipartParser, limits: Limits, share: Share, files: list[MemoryFile]
) -> None:
    size, name, content, more = 0, "", bytearray(), True
    while more:
        try:
            async with asyncio.timeout(limits.idle_s):
                message = await request.receive()
        except TimeoutError:
            detail = f"No byte of the body came for {limits.idle_s:g} s."
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail, {"Connection": "close"}) from None
        if message["type"] == "http.disconnect":
            raise Problem(HTTPStatus.BAD_REQUEST, "The client went away.")
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if not chunk:  # which would tell the parser that the body ended
            continue
        size += len(chunk)
        if size > limits.request_bytes:
            raise _too_large(limits)
        share.add(len(chunk))
        for event in parser.parse(chunk):
            if isinstance(event, MultipartSegment):
                name, content = _name(event, limits), bytearray()
            elif event is None:
                files.append(MemoryFile(name, bytes(content)))
                content = bytearray()
            else:
                content += event


def _name(part: MultipartSegment, limits: Limits) -> str:
    if part.name != FIELD or part.filename is None:
        raise Problem(HTTPStatus.BAD_REQUEST, f"The request has a part that is no file named {FIELD!r}.")
    if not part.filename.strip() or len(part.filename) > limits.name_length or "\0" in part.filename:
        detail = f"A file's name has 1 to {limits.name_length} characters, and is not blank."
        raise Problem(HTTPStatus.BAD_REQUEST, detail)
    return str(part.filename).replace("\\", "/")


def _too_large(limits: Limits) -> Problem:
    detail = f"A request has at most {limits.request_bytes >> 20} MiB; send fewer files at a time."
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail, {"Connection": "close"})
