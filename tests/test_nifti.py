"""NIfTI against nibabel and numpy written out: orientation, window, types, and files that lie or are damaged."""

import gzip
import itertools
import struct

import nibabel as nib
import numpy as np
import pytest

from neurodense.errors import ScanError
from neurodense.scans.nifti import Volume, read_nifti
from neurodense.scans.nifti_file import MAX_VOXELS, is_nifti

SIDES = (10, 12, 9)
SIZES = (0.8, 1.1, 3.0)  # millimetres to the left, to the back, upwards


def head(sides=SIDES, dtype=np.int16):
    """A volume in left, posterior, superior order in which every place differs from its mirror images."""
    rng = np.random.default_rng(5)
    volume = np.zeros(sides)
    volume[2:-1, 1:-3, 1:] = rng.integers(50, 1000, (sides[0] - 3, sides[1] - 4, sides[2] - 1))
    return volume.astype(dtype)


def lps_affine(sizes=SIZES):
    """Voxel (left, back, up) to NIfTI's millimetres (right, anterior, superior)."""
    return np.diag([-sizes[0], -sizes[1], sizes[2], 1.0])


def save(path, voxels, affine, kind=nib.Nifti1Image, **header):
    image = kind(voxels, affine)
    for name, value in header.items():
        image.header[name] = value
    nib.save(image, path)
    return path


def patched(path, offset, form, *values):
    """Write values into the header of a plain file, behind nibabel's back."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, offset, *values)
    path.write_bytes(data)
    return path


def shown(values):
    """The module's window, written out."""
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    inside = finite[finite > finite.min()]
    mean = np.clip(inside, None, np.percentile(inside, 99.5)).mean()
    low, high = np.percentile(inside, 0.5), np.percentile(inside[inside > mean], 99.5)
    return np.clip((values - low) / (high - low), 0, 1)


def stack(volume):
    """All its slices, (slices, rows, columns)."""
    return np.stack([volume.read(k).pixels for k in range(len(volume))])


def reference(path):
    """The stack by nibabel's canonical orientation: right, anterior, superior, turned by hand to a radiologist's."""
    canonical = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
    return shown(canonical[::-1, ::-1, :]).transpose(2, 1, 0)


def refusal(path, *parts):
    with pytest.raises(ScanError) as caught:
        read_nifti(path)
    for part in (path.name, *parts):
        assert part in caught.value.message
    return caught.value.message


# ---- orientation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_all_48_axis_orders_give_the_same_pictures(tmp_path, kind):
    voxels, affine = head(), lps_affine()
    wanted = shown(voxels).transpose(2, 1, 0)
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            stored = voxels.transpose(order)
            to_stored = np.zeros((4, 4))  # index of the stored array -> index of `voxels`
            to_stored[3, 3] = 1
            for axis, (old, sign) in enumerate(zip(order, flips, strict=True)):
                to_stored[old, axis] = sign
                if sign < 0:
                    to_stored[old, 3] = voxels.shape[old] - 1
                    stored = np.flip(stored, axis)
            path = save(tmp_path / "v.nii", stored, affine @ to_stored, kind)
            volume = read_nifti(path)
            np.testing.assert_allclose(stack(volume), wanted, atol=1e-6)
            np.testing.assert_allclose(stack(volume), reference(path), atol=1e-6)
            scan = volume.read(3)
            assert (scan.source, scan.orientation, scan.plane, scan.format) == (f"{path}#4", "LP", "axial", "NIfTI")
            assert scan.spacing == pytest.approx((1.1, 0.8))
            assert volume.gap == pytest.approx(3.0)
            assert scan.notes == ()


@pytest.mark.parametrize("degrees", [5, 30, 44])
def test_an_oblique_volume_goes_to_the_nearest_axes(tmp_path, degrees):
    turn = np.eye(4)
    angle = np.radians(degrees)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    path = save(tmp_path / "v.nii.gz", head(), turn @ lps_affine())
    volume = read_nifti(path)
    np.testing.assert_allclose(stack(volume), reference(path), atol=1e-6)
    np.testing.assert_allclose(stack(volume), shown(head()).transpose(2, 1, 0), atol=1e-6)
    assert volume.read(0).spacing == pytest.approx((1.1, 0.8))
    assert any(f"tilted by {degrees} degrees" in note for note in volume.notes) is (degrees > 20)


def test_the_sform_goes_before_the_qform_and_a_useless_one_after(tmp_path):
    image = nib.Nifti1Image(head(), lps_affine())
    image.set_sform(lps_affine() @ np.diag([-1, 1, 1, 1]), 1)
    image.set_qform(lps_affine(), 1)
    nib.save(image, tmp_path / "v.nii")
    np.testing.assert_allclose(stack(read_nifti(tmp_path / "v.nii")), shown(head())[::-1].transpose(2, 1, 0), atol=1e-6)
    for row in ((0, 0, 0), (np.nan, 0, 0), (1, 1, 1)):
        rows = [[*row, 5.0], [*row, 5.0], [0, 0, 3, 1]]
        for name, values in zip(("srow_x", "srow_y", "srow_z"), rows, strict=True):
            image.header[name] = values
        (tmp_path / "w.nii").write_bytes(image.header.binaryblock + b"\0" * 4 + head().tobytes(order="F"))
        patched(tmp_path / "w.nii", 108, "<f", 352)
        volume = read_nifti(tmp_path / "w.nii")
        np.testing.assert_allclose(stack(volume), shown(head()).transpose(2, 1, 0), atol=1e-6)
        assert volume.orientation == "LP"


def test_no_orientation_is_said(tmp_path):
    path = save(tmp_path / "v.nii", head(), None)
    patched(path, 252, "<hh", 0, 0)
    volume = read_nifti(path)
    assert volume.orientation is None
    assert volume.read(0).plane is None
    assert "no usable orientation" in volume.notes[0]
    np.testing.assert_allclose(stack(volume), reference(path), atol=1e-6)  # nibabel falls back to the same axes
    np.testing.assert_allclose(stack(volume), shown(head())[:, ::-1].transpose(2, 1, 0), atol=1e-6)
    assert volume.read(0).spacing == (1, 1)


@pytest.mark.parametrize(
    ("sizes", "unit", "wanted"),
    [((0.5, 0.7, 2), 2, (0.7, 0.5)), ((5e-4, 7e-4, 2e-3), 1, (0.7, 0.5)), ((500, 700, 2000), 3, (0.7, 0.5)),
     ((0.5, 0.7, 2), 0, (0.7, 0.5)), ((0.5, 0, 2), 2, None), ((0.5, -0.7, 2), 2, (0.7, 0.5))],
)  # fmt: skip
def test_spacing_is_in_millimetres(tmp_path, sizes, unit, wanted):
    image = nib.Nifti1Image(head(), None)
    image.set_qform(np.diag([-1, -1, 1, 1]), 1)
    image.set_sform(None, 0)
    nib.save(image, tmp_path / "v.nii")
    path = patched(patched(tmp_path / "v.nii", 80, "<3f", *sizes), 123, "<B", unit)
    volume = read_nifti(path)
    assert volume.read(0).spacing == (None if wanted is None else pytest.approx(wanted))
    assert volume.gap == pytest.approx(2)
    np.testing.assert_allclose(stack(volume), shown(head()).transpose(2, 1, 0), atol=1e-6)


# ---- values -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "u2", "i4", "u4", "i8", "u8", "f4", ">f8"])
def test_every_kind_of_number(tmp_path, dtype):
    voxels = (head() // 8).astype(dtype)
    path = tmp_path / "v.nii"
    image = nib.Nifti1Image(voxels, lps_affine(), nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<"))
    image.header.set_data_dtype(np.dtype(dtype))
    nib.save(image, path)
    volume = read_nifti(path)
    np.testing.assert_allclose(stack(volume), shown(voxels).transpose(2, 1, 0), atol=1e-6)
    assert volume.read(0).bit_depth == np.dtype(dtype).itemsize * 8
    pixels = volume.read(0).pixels
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert pixels.shape == (12, 10)


@pytest.mark.parametrize(
    ("slope", "inter", "inverted"),
    [(2.5, -100, False), (0, 7, False), (np.nan, 0, False), (1, np.nan, False), (-2, 50, True), (np.inf, 0, False)],
)
def test_scale_factors_change_no_picture_but_for_their_sign(tmp_path, slope, inter, inverted):
    path = patched(save(tmp_path / "v.nii", head(), lps_affine()), 112, "<ff", slope, inter)
    wanted = shown(-head() if inverted else head()).transpose(2, 1, 0)
    np.testing.assert_allclose(stack(read_nifti(path)), wanted, atol=1e-6)
    if np.isfinite(inter):
        np.testing.assert_allclose(stack(read_nifti(path)), reference(path), atol=1e-5)


def test_the_window_is_the_volumes_and_not_the_slices(tmp_path):
    voxels = head(dtype=np.float32)
    voxels[..., 3] /= 4
    pictures = stack(read_nifti(save(tmp_path / "v.nii", voxels, lps_affine())))
    assert pictures[3].max() < 0.3 < pictures[4].max()
    # What lies around a brain that was cut out has no say in it, however much there is.
    wide = np.zeros((40, 40, 9), dtype=np.float32)
    wide[7:17, 9:21] = voxels
    np.testing.assert_allclose(
        stack(read_nifti(save(tmp_path / "w.nii", wide, lps_affine())))[:, 9:21, 7:17], pictures, atol=1e-6
    )


def test_one_bright_voxel_darkens_nothing(tmp_path):
    voxels = np.random.default_rng(0).integers(1, 1000, (30, 30, 9)).astype(np.int32)
    voxels[5, 5, 5] = 10**9
    assert np.median(stack(read_nifti(save(tmp_path / "v.nii", voxels, lps_affine())))) == pytest.approx(0.5, abs=0.05)


def test_a_large_volume_is_windowed_by_a_sample(tmp_path, monkeypatch):
    voxels = np.random.default_rng(0).gamma(3, 100, (64, 64, 60)).astype(np.float32)
    path = save(tmp_path / "v.nii", voxels, lps_affine())
    whole = read_nifti(path).window
    monkeypatch.setattr("neurodense.scans.nifti.SAMPLE", voxels.size // 9)
    sampled = read_nifti(path).window
    assert sampled != whole
    assert sampled == pytest.approx(whole, rel=0.1)


def test_a_mask_shows_as_black_and_white(tmp_path):
    voxels = np.zeros(SIDES, dtype=np.uint8)
    voxels[3:6, 4:7, 2:5] = 1
    pictures = stack(read_nifti(save(tmp_path / "v.nii", voxels, lps_affine())))
    np.testing.assert_array_equal(pictures, voxels.transpose(2, 1, 0))


def test_voxels_that_are_not_finite_are_black_and_said(tmp_path):
    voxels = head(dtype=np.float32)
    odd = voxels.copy()
    odd[0, 0, 0], odd[4, 4, 4], odd[4, 5, 4] = np.nan, np.inf, -np.inf
    odd[5, 6, 7] = np.nan
    path = save(tmp_path / "v.nii", odd, lps_affine())
    patched(path, 352 + 4 * (5 + 10 * (6 + 12 * 7)), "<I", 0x7F800001)  # a signalling NaN
    volume = read_nifti(path)
    assert volume.notes == ("voxels that are not finite are shown black",)
    wanted = np.where(np.isfinite(odd), shown(odd), 0)
    np.testing.assert_allclose(stack(volume), wanted.transpose(2, 1, 0), atol=1e-6)


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colour_is_luma(tmp_path, names):
    values = np.random.default_rng(1).integers(0, 256, (*SIDES, len(names)), dtype=np.uint8)
    voxels = values.view([(name, "u1") for name in names])[..., 0]
    volume = read_nifti(save(tmp_path / "v.nii", voxels, lps_affine()))
    wanted = values[..., :3] @ [0.299, 0.587, 0.114] / 255
    if names == "RGBA":
        wanted = wanted * values[..., 3] / 255
    np.testing.assert_allclose(stack(volume), wanted.transpose(2, 1, 0), atol=1e-6)
    assert volume.read(0).bit_depth == 8


# ---- dimensions and files ----------------------------------------------------------------------------------------


def test_of_four_dimensions_the_first_volume(tmp_path):
    for shape, count in (((*SIDES, 3), 3), ((*SIDES, 1, 4), 4), ((*SIDES, 1), 1)):
        voxels = np.random.default_rng(2).integers(0, 999, shape).astype(np.int16)
        voxels[..., 0] = head() if len(shape) == 4 else head()[..., None]
        volume = read_nifti(save(tmp_path / "v.nii.gz", voxels, lps_affine()))
        np.testing.assert_allclose(stack(volume), shown(head()).transpose(2, 1, 0), atol=1e-6)
        assert volume.notes == ((f"first of {count} volumes",) if count > 1 else ())


def test_one_slice_goes_by_the_name_of_the_file(tmp_path):
    for voxels in (head()[..., 3], head()[..., 3:4]):
        path = save(tmp_path / "v.nii", voxels, lps_affine())
        volume = read_nifti(path, "named")
        assert len(volume) == 1
        assert volume.read(0).source == "named"
        np.testing.assert_allclose(volume.read(0).pixels, shown(head()[..., 3]).T, atol=1e-6)


def test_a_coronal_slice_has_no_axial_picture(tmp_path):
    coronal = lps_affine()[:, [0, 2, 1, 3]]
    refusal(save(tmp_path / "v.nii", head()[:, 4, :], coronal), "axial slices of 10 x 1 pixels", "at least 8")


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_pair(tmp_path, kind, packed):
    save(tmp_path / f"v.img{packed}", head(), lps_affine(), kind)
    path = tmp_path / f"v.hdr{packed}"
    assert is_nifti(path)
    np.testing.assert_allclose(stack(read_nifti(path)), shown(head()).transpose(2, 1, 0), atol=1e-6)
    (tmp_path / f"v.img{packed}").unlink()
    refusal(path, "header of a pair", "v.img is not beside it")


def test_header_extensions_are_passed_over(tmp_path):
    image = nib.Nifti1Image(head(), lps_affine())
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, tmp_path / "v.nii.gz")
    np.testing.assert_allclose(stack(read_nifti(tmp_path / "v.nii.gz")), shown(head()).transpose(2, 1, 0), atol=1e-6)


def test_the_content_decides_and_not_the_name(tmp_path):
    plain, packed = save(tmp_path / "v.nii", head(), lps_affine()), save(tmp_path / "v.nii.gz", head(), lps_affine())
    packed.rename(tmp_path / "scan")
    plain.rename(packed)
    for path in (tmp_path / "scan", packed):
        assert is_nifti(path)
        assert isinstance(read_nifti(path), Volume)
    (tmp_path / "x.nii").write_text("no image")
    (tmp_path / "y.nii.gz").write_bytes(b"\x1f\x8bno gzip")
    for path in (tmp_path / "x.nii", tmp_path / "y.nii.gz", tmp_path / "gone.nii", tmp_path):
        assert not is_nifti(path)


# ---- files that lie or are damaged -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 0.0005, 0.05, 0.3, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_file_that_is_cut_off(tmp_path, suffix, share):
    path = save(
        tmp_path / f"v{suffix}", np.random.default_rng(0).integers(0, 9999, (20, 20, 20)).astype("i2"), np.eye(4)
    )
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refusal(path)


def test_a_changed_byte_of_a_gzip_file_is_found(tmp_path):
    path = tmp_path / "v.nii.gz"
    plain = save(tmp_path / "v.nii", head(), lps_affine()).read_bytes()
    data = bytearray(gzip.compress(plain, 0))
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refusal(path, "damaged", "CRC")


@pytest.mark.parametrize(
    ("offset", "form", "values", "part"),
    [
        (40, "<h", [0], "0 dimensions"),
        (40, "<h", [9], "9 dimensions"),
        (40, "<h", [1], "1 dimensions"),
        (42, "<h", [0], "0 x 12 x 9"),
        (42, "<h", [-5], "-5 x 12 x 9"),
        (42, "<hhh", [32767, 32767, 32767], "32767 x 32767 x 32767"),
        (42, "<hhh", [10, 12, 4000], "cut off"),
        (70, "<h", [0], "type"),
        (70, "<h", [1], "type"),
        (70, "<h", [32], "complex64"),
        (70, "<h", [1536], "float128"),
        (70, "<h", [12345], "unknown type 12345"),
        (108, "<f", [1e30], "begin at byte 1e+30"),
        (108, "<f", [100], "begin at byte 100"),
        (108, "<f", [np.nan], "begin at byte nan"),
        (108, "<f", [-352], "begin at byte -352"),
        (108, "<f", [60_000_000], "cut off before its voxels"),
        (344, "<4s", [b"abcd"], "no NIfTI"),
    ],
)
def test_headers_that_cannot_be(tmp_path, offset, form, values, part):
    path = patched(save(tmp_path / "v.nii", head(), lps_affine()), offset, form, *values)
    refusal(path, part)
    packed = tmp_path / "v.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    refusal(packed, part)


def test_a_small_file_that_unpacks_to_much_is_read_no_further_than_its_header_says(tmp_path):
    path = tmp_path / "bomb.nii.gz"
    plain = save(tmp_path / "v.nii", head(), lps_affine()).read_bytes()
    with gzip.open(path, "wb") as file:
        file.write(plain)
        for _ in range(64):
            file.write(bytes(2**20))
    np.testing.assert_allclose(stack(read_nifti(path)), shown(head()).transpose(2, 1, 0), atol=1e-6)
    side = round(MAX_VOXELS ** (1 / 3)) + 1
    patched(tmp_path / "v.nii", 42, "<hhh", side, side, side)
    path.write_bytes(gzip.compress((tmp_path / "v.nii").read_bytes()))
    refusal(path, "at most 134,217,728 are read")


def test_nothing_to_see(tmp_path):
    refusal(save(tmp_path / "v.nii", np.full(SIDES, 7, dtype=np.int16), np.eye(4)), "the value 7 in every voxel")
    refusal(save(tmp_path / "w.nii", np.full(SIDES, np.nan, dtype=np.float32), np.eye(4)), "no finite voxel")
    wide = np.random.default_rng(0).uniform(-8e307, 8e307, SIDES) * 2
    refusal(save(tmp_path / "x.nii", wide, np.eye(4)), "more than can be scaled")


def test_what_is_no_file(tmp_path):
    refusal(tmp_path / "gone.nii", "does not exist")
    (tmp_path / "folder.nii").mkdir()
    refusal(tmp_path / "folder.nii", "cannot be opened: Is a directory")


# ---- real volumes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("patient", ["01", "02", "03"])
def test_real_volumes(shared_data, patient):
    path = shared_data / "nifti-glioblastoma" / patient / "Pre_Scan_T1.nii.gz"
    volume = read_nifti(path)
    assert stack(volume).shape == (24, 256, 256)
    np.testing.assert_allclose(stack(volume), reference(path), atol=1e-6)
    assert volume.orientation == "LP"
    assert volume.notes == ()
