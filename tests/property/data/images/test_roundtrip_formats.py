"""Read after write is the identity in patient millimetres, whatever the grid; and a wrong writer is caught."""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core import Code, Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import GeometryError
from isocenter.data.images import nifti, nrrd
from isocenter.data.images.nifti import lps_zyx_from_ras_ijk, read_nifti, read_nifti_mask, write_nifti
from isocenter.data.images.nrrd import read_nrrd, read_nrrd_mask, write_metaimage, write_nrrd
from isocenter.testing import PHANTOM_SPACING_MM, all_orientations, phantom, phantom_geometry
from isocenter.testing.phantom import rotation

FORMATS = {
    "nifti": (write_nifti, read_nifti, read_nifti_mask, "a.nii"),
    "nifti-gz": (write_nifti, read_nifti, read_nifti_mask, "a.nii.gz"),
    "nrrd": (write_nrrd, read_nrrd, read_nrrd_mask, "a.seg.nrrd"),
    "metaimage": (write_metaimage, read_nrrd, read_nrrd_mask, "a.mha"),
}
LUNG = Code("39607008", "SCT", "Lung")
SEGMENTS = (
    Segment(2, "one", type=LUNG, laterality=Code("7771000", "SCT", "Left")),
    Segment(7, "other", colour=(1, 128, 255)),
)

angles = st.floats(-40, 40).map(lambda a: round(a, 3))
spacings = st.tuples(*[st.floats(0.2, 8).map(lambda s: round(s, 4))] * 3)
origins = st.tuples(*[st.floats(-800, 800).map(lambda s: round(s, 4))] * 3)
shapes = st.tuples(*[st.integers(1, 6)] * 3)


@st.composite
def geometries(draw) -> Geometry:
    directions = (
        rotation(degrees=(draw(angles), draw(angles), draw(angles))) @ all_orientations()[draw(st.integers(0, 47))]
    )
    return Geometry.from_directions(draw(shapes), directions, spacing_mm=draw(spacings), origin_mm=draw(origins))


@st.composite
def masks(draw) -> Mask:
    geometry = draw(geometries())
    seed = draw(st.integers(0, 2**31))
    labels = np.random.default_rng(seed).choice(np.array([0, 0, 2, 7], np.uint16), size=geometry.shape)
    return Mask(labels, geometry, SEGMENTS)


def centroid_lps_mm(mask: Mask, number: int) -> np.ndarray | None:
    """Mean of the voxel centres in patient mm, written out independently of the proof."""
    points = [mask.geometry.affine @ (*index, 1) for index in np.argwhere(mask.array == number)]
    return np.mean(points, axis=0)[:3] if points else None


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("orientation", range(48))
def test_phantom_in_48_orientations(orientation, oblique, kind, tmp_path):
    write, read, read_mask, name = FORMATS[kind]
    degrees = (8.0, -5.0, 11.0) if oblique else (0.0, 0.0, 0.0)
    image = phantom(orientation, degrees=degrees)
    write(image, tmp_path / name)
    back = read(tmp_path / name)
    assert back.array.dtype == np.int16
    np.testing.assert_array_equal(back.array, image.array)
    np.testing.assert_allclose(back.geometry.affine, image.geometry.affine, atol=2e-6)
    assert back.geometry.orientation == image.geometry.orientation
    assert back.geometry.spacing_mm == pytest.approx(PHANTOM_SPACING_MM, abs=1e-6)

    labels = np.zeros(image.geometry.shape, np.uint16)
    labels[0, :2, 3:] = 2
    labels[1, 2, 0] = 7
    mask = Mask(labels, image.geometry, SEGMENTS)
    proof = write(mask, tmp_path / name)
    again = read_mask(tmp_path / name, SEGMENTS)
    centre_x = image.geometry.to_world([[0.5, 1, 2]])[0, 0]
    for segment, entry in zip(SEGMENTS, proof.segments, strict=True):
        here, there = centroid_lps_mm(mask, segment.number), centroid_lps_mm(again, segment.number)
        assert np.linalg.norm(here - there) < 0.01
        assert entry.centroid_lps_mm == pytest.approx(here, abs=1e-6)
        assert entry.volume_error == 0
        assert entry.volume_mm3 == pytest.approx(np.prod(PHANTOM_SPACING_MM) * {2: 4, 7: 1}[segment.number])
        if abs(here[0] - centre_x) > 1.5:
            assert entry.side == ("L" if here[0] > centre_x else "R")
            assert (here[0] > centre_x) == (there[0] > centre_x)


@pytest.mark.parametrize("kind", FORMATS)
@given(mask=masks())
@settings(max_examples=40, deadline=None)
def test_any_grid_any_labels(kind, mask):
    write, _, read_mask, name = FORMATS[kind]
    with tempfile.TemporaryDirectory() as folder:
        write(mask, Path(folder) / name)
        back = read_mask(Path(folder) / name, SEGMENTS)
    np.testing.assert_array_equal(back.array, mask.array)
    assert mask.geometry.same_grid(back.geometry)
    for number in (2, 7):
        here, there = centroid_lps_mm(mask, number), centroid_lps_mm(back, number)
        assert (here is None) == (there is None)
        assert here is None or np.linalg.norm(here - there) < 0.01


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_other_readers_agree_on_the_place(orientation, tmp_path):
    """SimpleITK reads NIfTI in LPS, nibabel in RAS; neither shares code with ours."""
    image = phantom(orientation)
    write_nifti(image, tmp_path / "a.nii.gz")
    itk = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    nib_image = nib.load(tmp_path / "a.nii.gz")
    for z, y, x in [(0, 0, 0), (1, 2, 4), (0, 2, 1)]:
        point = image.geometry.to_world([[z, y, x]])[0]
        np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((x, y, z)), point, atol=1e-4)
        np.testing.assert_allclose((nib_image.affine @ (x, y, z, 1))[:3] * (-1, -1, 1), point, atol=1e-4)
        assert itk[x, y, z] == image.array[0, z, y, x]
        assert nib_image.dataobj[x, y, z] == image.array[0, z, y, x]


@pytest.mark.parametrize("orientation", range(0, 48, 5))
def test_a_nifti_written_by_others_is_read_in_place(orientation, tmp_path):
    image = phantom(orientation)
    itk = sitk.GetImageFromArray(image.array[0])
    affine = image.geometry.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    itk.SetSpacing(spacing[::-1].tolist())
    itk.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    itk.SetOrigin(affine[:3, 3].tolist())
    for name, read in (("a.nii", read_nifti), ("a.nrrd", read_nrrd), ("a.mha", read_nrrd)):
        sitk.WriteImage(itk, str(tmp_path / name))
        back = read(tmp_path / name)
        np.testing.assert_array_equal(back.array, image.array)
        np.testing.assert_allclose(back.geometry.affine, affine, atol=1e-4)


@given(geometry=geometries(), index=st.tuples(*[st.floats(-20, 20)] * 3))
@settings(max_examples=200, deadline=None)
def test_index_and_world_are_inverse(geometry, index):
    world = geometry.to_world([index])
    np.testing.assert_allclose(geometry.to_index(world), [index], atol=1e-8)
    ras = lps_zyx_from_ras_ijk(geometry.affine)
    point = ras @ (*index[::-1], 1)
    np.testing.assert_allclose(point[:3] * (-1, -1, 1), world[0], atol=1e-9)
    np.testing.assert_array_equal(lps_zyx_from_ras_ijk(ras), geometry.affine)


def symmetric_mask() -> Mask:
    labels = np.zeros((4, 5, 6), np.uint16)
    labels[1:3, 1:4, 2:4] = 2
    return Mask(labels, phantom_geometry(9, shape=(4, 5, 6)), SEGMENTS)


def lopsided_mask() -> Mask:
    mask = symmetric_mask()
    labels = mask.array.copy()
    labels[3, 4, 5] = 7
    return Mask(labels, mask.geometry, SEGMENTS)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_nifti_writer_with_a_mirrored_array_is_caught(axis, tmp_path, monkeypatch):
    to_store = nifti._to_store

    def mirrored(item):
        values, facts = to_store(item)
        return np.flip(values, axis=axis), facts

    monkeypatch.setattr(nifti, "_to_store", mirrored)
    with pytest.raises(GeometryError, match="mirrored along"):
        write_nifti(lopsided_mask(), tmp_path / "a.nii.gz")
    with pytest.raises(GeometryError, match="mirrored along"):
        write_nifti(phantom(9), tmp_path / "b.nii.gz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [symmetric_mask, lopsided_mask])
@pytest.mark.parametrize("sign", [(-1, -1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_a_nifti_writer_that_confuses_the_world_is_caught(sign, make, tmp_path, monkeypatch):
    """LPS written where RAS is meant, and the like: also for a mask that is its own mirror image on its grid."""
    honest = nifti._write_geometry

    def confused(header, geometry):
        wrong = np.diag([*sign, 1]) @ geometry.affine
        honest(header, Geometry(geometry.shape, wrong))

    monkeypatch.setattr(nifti, "_write_geometry", confused)
    with pytest.raises(GeometryError, match="nothing was kept"):
        write_nifti(make(), tmp_path / "a.nii")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [symmetric_mask, lopsided_mask])
def test_a_nrrd_writer_that_confuses_the_world_is_caught(make, tmp_path, monkeypatch):
    honest = nrrd._nrrd_header

    def confused(item, array, *form):
        return honest(item, array, *form).replace("left-posterior-superior", "right-anterior-superior")

    monkeypatch.setattr(nrrd, "_nrrd_header", confused)
    with pytest.raises(GeometryError, match="nothing was kept"):
        write_nrrd(make(), tmp_path / "a.nrrd")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
)
def test_every_voxel_type(dtype, kind, tmp_path):
    write, read, _, name = FORMATS[kind]
    array = (phantom().array % 100).astype(dtype)
    if array.dtype.kind == "f":
        array[0, 0, 0, 0] = np.nan
        array[0, 0, 0, 1] = 0.1
    image = Image(array, phantom_geometry(31), quantity=Quantity.SUVBW, modality="PT")
    write(image, tmp_path / name)
    back = read(tmp_path / name)
    assert back.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back.array, array)
    assert (back.quantity, back.modality) == (Quantity.SUVBW, "PT")
    assert any("not a number" in n for n in back.notes) == (array.dtype.kind == "f")


@pytest.mark.parametrize("kind", ["nifti-gz", "nrrd", "metaimage"])
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_channels(channels, kind, tmp_path):
    write, read, _, name = FORMATS[kind]
    array = np.arange(channels * 30, dtype=np.float32).reshape(channels, 2, 3, 5)
    image = Image(array, phantom_geometry(20))
    write(image, tmp_path / name)
    np.testing.assert_array_equal(read(tmp_path / name).array, array)


@pytest.mark.parametrize("kind", FORMATS)
def test_overlapping_planes_and_probabilities(kind, tmp_path):
    write, _, read_mask, name = FORMATS[kind]
    planes = np.zeros((2, 2, 3, 5), bool)
    planes[0, 0, :2] = True
    planes[1, :, 1:, 2:] = True
    geometry = phantom_geometry(33)
    for values in (planes, planes * np.float32(0.3)):
        mask = Mask(values, geometry, SEGMENTS)
        proof = write(mask, tmp_path / name)
        assert proof.exact
        np.testing.assert_array_equal(read_mask(tmp_path / name, SEGMENTS).array, values)


@pytest.mark.parametrize("kind", ["nifti", "nrrd"])
def test_segments_come_back_from_the_file_itself(kind, tmp_path):
    write, _, read_mask, name = FORMATS[kind]
    labels = np.zeros((2, 3, 5), np.uint16)
    labels[0, 0, 0], labels[1, 2, 4] = 2, 7
    write(Mask(labels, phantom_geometry(), SEGMENTS), tmp_path / name)
    one, other = read_mask(tmp_path / name).segments
    assert (one.number, one.label, one.type, one.category) == (2, "one", LUNG, SEGMENTS[0].category)
    assert (other.number, other.label, other.colour) == (7, "other", (1, 128, 255))


@pytest.mark.parametrize("kind", ["nifti-gz", "nrrd", "metaimage"])
def test_same_input_same_bytes(kind, tmp_path):
    write, _, _, name = FORMATS[kind]
    write(lopsided_mask(), tmp_path / name)
    first = (tmp_path / name).read_bytes()
    write(lopsided_mask(), tmp_path / name)
    assert (tmp_path / name).read_bytes() == first
