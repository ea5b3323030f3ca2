"""DICOM files against pydicom's raw pixels and formulas that are written out here."""

import io
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from benchmarks.volumes import lossless_jpeg
from neurodense.errors import ScanError
from neurodense.scans.dicom import open_dicom

ROWS, COLUMNS = 40, 36
EXACT = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": "LINEAR_EXACT"}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def values(rng):
    """12-bit values, shape (ROWS, COLUMNS)."""
    return rng.integers(0, 4096, (ROWS, COLUMNS)).astype(np.uint16)


def dataset(pixels, syntax=ExplicitVRLittleEndian, colour=False, **elements):
    """An MR image of `pixels`: (rows, columns), or with frames in front, or colours behind."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.SeriesInstanceUID = MRImageStorage, generate_uid(), generate_uid()
    shape = pixels.shape[:-1] if colour else pixels.shape
    ds.Rows, ds.Columns = shape[-2:]
    if len(shape) == 3:
        ds.NumberOfFrames = shape[0]
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    ds.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    bits = 8 * pixels.dtype.itemsize
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    if "HighBit" not in elements:
        ds.HighBit = ds.BitsStored - 1
    data = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")).tobytes()
    ds.PixelData = data + bytes(len(data) % 2)
    ds["PixelData"].VR = "OW" if bits > 8 else "OB"
    return ds


def saved(path, ds):
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def written(path, pixels, **options):
    return saved(path, dataset(pixels, **options))


def pixels_of(path, frame=0):
    scan = open_dicom(path).read(frame)
    assert scan.pixels.dtype == np.float32
    assert scan.pixels.flags.c_contiguous
    assert scan.pixels.min() >= 0
    assert scan.pixels.max() <= 1
    assert (scan.format, scan.source) == ("DICOM", str(path))
    return scan.pixels


def close(path, expected, atol=1e-6):
    np.testing.assert_allclose(pixels_of(path), expected, rtol=0, atol=atol)


def lut_item(entries, first, bits, data=None):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new("LUTData", *(("US", [int(entry) for entry in entries]) if data is None else ("OW", data)))
    return item


# ---- windows: Part 3, C.11.2.1.2 and C.11.2.1.3, pixel by pixel ----------------------------------------------------


def linear(x, c, w):
    if x <= c - 0.5 - (w - 1) / 2:
        return 0.0
    if x > c - 0.5 + (w - 1) / 2:
        return 1.0
    return (x - (c - 0.5)) / (w - 1) + 0.5


def linear_exact(x, c, w):
    return 0.0 if x <= c - w / 2 else 1.0 if x > c + w / 2 else (x - c) / w + 0.5


def sigmoid(x, c, w):
    return 1 / (1 + np.exp(min(-4 * (x - c) / w, 700)))


@pytest.mark.parametrize(
    ("function", "formula"),
    [(None, linear), ("LINEAR", linear), ("LINEAR_EXACT", linear_exact), ("SIGMOID", sigmoid)],
)
@pytest.mark.parametrize(("centre", "width"), [(1500, 900), (2048.5, 1), (-50, 4000)])
def test_window_behind_rescale(tmp_path, values, function, formula, centre, width):
    elements = {"WindowCenter": centre, "WindowWidth": width, "RescaleSlope": 1.5, "RescaleIntercept": -1000}
    if function:
        elements["VOILUTFunction"] = function
    path = written(tmp_path / "x", values, BitsStored=12, **elements)
    close(path, np.vectorize(formula)(values * 1.5 - 1000.0, centre, width))
    assert open_dicom(path).read().bit_depth == 12


def test_of_several_windows_the_first_counts(tmp_path, values):
    path = written(tmp_path / "x", values, WindowCenter=[1000, 30], WindowWidth=[700, 80])
    close(path, np.vectorize(linear)(values, 1000, 700))


def test_a_linear_window_narrower_than_one_is_exact(tmp_path, values):
    path = written(tmp_path / "x", values, RescaleSlope=0.0001, RescaleIntercept=0, WindowCenter=0.2, WindowWidth=0.3)
    close(path, np.vectorize(linear_exact)(values * 0.0001, 0.2, 0.3))


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 40, "WindowWidth": 0}, {"WindowCenter": 9}])
def test_without_a_window_percentiles_are_shown(tmp_path, values, window):
    path = written(tmp_path / "x", values.astype(np.int16) - 1000, **window)
    low, high = np.percentile(values - 1000.0, [0.5, 99.5])
    close(path, np.clip((values - 1000.0 - low) / (high - low), 0, 1))


def test_up_to_8_bits_are_a_picture_already(tmp_path, rng):
    eight = rng.integers(20, 90, (ROWS, COLUMNS)).astype(np.uint8)
    close(written(tmp_path / "8", eight), eight / 255)
    close(written(tmp_path / "7", eight, BitsStored=7), eight / 127)


def test_an_image_of_one_value_is_black(tmp_path):
    close(written(tmp_path / "x", np.full((9, 9), 700, np.uint16)), np.zeros((9, 9)))


# ---- inversion, tables, padding ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME2", None, False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_inverted_once_and_after_the_window(tmp_path, values, photometric, shape, inverted):
    more = {"PresentationLUTShape": shape} if shape else {}
    path = written(
        tmp_path / "x", values, PhotometricInterpretation=photometric, WindowCenter=900, WindowWidth=1000, **more
    )
    shown = np.vectorize(linear)(values, 900, 1000)
    close(path, 1 - shown if inverted else shown)


def test_modality_lut_goes_before_rescale(tmp_path, values, rng):
    entries = rng.integers(0, 65536, 3000)
    path = written(
        tmp_path / "x", values, ModalityLUTSequence=[lut_item(entries, 500, 16)], RescaleSlope=7, RescaleIntercept=3,
        WindowCenter=32768, WindowWidth=65536, VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    looked_up = entries[np.clip(values.astype(int) - 500, 0, 2999)]
    close(path, looked_up / 65536)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_voi_lut(tmp_path, values, rng, syntax):
    entries = rng.integers(0, 1024, 2000)
    words = entries.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    expected = entries[np.clip(values.astype(int) - 1000, 0, 1999)] / 1023
    for name, data in (("us", None), ("ow", words)):
        item = lut_item(entries, 1000, 10, data)
        close(written(tmp_path / name, values, syntax=syntax, VOILUTSequence=[item], WindowWidth=3), expected)


def test_voi_lut_of_bytes_and_of_negative_values(tmp_path, values, rng):
    entries = rng.integers(0, 256, 1000)
    signed = values.astype(np.int16) - 2000
    item = lut_item(entries, -500, 8, entries.astype(np.uint8).tobytes())
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        path = written(tmp_path / syntax, signed, syntax=syntax, VOILUTSequence=[item])
        close(path, entries[np.clip(signed.astype(int) + 500, 0, 999)] / 255)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_takes_no_part(tmp_path, values, syntax, photometric):
    signed = values.astype(np.int16)
    signed[:6] = -2000
    path = written(
        tmp_path / "x", signed, syntax=syntax, PhotometricInterpretation=photometric, PixelPaddingValue=-2000
    )
    inside = signed[6:].astype(float)
    low, high = np.percentile(inside, [0.5, 99.5])
    shown = np.clip((inside - low) / (high - low), 0, 1)
    expected = np.zeros(signed.shape)
    expected[6:] = 1 - shown if photometric == "MONOCHROME1" else shown
    close(path, expected)


def test_padding_range_and_padding_of_the_wrong_sign(tmp_path, values):
    signed = values.astype(np.int16)
    signed[:3], signed[3:6] = -2000, -1990
    ds = dataset(signed, PixelPaddingRangeLimit=-1990, **EXACT)
    ds.add_new("PixelPaddingValue", "US", 65536 - 2000)
    close(saved(tmp_path / "x", ds), np.where(signed < 0, 0, signed / 4096))


def test_nothing_but_padding_is_black(tmp_path):
    close(written(tmp_path / "x", np.full((9, 9), 7, np.uint16), PixelPaddingValue=7), np.zeros((9, 9)))


# ---- samples -------------------------------------------------------------------------------------------------------


def test_overlay_bits_are_masked_and_signs_extended(tmp_path, values, rng):
    overlay = rng.integers(0, 16, values.shape).astype(np.uint16) << 12
    close(written(tmp_path / "u", values | overlay, BitsStored=12, **EXACT), values / 4096)
    signed = (values.astype(int) - 2048).astype(np.int16)
    raw = ((signed.view(np.uint16) & 0x0FFF) | overlay).view(np.int16)
    path = written(tmp_path / "s", raw, BitsStored=12, WindowCenter=0, WindowWidth=4096, VOILUTFunction="LINEAR_EXACT")
    close(path, (signed + 2048) / 4096)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_high_bit_above_the_stored_bits(tmp_path, values, syntax):
    close(written(tmp_path / "x", (values << 4) | 5, syntax=syntax, BitsStored=12, HighBit=15, **EXACT), values / 4096)


@pytest.mark.parametrize("kind", ["u4", "i4", "u1", "i1"])
def test_other_integers(tmp_path, rng, kind):
    info = np.iinfo(kind)
    stored = rng.integers(info.min, info.max, (ROWS, COLUMNS), dtype=np.dtype(kind), endpoint=True)
    width = float(info.max) - info.min
    path = written(
        tmp_path / "x", stored, WindowCenter=info.min + width / 2, WindowWidth=width, VOILUTFunction="LINEAR_EXACT"
    )
    close(path, (stored.astype(float) - info.min) / width)


def test_one_bit_with_frames_that_do_not_end_with_a_byte(tmp_path, rng):
    bits = rng.integers(0, 2, (3, 9, 11)).astype(np.uint8)
    ds = dataset(bits, BitsStored=1)
    ds.BitsAllocated = 1
    ds.PixelData = np.packbits(bits.ravel(), bitorder="little").tobytes()
    path = saved(tmp_path / "x", ds)
    for frame in range(3):
        assert np.array_equal(pixels_of(path, frame), bits[frame])


@pytest.mark.parametrize(("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_float_pixels_and_what_is_not_finite(tmp_path, rng, keyword, kind):
    stored = rng.normal(0, 3, (ROWS, COLUMNS)).astype(kind)
    stored[0, :4] = np.nan, np.inf, -np.inf, np.nan
    ds = dataset(stored)
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    setattr(ds, keyword, stored.tobytes())
    path = saved(tmp_path / "x", ds)
    inside = stored[np.isfinite(stored)].astype(float)
    low, high = np.percentile(inside, [0.5, 99.5])
    expected = np.clip((np.where(np.isfinite(stored), stored, -1e9).astype(float) - low) / (high - low), 0, 1)
    close(path, expected)


# ---- colours -------------------------------------------------------------------------------------------------------


def luma(rgb, top=255):
    return (0.299 * rgb[..., 0] + 0.587 * rgb[..., 1] + 0.114 * rgb[..., 2]) / top


@pytest.fixture
def rgb(rng):
    return rng.integers(0, 256, (ROWS, COLUMNS, 3)).astype(np.uint8)


def test_rgb_by_pixel_by_plane_and_deep(tmp_path, rgb):
    close(written(tmp_path / "0", rgb, colour=True), luma(rgb))
    ds = dataset(rgb, colour=True, PlanarConfiguration=1)
    ds.PixelData = rgb.transpose(2, 0, 1).tobytes()
    close(saved(tmp_path / "1", ds), luma(rgb))
    deep = rgb.astype(np.uint16) * 200
    close(written(tmp_path / "16", deep, colour=True), luma(deep, 65535))


def test_ybr_is_its_luma(tmp_path, rng):
    ybr = rng.integers(100, 156, (ROWS, COLUMNS, 3)).astype(np.uint8)  # no colour outside of RGB, so Y is the luma
    path = written(tmp_path / "full", ybr, colour=True, PhotometricInterpretation="YBR_FULL")
    close(path, ybr[..., 0] / 255, atol=1.1 / 255)
    ds = dataset(ybr, colour=True, PhotometricInterpretation="YBR_FULL_422")
    y, chroma = ybr[..., 0].reshape(ROWS, -1, 2), ybr[:, ::2, 1:]
    ds.PixelData = np.concatenate([y, chroma], axis=-1).tobytes()
    close(saved(tmp_path / "422", ds), ybr[..., 0] / 255, atol=1.1 / 255)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits", [8, 16])
def test_palette(tmp_path, rng, syntax, bits):
    index = rng.integers(0, 120, (ROWS, COLUMNS)).astype(np.uint8)
    table = rng.integers(0, 2**bits, (3, 100))
    ds = dataset(index, syntax=syntax, PhotometricInterpretation="PALETTE COLOR")
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [100, 10, bits])
        setattr(ds, f"{colour}PaletteColorLookupTableData", entries.astype(f"{order}u{bits // 8}").tobytes())
    rgb = table[:, np.clip(index.astype(int) - 10, 0, 99)].transpose(1, 2, 0)
    close(saved(tmp_path / "x", ds), luma(rgb, 2**bits - 1))


def test_segmented_palette(tmp_path):
    """Discrete 0 10 20, linear to 200 in 9 steps, and the discrete one once more: C.7.9.2."""
    words = [0, 3, 0, 10, 20, 1, 9, 200, 2, 1, 0, 0]
    expected = [0, 10, 20, *(20 * i for i in range(2, 11)), 0, 10, 20]
    index = np.arange(64).reshape(8, 8).astype(np.uint8)
    ds = dataset(index, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [15, 0, 16])
        setattr(ds, f"Segmented{colour}PaletteColorLookupTableData", np.array(words, "<u2").tobytes())
    close(saved(tmp_path / "x", ds), np.array(expected)[np.clip(index, 0, 14)] / 65535)
    for colour in ("Red", "Green", "Blue"):  # each word asks for 65,535 entries
        data = np.array([0, 1, 7] + [1, 65535, 9] * 3000, "<u2").tobytes()
        setattr(ds, f"Segmented{colour}PaletteColorLookupTableData", data)
    tracemalloc.start()
    pixels_of(saved(tmp_path / "bomb", ds))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


# ---- transfer syntaxes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(tmp_path, values, rng, syntax):
    close(written(tmp_path / "x", values, syntax=syntax, **EXACT), values / 4096)
    odd = rng.integers(0, 256, (3, 9, 11)).astype(np.uint8)
    path = written(tmp_path / "odd", odd, syntax=syntax)
    for frame in range(3):
        np.testing.assert_allclose(pixels_of(path, frame), odd[frame] / 255, atol=1e-6)


def test_big_endian_bytes_in_words(tmp_path, rng):
    """8-bit pixels as OW, each pair of bytes swapped (Part 5, 8.1.2)."""
    pixels = rng.integers(0, 256, (8, 10)).astype(np.uint8)
    ds = dataset(pixels, syntax=ExplicitVRBigEndian)
    ds.PixelData = pixels.ravel().reshape(-1, 2)[:, ::-1].tobytes()
    ds["PixelData"].VR = "OW"
    close(saved(tmp_path / "x", ds), pixels / 255)


@pytest.mark.parametrize(
    ("syntax", "library"),
    [(RLELossless, "pydicom"), (JPEGLSLossless, "jpeg_ls"), (JPEG2000Lossless, "openjpeg")],
)
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_compression(tmp_path, values, syntax, library, signed):
    pytest.importorskip(library)
    frames = np.stack([values, values[::-1], values // 2])
    if signed:
        frames = frames.astype(np.int16) - 2048
    ds = dataset(
        frames, BitsStored=12, WindowCenter=0 if signed else 2048, WindowWidth=4096, VOILUTFunction="LINEAR_EXACT"
    )
    ds.compress(syntax, encoding_plugin={"jpeg_ls": "pyjpegls", "openjpeg": "pylibjpeg"}.get(library, library))
    path = saved(tmp_path / "x", ds)
    for frame, expected in enumerate(frames):
        np.testing.assert_allclose(pixels_of(path, frame), (expected + 2048.0 * signed) / 4096, rtol=0, atol=1e-6)


def test_near_lossless(tmp_path, values):
    pytest.importorskip("jpeg_ls")
    ds = dataset(values, BitsStored=12, **EXACT)
    ds.compress(JPEGLSNearLossless, jls_error=3, encoding_plugin="pyjpegls")
    path = saved(tmp_path / "x", ds)
    error = np.abs(pixels_of(path) * 4096 - values)
    assert 0 < error.max() <= 3.01


def jpeg(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def test_jpeg_baseline_grey_and_colour(tmp_path):
    y, x = np.mgrid[:40, :48]
    grey = (x * 3 + y).astype(np.uint8)
    ds = dataset(grey, syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([jpeg(grey)])
    close(saved(tmp_path / "grey", ds), grey / 255, atol=3 / 255)
    rgb = np.stack([grey, grey // 2, 255 - grey], axis=-1)
    ds = dataset(rgb, syntax=JPEGBaseline8Bit, colour=True, PhotometricInterpretation="YBR_FULL_422")
    ds.PixelData = encapsulate([jpeg(rgb, subsampling=0)])
    ds.LossyImageCompression = "01"
    path = saved(tmp_path / "colour", ds)
    close(path, luma(rgb), atol=4 / 255)
    assert open_dicom(path).read().notes == ("was compressed with loss",)


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_jpeg_lossless(tmp_path, values, syntax, bits):
    pytest.importorskip("gdcm")
    pixels = (values % 256).astype(np.uint8) if bits == 8 else values * (16 if bits == 16 else 1)
    ds = dataset(
        pixels, syntax=syntax, BitsStored=bits, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits,
        VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    ds.PixelData = encapsulate([lossless_jpeg(pixels, bits)])
    close(saved(tmp_path / "x", ds), pixels / 2**bits)


def test_12_bit_jpeg_extended(capfd):
    """The values that pydicom's own tests state for this file."""
    pytest.importorskip("gdcm")
    stored, _ = open_dicom(get_testdata_file("JPGExtended.dcm", download=False)).values(0)
    capfd.readouterr()  # libjpeg says on the way that it first tried 8 bits
    assert (stored[420, 140], stored[230, 120]) == (244, 95)


@pytest.mark.parametrize("table", ["none", "basic", "extended"])
def test_frames_in_fragments(tmp_path, rng, table):
    """Each frame in three fragments; where no table says where frames begin, the end marker does."""
    frames = rng.integers(0, 256, (4, 16, 16)).astype(np.uint8)
    coded = [jpeg(frame) for frame in frames]
    ds = dataset(frames, syntax=JPEGBaseline8Bit)
    if table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(coded)
    else:
        ds.PixelData = encapsulate(coded, fragments_per_frame=3, has_bot=table == "basic")
    path = saved(tmp_path / "x", ds)
    for k in (2, 0, 3):
        expected = np.asarray(Image.open(io.BytesIO(coded[k]))) / 255
        np.testing.assert_allclose(pixels_of(path, k), expected, atol=1e-6)


def test_without_its_decoder_the_error_names_the_extra(tmp_path, values):
    pytest.importorskip("jpeg_ls")
    ds = dataset(values, BitsStored=12)
    ds.compress(JPEGLSLossless, encoding_plugin="pyjpegls")
    path = saved(tmp_path / "x", ds)
    code = (
        "import sys; sys.modules['jpeg_ls'] = sys.modules['gdcm'] = None\n"
        "from neurodense.scans.dicom import open_dicom\n"
        f"open_dicom({str(path)!r}).read()"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "neurodense.errors.ScanError" in out.stderr
    assert "JPEG-LS Lossless" in out.stderr
    assert "pip install 'neurodense[dicom]'" in out.stderr


def test_files_of_pydicom_decode_as_pydicom_does():
    """Each image among the files in pydicom's wheel: its raw pixels by pydicom, the rule written out here."""
    folder = Path(get_testdata_file("MR_small.dcm", download=False)).parent
    read = 0
    for path in sorted(folder.glob("*.dcm")):
        try:
            file = open_dicom(path)
            if file.frames > 1 or file.colour or file.layout.syntax == "1.2.840.10008.1.2.4.51":
                continue
            shown = file.read()
        except ScanError:
            continue
        with warnings.catch_warnings(action="ignore"):
            ds = pydicom.dcmread(path)
            raw = ds.pixel_array
        x = raw * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
        inside = x[raw != ds.PixelPaddingValue] if "PixelPaddingValue" in ds else x
        if "WindowCenter" in ds:
            first = [
                v[0] if isinstance(v, pydicom.multival.MultiValue) else v for v in (ds.WindowCenter, ds.WindowWidth)
            ]
            expected = np.vectorize(linear)(x, *map(float, first))
        elif ds.BitsStored == 8:
            expected = x / 255
        else:
            low, high = np.percentile(inside, [0.5, 99.5])
            expected = np.clip((x - low) / (high - low), 0, 1)
        np.testing.assert_allclose(shown.pixels, expected, atol=1e-5, err_msg=path.name)
        read += 1
    assert read >= 15
