"""Read a NIfTI-1 or NIfTI-2 file (.nii, .nii.gz, or .hdr beside .img) as a stack of axial slices.

- **Orientation.** The sform where the header has one, else the qform, turned to the nearest axes of the patient (what
  nibabel calls the closest canonical orientation): patient's right on the picture's left, anterior at the top, slices
  from the feet upwards. Always axial slices, whatever plane was scanned. Where neither form can be used, the axes are
  taken as Analyze meant them (left, anterior, superior), and the notes say so.
- **Intensity.** One window for the whole volume, so that slices can be compared; MR has no unit. Voxels at the volume's
  minimum are set aside: that is the value outside the field of view, or around a brain that was cut out. Of the rest
  the 0.5th percentile becomes 0; of those of them above their mean (the foreground of Nyul, Udupa and Zhang, IEEE
  Trans. Med. Imaging 19:143, 2000; the mean after clipping at the 99.5th) the 99.5th becomes 1. Of more
  than `SAMPLE` voxels, every n-th row and column is counted.
- **Scale factors.** scl_slope and scl_inter change nothing that such a window would keep, but for the sign: a negative
  slope inverts. A slope of 0, or one that is not finite, means no scaling, as the standard says.
- NaN and infinite voxels are black, and the notes say so.
- RGB and RGBA are pictures already: ITU-R 601 luma over black, no window.
- Of four and more dimensions, the first volume is read, and the notes say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import ScanError
from neurodense.scans.memory import File, as_file
from neurodense.scans.nifti_file import first_volume
from neurodense.scans.scan import Scan

SUFFIXES = frozenset({".nii", ".nii.gz"})
"""What a folder is searched for, in lower case."""
SAMPLE = 2**22
"""Voxels that the percentiles are taken of."""
OBLIQUE_DEG = 20
"""Slices tilted by more are said to be: clinical ones follow the skull base, some 10 to 15 degrees off."""

MIN_SIDE = 8  # fewer pixels than this on a side show no anatomy
_UNITS = {1: 1000.0, 3: 0.001}  # millimetres in a metre and in a micron, by their codes in xyzt_units
_LUMA = {"R": 0.299, "G": 0.587, "B": 0.114}
_FLAT = 1e-3


@dataclass(frozen=True, eq=False)
class Volume:
    """Axial slices from the feet upwards; `read` gives one.

    Attributes:
        source: The file, as the caller named it.
        voxels: As stored, (X, Y, Z): X to the patient's left, Y to the back, Z upwards.
        window: The values that become 0 and 1; None for colour.
        sign: -1 where the scale factor is negative and the voxels count as inverted, else 1.
        spacing: Millimetres between rows and between columns, or None.
        gap: Millimetres between slices; None where that is not known.
        orientation: "LP", or None where the file does not say.
        notes: What a reader of a result should know.
    """

    source: str
    voxels: NDArray[Any]
    window: tuple[float, float] | None
    sign: float
    spacing: tuple[float, float] | None
    gap: float | None
    orientation: str | None
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.voxels.shape[2])

    def read(self, index: int) -> Scan:
        """Slice `index`, from 0; its name counts from 1, and a volume of one slice gives it under the volume's own."""
        plane = self.voxels[:, :, index].T  # rows to the back, columns to the left
        if self.window is None:
            pixels, bit_depth = _luma(plane), 8
        else:
            low, high = self.window
            with np.errstate(all="ignore"):  # a signalling NaN, a range beyond float64
                values = (plane.astype(np.float64) * self.sign - low) / (high - low)
            pixels = np.where(np.isfinite(values), values, 0).clip(0, 1).astype(np.float32)
            bit_depth = plane.dtype.itemsize * 8
        source = f"{self.source}#{index + 1}" if len(self) > 1 else self.source
        pixels = np.ascontiguousarray(pixels)
        return Scan(pixels, source, bit_depth, "NIfTI", self.spacing, self.orientation, self.notes)


def read_nifti(path: str | File, source: str | None = None) -> Volume:
    """Read the first volume of `path`.

    Args:
        path: A .nii or .nii.gz file, or the .hdr file of a pair; the content decides, not the name.
        source: The name that it carries; the path where None.

    Raises:
        ScanError: The file is missing, truncated, damaged, no NIfTI, or states what cannot be or is not read.
    """
    path = as_file(path)
    source = str(path) if source is None else source
    header, voxels, count = first_volume(path, source)
    with np.errstate(all="ignore"):  # what overflows or is no number is looked at where it matters
        return _oriented(voxels, header, source, [f"first of {count:,} volumes"] if count > 1 else [])


def _oriented(voxels: NDArray[Any], header: Any, source: str, notes: list[str]) -> Volume:
    from nibabel.affines import obliquity
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    affine, sizes = _affine(header)
    if affine is None:
        notes.append("the file states no usable orientation: its axes are taken as left, anterior, superior")
    elif (tilt := math.degrees(float(obliquity(affine).max()))) > OBLIQUE_DEG:
        notes.append(f"the slices are tilted by {tilt:.0f} degrees against the patient's axes")
    turn = ornt_transform(axcodes2ornt("LAS") if affine is None else io_orientation(affine), axcodes2ornt("LPS"))
    voxels = apply_orientation(voxels, turn)
    width, height, count = voxels.shape
    if min(width, height) < MIN_SIDE:
        raise ScanError(
            f"{source} has axial slices of {width} x {height} pixels; each side must have at least {MIN_SIDE}."
        )
    sizes = sizes[np.argsort(turn[:, 0])] * _UNITS.get(int(header["xyzt_units"]) % 8, 1.0)
    x_mm, y_mm, z_mm = (float(size) if math.isfinite(size) and size > 0 else None for size in sizes)
    if voxels.dtype.kind == "f" and not all(np.isfinite(voxels[:, :, k]).all() for k in range(count)):
        notes.append("voxels that are not finite are shown black")
    slope = float(header["scl_slope"])
    sign = -1.0 if math.isfinite(slope) and slope < 0 else 1.0
    return Volume(
        source,
        voxels,
        None if voxels.dtype.names else _window(voxels, sign, source),
        sign,
        None if x_mm is None or y_mm is None else (y_mm, x_mm),
        z_mm,
        None if affine is None else "LP",
        tuple(notes),
    )


def _affine(header: Any) -> tuple[NDArray[np.float64] | None, NDArray[np.float64]]:
    """Voxel to patient (right, anterior, superior), or None where neither form can be used; and the voxel's sides."""
    from nibabel.spatialimages import HeaderDataError

    stated = np.abs(header["pixdim"][1:4].astype(np.float64))
    header["pixdim"][1:4] = np.where(stated > 0, stated, 1)  # a size of 0 spoils the size, not the direction
    if header["pixdim"][0] not in (-1, 1):
        header["pixdim"][0] = 1  # as the standard has it
    for code, form in (("sform_code", header.get_sform), ("qform_code", header.get_qform)):
        if int(header[code]) <= 0:
            continue
        try:
            affine = np.asarray(form(), dtype=np.float64)
        except (HeaderDataError, ValueError):  # a quaternion longer than 1
            continue
        sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        # The volume that the three unit axes span: 1 for a rotation, 0 where they lie in one plane.
        if np.isfinite(sizes).all() and sizes.all() and abs(np.linalg.det(affine[:3, :3] / sizes)) > _FLAT:
            return affine, sizes if code == "sform_code" else stated
    return None, stated


def _window(voxels: NDArray[Any], sign: float, source: str) -> tuple[float, float]:
    step = math.ceil(math.sqrt(max(1, voxels.size / SAMPLE)))
    values = voxels[::step, ::step].astype(np.float64).ravel()
    values = values[np.isfinite(values)] * sign
    if not values.size:
        raise ScanError(f"{source} holds no finite voxel.")
    inside = values[values > values.min()]
    if not inside.size:
        raise ScanError(f"{source} holds the value {values[0] * sign:g} in every voxel: there is nothing to see.")
    low, top = np.percentile(inside, (0.5, 99.5))
    foreground = inside[inside > np.minimum(inside, top).mean()]  # a few wild values must not move the mean
    high = np.percentile(foreground if foreground.size else inside, 99.5)
    if not high > low:  # two values, as in a mask
        low, high = values.min(), values.max()
    if not math.isfinite(high - low):
        raise ScanError(f"{source} holds values from {low:g} to {high:g}, more than can be scaled.")
    return float(low), float(high)


def _luma(plane: NDArray[Any]) -> NDArray[np.float32]:
    grey = sum(plane[name].astype(np.float32) * np.float32(weight) for name, weight in _LUMA.items())
    if "A" in (plane.dtype.names or ()):
        grey = grey * (plane["A"].astype(np.float32) / 255)
    return np.asarray(grey / 255, dtype=np.float32).clip(0, 1)
