"""What the header says of each frame: where it lies, how its values become grey, what tells it from its neighbours.

A classic object says it once for all its frames, at the top. An enhanced one says it in functional groups, per frame
or shared by all (Part 3, C.7.6.16); what is said of the frame goes before what is shared, and that before the top.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from neurodense.scans.dicom_grey import Window
from neurodense.scans.dicom_luts import Lut, read_lut

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_TOWARDS = ("LR", "PA", "SI")  # along the axes of the patient: the letter of +, of -


@dataclass(frozen=True)
class Facts:
    """What is said of one frame; None stands for what is not.

    Attributes:
        spacing: Millimetres between rows and between columns.
        at_detector: True where `spacing` was measured at the detector (Imager Pixel Spacing).
        position: Of the centre of the first pixel, in mm towards Left, Posterior, Superior (C.7.6.2.1.1).
        axes: Two unit vectors: the direction in which columns count up, then that of rows.
        slope: Rescale Slope.
        intercept: Rescale Intercept.
        modality: Modality LUT, which goes before slope and intercept.
        window: The first window, if it can be used.
        voi: The first VOI LUT.
        kind: A digest of echo, time, diffusion, image type and stack: frames that differ here are of different volumes.
    """

    spacing: tuple[float, ...] | None
    at_detector: bool
    position: tuple[float, ...] | None
    axes: tuple[tuple[float, ...], tuple[float, ...]] | None
    slope: float
    intercept: float
    modality: Lut | None
    window: Window | None
    voi: Lut | None
    kind: bytes

    @property
    def orientation(self) -> str | None:
        """Two letters: where in the patient the right and the lower edge lie."""
        if self.axes is None:
            return None
        row, column = self.axes
        pairs = [(i, j) for i in range(3) for j in range(3) if i != j]  # two axes, though both be nearest to one
        i, j = max(pairs, key=lambda pair: round(abs(row[pair[0]]) + abs(column[pair[1]]), 9))
        return _TOWARDS[i][row[i] < 0] + _TOWARDS[j][column[j] < 0]

    @property
    def place(self) -> float | None:
        """Millimetres along the normal of the slice; slices of one stack follow each other in this."""
        if self.axes is None or self.position is None:
            return None
        return float(np.dot(np.cross(*self.axes), self.position))


def read_facts(ds: Dataset, frames: int, little: bool) -> tuple[Facts, ...]:
    """What the header says of each of `frames` frames; `little` is its byte order."""
    shared, own = _items(ds, "SharedFunctionalGroupsSequence"), _items(ds, "PerFrameFunctionalGroupsSequence")
    if not shared and not own:
        facts = _facts([], ds, little)
        return (facts if frames == 1 else replace(facts, position=None),) * frames  # one position is no frame's own
    return tuple(_facts([*own[k : k + 1], *shared[:1]], ds, little) for k in range(frames))


def numbers(ds: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """The first `count` numbers of an element; None where it has fewer, or one is no finite number."""
    try:
        value = ds.get(keyword)
        values = value[:count] if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        found = tuple(float(item) for item in values)
    except Exception:  # a broken value is an absent one: the picture can be read without
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def number(ds: Dataset, keyword: str) -> float | None:
    """The first number of an element, or None."""
    found = numbers(ds, keyword, 1)
    return found[0] if found else None


def _facts(groups: Sequence[Dataset], ds: Dataset, little: bool) -> Facts:
    def macro(keyword: str) -> Dataset:
        """The item of a functional group's macro, or the top."""
        return next((items[0] for group in groups if (items := _items(group, keyword))), ds)

    voi, rescale = macro("FrameVOILUTSequence"), macro("PixelValueTransformationSequence")
    spacing, detector = (
        pair if pair and min(pair) > 0 else None
        for pair in (numbers(macro("PixelMeasuresSequence"), "PixelSpacing", 2), numbers(ds, "ImagerPixelSpacing", 2))
    )
    signed = number(ds, "PixelRepresentation") == 1
    return Facts(
        spacing=spacing or detector,
        at_detector=spacing is None and detector is not None,
        position=numbers(macro("PlanePositionSequence"), "ImagePositionPatient", 3),
        axes=_axes(numbers(macro("PlaneOrientationSequence"), "ImageOrientationPatient", 6)),
        slope=number(rescale, "RescaleSlope") or 1.0,
        intercept=number(rescale, "RescaleIntercept") or 0.0,
        modality=_lut(ds, "ModalityLUTSequence", little=little, signed=signed),
        window=_window(voi),
        voi=_lut(voi, "VOILUTSequence", little=little, signed=signed),
        kind=digest(
            number(ds, "EchoNumbers"),
            number(ds, "EchoTime"),
            number(macro("MREchoSequence"), "EffectiveEchoTime"),
            number(ds, "TemporalPositionIdentifier"),
            number(macro("FrameContentSequence"), "TemporalPositionIndex"),
            _words(macro("FrameContentSequence"), "StackID"),
            number(macro("MRDiffusionSequence"), "DiffusionBValue"),
            _words(ds, "ImageType")[2:],
            _words(macro("MRImageFrameTypeSequence"), "FrameType")[2:],
        ),
    )


def digest(*values: object) -> bytes:
    """16 bytes that equal values share, and that do not tell them."""
    return blake2b(repr(values).encode(), digest_size=16).digest()


def _items(ds: Dataset, keyword: str) -> Sequence[Dataset]:
    value = ds.get(keyword)
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()


def _words(ds: Dataset, keyword: str) -> tuple[str, ...]:
    value = ds.get(keyword) or ()
    return tuple(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else (str(value),)


def _axes(cosines: tuple[float, ...] | None) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Two unit vectors at right angles; None where the six numbers are no such thing."""
    if cosines is None:
        return None
    row, column = np.array(cosines[:3]), np.array(cosines[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 0.5 or abs(row @ column) > 0.1 * lengths[0] * lengths[1]:
        return None
    return tuple(map(float, row / lengths[0])), tuple(map(float, column / lengths[1]))


def _window(ds: Dataset) -> Window | None:
    centre, width = number(ds, "WindowCenter"), number(ds, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    function = str(ds.get("VOILUTFunction") or "").strip().upper()
    function = function if function in _FUNCTIONS else "LINEAR"
    return Window(centre, width, "LINEAR_EXACT" if function == "LINEAR" and width < 1 else function)


def _lut(ds: Dataset, keyword: str, *, little: bool, signed: bool) -> Lut | None:
    """The first table of a sequence."""
    items = _items(ds, keyword)
    return read_lut(items[0], "LUT", little=little, signed=signed) if items else None
