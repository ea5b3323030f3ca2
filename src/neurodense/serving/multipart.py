"""multipart/related (RFC 2387) as DICOMweb has it: taken apart while it comes in, put together to be sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from neurodense.errors import PacsError

_MAX_HEAD = 1 << 14  # bytes of the header of one part
_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"]{1,200})"|([^\s;,]{1,200}))', re.IGNORECASE)


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type names.

    Raises:
        PacsError: It is no multipart/related, or names none.
    """
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/related") or found is None:
        raise PacsError("The archive sent no multipart/related for the images, which WADO-RS asks for.")
    return (found[1] or found[2]).encode("latin-1", "replace")


def parts(chunks: Iterable[bytes], boundary: bytes, *, max_bytes: int, max_parts: int) -> Iterator[bytes]:
    """The contents of the parts, one after the other, without their headers.

    Args:
        chunks: The body as it comes.
        boundary: As `boundary_of` gives it.
        max_bytes: Of the whole body.
        max_parts: Of all parts.

    Raises:
        PacsError: The body is larger, has more parts, or breaks off.
    """
    delimiter = b"\r\n--" + boundary
    buffer, taken, count, searched = bytearray(b"\r\n"), 0, -1, 0
    for chunk in chunks:
        taken += len(chunk)
        if taken > max_bytes:
            raise PacsError(f"The series is larger than the {max_bytes >> 20:,} MiB that are taken.")
        buffer += chunk
        while (end := buffer.find(delimiter, searched)) >= 0 and len(buffer) >= end + len(delimiter) + 2:
            if count >= 0:
                yield _content(bytes(buffer[:end]))
            count += 1
            after = end + len(delimiter)
            if buffer[after : after + 2] == b"--":
                return
            if count >= max_parts:
                raise PacsError(f"The series has more than the {max_parts:,} images that are taken.")
            del buffer[:after]
            searched = 0
        searched = max(0, len(buffer) - len(delimiter) - 2) if end < 0 else end
    raise PacsError("The archive broke off before the end of the series.", "Try again.")


def _content(part: bytes) -> bytes:
    head = part.find(b"\r\n\r\n", 0, _MAX_HEAD)
    if head < 0:
        raise PacsError("The archive sent a part of a series without its header.")
    return part[head + 4 :]


def joined(contents: Sequence[bytes], boundary: bytes, kind: str) -> list[bytes]:
    """The pieces of a body whose parts are of one kind, such as application/dicom."""
    head = b"--%b\r\nContent-Type: %b\r\n\r\n" % (boundary, kind.encode())
    return [piece for content in contents for piece in (head, content, b"\r\n")] + [b"--%b--\r\n" % boundary]
