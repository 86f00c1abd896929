"""NIfTI headers say many things; what they don't say stays unknown."""

from __future__ import annotations

import gzip
import logging

import nibabel as nib
import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import DataError, GeometryError, PixelError, UnitsError
from isocenter.data.images.nifti import read_nifti, read_nifti_mask, write_nifti
from isocenter.testing import phantom, phantom_geometry

VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)  # (i, j, k)
RAS = np.array([[-0.7, 0, 0, 10], [0, 0.8, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])


def save(folder, voxels=VOXELS, affine=RAS, *, name="a.nii", change=None, image_class=nib.Nifti1Image):
    image = image_class(voxels, affine, dtype=voxels.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    path = folder / name
    nib.save(image, path)
    if change:  # in the file: nibabel would bring the header back into line with its affine
        content = path.read_bytes()
        header = image_class.header_class(content[:348])
        change(header)
        path.write_bytes(header.binaryblock + content[348:])
    return path


def test_axes_and_world_with_literal_numbers(tmp_path):
    image = read_nifti(save(tmp_path))
    assert image.array.shape == (1, 4, 3, 2)
    assert image.array[0, 3, 1, 0] == VOXELS[0, 1, 3] == 7
    # voxel i=1, j=2, k=3 lies at RAS (9.3, 21.6, 37.5), hence at LPS (-9.3, -21.6, 37.5)
    np.testing.assert_allclose(image.geometry.to_world([[3, 2, 1]]), [[-9.3, -21.6, 37.5]], atol=1e-5)
    assert image.geometry.orientation == "SAL"
    assert image.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert image.notes == ()
    assert image.modality == ""
    assert image.quantity is Quantity.ARBITRARY
    assert image.source.files == ("a.nii",)


def test_the_caller_may_say_the_modality(tmp_path):
    assert read_nifti(save(tmp_path), modality="MR").modality == "MR"


def test_no_form_no_place(tmp_path):
    def change(header):
        header["sform_code"] = header["qform_code"] = 0

    image = read_nifti(save(tmp_path, change=change))
    assert image.geometry.affine is None
    assert image.geometry.spacing_mm is None
    assert image.geometry.pixel_spacing_mm is None
    assert not image.is_volume
    assert "pixdim of 0.7 x 0.8 x 2.5 gives no position or side" in image.notes[0]


def test_qform_alone_is_used(tmp_path):
    def change(header):
        header["sform_code"] = 0
        header["srow_x"] = 0

    image = read_nifti(save(tmp_path, change=change))
    np.testing.assert_allclose(image.geometry.to_world([[3, 2, 1]]), [[-9.3, -21.6, 37.5]], atol=1e-5)


def test_forms_that_disagree_are_noted(tmp_path):
    def change(header):
        header["qoffset_x"] += 5

    image = read_nifti(save(tmp_path, change=change))
    assert image.notes == ("sform and qform disagree by up to 5.0 mm; sform was used",)
    np.testing.assert_allclose(image.geometry.to_world([[0, 0, 0]]), [[-10, -20, 30]], atol=1e-5)


def test_forms_that_disagree_on_left_and_right_say_so(tmp_path):
    def change(header):
        header["srow_x"] *= -1

    (note,) = read_nifti(save(tmp_path, change=change)).notes
    assert "on the sides that z, y and x point to (SAR or SAL): check left and right; sform was used" in note


def test_singular_affine_is_refused(tmp_path):
    def change(header):
        header["srow_x"] = 0

    with pytest.raises(GeometryError, match=r"a\.nii: .*singular.*correct its sform or qform"):
        read_nifti(save(tmp_path, change=change))


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (3, 0.001)])
def test_other_units_of_length_are_converted(code, factor, tmp_path):
    def change(header):
        header["xyzt_units"] = code

    image = read_nifti(save(tmp_path, change=change))
    assert image.geometry.spacing_mm == pytest.approx(tuple(s * factor for s in (2.5, 0.8, 0.7)))
    assert "converted" in image.notes[0]


def test_unknown_unit_is_refused_and_a_missing_one_noted(tmp_path):
    with pytest.raises(UnitsError, match="unknown code 5"):
        read_nifti(save(tmp_path, change=lambda h: h.__setitem__("xyzt_units", 5)))
    image = read_nifti(save(tmp_path, change=lambda h: h.__setitem__("xyzt_units", 0)))
    assert "does not name the unit of length" in image.notes[0]


def test_template_space_and_shear_are_noted(tmp_path):
    sheared = RAS.copy()
    sheared[0, 1] = 0.3
    image = nib.Nifti1Image(VOXELS, None)
    image.set_sform(sheared, code=4)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii")
    read = read_nifti(tmp_path / "a.nii")
    assert "not at right angles" in read.notes[0]
    assert "MNI 152" in read.notes[1]
    proof = write_nifti(read, tmp_path / "b.nii")
    assert proof.grid == "identical"
    assert nib.load(tmp_path / "b.nii").header["qform_code"] == 0


def test_slope_and_intercept(tmp_path):
    image = read_nifti(save(tmp_path, change=lambda h: h.set_slope_inter(1, -1024)))
    assert image.array.dtype == np.int16
    assert image.array[0, 3, 1, 0] == 7 - 1024
    image = read_nifti(save(tmp_path, change=lambda h: h.set_slope_inter(0.5, 0.25)))
    assert image.array.dtype == np.float32
    assert image.array[0, 3, 1, 0] == 3.75


def test_whole_slope_beyond_the_stored_type(tmp_path):
    image = read_nifti(save(tmp_path, change=lambda h: h.set_slope_inter(70000, 1)))
    assert image.array[0, 3, 1, 0] == 7 * 70000 + 1
    assert image.array.dtype == np.int32


def test_big_endian_nifti2_and_pairs_are_the_same_image(tmp_path):
    expected = read_nifti(save(tmp_path))
    big = nib.Nifti1Image(VOXELS.astype(">i2"), RAS, nib.Nifti1Header(endianness=">"), dtype=np.int16)
    big.header.set_xyzt_units("mm")
    big.set_qform(RAS, code=1)
    big.set_sform(RAS, code=1)
    nib.save(big, tmp_path / "big.nii")
    assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
    save(tmp_path, name="two.nii", image_class=nib.Nifti2Image)
    save(tmp_path, name="pair.hdr", image_class=nib.Nifti1Pair)
    save(tmp_path, name="zipped.nii.gz")
    (tmp_path / "zipped.nii.gz").rename(tmp_path / "no-suffix")
    for name in ("big.nii", "pair.hdr", "no-suffix", "two.nii"):
        image = read_nifti(tmp_path / name)
        assert image.array.dtype.isnative
        np.testing.assert_array_equal(image.array, expected.array)
        assert image.geometry.same_grid(expected.geometry)
        # NIfTI-2 keeps the affine as float64, so its place differs in the last bits
        assert (image.source.sha256 == expected.source.sha256) == (name != "two.nii")
    (tmp_path / "pair.img").unlink()
    with pytest.raises(PixelError, match=r"no pair\.img beside it"):
        read_nifti(tmp_path / "pair.hdr")


def test_time_points_and_vectors_become_channels(tmp_path):
    series = np.arange(48, dtype=np.float32).reshape(2, 3, 4, 2)
    assert read_nifti(save(tmp_path, series)).array[1, 3, 2, 0] == series[0, 2, 3, 1]
    vector = series[:, :, :, None, :]
    assert read_nifti(save(tmp_path, vector)).array[1, 3, 2, 0] == series[0, 2, 3, 1]
    with pytest.raises(PixelError, match="more than one beyond space"):
        read_nifti(save(tmp_path, np.zeros((2, 2, 2, 2, 2), np.int16)))


def test_one_plane(tmp_path):
    image = read_nifti(save(tmp_path, VOXELS[:, :, 0]))
    assert image.array.shape == (1, 1, 3, 2)


def test_colour_comes_back_as_rgb(tmp_path):
    rgb = Image(np.arange(90, dtype=np.uint8).reshape(3, 2, 3, 5), phantom_geometry(), quantity=Quantity.RGB)
    write_nifti(rgb, tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").get_data_dtype().names == ("R", "G", "B")
    back = read_nifti(tmp_path / "a.nii")
    assert back.quantity is Quantity.RGB
    np.testing.assert_array_equal(back.array, rgb.array)


def test_complex_voxels_are_refused(tmp_path):
    with pytest.raises(PixelError, match="complex64 are not read"):
        read_nifti(save(tmp_path, VOXELS.astype(np.complex64)))


def test_nan_is_kept_and_noted(tmp_path):
    voxels = VOXELS.astype(np.float32)
    voxels[0, 0, 0] = np.nan
    voxels[1, 0, 0] = np.inf
    image = read_nifti(save(tmp_path, voxels))
    assert np.isnan(image.array[0, 0, 0, 0])
    assert image.notes == ("2 of 24 voxels are not a number (NaN or infinite); kept as they are",)


@pytest.mark.parametrize("keep", [360, 500, 539])
def test_a_nifti2_cut_off_in_its_header_is_one_clear_error(keep, tmp_path, capfd):
    path = save(tmp_path, image_class=nib.Nifti2Image)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PixelError, match="truncated"):
        read_nifti(path)
    assert capfd.readouterr().err == ""


def test_remarks_of_nibabel_are_not_shown(tmp_path, caplog):
    path = save(tmp_path, image_class=nib.Nifti2Image)
    content = bytearray(path.read_bytes())
    content[:4] = (541).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_nifti(path).array.shape == (1, 4, 3, 2)
    assert caplog.records == []
    assert logging.getLogger("nibabel.global").filters == []


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [0.3, 0.9, 0.99])
def test_truncated_files_are_refused(keep, name, tmp_path):
    path = save(tmp_path, np.random.default_rng(0).integers(0, 999, (9, 9, 9)).astype(np.int16), name=name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(DataError, match=r"truncated|damaged|not a NIfTI") as caught:
        read_nifti(path)
    assert str(caught.value).startswith(name)


def test_a_header_that_promises_too_much_is_refused_at_once(tmp_path):
    path = save(tmp_path, change=lambda h: h["dim"].__setitem__(slice(1, 4), 30000))
    with pytest.raises(PixelError, match="promises 54000000000000 bytes"):
        read_nifti(path)
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(PixelError, match="promises 54000000000000 bytes"):
        read_nifti(packed)


def test_what_is_no_nifti_is_refused(tmp_path):
    (tmp_path / "a.nii").write_text("hello")
    with pytest.raises(DataError, match="not a NIfTI file"):
        read_nifti(tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"b\.nii: cannot read: .* does not exist"):
        read_nifti(tmp_path / "b.nii")
    analyze = nib.AnalyzeImage(VOXELS, None)
    nib.save(analyze, tmp_path / "c.hdr")
    with pytest.raises(DataError, match=r"Analyze 7\.5 file does not say which side is left"):
        read_nifti(tmp_path / "c.hdr")


def test_masks_of_others(tmp_path):
    labels = np.zeros((2, 3, 4), np.float64)
    labels[1, 2, 3] = 5
    path = save(tmp_path, labels)
    mask = read_nifti_mask(path)
    assert mask.array.dtype == np.uint16
    assert [(s.number, s.label) for s in mask.segments] == [(5, "label 5")]
    assert mask.array[3, 2, 1] == 5
    with pytest.raises(PixelError, match="have no segment"):
        read_nifti_mask(path, [Segment(1, "liver")])
    for wrong in (labels + 0.5, labels - 1, labels * 20000):
        with pytest.raises(PixelError, match="whole numbers from 0 to 65535"):
            read_nifti_mask(save(tmp_path, wrong))


def test_a_broken_comment_of_ours_is_left_out(tmp_path):
    path = tmp_path / "a.nii"
    write_nifti(phantom(), path)
    path.write_bytes(path.read_bytes().replace(b'{"isocenter": {', b'{"isocenter": ['))
    image = read_nifti(path)
    assert image.quantity is Quantity.ARBITRARY
    assert "could not be read" in image.notes[0]


def test_only_nifti_names_are_written(tmp_path):
    with pytest.raises(DataError, match=r"must be named \.nii or \.nii\.gz"):
        write_nifti(phantom(), tmp_path / "a.img")
    assert list(tmp_path.iterdir()) == []


def test_no_place_and_a_long_axis_survive(tmp_path):
    plain = Image(np.arange(40000, dtype=np.uint16).reshape(1, 1, 1, 40000), Geometry((1, 1, 40000)))
    assert write_nifti(plain, tmp_path / "a.nii").grid == "index"
    assert isinstance(nib.load(tmp_path / "a.nii"), nib.Nifti2Image)
    assert read_nifti(tmp_path / "a.nii").geometry.affine is None


def test_cine_stays_a_cine(tmp_path):
    cine = Image(np.arange(24, dtype=np.uint8).reshape(1, 4, 2, 3), Geometry((4, 2, 3), stack="time"))
    write_nifti(cine, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").geometry.stack == "time"


def test_label_intent_is_set(tmp_path):
    mask = Mask(np.ones((2, 3, 5), np.uint16), phantom_geometry(), (Segment(1, "x"),))
    write_nifti(mask, tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz").header
    assert header.get_intent()[0] == "label"
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
