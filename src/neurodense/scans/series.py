"""Volumes from DICOM files: which files belong together, and in what order their slices lie.

Slices are of one series where they share the Series Instance UID. A series is cut further where its slices differ in
orientation (a localiser has three), matrix size, echo, time, diffusion weighting or image type, and where several lie
at one place: the first of each make one volume, the second another. Within a volume they follow the normal of the
slice (Part 3, C.7.6.2.1.1: Image Position projected on the cross product of the two directions of Image Orientation);
where the geometry is missing, Instance Number, then the natural order of file names.

All slices of a volume become grey in the same way, so that they can be compared: by the median window of their
headers, else by percentiles over up to `MEASURED` slices. A VOI LUT is obeyed where every slice has one, each its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from os.path import commonpath
from pathlib import Path, PurePath
from statistics import median

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.scans.dicom import DicomFile, open_dicom
from neurodense.scans.dicom_facts import Facts
from neurodense.scans.dicom_grey import Look, Window, measured, on_grid
from neurodense.scans.dicom_luts import Lut
from neurodense.scans.memory import File, as_file
from neurodense.scans.scan import Scan

MEASURED = 32  # evenly spaced slices whose values make the percentiles
SAME_PLACE = 0.01  # mm


@dataclass(frozen=True)
class Slice:
    """One frame of one file."""

    file: DicomFile
    frame: int

    @property
    def facts(self) -> Facts:
        """What the header says of it."""
        return self.file.facts[self.frame]

    @property
    def look(self) -> Look | None:
        """What its header makes grey of its values with."""
        return self.file.look(self.frame)

    @property
    def kind(self) -> tuple[object, ...]:
        """What slices of one volume share."""
        layout, axes = self.file.layout, self.facts.axes
        turned = axes and tuple(round(part, 2) + 0.0 for axis in axes for part in axis)
        return turned, layout.rows, layout.columns, self.file.colour, self.facts.kind

    @property
    def order(self) -> tuple[object, ...]:
        """What slices without geometry follow each other in."""
        number = self.file.number
        words = re.split(r"(\d+)", self.file.path.name)
        natural = [(int(word), word) if word.isdecimal() else (-1, word) for word in words]
        return number is None, number or 0, natural, self.frame


@dataclass(frozen=True)
class Series:
    """Slices of one volume, in order.

    Attributes:
        source: The file, where it is one; else the folder of the files, with the series number where it holds several
            series, and with a running number where that is not enough.
        slices: At least one.
        gap: Millimetres from slice to slice, the median; None with one slice or without geometry.
        notes: What a reader of a result should know.
    """

    source: str
    slices: tuple[Slice, ...] = field(repr=False)
    gap: float | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Number of slices."""
        return len(self.slices)

    @property
    def paths(self) -> tuple[File, ...]:
        """The files, in the order of their first slices."""
        return tuple(dict.fromkeys(one.file.path for one in self.slices))

    def read(self, index: int) -> Scan:
        """Decode slice `index`, from 0.

        Raises:
            ScanError: It is damaged, or its decoder is not installed.
        """
        one = self.slices[index]
        scan = one.file.read(one.frame, self._look, f"{self.source}#{index + 1}" if len(self) > 1 else self.source)
        return replace(scan, notes=(*self.notes, *scan.notes))

    @cached_property
    def _look(self) -> Look | None:
        """What makes grey of all slices; None where each has its own: one slice, colours, VOI LUTs."""
        looks = [one.look for one in self.slices]
        if len(self) == 1 or self.slices[0].file.colour or all(isinstance(look, Lut) for look in looks):
            return None
        if windows := _windows(looks):
            centre, width = median(one.centre for one in windows), median(one.width for one in windows)
            return Window(centre, width, windows[0].function)
        return measured([*self._samples()])

    def _samples(self) -> Iterator[NDArray[np.float64]]:
        for index in np.unique(np.linspace(0, len(self) - 1, MEASURED).round().astype(int)):
            one = self.slices[index]
            try:
                yield on_grid(*one.file.values(one.frame))
            except ScanError:  # said when that slice itself is read
                continue


def find_series(paths: Iterable[str | File]) -> tuple[list[Series], list[tuple[File, ScanError]]]:
    """Put DICOM files together to volumes. Headers are read, no pixels.

    Args:
        paths: Files, in any order.

    Returns:
        The volumes, in the order of their first files as given; and the files that could not be read, with the reason.
    """
    errors: list[tuple[File, ScanError]] = []
    groups: dict[object, list[Slice]] = defaultdict(list)
    copies: dict[bytes, int] = defaultdict(int)
    seen: set[bytes] = set()
    for index, path in enumerate(map(as_file, paths)):
        try:
            file = open_dicom(path)
        except ScanError as error:
            errors.append((path, error))
            continue
        if file.instance and file.instance in seen:
            copies[file.series] += 1
            continue
        seen.add(file.instance)
        for frame in range(file.frames):
            one = Slice(file, frame)
            groups[file.series or index, one.kind].append(one)
    volumes = [volume for group in groups.values() for volume in _volumes(group)]
    return [
        Series(source, tuple(volume), _gap(volume), tuple(_notes(volume, copies)))
        for source, volume in zip(_sources(volumes), volumes, strict=True)
    ], errors


def _volumes(group: Sequence[Slice]) -> list[list[Slice]]:
    """The slices of one kind in order; where several lie at one place, the first of each, then the second."""
    group = sorted(group, key=lambda one: one.order)
    places = {id(one): one.facts.place for one in group}
    if None in places.values():
        return [group]
    group.sort(key=lambda one: places[id(one)] or 0.0)  # stable: those of one place stay in order
    rounds: list[list[Slice]] = []
    turn = 0
    for before, one in zip([None, *group], group, strict=False):
        near = before is not None and _distance(before, one) < SAME_PLACE
        turn = turn + 1 if near else 0
        if turn == len(rounds):
            rounds.append([])
        rounds[turn].append(one)
    return rounds


def _distance(before: Slice, after: Slice) -> float:
    return (after.facts.place or 0.0) - (before.facts.place or 0.0)


def _gap(volume: Sequence[Slice]) -> float | None:
    if len(volume) < 2 or any(one.facts.place is None for one in volume):
        return None
    return median(_distance(before, after) for before, after in pairwise(volume))


def _notes(volume: Sequence[Slice], copies: Mapping[bytes, int]) -> Iterator[str]:
    series = volume[0].file.series
    if series and (left_out := copies.get(series)):
        yield f"{left_out} copies of its files were left out"
    if gap := _gap(volume):
        odd = sum(abs(_distance(before, after) - gap) > 0.1 * gap for before, after in pairwise(volume))
        if odd:
            yield f"{odd} steps between slices are not the usual {gap:.3g} mm; slices may be missing"
    windows = _windows([one.look for one in volume])
    if len({(window.centre, window.width) for window in windows}) > 1:
        yield "its slices have windows of their own; all are shown with the median one"


def _windows(looks: Sequence[Look | None]) -> list[Window]:
    """The windows of slices, if every slice has one."""
    windows = [look for look in looks if isinstance(look, Window)]
    return windows if len(windows) == len(looks) else []


def _sources(volumes: Sequence[Sequence[Slice]]) -> list[str]:
    """A name for each volume; see `Series.source`."""
    names = [_base({one.file.path for one in volume}) for volume in volumes]
    alike: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        alike[name].append(index)
    for name, indices in alike.items():
        numbers = [volumes[index][0].file.series_number for index in indices]
        told = None not in numbers and len(set(numbers)) == len(indices)
        for turn, index in enumerate(indices, 1):
            if len(indices) > 1:
                names[index] = f"{name} [series {numbers[turn - 1]}]" if told else f"{name} [{turn}]"
    return names


def _base(paths: set[File]) -> str:
    """The file, or the folder that all files share."""
    if len(paths) == 1:
        return str(paths.pop())
    folders: set[PurePath] = {path.parent for path in paths}
    if len({folder.is_absolute() for folder in folders}) == 2:
        folders = {Path(folder).absolute() for folder in folders}
    return commonpath(folders) or "."
