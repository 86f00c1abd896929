"""Measurements against values known by geometry, on straight, oblique, mirrored and unknown grids."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import GeometryError
from isocenter.tasks.phenotype import measure
from isocenter.tasks.phenotype.measure import _widest_chord
from isocenter.testing import phantom, phantom_geometry


def found(image, mask, number=1):
    return {
        m.derivation.meaning if m.derivation else m.name.meaning: m for m in measure(image, mask) if m.segment == number
    }


def values(image, mask, number=1):
    return {name: m.value for name, m in found(image, mask, number).items()}


def ellipsoid(geometry, centre_mm, radii_mm, axes=None):
    index = np.indices(geometry.shape).reshape(3, -1).T
    local = (geometry.to_world(index) - centre_mm) @ (np.eye(3) if axes is None else axes)
    return (((local / radii_mm) ** 2).sum(1) <= 1).reshape(geometry.shape)


def of(geometry, inside, array=None, **kind):
    array = np.zeros((1, *geometry.shape), np.float32) if array is None else array
    return Image(array, geometry, **kind), Mask(inside.astype(np.uint16), geometry, (Segment(1, "thing"),))


def test_a_box_of_voxels_has_the_volume_of_its_voxels_and_the_axes_of_its_middle_lines():
    geometry = Geometry.axial((9, 30, 40), spacing_mm=(5.0, 2.0, 1.0), origin_mm=(-7.0, 11.0, 3.0))
    inside = np.zeros(geometry.shape, bool)
    inside[2:5, 4:14, 6:26] = True  # 3 x 10 x 20 voxels
    got = values(*of(geometry, inside))
    assert got["Volume"] == pytest.approx(3 * 10 * 20 * 10.0 / 1000)
    # The outline runs through the middles of voxel faces: 20 mm between the outer rows' far faces, 19 columns across.
    assert got["Long axis"] == pytest.approx(np.hypot(20.0, 19.0))
    # In 3D the far slices' outer faces win: 15 mm between them, 9 rows of 2 mm and 19 columns across.
    assert got["Maximum 3D Diameter of a Mesh"] == pytest.approx(np.sqrt(15.0**2 + 18.0**2 + 19.0**2), abs=1e-9)
    assert got["Short axis"] < got["Long axis"]


def test_one_voxel():
    geometry = Geometry.axial((3, 3, 3), spacing_mm=(5.0, 2.0, 1.0))
    inside = np.zeros(geometry.shape, bool)
    inside[1, 1, 1] = True
    got = values(*of(geometry, inside))
    assert got["Volume"] == pytest.approx(0.01)
    assert got["Maximum 3D Diameter of a Mesh"] == pytest.approx(5.0)
    assert (got["Long axis"], got["Short axis"]) == pytest.approx((2.0, 1.0))


@pytest.mark.parametrize("orientation", [0, 7, 19, 30, 47])
@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_an_ellipsoid_on_any_grid(orientation, degrees):
    geometry = phantom_geometry(orientation, degrees=degrees, shape=(44, 66, 74))
    centre = geometry.to_world([[21.6, 32.3, 36.9]])[0]
    radii = np.array([20.0, 14.0, 17.0])  # L, P, S
    fit = all(n * s / 2 > radii.min() for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True))
    assert fit
    inside = ellipsoid(geometry, centre, radii)
    touches = any(np.take(inside, i, axis=a).any() for a in range(3) for i in (0, -1))
    got = values(*of(geometry, inside))
    expected_count = inside.sum() * 2.5 * 0.8 * 0.7 / 1000
    assert got["Volume"] == pytest.approx(expected_count, rel=1e-9)
    if not touches:
        assert got["Volume"] == pytest.approx(4 / 3 * np.pi * radii.prod() / 1000, rel=0.01)
        assert got["Maximum 3D Diameter of a Mesh"] == pytest.approx(40.0, abs=2.5)
        if degrees == (0.0, 0.0, 0.0):
            assert got["Long axis"] == pytest.approx(40.0, abs=2.5)
            assert got["Short axis"] == pytest.approx(28.0, abs=2.5)


def test_the_axes_lie_in_the_axial_plane_whatever_the_order_of_the_axes():
    straight = Geometry.axial((20, 24, 28), spacing_mm=(3.0, 1.0, 1.5), origin_mm=(5.0, 6.0, 7.0))
    inside = ellipsoid(straight, straight.to_world([[9.7, 12.1, 13.8]])[0], (15.0, 8.0, 22.0))
    image, mask = of(straight, inside, np.random.default_rng(0).normal(size=(1, *inside.shape)).astype(np.float32))
    expected = values(image, mask)
    for axes, flips in [((2, 0, 1), (True, False, True)), ((1, 2, 0), (False, True, False)), ((0, 1, 2), (True,) * 3)]:
        flipped = tuple(i for i, f in enumerate(flips) if f)
        turned = straight.reoriented(axes, flips)
        move = lambda a, axes=axes, flipped=flipped: np.ascontiguousarray(np.flip(a.transpose(axes), flipped))  # noqa: E731
        got = values(Image(move(image.array[0])[None], turned), Mask(move(mask.array), turned, mask.segments))
        assert got == pytest.approx(expected, rel=1e-6)


def test_scaling_the_grid_scales_the_measures():
    rng = np.random.default_rng(3)
    blob = rng.random((9, 11, 13)) > 0.7
    one = Geometry.axial(blob.shape, spacing_mm=(2.5, 0.8, 0.7))
    two = Geometry.axial(blob.shape, spacing_mm=(5.0, 1.6, 1.4))
    small, large = values(*of(one, blob)), values(*of(two, blob))
    assert large["Volume"] == pytest.approx(8 * small["Volume"])
    for name in ("Long axis", "Short axis", "Maximum 3D Diameter of a Mesh"):
        assert large[name] == pytest.approx(2 * small[name])


def test_the_3d_diameter_equals_the_brute_force_one_over_all_faces():
    rng = np.random.default_rng(11)
    blob = rng.random((6, 7, 8)) > 0.8
    geometry = phantom_geometry(23, shape=(6, 7, 8))
    padded = np.pad(blob, 1)
    faces = []
    for axis in range(3):
        for step in (-1, 1):
            outside = ~np.roll(padded, -step, axis)
            centre = np.argwhere(padded & outside) - 1.0
            centre[:, axis] += step / 2
            faces.append(centre)
    world = geometry.to_world(np.concatenate(faces))
    brute = np.linalg.norm(world[:, None] - world[None], axis=-1).max()
    assert values(*of(geometry, blob))["Maximum 3D Diameter of a Mesh"] == pytest.approx(brute, abs=1e-9)


def test_the_short_axis_is_a_chord_and_not_the_width():
    # A parallelogram: across its long diagonal it is 5.49 wide, but the longest chord there is 4.16.
    hull = np.array([[0.0, 0.0], [10.0, 0.0], [14.0, 4.0], [4.0, 4.0]])
    along = hull[2] - hull[0]
    u, v = 140 / np.linalg.norm(along), 40 / np.linalg.norm(along)  # the vertex (10, 0), along and across the diagonal
    length = np.linalg.norm(along)
    chord = v + v * (length - u) / (length - (length - u))
    assert chord == pytest.approx(4.16, abs=0.005)
    for turned in range(4):
        assert _widest_chord(np.roll(hull, turned, axis=0), along) == pytest.approx(chord)
        assert _widest_chord(np.roll(hull, turned, axis=0), -along) == pytest.approx(chord)


def test_two_parts_are_one_volume_and_the_axes_are_those_of_the_larger():
    geometry = Geometry.axial((3, 40, 40), spacing_mm=(1.0, 1.0, 1.0))
    inside = np.zeros(geometry.shape, bool)
    inside[1, 2:12, 2:22] = True
    inside[1, 30:33, 30:33] = True
    got = values(*of(geometry, inside))
    assert got["Volume"] == pytest.approx((200 + 9) / 1000)
    assert got["Long axis"] == pytest.approx(np.hypot(20.0, 9.0))
    assert got["Maximum 3D Diameter of a Mesh"] > 40


def test_intensity_in_the_unit_of_the_image():
    image = phantom()
    labels = np.zeros(image.geometry.shape, np.uint16)
    labels[0, 0, :] = 4  # voxels -20 -13 -6 1 8
    got = found(image, Mask(labels, image.geometry, (Segment(4, "row"),)), 4)
    assert got["Mean"].value == pytest.approx(-6.0)
    assert got["Standard Deviation"].value == pytest.approx(np.sqrt(2) * 7)
    assert [got[n].value for n in ("Minimum", "Median", "Maximum")] == [-20.0, -6.0, 8.0]
    assert got["Tenth percentile"].value == pytest.approx(-17.2)
    assert got["Ninetieth percentile"].value == pytest.approx(5.2)
    assert {m.unit.value for n, m in got.items() if m.derivation} == {"[hnsf'U]"}
    assert got["Mean"].name.value == "112031"


def test_units_follow_the_quantity_and_not_finite_voxels_are_left_out():
    geometry = phantom_geometry()
    array = np.full((1, *geometry.shape), 2.0, np.float32)
    array[0, 0, 0, 0] = np.nan
    inside = np.ones(geometry.shape, bool)
    for quantity, modality, name, unit in [
        (Quantity.SUVBW, "PT", "126401", "{SUVbw}g/ml"),
        (Quantity.ARBITRARY, "MR", "110852", "1"),
        (Quantity.ARBITRARY, "", "INTENSITY", "1"),
        (Quantity.GY, "RTDOSE", "128513", "Gy"),
    ]:
        got = found(*of(geometry, inside, array, quantity=quantity, modality=modality))
        assert (got["Mean"].name.value, got["Mean"].unit.value, got["Mean"].value) == (name, unit, 2.0)
    nothing = found(*of(geometry, inside, np.full_like(array, np.nan)))
    assert "Mean" not in nothing
    colour = found(*of(geometry, inside, np.zeros((3, *geometry.shape), np.uint8), quantity=Quantity.RGB))
    assert "Mean" not in colour


def test_a_radiograph_is_measured_at_its_detector_and_says_so():
    geometry = Geometry((1, 20, 30), pixel_spacing_mm=(0.2, 0.1))
    inside = np.zeros(geometry.shape, bool)
    inside[0, 5:10, 5:25] = True
    got = found(*of(geometry, inside, modality="DX"))
    assert got["Area at the detector plane"].value == pytest.approx(100 * 0.02)
    assert got["Area at the detector plane"].unit.value == "mm2"
    assert got["Long axis at the detector plane"].value == pytest.approx(np.hypot(2.0, 0.8))
    assert "Volume" not in got
    calibrated = found(*of(geometry, inside, modality="DX", meta={"PixelSpacingCalibrationType": "FIDUCIAL"}))
    assert "Area" in calibrated
    assert "Area" in found(*of(geometry, inside, modality="US"))


def test_no_millimetre_is_invented():
    flat = Geometry((1, 20, 30))
    inside = np.zeros(flat.shape, bool)
    inside[0, 5:10, 5:25] = True
    got = found(*of(flat, inside))
    assert (got["Area"].value, got["Area"].unit.value) == (100.0, "{pixels}")
    assert not [m for m in got.values() if m.unit.value.startswith("mm")]
    stack = Geometry((4, 20, 30))
    got = found(*of(stack, np.broadcast_to(inside, stack.shape)))
    assert (got["Number of voxels"].value, got["Number of voxels"].unit.value) == (400.0, "1")
    assert not [m for m in got.values() if m.unit.value in ("mm", "mm2", "mL")]


def test_a_cine_is_measured_in_its_largest_frame():
    cine = Geometry((3, 10, 10), pixel_spacing_mm=(1.0, 1.0), stack="time")
    inside = np.zeros(cine.shape, bool)
    inside[0, 1:3, 1:3] = inside[1, 1:6, 1:5] = True
    got = values(*of(cine, inside, modality="US"))
    assert got["Area"] == pytest.approx(20.0)
    assert got["Long axis"] == pytest.approx(np.hypot(5.0, 3.0))


def test_overlapping_and_probable_and_empty_segments():
    geometry = phantom_geometry(shape=(4, 5, 6))
    stack = np.zeros((3, 4, 5, 6), bool)
    stack[0, 1:3] = True
    stack[1, 2:4] = True
    segments = tuple(Segment(n, str(n)) for n in (3, 9, 12))
    image = Image(np.zeros((1, 4, 5, 6), np.int16), geometry)
    mask = Mask(stack, geometry, segments)
    voxel_ml = 2.5 * 0.8 * 0.7 / 1000
    assert values(image, mask, 3)["Volume"] == pytest.approx(60 * voxel_ml)
    assert values(image, mask, 9)["Volume"] == pytest.approx(60 * voxel_ml)
    assert values(image, mask, 12) == {"Volume": 0.0}
    soft = Mask(np.where(stack, 0.5, 0.49).astype(np.float32), geometry, segments)
    assert values(image, soft, 3) == values(image, mask, 3)


def test_a_mask_of_another_grid_is_refused():
    image = phantom()
    other = phantom_geometry(1)
    with pytest.raises(GeometryError, match="resample the mask"):
        measure(image, Mask(np.zeros(other.shape, np.uint16), other, (Segment(1, "x"),)))
