"""The front door of the readers: from what a user names to slices, whatever the files are.

The content of a file decides what reads it, not its name. Names matter in one place: of a folder, files with the usual
suffixes are taken, and beside them whatever is DICOM by its content, since exports from an archive have no suffix
(IM0001) or a UID for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import DataError, ScanError
from neurodense.scans import nifti, read
from neurodense.scans.dicom import is_dicom, open_dicom
from neurodense.scans.find import find_files
from neurodense.scans.memory import File, MemoryFile, as_file
from neurodense.scans.nifti import Volume, read_nifti
from neurodense.scans.nifti_file import MAX_VOXELS, is_nifti
from neurodense.scans.read import read_scan
from neurodense.scans.scan import Scan, Study
from neurodense.scans.series import Series, find_series
from neurodense.scans.slices import Slices, brain_slices

SUFFIXES = read.SUFFIXES | {".dcm", ".dicom", ".ima"} | nifti.SUFFIXES
"""What a folder is searched for, in lower case, beside DICOM files of any name."""

F = TypeVar("F", Path, MemoryFile)

_INDEX = "DICOMDIR"  # Part 10, 8.6: a list of the files beside it, and no picture
_SMALL = 128  # pixels a side of what `brain` looks at


@dataclass(frozen=True)
class Failure:
    """An input that could not be read.

    Attributes:
        source: The input, as the caller named it.
        type: Name of the error's class.
        message: What was wrong.
    """

    source: str
    type: str
    message: str

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that `predict --format json` prints."""
        return {"source": self.source, "error": {"type": self.type, "message": self.message}}


def read_study(item: str | File | Series, slices: Slices | str = "brain") -> Study:
    """Read the chosen slices of a volume or a series, or a picture as the one slice that it is.

    Args:
        item: A file of any format, or a series as `find_studies` gives it.
        slices: Which slices of a volume; see `scans/slices.py`. A picture is taken whatever this says.

    Raises:
        ScanError: It cannot be read, has no slice of the numbers asked for, or is too large to be held.
        DataError: `slices` is a text that says nothing known.
    """
    slices = Slices.parse(slices) if isinstance(slices, str) else slices
    stack = item if isinstance(item, Series) else _open(as_file(item), str(item))
    if isinstance(stack, Scan):
        return Study(stack.source, (stack,), 1)
    total = len(stack)
    if total == 1:
        return Study(stack.source, (stack.read(0),), 1)

    scans: dict[int, Scan] = {}

    def take(numbers: range) -> None:
        for number in numbers:
            scans[number] = stack.read(number - 1)
            if scans[number].pixels.size * len(numbers) > MAX_VOXELS:
                height, width = scans[number].pixels.shape
                raise ScanError(
                    f"{stack.source} has {len(numbers):,} slices of {width} x {height} pixels to look at; at most "
                    f"{MAX_VOXELS:,} pixels in all are. --slices middle or every:N takes fewer."
                )

    def brain() -> range:
        take(range(1, total + 1))
        upwards = scans[1].orientation == "LP"  # both readers count such slices from the feet
        return brain_slices([_small(scan.pixels) for scan in scans.values()], stack.gap if upwards else None)

    try:
        chosen = slices.choose(total, brain)
    except ScanError:
        raise
    except DataError as error:
        raise ScanError(f"{stack.source}: {error.message}") from None
    if not scans:
        take(chosen)
    return Study(stack.source, tuple(scans[number] for number in chosen), total)


def read_image(path: str | File, source: str | None = None) -> Scan:
    """Read a file that holds one picture, as training takes them.

    Args:
        path: A raster file, a DICOM file of one frame, or a NIfTI file of one slice.
        source: The name the scan carries; the path where None.

    Raises:
        ScanError: It cannot be read, or is a volume.
    """
    stack = _open(as_file(path), str(path) if source is None else source)
    if isinstance(stack, Scan):
        return stack
    if len(stack) == 1:
        return stack.read(0)
    raise ScanError(
        f"{stack.source} is a volume of {len(stack)} slices; training takes single slices. Save the slices that show "
        "the class as files of their own (PNG or DICOM). predict and evaluate take volumes as they are."
    )


def find_studies(inputs: Iterable[str | Path]) -> list[Path | Series | Failure]:
    """Files as they are named, and what folders hold, nested ones too; hidden files are passed over.

    Of each folder its pictures and NIfTI files come first, one by one; then its DICOM files, put together to series. A
    file that is named is not put together with others. DICOM objects that hold no picture, a folder that holds nothing,
    and one that cannot be listed give a `Failure` each, so that the rest is still done. A file that is missing, or no
    picture, is found so when it is read.
    """
    found: list[Path | Series | Failure] = []

    def unlisted(error: OSError) -> None:
        message = f"{error.filename} cannot be listed: {error.strerror}."
        found.append(Failure(str(error.filename), type(error).__name__, message))

    for item in map(Path, inputs):
        if not item.is_dir():
            found += _series([item]) if _is(is_dicom, item) else [item]
            continue
        before = len(found)
        images = (path for path in find_files(item, unlisted) if is_image(path))
        found += put_together(images)
        if len(found) == before:
            found.append(Failure(str(item), ScanError.__name__, f"{item} holds no image; {looked_for()}."))
    return found


def put_together(files: Iterable[F]) -> Iterator[F | Series | Failure]:
    """The files of folders, those of one folder in a row: its pictures and volumes, then its series of DICOM files."""
    for _, group in groupby(files, key=lambda path: path.parent):
        dicom: list[F] = []
        for path in group:
            if path.suffix.lower() not in read.SUFFIXES and _is(is_dicom, path):
                dicom.append(path)
            else:
                yield path
        yield from _series(dicom)


def is_image(path: File) -> bool:
    """Whether a file of a folder is taken for an image: by its suffix, or for being DICOM by its content."""
    if path.name.upper() == _INDEX:
        return False
    return path.name.lower().endswith(tuple(SUFFIXES)) or _is(is_dicom, path)


def looked_for() -> str:
    """What folders are searched for, as a clause of an error."""
    return f"files with {', '.join(sorted(SUFFIXES))} and DICOM files of any name are looked for"


def _open(path: File, source: str) -> Scan | Volume | Series:
    """A picture, or a stack of slices that are still to be read."""
    name = path.name.lower()
    if path.suffix.lower() in read.SUFFIXES:
        try:
            return read_scan(path, source)  # first, so that a folder of pictures is read as fast as it can be
        except ScanError:
            if not (_is(is_dicom, path) or _is(is_nifti, path)):
                raise
    if _is(is_dicom, path):
        return _open_dicom(path, source)
    if _is(is_nifti, path):
        return read_nifti(path, source)
    if name.endswith(tuple(nifti.SUFFIXES)):
        try:
            return read_scan(path, source)
        except ScanError:
            return read_nifti(path, source)  # says what is wrong with it as NIfTI
    return read_scan(path, source)


def _is(kind: Callable[[File], bool], path: File) -> bool:
    """Whether a file is of a kind; a pipe or a device is of none: to open one may wait for ever."""
    return path.is_file() and kind(path)


def _open_dicom(path: File, source: str) -> Scan | Series:
    file = open_dicom(path, source)
    if file.frames == 1:
        return file.read(0)
    series, errors = find_series([path])
    if errors:
        raise errors[0][1]
    if len(series) > 1:
        raise ScanError(
            f"{source} holds {len(series)} volumes in {file.frames} frames; find_studies gives each of them."
        )
    return replace(series[0], source=source)


def _series(paths: Sequence[File]) -> Iterator[Series | Failure]:
    series, errors = find_series(paths)
    yield from series
    for path, error in errors:
        yield Failure(str(path), type(error).__name__, error.message)


def _small(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    step = max(1, min(pixels.shape) // _SMALL)
    return pixels[::step, ::step]
