"""What a request's zip archives hold, in bounded memory whatever they claim.

An archive counts as a folder does on the command line: hidden files are passed over, pictures and volumes are taken by
their suffixes and DICOM files by their content, and those of one folder are put together to series.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Iterator

from neurodense.errors import ScanError
from neurodense.scans.memory import MemoryFile
from neurodense.scans.series import Series
from neurodense.scans.study import Failure, is_image, looked_for, put_together
from neurodense.serving.limits import Limits
from neurodense.serving.problems import Problem

_END = struct.Struct("<4s4H2IH")  # APPNOTE 4.3.16
_MARK, _LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
_ENTRY = 46 + 1024  # bytes of the directory for a file: its fixed part, and a long name
_CHUNK = 2**20


def arrange(
    files: list[MemoryFile], limits: Limits, hold: Callable[[int], None]
) -> list[MemoryFile | Series | Failure]:
    """The studies of a request: its files as those of a folder, each archive as a folder of its own.

    Args:
        files: As they were sent.
        limits: How much archives may hold: `request_bytes` and `files` of the whole request.
        hold: Told of bytes before memory is taken for them; raises where there is no room.
    """
    plain = [file for file in files if not _is_zip(file)]
    found = list(put_together(sorted(plain, key=lambda file: str(file.parent))))
    room, places = limits.request_bytes, limits.files - len(files)
    for archive in files:
        if not _is_zip(archive):
            continue
        try:
            inside = []
            for file in _unpacked(archive, room, places, hold):
                inside.append(file)
                room, places = room - len(file.content), places - 1
        except ScanError as error:
            found.append(Failure(str(archive), type(error).__name__, error.message))
            continue
        images = [file for file in inside if is_image(file)]
        if not images:
            found.append(Failure(str(archive), ScanError.__name__, f"{archive} holds no image; {looked_for()}."))
        found += put_together(images)
    return found


def _is_zip(file: MemoryFile) -> bool:
    return file.content[:4] in (b"PK\x03\x04", _MARK)


def _unpacked(archive: MemoryFile, room: int, places: int, hold: Callable[[int], None]) -> Iterator[MemoryFile]:
    """The visible files of an archive, in the order of names.

    Raises:
        ScanError: It is damaged, encrypted, of an unusual kind, or holds more than may be.
    """
    _check_directory(archive, places)
    try:
        with zipfile.ZipFile(io.BytesIO(archive.content)) as packed:
            entries = [one for one in packed.infolist() if not one.is_dir() and _visible(one.filename)]
            if len(entries) > places:
                raise ScanError(f"{archive} holds {len(entries):,} files, more than a request may have.")
            if sum(one.file_size for one in entries) > room:
                raise ScanError(f"{archive} unpacks to more than the {room >> 20} MiB that a request may hold.")
            for one in sorted(entries, key=lambda one: one.filename):
                if one.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or one.flag_bits & 1:
                    raise ScanError(f"{archive} is encrypted or packed in a way that is not read; deflate is.")
                content = bytearray()
                with packed.open(one) as stream:  # which gives no more than the directory says
                    while chunk := stream.read(_CHUNK):
                        hold(len(chunk))
                        content += chunk
                yield MemoryFile(f"{archive}/{one.filename}", bytes(content))
    except (ScanError, Problem):
        raise
    except Exception:  # zipfile has a dozen kinds for damage, IndexError among them
        raise ScanError(f"{archive} is a damaged zip archive.") from None


def _visible(name: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _check_directory(archive: MemoryFile, places: int) -> None:
    """Refuse a directory that is larger than that many files need, before `zipfile` reads all of it into memory."""
    content = archive.content
    tail = content[-(2**16 + _END.size) :]
    start = tail.rfind(_MARK)
    if start < 0 or len(tail) - start < _END.size:
        raise ScanError(f"{archive} is a damaged zip archive: it has no directory.")
    size = _END.unpack_from(tail, start)[5]
    if tail[max(start - 20, 0) : start].startswith(_LOCATOR) or size > _ENTRY * (places + 1):
        raise ScanError(f"{archive} is a zip archive of more files than a request may have.")
