"""Take a NIfTI file apart: its header, and the voxels of its first volume as they are stored.

The header is nibabel's; the voxels are read here, in bounded memory and never more than the header accounts for, since
a header can lie and a small gzip file can hold terabytes.

The standard: https://nifti.nimh.nih.gov/nifti-1, https://nifti.nimh.nih.gov/nifti-2.
"""

from __future__ import annotations

import math
import zlib
from gzip import BadGzipFile, GzipFile
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.scans.memory import File, as_file

MAX_VOXELS = 512**3
"""Of one volume: up to 1 GiB in the file, 512 MiB as float32 slices."""

_MAX_OFFSET = 2**26  # header extensions before the voxels; 64 MiB
_CHUNK = 2**24
_SIZES = {1: 348, 2: 540}  # bytes of the header of each version
_MAGIC = {b"n+1\0": (1, True), b"ni1\0": (1, False), b"n+2\0": (2, True), b"ni2\0": (2, False)}


def is_nifti(path: str | File) -> bool:
    """True when the file begins as NIfTI does, be it compressed or not; False for what cannot be opened."""
    try:
        with _opened(as_file(path)) as file:
            return _version(file.read(_SIZES[1])) is not None
    except (OSError, EOFError, zlib.error):
        return False


def first_volume(path: File, source: str) -> tuple[Any, NDArray[Any], int]:
    """The header, the voxels (X, Y, Z) of the first volume as they are stored, and how many volumes there are.

    Raises:
        ScanError: The file is missing, truncated, damaged, no NIfTI, or states what cannot be or is not read.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe would wait for a writer
            raise ScanError(f"{source} is a pipe, a socket or a device, not a file.")
        with _opened(path) as file:
            return _parts(path, file, source)
    except FileNotFoundError:
        raise ScanError(f"{source} does not exist.") from None
    except MemoryError:
        raise ScanError(f"{source} does not fit into memory.") from None
    except EOFError:
        raise ScanError(f"{source} is cut off: its compressed data end too early.") from None
    except (BadGzipFile, zlib.error) as error:
        raise ScanError(f"{source} is damaged: {error}.") from None
    except OSError as error:
        raise ScanError(f"{source} cannot be opened: {error.strerror or error}.") from error


def _opened(path: File) -> GzipFile | BufferedReader | BytesIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if not packed:
        return path.open("rb")
    return GzipFile(path) if isinstance(path, Path) else GzipFile(fileobj=path.open("rb"))


def _version(head: bytes) -> tuple[int, bool] | None:
    """(1 or 2, True where header and voxels are one file) of the first 348 bytes; None for what is no NIfTI."""
    return _MAGIC.get(head[344:348]) or (_MAGIC.get(head[4:8]) if head[8:12] == b"\r\n\x1a\n" else None)


def _parts(path: File, file: GzipFile | BufferedReader | BytesIO, source: str) -> tuple[Any, NDArray[Any], int]:
    head = file.read(_SIZES[1])
    if not head:
        raise ScanError(f"{source} is empty (0 bytes).")
    if (found := _version(head)) is None:
        what = "shorter than a NIfTI header" if len(head) < _SIZES[1] else "no NIfTI, whatever its name says"
        raise ScanError(f"{source} is {what}.")
    version, single = found
    head += file.read(_SIZES[version] - len(head))
    if len(head) < _SIZES[version]:
        raise ScanError(f"{source} is cut off in its header, after {len(head)} bytes.")
    header = _header(head, version)
    shape, count = _shape(header, source)
    dtype = _dtype(header, source)

    least = _SIZES[version] + 4 if single else 0  # behind the header stand 4 bytes of flags
    offset = float(header["vox_offset"]) or least  # some write 0
    if not least <= offset <= _MAX_OFFSET:
        raise ScanError(f"{source} says that its voxels begin at byte {offset:g}, which cannot be.")
    size = math.prod(shape) * dtype.itemsize
    if single:
        raw = _read(file, int(offset) - len(head), size, source)
    else:
        with _opened(_pair(path, source)) as image:
            raw = _read(image, int(offset), size, source)
    return header, np.ndarray(shape, dtype, raw.data, order="F"), count


def _header(head: bytes, version: int) -> Any:
    """The header as nibabel parses it, unchecked: its checks log and mend, where this reader says and refuses."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    kind: Any = Nifti1Header if version == 1 else Nifti2Header
    return kind(head, "<" if int.from_bytes(head[:4], "little") == _SIZES[version] else ">", check=False)


def _shape(header: Any, source: str) -> tuple[tuple[int, int, int], int]:
    """Voxels along the three axes of space, and how many such volumes there are."""
    dims = [int(n) for n in header["dim"]]
    if not 2 <= dims[0] <= 7:
        raise ScanError(f"{source} says that it has {dims[0]} dimensions; 2 to 7 are read.")
    stated = dims[1 : dims[0] + 1]
    if min(stated) < 1:
        raise ScanError(f"{source} says that its dimensions are {' x '.join(map(str, stated))}; each must be above 0.")
    x, y, z = (*stated, 1)[:3]
    if x * y * z > MAX_VOXELS:
        raise ScanError(f"{source} says that it has {x} x {y} x {z} voxels; at most {MAX_VOXELS:,} are read.")
    return (x, y, z), math.prod(stated[3:])


def _dtype(header: Any, source: str) -> np.dtype[Any]:
    from nibabel.spatialimages import HeaderDataError

    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        raise ScanError(f"{source} has voxels of the unknown type {code}.") from None
    if dtype.names is None and (dtype.kind not in "iuf" or not 0 < dtype.itemsize <= 8):
        label = header.get_value_label("datatype")
        raise ScanError(f"{source} has voxels of type {label}; integers and floats up to 64 bits and RGB are read.")
    return dtype


def _pair(path: File, source: str) -> Path:
    if not isinstance(path, Path):
        raise ScanError(f"{source} is the header of a pair without its image; one .nii file holds both.")
    stem = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    for suffix in (".img", ".img.gz", ".IMG"):
        if (image := stem.with_suffix(suffix)).is_file():
            return image
    raise ScanError(f"{source} is the header of a pair, and {stem.with_suffix('.img').name} is not beside it.")


def _read(file: GzipFile | BufferedReader | BytesIO, skip: int, size: int, source: str) -> NDArray[np.uint8]:
    """`size` bytes, `skip` bytes further on; no more memory than that is used whatever the file holds."""
    while skip > 0:
        if not (passed := len(file.read(min(skip, _CHUNK)))):
            raise ScanError(f"{source} is cut off before its voxels.")
        skip -= passed
    raw = np.empty(size, dtype=np.uint8)
    view, done = memoryview(raw.data), 0
    while done < size:
        if not (got := file.readinto(view[done : done + _CHUNK])):
            raise ScanError(f"{source} is cut off: it holds {done:,} of the {size:,} bytes that its header states.")
        done += got
    file.read(1)  # at the end of a gzip file this checks its checksum
    return raw
