"""Slices of a healthy head in all three planes, as PNG files for `neurodense train --partial FOLDER=notumor`.

Collections of tumours show few healthy slices from the base of the skull, so a model takes that level itself for a sign
of a tumour. One whole healthy head shows it what is there without one:

    python examples/healthy_slices.py ch2.nii.gz healthy-head
    neurodense train DATA --out RUN --groups groups.csv --partial healthy-head=notumor

ch2.nii.gz is Colin27, the mean of 27 T1 scans of one man (Holmes et al., J Comput Assist Tomogr 1998; 22:324-333). The
package `mricron-data` of Debian has it, in /usr/share/mricron/templates.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurodense import atomic
from neurodense.errors import ScanError
from neurodense.scans.nifti import read_nifti

PLANES = ("sagittal", "coronal", "axial")  # across the axes of a volume in RAS: right, anterior, superior
WHITE = 99.8  # percentile of the volume's voxels that is shown as white
HEAD = 0.1  # of white; brighter voxels are head
LEAST_HEAD = 0.03  # of a slice's area, below which it is left out


def slices_of(volume: NDArray[np.generic], every: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and picture, uint8 (H, W), of each slice that shows some head.

    Args:
        volume: (X, Y, Z) in RAS: to the right, to the front, up; of even spacing.
        every: One slice in so many voxels.
    """
    grey = (volume.astype(np.float32) / np.percentile(volume, WHITE)).clip(0, 1)
    for axis, plane in enumerate(PLANES):
        for k in range(every // 2, volume.shape[axis], every):
            picture = np.rot90(np.take(grey, k, axis=axis))  # front or crown at the top
            if (picture > HEAD).mean() >= LEAST_HEAD:
                yield f"{plane}-{k:03d}.png", (255 * picture).round().astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("volume", type=Path, help="NIfTI file of one head, with voxels as wide as they are high")
    parser.add_argument("out", type=Path, help="folder for the PNG files")
    parser.add_argument("--every", type=int, default=3, help="one slice in so many voxels (3)")
    given = parser.parse_args()
    if given.every < 1:
        parser.error(f"--every must be 1 or more; got --every {given.every}")
    try:
        volume = read_nifti(given.volume)
    except ScanError as error:
        parser.error(str(error))
    if volume.window is None:
        parser.error(f"{given.volume} is in colour; a volume of grey levels is needed")
    written = 0
    try:
        for name, picture in slices_of(volume.voxels[::-1, ::-1], given.every):  # from left, back, up
            with atomic.replacing(given.out / name) as temporary:
                Image.fromarray(picture).save(temporary)
            written += 1
    except OSError as error:
        parser.error(f"{error.strerror or error} ({error.filename}); {written} slices are there. Give another folder.")
    print(f"{given.out}: {written} slices of {', '.join(PLANES)} planes")


if __name__ == "__main__":
    main()
