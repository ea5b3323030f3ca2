"""DICOM files that are damaged, lie, hold no image, or hold a patient's name everywhere."""

import logging
import random
import re
import struct
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)
from test_dicom import dataset, jpeg, lossless_jpeg, lut_item, saved, written

from neurodense.errors import ScanError
from neurodense.scans import dicom_header
from neurodense.scans.dicom import is_dicom, open_dicom
from neurodense.scans.series import find_series

SECRET = "Zyx^Secret"


@pytest.fixture
def values():
    return np.random.default_rng(5).integers(0, 4096, (40, 36)).astype(np.uint16)


def fails(path, *parts):
    with pytest.raises(ScanError) as caught:
        open_dicom(path).read()
    message = str(caught.value)
    assert all(re.search(part, message) for part in (re.escape(str(path)), *parts)), message
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return message


# ---- what is DICOM -------------------------------------------------------------------------------------------------


def test_is_dicom_by_content(tmp_path, values):
    whole = written(tmp_path / "whole.txt", values).read_bytes()
    implicit = written(tmp_path / "implicit", values, syntax=ImplicitVRLittleEndian).read_bytes()
    big = written(tmp_path / "big", values, syntax=pydicom.uid.ExplicitVRBigEndian).read_bytes()
    first, first_big = b"\x08\x00\x16\x00", b"\x00\x08\x00\x16"
    for name, data in {
        "no preamble": whole[132:],
        "bare explicit": whole[whole.index(first) :],
        "bare implicit": implicit[implicit.index(first) :],
        "bare big-endian": big[big.index(first_big) :],
    }.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert is_dicom(path), name
        np.testing.assert_array_equal(open_dicom(path).read().pixels, open_dicom(tmp_path / "whole.txt").read().pixels)
    assert is_dicom(tmp_path / "whole.txt")


def test_other_files_are_not_dicom(tmp_path):
    generator = random.Random(3)
    path = tmp_path / "x"
    others = [
        b"",
        b"\x08",
        b"\x08\x00",
        b"\x08\x00\x05\x00",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        bytes(2000),
        b"DICM" * 8,
    ]
    others += [generator.randbytes(generator.randrange(1, 600)) for _ in range(60)]
    others += [b"\x08\x00" + generator.randbytes(generator.randrange(1, 600)) for _ in range(60)]
    for data in others:
        path.write_bytes(data)
        assert not is_dicom(path), data[:20]
    assert not is_dicom(tmp_path)
    assert not is_dicom(tmp_path / "missing")


def test_missing_folder_and_picture_say_what_they_are(tmp_path):
    fails(tmp_path / "missing", "does not exist")
    fails(tmp_path, "no file")
    (tmp_path / "x.dcm").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    fails(tmp_path / "x.dcm", "no DICOM file")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("test-SR.dcm", "Comprehensive SR Storage"),
        ("reportsi.dcm", "Basic Text SR Storage"),
        ("rtstruct.dcm", "RT Structure Set Storage"),
        ("rtplan.dcm", "RT Plan Storage"),
        ("rtdose.dcm", "RT Dose Storage"),
        ("waveform_ecg.dcm", "12-lead ECG Waveform Storage"),
        ("liver_1frame.dcm", "Segmentation Storage"),
        ("DICOMDIR", "Media Storage Directory Storage"),
    ],
)
def test_objects_without_an_image_are_named(name, kind):
    fails(get_testdata_file(name, download=False), "without an image", kind)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "Grayscale Softcopy Presentation State Storage"),
        ("1.2.3.4.5", "kind unknown"),
    ],
)
def test_made_objects_without_an_image(tmp_path, values, kind, name):
    ds = dataset(values, SOPClassUID=kind)
    del ds.PixelData
    message = fails(saved(tmp_path / "x", ds), name)
    assert "1.2.3.4.5" not in message


# ---- files that lie ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lie", "part"),
    [
        ({"Rows": 65535, "Columns": 65535}, "at most 67,108,864"),
        ({"Rows": 41}, "need 2,952 bytes, and 2,880 are there"),
        ({"NumberOfFrames": 10**9}, "1000000000 frames"),
        ({"NumberOfFrames": -3}, "-3 frames"),
        ({"Rows": 4}, "at least 8"),
        ({"Rows": None}, "Rows is missing"),
        ({"SamplesPerPixel": 3}, "3 samples"),
        ({"PhotometricInterpretation": "RGB"}, "1 samples"),
        ({"PhotometricInterpretation": SECRET}, "known are MONOCHROME1"),
        ({"BitsStored": 17, "HighBit": 16}, "17 bits"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "not read"),
        ({"BitsAllocated": 32}, "need 5,760"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "palette is missing"),
    ],
)
def test_headers_that_lie(tmp_path, values, lie, part):
    with warnings.catch_warnings(action="ignore"):
        path = written(tmp_path / "x", values, **lie)
    tracemalloc.start()
    message = fails(path, part)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert SECRET not in message


def test_a_syntax_that_is_not_read(tmp_path, values):
    ds = dataset(values, syntax="1.2.840.10008.1.2.4.100")
    ds.PixelData = encapsulate([b"ab"])
    fails(saved(tmp_path / "x", ds), "MPEG2")


@pytest.mark.parametrize("syntax", [JPEGBaseline8Bit, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1])
def test_a_codestream_of_another_size(tmp_path, values, syntax):
    small, large = (values[:32, :32] // 16).astype(np.uint8), (np.tile(values, (4, 4)) // 16).astype(np.uint8)
    ds = dataset(small, syntax=syntax)
    if syntax == JPEGBaseline8Bit:
        coded = jpeg(large)
    elif syntax == JPEGLosslessSV1:
        coded = lossless_jpeg(large, 8)
    else:
        pytest.importorskip("openjpeg" if syntax == JPEG2000Lossless else "jpeg_ls")
        other = dataset(large)
        other.compress(syntax, encoding_plugin="pylibjpeg" if syntax == JPEG2000Lossless else "pyjpegls")
        coded = pydicom.encaps.get_frame(other.PixelData, 0, number_of_frames=1)
    ds.PixelData = encapsulate([coded])
    fails(saved(tmp_path / "x", ds), "not of the size")


def test_frames_that_are_not_there(tmp_path, values):
    frame = (values // 16).astype(np.uint8)
    ds = dataset(np.stack([frame] * 3), syntax=JPEGBaseline8Bit)
    ds.PixelData = encapsulate([jpeg(frame)] * 3)
    ds.NumberOfFrames = 10**9
    fails(saved(tmp_path / "x", ds), "1000000000 frames, 3 are there")
    ds.NumberOfFrames = 3
    whole = saved(tmp_path / "whole", ds)
    with pytest.raises(ScanError, match="no frame 3"):
        open_dicom(whole).read(3)
    (tmp_path / "cut").write_bytes(whole.read_bytes()[:-200])
    fails(tmp_path / "cut", "truncated")


def test_a_deflated_bomb(tmp_path, values, monkeypatch):
    path = written(tmp_path / "x", values, syntax=DeflatedExplicitVRLittleEndian)
    data = path.read_bytes()
    meta = data[: 132 + 12 + struct.unpack_from("<I", data, 140)[0]]
    body = zlib.compressobj(wbits=-15)
    path.write_bytes(meta + body.compress(bytes(40_000_000)) + body.flush())
    monkeypatch.setattr(dicom_header, "MAX_INFLATED", 4_000_000)
    tracemalloc.start()
    fails(path, "inflates to more")
    assert tracemalloc.get_traced_memory()[1] < 15e6
    tracemalloc.stop()
    path.write_bytes(data[:-40])
    fails(path, "truncated")


def element(tag, vr, body, length=None):
    length = len(body) if length is None else length
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, length) + body


UNDEFINED = 0xFFFFFFFF
ITEM = b"\xfe\xff\x00\xe0" + bytes(4)
NESTED = b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "body",
    [
        element(0x00090010, b"SQ", ITEM * 150_000, UNDEFINED),
        element(0x52009230, b"SQ", ITEM * 150_000, UNDEFINED),
        element(0x52009230, b"SQ", ITEM * 150_000),
        element(0x00283010, b"SQ", ITEM * 150_000),
        element(0x00090010, b"SQ", NESTED * 30_000, UNDEFINED),
        element(0x00281050, b"DS", b"1\\" * 2_000_000)[:6] + struct.pack("<H", 0xFFFF) + b"1\\" * 2_000_000,
        element(0x00090010, b"OB", bytes(100), 0xFFFFFFF0),
        element(0x00090010, b"OB", bytes(100), UNDEFINED),
        element(0x00281201, b"OW", bytes(100), 0x7FFFFFFF),
    ],
    ids=["items", "groups", "long groups", "long table", "nested", "numbers", "too long", "no end", "palette"],
)  # fmt: skip
def test_headers_without_end(tmp_path, values, body, monkeypatch):
    """Elements before those of the picture that ask for far more than there is, or are far too many."""
    monkeypatch.setattr(dicom_header, "MAX_READS", 3_000)
    data = written(tmp_path / "x", values).read_bytes()
    at = data.index(struct.pack("<HH", 0x0028, 0x0002))
    (tmp_path / "x").write_bytes(data[:at] + body + data[at:])
    tracemalloc.start()
    start = time.perf_counter()
    try:
        fails(tmp_path / "x")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.perf_counter() - start < 20
    assert peak < 60e6


def test_every_truncation_is_an_error(tmp_path, values):
    frame = (values // 16).astype(np.uint8)
    coded = dataset(frame, syntax=JPEGBaseline8Bit)
    coded.PixelData = encapsulate([jpeg(frame)])
    for ds in (
        dataset(values, RescaleSlope=2, RescaleIntercept=1),
        dataset(values, syntax=ImplicitVRLittleEndian),
        coded,
    ):
        data = saved(tmp_path / "whole", ds).read_bytes()
        for cut in range(0, len(data) - 24, max(1, len(data) // 15)):
            (tmp_path / "cut").write_bytes(data[:cut])
            with pytest.raises(ScanError):
                open_dicom(tmp_path / "cut").read()


@pytest.mark.parametrize("kind", ["plain", "deflated", "rle", "jpeg", "lossless", "jpeg_ls", "openjpeg", "tables"])
def test_damaged_bytes_end_in_an_error_or_a_picture(tmp_path, values, kind):
    """No crash, no other exception, no warning, whatever byte changes."""
    frame = (values // 16).astype(np.uint8)
    if kind in ("jpeg", "lossless"):
        ds = dataset(frame, syntax=JPEGBaseline8Bit if kind == "jpeg" else JPEGLosslessSV1)
        ds.PixelData = encapsulate([jpeg(frame) if kind == "jpeg" else lossless_jpeg(frame, 8)])
    elif kind in ("rle", "jpeg_ls", "openjpeg"):
        if kind != "rle":
            pytest.importorskip(kind)
        ds = dataset(values, BitsStored=12)
        syntax, plugin = {
            "rle": (RLELossless, "pydicom"),
            "jpeg_ls": (JPEGLSLossless, "pyjpegls"),
            "openjpeg": (JPEG2000Lossless, "pylibjpeg"),
        }[kind]
        ds.compress(syntax, encoding_plugin=plugin)
    else:
        ds = dataset(values, syntax=DeflatedExplicitVRLittleEndian if kind == "deflated" else ExplicitVRLittleEndian)
        if kind == "tables":
            ds.ModalityLUTSequence, ds.VOILUTSequence = [lut_item(range(99), 3, 12)], [lut_item(range(99), 3, 8)]
    whole = saved(tmp_path / "whole", ds).read_bytes()
    generator = random.Random(kind)
    header = whole.index(b"\xe0\x7f\x10\x00") + 60 if kind != "deflated" else len(whole)
    pictures = 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(generator.choice((1, 1, 2, 8))):
            end = header if generator.random() < 0.5 else len(data)
            data[generator.randrange(132, end)] = generator.randrange(256)
        (tmp_path / "x").write_bytes(data)
        try:
            pixels = open_dicom(tmp_path / "x").read().pixels
        except ScanError:
            continue
        pictures += 1
        assert np.isfinite(pixels).all()
        assert pixels.min() >= 0
        assert pixels.max() <= 1
    assert pictures > 2 or kind == "deflated"


# ---- patients ------------------------------------------------------------------------------------------------------

TEXT = {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"}
KEPT = {"PhotometricInterpretation", "SOPClassUID", "NumberOfFrames", "SpecificCharacterSet"}  # else it is no picture
MEASURES = {"RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "InstanceNumber"}  # numbers to use


def planted(values, secret, keep):
    """A picture with `secret` in every element of text that the dictionary knows and this kind of file may have."""
    ds = dataset(values)
    for tag, (vr, _, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
        if vr in TEXT and keyword and not retired and keyword not in keep and tag >> 16 not in (0, 2, 4, 0xFFFE):
            ds.add(pydicom.DataElement(tag, "LO", secret))
    return ds


def everything(path):
    """All that comes out of reading a file, as text: fields of scan and series, their notes, errors with all chains."""
    out = []
    try:
        file = open_dicom(path)
        scan = file.read()
        out += [repr(file), repr(file.facts), repr(file.layout), repr(file.palette), repr(scan)]
    except ScanError as error:
        while error is not None:
            out += [str(error), repr(error), repr(error.__dict__)]
            error = error.__cause__ or error.__context__
    series, errors = find_series([path])
    for one in series:
        out += [repr(one), repr(one.slices), repr(one.read(0))]
    return out + [repr(error) for error in errors]


@pytest.mark.parametrize(
    ("secret", "ruin"),
    [(secret, None) for secret in (SECRET, "19570412")]
    + [(SECRET, ruin) for ruin in ("PhotometricInterpretation", "SOPClassUID", "Rows")],
)
def test_nothing_of_a_patient_comes_out(tmp_path, values, caplog, capfd, secret, ruin):
    caplog.set_level(logging.DEBUG)
    ds = planted(values, secret, KEPT | MEASURES if secret.isdecimal() else KEPT)
    if ruin:
        ds.add(pydicom.DataElement(pydicom.datadict.tag_for_keyword(ruin), "LO", secret))
    if ruin == "SOPClassUID":
        del ds.PixelData
    path = tmp_path / "x"
    with warnings.catch_warnings(action="ignore"):
        ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = "1.2", secret
        saved(path, ds)
    assert path.read_bytes().count(secret.encode()) > 1000, "it was planted"
    caplog.clear()
    found = everything(path)
    assert len(found) >= (6 if ruin is None else 2)
    out = capfd.readouterr()
    for text in (*found, caplog.text, out.out, out.err):
        assert secret not in text
        assert secret.split("^")[0] not in text


def test_pydicom_may_log_again_when_the_file_is_closed(tmp_path, values, caplog):
    open_dicom(written(tmp_path / "x", values)).read()
    with caplog.at_level(logging.WARNING, logger="pydicom"):
        logging.getLogger("pydicom").warning("heard")
    assert "heard" in caplog.text


def test_writing_in_the_picture_is_noted(tmp_path, values):
    (note,) = open_dicom(written(tmp_path / "x", values, BurnedInAnnotation="YES")).read().notes
    assert "may name the patient" in note


def test_functional_groups_of_broken_kinds(tmp_path, values):
    item, measures = Dataset(), Dataset()
    measures.add_new("PixelSpacing", "LO", ["one", "two"])
    item.PixelMeasuresSequence = [measures]
    ds = dataset(values, SharedFunctionalGroupsSequence=[item])
    ds.add_new("WindowCenter", "LO", "a")
    ds.add_new("WindowWidth", "LO", "b")
    plain = open_dicom(written(tmp_path / "plain", values)).read()
    scan = open_dicom(saved(tmp_path / "x", ds)).read()
    assert scan.spacing is None
    np.testing.assert_array_equal(scan.pixels, plain.pixels)
