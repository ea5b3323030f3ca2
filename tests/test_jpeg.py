"""The short way into a JPEG: the samples of Pillow, and whatever is not ordinary left to it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurodense.errors import ScanError
from neurodense.scans import raster
from neurodense.scans.jpeg import plain_jpeg
from neurodense.scans.read import read_scan


def jpeg(mode: str, size: tuple[int, int] = (61, 47), **options: Any) -> bytes:
    """A JPEG of smooth structure and some noise, in every channel another."""
    rng = np.random.default_rng(3)
    rows, columns = np.mgrid[: size[1], : size[0]]
    waves = [np.sin(rows / (5 + k)) * np.cos(columns / (3 + k)) for k in range(len(Image.new(mode, (1, 1)).getbands()))]
    pixels = np.clip(127 + 110 * np.stack(waves, -1) + rng.normal(0, 12, (*size[::-1], len(waves))), 0, 255)
    image = Image.fromarray(pixels.astype(np.uint8).squeeze(), mode)
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def taken(data: bytes) -> np.ndarray | None:
    return plain_jpeg(data, raster.MIN_SIDE, raster.MAX_PIXELS)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("subsampling", [None, "4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(64, 64), (61, 47), (9, 200)])
def test_the_samples_are_pillows_to_the_bit(
    subsampling: str | None,
    options: dict[str, Any],
    size: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = jpeg("L", size, **options) if subsampling is None else jpeg("RGB", size, subsampling=subsampling, **options)
    assert taken(data) is not None
    path = tmp_path / "one.jpg"
    path.write_bytes(data)
    short = read_scan(path)
    monkeypatch.setattr(raster, "plain_jpeg", lambda *_: None)
    long = read_scan(path)
    assert np.array_equal(short.pixels, long.pixels)
    assert short.pixels.dtype == long.pixels.dtype == np.float32
    assert (short.source, short.bit_depth, short.format, short.notes) == (
        long.source,
        long.bit_depth,
        long.format,
        long.notes,
    )


def test_what_is_not_ordinary_is_left_to_pillow() -> None:
    exif = Image.Exif()
    exif[274] = 6  # lies on its side
    whole = jpeg("L")
    assert taken(whole) is not None
    for data in (
        jpeg("CMYK"),
        jpeg("L", exif=exif),
        whole[: len(whole) // 2],  # cut off
        whole[:-2],  # without its end
        jpeg("L", (raster.MIN_SIDE - 1, 40)),
        whole + b"\xff\xda" * 200,  # too many passes
        b"\xff\xd8\xff",
        b"",
    ):
        assert taken(data) is None
    assert plain_jpeg(whole, 8, 61 * 47 - 1) is None


def test_a_turned_one_is_still_turned_and_a_cut_one_an_error(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    turned, cut = tmp_path / "turned.jpg", tmp_path / "cut.jpg"
    turned.write_bytes(jpeg("L", exif=exif))
    cut.write_bytes(jpeg("L")[:400])
    scan = read_scan(turned)
    assert scan.pixels.shape == (61, 47)
    assert scan.notes == ("turned as its EXIF orientation says",)
    with pytest.raises(ScanError, match="cannot be decoded"):
        read_scan(cut)
