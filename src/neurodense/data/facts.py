"""What can be said of an image without knowing what it shows: its file, compression, framing, greys and grain.

These facts are the look of an image: they follow the scanner, the program that exported it and the hand that cropped
it, rather than the anatomy. `glance` gathers them, the audit asks what they give away.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from neurodense.data import marks
from neurodense.scans.raster import FORMATS
from neurodense.scans.scan import Scan

BANDS: Final = 6
"""Octaves of spatial frequency below Nyquist, from fine to coarse, of which the energy is measured."""

PERCENTILES: Final = (1, 5, 25, 50, 75, 95, 99)

FACTS: Final = np.dtype(
    [
        ("bytes", "<u8"),
        ("format", "S8"),
        ("mode", "S8"),
        ("bit_depth", "u1"),
        ("width", "<u4"),  # as the pixels are used: after an EXIF turn
        ("height", "<u4"),
        ("exif", "?"),
        ("colour_profile", "?"),
        ("resolution", "?"),  # dots an inch are stated
        ("comment", "?"),
        ("quality", "<f4"),  # of a JPEG, on the scale of libjpeg; NaN elsewhere
        ("tables", "<u4"),  # CRC-32 of a JPEG's quantisation tables; 0 elsewhere
        ("subsampling", "i1"),  # of a JPEG's colour: 0 4:4:4, 1 4:2:2, 2 4:2:0; -1 other or none
        ("progressive", "?"),
        ("blockiness", "<f4"),  # log ratio of the steps across the borders of 8 x 8 blocks to the other steps
        ("colour", "<f4"),  # mean spread of red, green and blue, in [0, 1]
        ("top", "<f4"),  # empty margins, as shares of the side
        ("bottom", "<f4"),
        ("left", "<f4"),
        ("right", "<f4"),
        ("filled", "<f4"),  # share of the pixels that stand out from the background
        ("frame", "<f4"),  # brightest even line along an edge, where it stands out from what is inside; else 0
        ("glyphs", "<u2"),  # small sharp marks in a row outside the head, such as letters
        ("mean", "<f4"),
        ("deviation", "<f4"),
        ("percentiles", "<f4", (len(PERCENTILES),)),
        ("black", "<f4"),  # share of pixels at exactly the lowest value
        ("white", "<f4"),  # share of pixels at exactly the highest value
        ("background", "<f4"),  # median of the outermost ring
        ("background_noise", "<f4"),  # deviation within the darker half of the ring
        ("noise", "<f4"),  # log10 of the deviation of the noise, after Immerkaer
        ("bands", "<f4", (BANDS,)),  # log10 of the share of the energy in each octave
    ]
)
"""One record an image. Shares and brightness are in [0, 1]."""


def facts_of(path: Path, scan: Scan) -> NDArray[np.void]:
    """Measure one image: a record of `FACTS`, shape ().

    Args:
        path: The file, of which the header is read here.
        scan: What `read_image` made of it.
    """
    record = np.zeros((), FACTS)
    record["bytes"] = path.stat().st_size
    record["format"], record["bit_depth"] = scan.format.encode(), scan.bit_depth
    record["height"], record["width"] = scan.pixels.shape
    record["quality"], record["subsampling"] = np.nan, -1
    for name, value in (_header(path) | _pixels(scan.pixels)).items():
        record[name] = value
    return record


def _header(path: Path) -> dict[str, Any]:
    """What Pillow's header says; nothing where the file is none of Pillow's."""
    try:
        with path.open("rb") as file, Image.open(file, formats=FORMATS) as image:
            found: dict[str, Any] = {
                "format": (image.format or "").encode(),
                "mode": image.mode.encode(),
                "exif": "exif" in image.info,
                "colour_profile": "icc_profile" in image.info,
                "resolution": "dpi" in image.info,
                "comment": "comment" in image.info,
                "progressive": bool(image.info.get("progressive")),
            }
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                tables = image.quantization
                found["quality"] = _quality(tables)
                found["tables"] = zlib.crc32(repr(sorted((k, list(v)) for k, v in tables.items())).encode())
                if image.mode == "RGB":
                    found["subsampling"] = JpegImagePlugin.get_sampling(image)
            if image.mode in {"RGB", "RGBA", "P", "CMYK", "YCbCr"}:
                image.draft("RGB", (64, 64))  # a JPEG is decoded at an eighth of its size where that is enough
                image.thumbnail((64, 64))
                channels = np.asarray(image.convert("RGB"), dtype=np.float32)
                found["colour"] = float(np.ptp(channels, axis=2).mean() / 255)
            return found
    except Exception:  # the pixels were read; a header that Pillow stumbles over only says less
        return {}


_LUMINANCE_SUM = 3691
"""Of the luminance table in Annex K of ITU-T T.81, which libjpeg takes as quality 50."""


def _quality(tables: Mapping[int, Sequence[int]]) -> float:
    """The quality setting of libjpeg, inverted from the sum of the luminance table; approximate at both ends."""
    scale = 100 * sum(tables[min(tables)]) / _LUMINANCE_SUM
    return float(np.clip(5000 / scale if scale > 100 else (200 - scale) / 2, 0, 100))


def _pixels(pixels: NDArray[np.float32]) -> dict[str, Any]:
    height, width = pixels.shape
    ring = max(1, round(0.03 * min(height, width)))
    edge = np.concatenate(
        [part.ravel() for part in (pixels[:ring], pixels[-ring:], pixels[:, :ring], pixels[:, -ring:])]
    )
    background = float(np.median(edge))
    dark = edge[edge <= background]
    levels = np.bincount((pixels * 255 + 0.5).astype(np.uint8).ravel(), minlength=256)  # enough for shares of grey
    percentiles = np.searchsorted(levels.cumsum(), np.array(PERCENTILES) / 100 * pixels.size) / 255
    span = max(float(percentiles[-1]) - background, 0.1)
    stands_out = np.abs(pixels - background) > max(0.15 * span, 4 / 255)
    rows, columns = (np.flatnonzero(stands_out.mean(axis=axis) > 0.02) for axis in (1, 0))
    top, bottom = (rows[0] / height, 1 - (rows[-1] + 1) / height) if rows.size else (0.5, 0.5)
    left, right = (columns[0] / width, 1 - (columns[-1] + 1) / width) if columns.size else (0.5, 0.5)
    return {
        "top": top,
        "bottom": bottom,
        "left": left,
        "right": right,
        "filled": stands_out.mean(),
        "frame": marks.frame(pixels),
        "glyphs": marks.glyphs(pixels, background + 0.35 * span),
        "mean": pixels.mean(),
        "deviation": pixels.std(),
        "percentiles": percentiles,
        "black": (pixels == pixels.min()).mean(),
        "white": (pixels == pixels.max()).mean(),
        "background": background,
        "background_noise": dark.std(),
        "noise": np.log10(_noise(pixels) + 1e-4),
        "bands": _bands(pixels),
        "blockiness": _blockiness(pixels),
    }


def _noise(pixels: NDArray[np.float32]) -> float:
    """Deviation of the noise by a mask that no plane and no ramp excites.

    Immerkaer (1996), "Fast noise variance estimation", Computer Vision and Image Understanding 64(2), 300-302.
    """
    rows = pixels[:-2] - 2 * pixels[1:-1] + pixels[2:]
    mask = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(mask).mean())


def _bands(pixels: NDArray[np.float32]) -> NDArray[np.float64]:
    """log10 of the share of the energy in each octave below Nyquist, of the central 256 x 256 pixels at most."""
    height, width = pixels.shape
    top, left = max(0, (height - 256) // 2), max(0, (width - 256) // 2)
    window = pixels[top : top + 256, left : left + 256]
    taper, octave = _octaves(*window.shape)
    power = np.abs(np.fft.rfft2((window - window.mean()) * taper)) ** 2
    energy = np.bincount(octave, power.ravel(), BANDS)
    return np.log10(energy / (energy.sum() or 1) + 1e-7)


@lru_cache(maxsize=64)
def _octaves(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """A window that falls to zero at the edges, (height, width), and the octave of each place of the spectrum, flat."""
    taper = (np.hanning(height)[:, None] * np.hanning(width)).astype(np.float32)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)) / 0.5  # 1 is Nyquist
    octave = np.clip(np.floor(-np.log2(np.maximum(frequency, 1e-9))), 0, BANDS - 1)
    return taper, octave.astype(np.intp).ravel()


def _blockiness(pixels: NDArray[np.float32]) -> float:
    """How much larger the steps at every eighth pixel are than the others, as a log ratio; 0 where nothing is."""
    if min(pixels.shape) < 24:
        return 0.0
    ratios = []
    for steps in (np.abs(np.diff(pixels, axis=1)).mean(axis=0), np.abs(np.diff(pixels, axis=0)).mean(axis=1)):
        border = np.arange(len(steps)) % 8 == 7
        ratios.append(np.log((steps[border].mean() + 1e-5) / (steps[~border].mean() + 1e-5)))
    return float(np.mean(ratios))
