"""Reading against other decoders, OpenCV and tifffile, on a real image where one is there and on a drawn one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurodense.data.phantom import phantoms
from neurodense.scans.read import read_scan

cv2 = pytest.importorskip("cv2")
tifffile = pytest.importorskip("tifffile")

HALF = 0.502 / 255  # of Pillow's luma, which is an 8-bit number


@pytest.fixture(scope="module", params=["drawn", "real"])
def grey(request):
    if request.param == "drawn":
        return next(phantoms(patients_per_class=1, slices_per_patient=1, size=224)).pixels
    folder = request.getfixturevalue("shared_data") / "brain-mri" / "glioma"
    with Image.open(min(folder.iterdir())) as image:
        return np.array(image.convert("L"))


@pytest.fixture(scope="module")
def colour(grey):
    """Three bands that differ, so that no two could be swapped unseen."""
    return np.dstack([grey, 255 - grey // 2, grey.T])


def luma(bgr):
    """ITU-R 601 of what OpenCV gives, as a share of 255."""
    return (0.114 * bgr[..., 0] + 0.587 * bgr[..., 1] + 0.299 * bgr[..., 2]) / 255


def own_range(values):
    values = values.astype(np.float64)
    return (values - values.min()) / np.ptp(values)


COLOUR = {
    "baseline.jpg": ({}, HALF),
    "progressive.jpg": ({"progressive": True}, HALF),
    "cmyk.jpg": ({}, 1.6 / 255),  # each rounds where it multiplies
    "rgb.png": ({}, HALF),
    "palette.png": ({}, HALF),
    "palette.bmp": ({}, HALF),
    "rgb.bmp": ({}, HALF),
    "lossy.webp": ({}, HALF),
    "lossless.webp": ({"lossless": True}, HALF),
    "palette.gif": ({}, HALF),
    "rgb.tif": ({}, HALF),
    "packed.tif": ({"compression": "packbits"}, HALF),
    "lzw.tif": ({"compression": "tiff_lzw"}, HALF),
    "deflate.tif": ({"compression": "tiff_adobe_deflate"}, HALF),
    "jpeg.tif": ({"compression": "jpeg"}, HALF),
    "palette.tif": ({}, HALF),
    "cmyk.tif": ({}, HALF),
    "ycbcr.tif": ({}, 1.2 / 255),  # OpenCV goes through RGB and back
}


@pytest.mark.parametrize("name", COLOUR)
def test_colour_as_opencv_reads_it(tmp_path, colour, name):
    options, atol = COLOUR[name]
    image = Image.fromarray(colour)
    if name.startswith("palette"):
        image = image.quantize(64)
    elif name.startswith(("cmyk", "ycbcr")):
        image = image.convert({"cmyk": "CMYK", "ycbc": "YCbCr"}[name[:4]])
    image.save(tmp_path / name, **options)
    expected = luma(cv2.imread(str(tmp_path / name), cv2.IMREAD_COLOR))
    np.testing.assert_allclose(read_scan(tmp_path / name).pixels, expected, rtol=0, atol=atol)


GREY = {
    "8.png": (np.uint8, {}, 255),
    "8.tif": (np.uint8, {}, 255),
    "8.bmp": (np.uint8, {}, 255),
    "8.jpg": (np.uint8, {}, 255),
    "8.gif": (np.uint8, {}, 255),
    "1.png": (np.bool_, {}, 255),
    "fax3.tif": (np.bool_, {"compression": "group3"}, 255),
    "fax4.tif": (np.bool_, {"compression": "group4"}, 255),
    "16.png": (np.uint16, {}, 65535),
    "16.tif": (np.uint16, {}, 65535),
    "16-lzw.tif": (np.uint16, {"compression": "tiff_lzw"}, 65535),
    "float.tif": (np.float32, {}, None),
    "float-lzw.tif": (np.float32, {"compression": "tiff_lzw"}, None),
}


@pytest.mark.parametrize("name", GREY)
def test_grey_as_opencv_reads_it(tmp_path, grey, name):
    type_, options, one = GREY[name]
    values = grey > 60 if type_ is np.bool_ else grey.astype(type_) * (1 if type_ is np.uint8 else 17)
    Image.fromarray(values).save(tmp_path / name, **options)
    got = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
    got = got[..., 0] if got.ndim == 3 else got
    expected = own_range(got) if one is None else got / one
    np.testing.assert_allclose(read_scan(tmp_path / name).pixels, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["first.png", "first.webp", "first.gif"])
def test_the_first_frame_as_opencv_reads_it(tmp_path, grey, name):
    options = {"lossless": True} if name == "first.webp" else {}
    rest = [Image.fromarray(255 - grey), Image.fromarray(grey // 2)]
    Image.fromarray(grey).save(tmp_path / name, save_all=True, append_images=rest, **options)
    done, animation = cv2.imreadanimation(str(tmp_path / name))
    assert done
    assert len(animation.frames) == 3
    scan = read_scan(tmp_path / name)
    assert scan.notes == ("first of 3 frames",)
    first = animation.frames[0]
    expected = first / 255 if first.ndim == 2 else luma(first[..., :3])
    np.testing.assert_allclose(scan.pixels, expected, rtol=0, atol=HALF)


TIFFS = {
    "8": (np.uint8, {}),
    "16": (np.uint16, {}),
    "16 big-endian": (np.uint16, {"byteorder": ">"}),
    "16 tiled": (np.uint16, {"tile": (64, 64)}),
    "16 in strips": (np.uint16, {"rowsperstrip": 7}),
    "16 in a BigTIFF": (np.uint16, {"bigtiff": True}),
    "16 deflated": (np.uint16, {"compression": "adobe_deflate"}),
    "signed 16": (np.int16, {}),
    "signed 8": (np.int8, {}),
    "signed 32": (np.int32, {}),
    "unsigned 32": (np.uint32, {}),
    "float": (np.float32, {}),
    "float big-endian": (np.float32, {"byteorder": ">"}),
    "float tiled and deflated": (np.float32, {"tile": (64, 64), "compression": "adobe_deflate"}),
    "zero is white": (np.uint8, {"photometric": "miniswhite"}),
    "16, zero is white": (np.uint16, {"photometric": "miniswhite"}),
}


@pytest.mark.parametrize("name", TIFFS)
def test_a_tiff_as_tifffile_writes_and_reads_it(tmp_path, grey, name):
    type_, options = TIFFS[name]
    values = grey.astype(np.int64) - (100 if np.dtype(type_).kind in "if" else 0)
    values = (values.clip(-128, 127) if type_ is np.int8 else values * (1 if type_ is np.uint8 else 100)).astype(type_)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, values, **options)
    read = tifffile.imread(path)
    np.testing.assert_array_equal(read, values)
    whole = np.dtype(type_).kind == "u" and np.dtype(type_).itemsize < 4
    expected = read / np.iinfo(type_).max if whole else own_range(read)
    expected = 1 - expected if "white" in name else expected
    np.testing.assert_allclose(read_scan(path).pixels, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_colour_tiff_of_both_layouts(tmp_path, colour, planar):
    path = tmp_path / "x.tif"
    values = np.moveaxis(colour, -1, 0) if planar == "separate" else colour
    tifffile.imwrite(path, values, photometric="rgb", planarconfig=planar)
    np.testing.assert_allclose(read_scan(path).pixels, luma(colour[..., ::-1]), rtol=0, atol=HALF)


def test_the_first_page_of_a_stack(tmp_path: Path, grey):
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.stack([grey] + [255 - grey] * 11), photometric="minisblack")
    scan = read_scan(path)
    np.testing.assert_allclose(scan.pixels, tifffile.imread(path, key=0) / 255, rtol=0, atol=1e-7)
    assert scan.notes == ("first of 12 pages",)
