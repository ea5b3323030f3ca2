"""Sound DICOM and NIfTI files: those of DICOM come with pydicom, one or two for each way of coding pixels."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

DICOM = {
    "DICOM native": (
        "MR_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
    ),
    "DICOM colour": ("SC_ybr_full_422_uncompressed.dcm",),
    "DICOM deflated": ("image_dfl.dcm",),
    "DICOM RLE": ("MR_small_RLE.dcm", "SC_rgb_rle_16bit_2frame.dcm"),
    "DICOM JPEG": ("SC_rgb_dcmtk_+eb+cr.dcm", "JPGExtended.dcm"),
    "DICOM JPEG-LS": ("MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_16.dcm"),
    "DICOM JPEG 2000": ("MR_small_jp2klossless.dcm", "693_J2KI.dcm"),
    "DICOM no picture": ("test-SR.dcm", "rtdose_1frame.dcm"),
}


def dicom_files() -> list[tuple[str, bytes]]:
    """(way of coding, content) of DICOM files."""
    files = [(name, _shipped(file)) for name, shipped in DICOM.items() for file in shipped]
    return [*files, ("DICOM JPEG lossless", _lossless(_shipped("MR_small.dcm")))]


def nifti_volume(pixels: NDArray[np.uint8]) -> bytes:
    """A NIfTI-1 volume of five slices, each `pixels`, uint8 of shape (H, W), less bright from slice to slice."""
    voxels = np.stack([pixels.T // (k + 1) for k in range(5)], axis=2).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 4.0, 1.0]))
    return bytes(image.to_bytes())


def _shipped(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"pydicom ships no {name}"
    return Path(path).read_bytes()


def _lossless(content: bytes) -> bytes:
    dataset = pydicom.dcmread(BytesIO(content))
    coded = lossless_jpeg((dataset.pixel_array & 0x7FFF).astype(np.uint16), 16)
    dataset.PixelData = encapsulate([coded])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    file = BytesIO()
    pydicom.dcmwrite(file, dataset)
    return file.getvalue()


def lossless_jpeg(pixels: NDArray[np.unsignedinteger], bits: int) -> bytes:
    """ISO/IEC 10918-1 annex H by hand: predictor 1 (the left neighbour), each category a code of 5 bits."""
    values = pixels.astype(int)
    predicted = np.empty_like(values)
    predicted[:, 1:] = values[:, :-1]
    predicted[1:, 0] = values[:-1, 0]
    predicted[0, 0] = 1 << (bits - 1)
    stream = ""
    for difference in ((values - predicted + 32768) % 65536 - 32768).ravel().tolist():
        size = abs(difference).bit_length()
        stream += f"{size:05b}"
        if 0 < size < 16:
            stream += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    stream += "1" * (-len(stream) % 8)
    coded = int(stream, 2).to_bytes(len(stream) // 8, "big").replace(b"\xff", b"\xff\x00")
    frame = struct.pack(">BHHB3B", bits, *pixels.shape, 1, 1, 0x11, 0)
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11]) + bytes(range(17))
    return b"".join(
        [
            b"\xff\xd8\xff\xc3", struct.pack(">H", 2 + len(frame)), frame,
            b"\xff\xc4", struct.pack(">H", 2 + len(table)), table,
            b"\xff\xda", struct.pack(">H6B", 8, 1, 1, 0, 1, 0, 0), coded, b"\xff\xd9",
        ]
    )  # fmt: skip
