"""Reading: every kind of sample against its rule, computed here from pixels that are known."""

import os
import socket
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import mutations
from neurodense.errors import DataError, ScanError
from neurodense.scans import raster
from neurodense.scans.read import SUFFIXES, read_scan

HALF = 0.501 / 255  # an 8-bit value is rounded once
ROWS, COLUMNS = 12, 10


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def grey(rng):
    return rng.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)


@pytest.fixture
def colour(rng):
    return rng.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)


@pytest.fixture
def deep(rng):
    """16-bit samples that leave most of the range unused, as scanners' files do."""
    return rng.integers(0, 4000, (ROWS, COLUMNS), dtype=np.uint16)


def luma(rgb):
    """ITU-R 601, of values in [0, 255], as a share of 255."""
    return (0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]) / 255


def png(path, samples, bits, kind, width=COLUMNS, height=ROWS):
    """Write a PNG by hand. `samples`: (rows, bytes a row); `kind`: 0 grey, 2 RGB, 4 grey + alpha."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(row) for row in samples)
    end = chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + end)
    return path


def tiff(path, samples, bits, kind=1, photometric=1, order="<", side=None, **other):
    """Write a TIFF by hand: one uncompressed strip. `kind` is the SampleFormat: 1 unsigned, 2 signed, 3 float.

    `side` is a lie about both sides; `other` are short tags by number (`t273=...`) in place of those below, None to
    leave one out.
    """
    body = samples if isinstance(samples, bytes) else samples.tobytes()
    tags = [
        (256, side or COLUMNS), (257, side or ROWS), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1),
        (278, ROWS), (279, len(body)), (339, kind),
    ]  # fmt: skip
    changed = {**dict(tags), **{int(name[1:]): value for name, value in other.items()}}
    tags = sorted((tag, value) for tag, value in changed.items() if value is not None)
    entries = b"".join(struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    path.write_bytes(head + body + struct.pack(f"{order}H", len(tags)) + entries + bytes(4))
    return path


def saved(path, pixels, **options):
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(path, **options)
    return path


def check(path, expected, bit_depth, atol=1e-7, notes=None):
    scan = read_scan(path)
    if notes is not None:
        assert scan.notes == notes
    assert scan.pixels.dtype == np.float32
    assert scan.pixels.flags.c_contiguous
    assert scan.bit_depth == bit_depth
    assert scan.source == str(path)
    assert scan.pixels.min() >= 0
    assert scan.pixels.max() <= 1
    np.testing.assert_allclose(scan.pixels, expected, rtol=0, atol=atol)


# ---- every kind of sample ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.bmp"])
def test_grey_8_bit_is_value_over_255(tmp_path, grey, name):
    check(saved(tmp_path / name, grey), grey / 255, 8)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.bmp", "x.webp"])
def test_colour_is_luma(tmp_path, colour, name):
    options = {"lossless": True} if name.endswith("webp") else {}
    check(saved(tmp_path / name, colour, **options), luma(colour), 8, HALF)


def test_jpeg_grey_and_colour(tmp_path):
    steps = np.repeat(np.repeat(np.array([[0, 90], [180, 255]], np.uint8), 16, 0), 16, 1)
    check(saved(tmp_path / "grey.jpg", steps, quality=100), steps / 255, 8, 1.1 / 255)
    rgb = np.stack([steps, steps[::-1], np.full_like(steps, 40)], axis=-1)
    check(saved(tmp_path / "colour.jpg", rgb, quality=100, subsampling=0), luma(rgb), 8, 3 / 255)


def test_jpeg_in_print_colours(tmp_path):
    path = saved(tmp_path / "x.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 155)), quality=100)
    check(path, np.full((16, 16), 100 / 255), 8, 2 / 255)


def test_palette_is_luma_of_its_colours(tmp_path, rng):
    palette = rng.integers(0, 256, (5, 3), dtype=np.uint8)
    index = rng.integers(0, 5, (ROWS, COLUMNS), dtype=np.uint8)
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    for name in ("x.png", "x.bmp", "x.tif"):
        check(saved(tmp_path / name, image), luma(palette[index]), 8, HALF)


@pytest.mark.parametrize("kind", ["bytes", "one index"])
def test_transparent_palette_lies_on_black(tmp_path, rng, kind):
    palette = rng.integers(100, 256, (5, 3), dtype=np.uint8)
    index = rng.integers(0, 5, (ROWS, COLUMNS), dtype=np.uint8)
    alpha = np.array([255, 0, 128, 255, 30] if kind == "bytes" else [255, 255, 0, 255, 255])
    image = Image.fromarray(index)
    image.putpalette(palette.tobytes())
    path = saved(tmp_path / "x.png", image, transparency=bytes(alpha.tolist()) if kind == "bytes" else 2)
    check(path, luma(palette[index]) * alpha[index] / 255, 8, 2 * HALF)


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_grey_with_alpha_lies_on_black(tmp_path, grey, rng, name):
    alpha = rng.integers(0, 256, grey.shape, dtype=np.uint8)
    image = Image.merge("LA", (Image.fromarray(grey), Image.fromarray(alpha)))
    check(saved(tmp_path / name, image), grey / 255 * (alpha / 255), 8, 2 * HALF)


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif"])
def test_colour_with_alpha_lies_on_black(tmp_path, colour, rng, name):
    alpha = rng.integers(0, 256, colour.shape[:2], dtype=np.uint8)
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    path = saved(tmp_path / name, np.dstack([colour, alpha]), **options)
    check(path, luma(colour) * alpha / 255, 8, 2 * HALF)


def test_a_transparent_grey_level_lies_on_black(tmp_path, grey):
    grey[3] = 200
    path = saved(tmp_path / "x.png", grey, transparency=200)
    check(path, np.where(grey == 200, 0, grey) / 255, 8, notes=("transparency laid over black",))


def test_a_transparent_level_of_16_bits_lies_on_black(tmp_path, deep):
    deep[3] = 1234
    path = saved(tmp_path / "x.png", deep, transparency=1234)
    check(path, np.where(deep == 1234, 0, deep) / 65535, 16, notes=("transparency laid over black",))


def test_an_opaque_alpha_channel_is_not_worth_a_note(tmp_path, grey):
    image = Image.merge("LA", (Image.fromarray(grey), Image.new("L", (COLUMNS, ROWS), 255)))
    check(saved(tmp_path / "x.png", image), grey / 255, 8, notes=())


def test_grey_times_alpha_in_a_tiff_is_as_it_lies_on_black(tmp_path, grey):
    pairs = np.dstack([grey // 2, np.full_like(grey, 128)])  # ExtraSamples 1: associated alpha
    extra = struct.pack("<HHIHH", 338, 3, 1, 1, 0)
    path = tiff(tmp_path / "x.tif", pairs, 8, t277=2)
    content = path.read_bytes()
    place = 8 + pairs.size
    count = struct.unpack_from("<H", content, place)[0]
    entries = content[place + 2 : place + 2 + 12 * count]
    entries = entries[:-12] + extra + entries[-12:]
    path.write_bytes(content[:place] + struct.pack("<H", count + 1) + entries + bytes(4))
    check(path, grey // 2 / 255, 8, notes=("transparency laid over black",))


@pytest.mark.parametrize("name", ["x.tif", "x.gif"])
def test_the_other_colours_of_tiff_and_gif(tmp_path, rng, name):
    """YCbCr gives its Y; a GIF's palette is luma."""
    colour = rng.integers(0, 256, (ROWS, COLUMNS, 3), dtype=np.uint8)
    if name == "x.gif":
        image = Image.fromarray(colour).quantize(7)
        check(saved(tmp_path / name, image), luma(np.asarray(image.convert("RGB"))), 8, HALF, notes=())
    else:
        image = Image.fromarray(colour).convert("YCbCr")
        check(saved(tmp_path / name, image), np.asarray(image)[..., 0] / 255, 8, notes=())


def test_lab_gives_the_grey_of_the_same_lightness(tmp_path):
    """CIE 15 and IEC 61966-2-1, from a grey to its lightness, here; back again, in the reader."""
    grey = np.linspace(0, 1, 16 * 16).reshape(16, 16)
    linear = np.where(grey <= 0.04045, grey / 12.92, ((grey + 0.055) / 1.055) ** 2.4)
    lightness = np.where(linear > (6 / 29) ** 3, 116 * np.cbrt(linear) - 16, linear * (29 / 3) ** 3)
    bands = [np.rint(lightness * 2.55), np.full((16, 16), 128), np.full((16, 16), 128)]
    image = Image.merge("LAB", [Image.fromarray(band.astype(np.uint8)) for band in bands])
    path = saved(tmp_path / "x.tif", image)
    check(path, grey, 8, 1.5 / 255, notes=("grey of the CIELAB lightness",))


def test_signed_8_bits_are_signed(tmp_path, rng):
    values = rng.integers(-100, 100, (ROWS, COLUMNS)).astype(np.int8)
    path = tiff(tmp_path / "x.tif", values, 8, kind=2)
    note = f"stretched from {values.min()} ... {values.max()}, the range of its own samples"
    check(path, stretched(values), 8, 1e-6, notes=(note,))


@pytest.mark.parametrize(
    ("type_", "kind", "what"), [("<f2", 3, "float, 16"), ("<f8", 3, "float, 64"), ("<i8", 2, "signed integer, 64")]
)
def test_samples_that_pillow_does_not_read_are_named(tmp_path, rng, type_, kind, what):
    values = rng.integers(0, 100, (ROWS, COLUMNS)).astype(type_)
    path = tiff(tmp_path / "x.tif", values, values.itemsize * 8, kind)
    reason = refused(path, f"is a TIFF that is not read: its samples are {what} bits, little-endian")
    assert reason.endswith("Samples of 8 or 16 bits and of 32-bit float are.")


def test_a_tiff_must_say_which_is_white(tmp_path, grey):
    refused(tiff(tmp_path / "x.tif", grey, 8, t262=None), "does not say whether zero is black or white")


@pytest.mark.parametrize(("name", "format_"), [("jpg", "JPEG"), ("webp", "WEBP"), ("png", "PNG"), ("gif", "GIF")])
def test_a_resolution_for_paper_is_no_spacing(tmp_path, grey, name, format_):
    scan = read_scan(saved(tmp_path / f"x.{name}", grey, dpi=(72, 72)))
    assert (scan.format, scan.spacing, scan.orientation, scan.plane) == (format_, None, None, None)
    assert scan.notes == ()


def test_adobe_or_not_a_jpeg_of_four_components_is_inverted(tmp_path):
    path = saved(tmp_path / "x.jpg", Image.new("CMYK", (16, 16), (0, 0, 0, 155)), quality=100)
    content = path.read_bytes()
    adobe = content.find(b"\xff\xeeAdobe"[:2])
    assert content[adobe + 4 : adobe + 9] == b"Adobe"
    path.write_bytes(content[:adobe] + content[adobe + 2 + struct.unpack_from(">H", content, adobe + 2)[0] :])
    check(path, np.full((16, 16), 100 / 255), 8, 2 / 255)


def test_print_colours_in_a_tiff_are_not_inverted(tmp_path):
    path = saved(tmp_path / "x.tif", Image.new("CMYK", (16, 16), (0, 0, 0, 155)))
    check(path, np.full((16, 16), 100 / 255), 8, HALF)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.bmp"])
def test_1_bit_is_0_or_1(tmp_path, rng, name):
    bits = rng.integers(0, 2, (ROWS, COLUMNS)).astype(bool)
    check(saved(tmp_path / name, bits), bits, 1, 0)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_fill_the_range(tmp_path, rng, bits):
    values = rng.integers(0, 2**bits, (ROWS, 16))
    values[:, COLUMNS:] = 0  # a row ends on a byte
    planes = values[..., None] >> np.arange(bits - 1, -1, -1) & 1
    packed = np.packbits(planes.reshape(ROWS, -1), axis=1)
    path = png(tmp_path / "x.png", packed[:, : -(-COLUMNS * bits // 8)], bits, 0)
    check(path, values[:, :COLUMNS] / (2**bits - 1), 8)


# ---- deep samples -----------------------------------------------------------------------------------------------


def test_16_bit_grey_is_scaled_by_its_depth_not_by_its_maximum(tmp_path, deep):
    expected = deep / 65535
    assert expected.max() < 0.07
    check(saved(tmp_path / "x.png", deep), expected, 16)
    check(png(tmp_path / "by-hand.png", deep.astype(">u2").view(np.uint8), 16, 0), expected, 16)
    check(saved(tmp_path / "x.tif", deep), expected, 16)
    check(saved(tmp_path / "packed.tif", deep, compression="tiff_lzw"), expected, 16)
    check(tiff(tmp_path / "little.tif", deep.astype("<u2"), 16), expected, 16)
    check(tiff(tmp_path / "big.tif", deep.astype(">u2"), 16, order=">"), expected, 16)


def test_16_bit_colour_gives_its_upper_8_bits(tmp_path, rng, deep):
    rgb = rng.integers(0, 65536, (ROWS, COLUMNS, 3)).astype(">u2")
    path = png(tmp_path / "rgb.png", rgb.view(np.uint8).reshape(ROWS, -1), 16, 2)
    check(path, luma(rgb >> 8), 8, HALF)
    pairs = np.dstack([deep * 16, np.full_like(deep, 65535)]).astype(">u2")
    path = png(tmp_path / "la.png", pairs.view(np.uint8).reshape(ROWS, -1), 16, 4)
    check(path, (deep * 16 >> 8) / 255, 8, HALF)


def test_12_bit_tiff_is_scaled_by_4095(tmp_path, rng):
    values = rng.integers(0, 4096, (ROWS, COLUMNS))
    values[0, :2] = 0, 4095
    bits = values[..., None] >> np.arange(11, -1, -1) & 1
    path = tiff(tmp_path / "x.tif", np.packbits(bits.reshape(ROWS, -1), axis=1).tobytes(), 12)
    check(path, values / 4095, 12)


@pytest.mark.parametrize("order", ["<", ">"])
def test_8_bit_tiff_of_both_byte_orders(tmp_path, grey, order):
    check(tiff(tmp_path / "x.tif", grey, 8, order=order), grey / 255, 8)


def test_a_tiff_in_which_zero_is_white_is_inverted(tmp_path, grey, deep):
    notes = ("inverted: zero is white in the file",)
    check(tiff(tmp_path / "8.tif", grey, 8, photometric=0), 1 - grey / 255, 8, notes=notes)
    check(tiff(tmp_path / "16.tif", deep.astype("<u2"), 16, photometric=0), 1 - deep / 65535, 16, notes=notes)
    real = deep.astype("<f4")
    path = tiff(tmp_path / "f.tif", real, 32, kind=3, photometric=0)
    check(path, 1 - (real - real.min()) / np.ptp(real), 32, 1e-6)


def stretched(values):
    values = values.astype(np.float64)
    return (values - values.min()) / (values.max() - values.min())


@pytest.mark.parametrize(("type_", "kind", "bits"), [("i2", 2, 16), ("i4", 2, 32), ("f4", 3, 32)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_and_float_samples_are_stretched(tmp_path, rng, type_, kind, bits, order):
    values = rng.integers(-3000, 3000, (ROWS, COLUMNS)).astype(order + type_)
    check(tiff(tmp_path / "x.tif", values, bits, kind, order=order), stretched(values), bits, 1e-6)


def test_unsigned_32_bits_do_not_wrap(tmp_path, rng):
    values = rng.integers(0, 2**32, (ROWS, COLUMNS)).astype("<u4")
    check(tiff(tmp_path / "x.tif", values, 32), stretched(values), 32, 1e-6)


def test_32_bit_files_of_pillow(tmp_path, rng):
    values = rng.normal(0, 1e30, (ROWS, COLUMNS)).astype(np.float32)
    check(saved(tmp_path / "f.tif", values), stretched(values), 32, 1e-6)
    values = rng.integers(-(2**31), 2**31, (ROWS, COLUMNS)).astype(np.int32)
    check(saved(tmp_path / "i.tif", values), stretched(values), 32, 1e-6)


def test_a_flat_float_image_is_black(tmp_path):
    check(saved(tmp_path / "x.tif", np.full((ROWS, COLUMNS), -5.5, np.float32)), np.zeros((ROWS, COLUMNS)), 32)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_samples_must_be_finite(tmp_path, value):
    values = np.zeros((ROWS, COLUMNS), np.float32)
    values[3, 3] = value
    with pytest.raises(ScanError, match=r"x\.tif holds values that are not finite"):
        read_scan(saved(tmp_path / "x.tif", values))


# ---- orientation, pages, names ----------------------------------------------------------------------------------

# EXIF 2.3, tag 274: where the stored row 0 and column 0 belong in the upright image.
STORED = {
    1: lambda upright: upright,  # top, left
    2: lambda upright: upright[:, ::-1],  # top, right
    3: lambda upright: upright[::-1, ::-1],  # bottom, right
    4: lambda upright: upright[::-1],  # bottom, left
    5: lambda upright: upright.T,  # left, top
    6: lambda upright: upright[:, ::-1].T,  # right, top
    7: lambda upright: upright[::-1, ::-1].T,  # right, bottom
    8: lambda upright: upright[::-1].T,  # left, bottom
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("name", ["x.jpg", "x.tif", "packed.tif", "16.tif", "x.png", "x.webp"])
def test_exif_orientation_gives_the_upright_image(tmp_path, name, orientation):
    upright = np.zeros((24, 40), np.uint8)
    upright[:8, :16], upright[8:, :8], upright[16:, 32:] = 250, 160, 80
    stored = np.ascontiguousarray(STORED[orientation](upright))
    exif = Image.Exif()
    exif[274] = orientation
    deep = name == "16.tif"
    options = {"x.jpg": {"quality": 100}, "x.webp": {"lossless": True}, "packed.tif": {"compression": "tiff_lzw"}}
    samples = stored.astype(np.uint16) * 257 if deep else stored
    path = saved(tmp_path / name, samples, exif=exif, **options.get(name, {}))
    notes = () if orientation == 1 else ("turned as its EXIF orientation says",)
    check(path, upright / 255, 16 if deep else 8, 1.1 / 255 if name == "x.jpg" else 1e-6, notes)


@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.jpg"])
@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0XX\0\x2a\0\0\0\x08\0\0", b"\xff" * 30])
def test_a_broken_exif_block_does_not_cost_the_image(tmp_path, grey, name, block):
    options = {"quality": 100} if name == "x.jpg" else {"lossless": True}
    check(saved(tmp_path / name, grey, exif=block, **options), grey / 255, 8, 3 / 255)


@pytest.mark.parametrize("name", ["x.webp", "x.tif", "big.tif", "x.png", "x.gif"])
def test_an_animation_or_several_pages_give_the_first(tmp_path, grey, name):
    rest = [Image.fromarray(255 - grey), Image.fromarray(grey // 2)]
    options = {"x.webp": {"lossless": True}, "big.tif": {"big_tiff": True}}.get(name, {})
    path = saved(tmp_path / name, grey, save_all=True, append_images=rest, **options)
    with Image.open(path) as image:
        assert image.n_frames == 3
    check(path, grey / 255, 8, notes=("first of 3 pages" if name.endswith("tif") else "first of 3 frames",))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("name", ["x.jpg", "x.JPG", "no suffix", "x.txt", "ü [1] (2).png", "a'b\".tiff"])
def test_the_content_decides_not_the_name(tmp_path, grey, kind, name):
    check(saved(tmp_path / name, grey, format=kind), grey / 255, 8)


def test_the_source_is_what_the_caller_says(tmp_path, grey):
    path = saved(tmp_path / "x.png", grey)
    assert read_scan(path, "patient 3").source == "patient 3"
    assert read_scan(str(path)).source == str(path)


def test_suffixes_are_lower_case():
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"} <= SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in SUFFIXES)


# ---- what cannot be read ----------------------------------------------------------------------------------------


def refused(path, reason):
    """The error names the file as the caller does, and says `reason`."""
    with pytest.raises(ScanError) as caught:
        read_scan(path, "slice 7")
    assert isinstance(caught.value, DataError)
    assert caught.value.message.startswith("slice 7 ")
    assert reason in caught.value.message
    return caught.value.message


def test_missing_folder_and_empty(tmp_path):
    refused(tmp_path / "x.png", "does not exist")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "is a folder, not an image file")
    (tmp_path / "empty.png").touch()
    refused(tmp_path / "empty.png", "is empty (0 bytes)")
    refused(tmp_path / "empty.png" / "x.png", "cannot be opened: ")
    refused(tmp_path / ("x" * 300 + ".png"), "cannot be opened: ")
    refused(tmp_path / "nul\0.png", "cannot be decoded: ")


def test_no_permission_is_called_so(tmp_path, grey, monkeypatch):
    def forbidden(*_, **__):
        raise PermissionError(13, "Permission denied", "/somewhere/else")

    path = saved(tmp_path / "x.png", grey)
    monkeypatch.setattr(Path, "open", forbidden)
    assert refused(path, "cannot be opened") == "slice 7 cannot be opened: Permission denied."


@pytest.mark.parametrize("content", [b"path,label\n", b"\0" * 500, b"GIF90a", b"%PDF-1.7", b"\x89PNG\r\n"])
def test_what_is_no_image(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    assert "JPEG, PNG, TIFF, BMP, WEBP, GIF" in refused(path, "that can be read, whatever its name says")


def test_other_formats_are_not_opened(tmp_path, grey):
    for suffix in ("ppm", "ico", "pdf", "eps"):
        refused(saved(tmp_path / f"x.{suffix}", grey), "that can be read")


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.bmp", "x.webp"])
def test_truncated(tmp_path, rng, name):
    path = saved(tmp_path / name, rng.integers(0, 256, (64, 64), dtype=np.uint8))
    whole = path.read_bytes()
    for share in (0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path, "" if name in ("x.tif", "x.webp") else "cannot be decoded: ")


def test_too_large_and_too_small(tmp_path, grey, monkeypatch):
    path = saved(tmp_path / "x.png", grey)
    monkeypatch.setattr(raster, "MAX_PIXELS", ROWS * COLUMNS)
    read_scan(path)
    monkeypatch.setattr(raster, "MAX_PIXELS", ROWS * COLUMNS - 1)
    refused(path, "is 10 x 12 pixels; at most 119 in all are read")
    refused(saved(tmp_path / "y.png", grey[:7]), "is 10 x 7 pixels; each side must have at least 8")
    read_scan(saved(tmp_path / "z.png", grey[:8, :8]))


@pytest.mark.parametrize("side", [8193, 60_000, 2**31 - 1])
def test_a_header_that_claims_too_much_is_refused_before_memory_is_asked_for(tmp_path, side):
    reason = f"is {side} x {side} pixels; at most 67,108,864 in all are read"
    refused(png(tmp_path / "x.png", [], 8, 0, side, side), reason)
    if side == 60_000:
        refused(tiff(tmp_path / "x.tif", b"", 8, side=side), reason)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    refused(tmp_path / "x.png", "is a pipe, a socket or a device")
    refused("/dev/zero", "is a pipe, a socket or a device")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        refused(tmp_path / "s.png", "is a pipe, a socket or a device")


def test_links(tmp_path, grey):
    saved(tmp_path / "x.png", grey)
    (tmp_path / "good.png").symlink_to("x.png")
    check(tmp_path / "good.png", grey / 255, 8)
    (tmp_path / "a.png").symlink_to("b.png")
    (tmp_path / "b.png").symlink_to("a.png")
    refused(tmp_path / "a.png", "cannot be opened: ")
    (tmp_path / "c.png").symlink_to("nowhere")
    refused(tmp_path / "c.png", "does not exist")


def test_a_file_that_vanishes_or_shrinks_while_it_is_read(tmp_path, grey, monkeypatch):
    path = saved(tmp_path / "x.tif", grey)
    stat = Path.stat

    def gone(self, **options):
        result = stat(self, **options)
        self.unlink()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", gone)
        refused(path, "does not exist")
    path = saved(tmp_path / "x.tif", grey)

    def shrinks_before(self, **options):
        result = stat(self, **options)
        os.truncate(self, 100)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", shrinks_before)
        refused(path, "")
    path = saved(tmp_path / "x.tif", grey)
    pages = raster.count_pages

    def shrinks(file, source):
        os.truncate(path, 100)
        return pages(file, source)

    monkeypatch.setattr("neurodense.scans.read._AT_ONCE", 0)  # a large file is read piece by piece
    monkeypatch.setattr(raster, "count_pages", shrinks)
    refused(path, "")


def test_every_check_sum_of_a_png_is_compared(tmp_path, grey):
    path = saved(tmp_path / "x.png", grey)
    content = path.read_bytes()
    place = 8
    while place < len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        wrong = bytearray(content)
        wrong[place + 8 + length] ^= 1
        path.write_bytes(wrong)
        refused(path, f"cannot be decoded: the check sum of its {kind.decode()!r} chunk is wrong")
        place += 12 + length
    path.write_bytes(content[:-12])
    refused(path, "cannot be decoded: it is cut off")
    path.write_bytes(content + b"more")
    read_scan(path)


def test_a_tiff_that_points_beyond_its_end(tmp_path, grey):
    refused(tiff(tmp_path / "x.tif", grey, 8, t273=60_000), "cannot be decoded: ")
    path = tiff(tmp_path / "y.tif", grey, 8)
    content = bytearray(path.read_bytes())
    content[4:8] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    refused(path, "")


@pytest.mark.parametrize("height", [13, 2000])
@pytest.mark.parametrize("kind", ["PNG", "interlaced PNG", "TIFF", "tiled TIFF", "planar TIFF", "packed TIFF", "BMP"])
def test_rows_that_are_not_in_the_file_are_no_black_ones(tmp_path, rng, kind, height):
    """A header that claims more rows than the file has: Pillow leaves them black in most of these."""
    path = tmp_path / "x"
    samples = rng.integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)
    if kind == "PNG":
        png(path, samples, 8, 0, height=height)
    elif kind == "interlaced PNG":
        content = bytearray(mutations.interlaced(samples))
        struct.pack_into(">I", content, 20, height)
        path.write_bytes(mutations.png_sums(bytes(content)))
    elif kind == "BMP":
        content = bytearray(saved(path, samples, format="BMP").read_bytes())
        struct.pack_into("<i", content, 22, height)
        path.write_bytes(content)
    elif kind == "TIFF":
        tiff(path, samples, 8, t257=height)
    elif kind == "tiled TIFF":
        tiles = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        tiff(path, tiles, 8, t257=height + 4, t273=None, t278=None, t279=None, t322=16, t323=16, t324=8, t325=256)
    elif kind == "planar TIFF":
        tiff(path, samples, 8, photometric=2, t277=3, t284=2)
    else:
        saved(path, samples, format="TIFF", compression="tiff_lzw")
        content = bytearray(path.read_bytes())
        field = content.index(struct.pack("<HHIH", 257, 3, 1, ROWS)) + 8
        content[field : field + 2] = struct.pack("<H", height)
        path.write_bytes(content)
    refused(path, "")


def test_a_tile_is_no_larger_than_the_largest_image(tmp_path, grey):
    path = tiff(tmp_path / "x.tif", grey, 8, t259=8, t322=40_000, t323=40_000, t324=8, t325=60, t273=None, t279=None)
    refused(path, "is a TIFF in tiles of 40000 x 40000 pixels; at most 67,108,864 are read")


def test_a_png_with_more_pixels_than_it_says_is_read(tmp_path, grey):
    check(png(tmp_path / "x.png", grey, 8, 0, height=ROWS - 2), grey[:-2] / 255, 8)


def quickly(path, seconds=2.0):
    """Read or be refused, in a time that leaves room for a machine that is busy elsewhere."""
    start = time.perf_counter()
    try:
        return read_scan(path)
    except ScanError as error:
        return error
    finally:
        assert time.perf_counter() - start < seconds


def test_a_jpeg_of_a_thousand_passes_is_refused(tmp_path):
    """Each is 14 bytes or so and costs a pass over the whole image: hours, for a file of a few megabytes."""
    path = saved(tmp_path / "x.jpg", Image.new("L", (2000, 2000), 128), progressive=True)
    assert read_scan(path).pixels.shape == (2000, 2000)
    content = path.read_bytes()
    last = content.rfind(b"\xff\xda")
    repeated = content[content.rfind(b"\xff\xc4", 0, last) : -2]
    path.write_bytes(content[:-2] + repeated * 10_000 + b"\xff\xd9")
    assert "is a JPEG of more than 100 passes" in quickly(path).message


def test_directories_of_a_tiff_are_counted_without_being_read(tmp_path, grey):
    """60,000 that overlap, and 4,000 tags in the first."""
    path = tiff(tmp_path / "x.tif", grey, 8)
    content = path.read_bytes()
    first = struct.unpack_from("<I", content, 4)[0]
    count = struct.unpack_from("<H", content, first)[0]
    at = len(content)
    chain = b"".join(struct.pack("<HI", 0, at + 6 * (k + 1)) for k in range(60_000)) + struct.pack("<HI", 0, first)
    path.write_bytes(content[: first + 2 + 12 * count] + struct.pack("<I", at) + chain)
    assert quickly(path).notes == ("first of 60,002 pages",)
    tags = b"".join(struct.pack("<HHII", 60_000 + k, 4, 1, 0) for k in range(4000))
    path.write_bytes(content[:first] + struct.pack("<H", count + 4000) + content[first + 2 : -4] + tags + bytes(4))
    assert "is a TIFF with 4,010 tags; no more than 1,000 are read" in quickly(path).message


def test_one_long_side_is_read_in_bounded_memory(tmp_path):
    """30,000 x 2,000 pixels: in a process that may have 700 MB more than it begins with."""
    resource = pytest.importorskip("resource")
    path = saved(tmp_path / "x.png", np.zeros((2000, 30_000), np.uint8))
    program = (
        "import resource, sys; from pathlib import Path; from neurodense.scans.read import read_scan\n"
        "begun = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (begun + 700 * 2**20,) * 2)\n"
        "print(read_scan(sys.argv[1]).pixels.shape)\n"
    )
    if not os.path.exists("/proc/self/statm"):  # noqa: PTH110
        pytest.skip("memory is limited as Linux does")
    assert resource
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("(2000, 30000)\n", "")


def test_too_little_memory_is_one_error(tmp_path, grey, monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(raster, "_scaled", none_left)
    refused(saved(tmp_path / "x.png", grey), "does not fit into memory")


def test_libtiff_is_heard_and_does_not_print(tmp_path, capfd, rng):
    """A fax image with a bad code word is an error, where Pillow gives the noise that libtiff made of it."""
    path = saved(tmp_path / "x.tif", rng.integers(0, 2, (64, 64)).astype(bool), compression="group4")
    content = bytearray(path.read_bytes())
    content[20:40] = bytes(20)
    path.write_bytes(content)
    assert "libtiff says Fax4Decode: " in refused(path, "cannot be decoded: ")
    assert capfd.readouterr() == ("", "")


def test_what_others_do_with_libtiff_is_still_printed(tmp_path, rng):
    path = saved(tmp_path / "x.tif", rng.integers(0, 2, (64, 64)).astype(bool), compression="group4")
    content = bytearray(path.read_bytes())
    content[20:40] = bytes(20)
    path.write_bytes(content)
    program = (
        "import sys; from PIL import Image; from neurodense.scans.read import read_scan\n"
        "try: read_scan(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__)\n"
        "Image.open(sys.argv[1]).load()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "ScanError\n"
    assert "Fax4Decode: Bad code word at line" in done.stderr


def test_the_callers_warning_filters_are_left_as_they_were(tmp_path, grey):
    path = saved(tmp_path / "x.tif", grey)
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<HHI", 259, 3, 1), struct.pack("<HHI", 259, 3, 9)))  # Pillow warns
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        quickly(path)
    assert not escaped
    assert warnings.filters == before


def test_threads_may_be_the_first_to_read_with_warnings_as_errors(tmp_path, grey, colour):
    for k in range(4):
        saved(tmp_path / f"{k}.png", grey)
        saved(tmp_path / f"{k}.tif", grey)
        saved(tmp_path / f"{k}.webp", colour)
        saved(tmp_path / f"{k}.bmp", grey)
        saved(tmp_path / f"{k}.jpg", colour)
    program = (
        "import sys; from pathlib import Path; from concurrent.futures import ThreadPoolExecutor\n"
        "from neurodense.scans.read import read_scan\n"
        "files = sorted(Path(sys.argv[1]).iterdir()) * 5\n"
        "with ThreadPoolExecutor(8) as pool: scans = list(pool.map(read_scan, files))\n"
        "print(sum(scan.pixels.shape == (12, 10) for scan in scans))\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-W", "error", "-c", program, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["100"]
