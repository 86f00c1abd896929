"""The geometry proof catches every way in which a writer can put a mask in the wrong place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.core.errors import GeometryError, PixelError
from isocenter.data.images.proof import prove, prove_image
from isocenter.testing import phantom, phantom_geometry

SHAPE = (6, 7, 8)
SEGMENTS = (Segment(1, "left thing"), Segment(2, "right thing"), Segment(9, "empty thing"))


def labelmap(*, symmetric: bool = False) -> np.ndarray:
    array = np.zeros(SHAPE, dtype=np.uint16)
    if symmetric:
        array[2:4, 2:5, 3:5] = 1
        return array
    array[1:3, 2:4, 1:4] = 1
    array[2, 4, 2] = 1
    array[4:6, 3:6, 5:7] = 2
    return array


def make(array: np.ndarray, geometry: Geometry | None = None, segments=SEGMENTS) -> Mask:
    return Mask(array, geometry or phantom_geometry(5, shape=SHAPE), segments)


def test_identical_mask_passes_with_its_figures():
    geometry = Geometry.axial(SHAPE, spacing_mm=(2.0, 1.0, 0.5), origin_mm=(10.0, 20.0, 30.0))
    array = np.zeros(SHAPE, dtype=np.uint16)
    array[1, 2, 3] = 1
    array[1, 2, 4] = 1
    proof = prove(make(array, geometry), make(array.copy(), geometry))
    one, two, _ = proof.segments
    assert one.voxels == 2
    assert one.volume_mm3 == pytest.approx(2.0)
    assert one.centroid_lps_mm == pytest.approx((11.75, 22.0, 32.0))
    assert one.centroid_error_mm == 0
    assert one.side == "M"
    assert two.voxels == 0
    assert two.centroid_lps_mm is None
    assert proof.grid == "identical"
    assert proof.exact


def test_side_is_left_where_lps_x_is_larger_than_the_grid_centre():
    array = np.zeros(SHAPE, dtype=np.uint16)
    array[0, 0, 7] = 1
    array[0, 0, 0] = 2
    geometry = Geometry.axial(SHAPE, spacing_mm=(2.0, 1.0, 0.5))
    proof = prove(make(array, geometry), make(array, geometry))
    assert [s.side for s in proof.segments] == ["L", "R", ""]


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mirrored_array_is_caught(axis, symmetric):
    array = labelmap(symmetric=symmetric)
    array[0, 0, 0] = 1  # one voxel breaks the symmetry, and moves the centroid by very little
    with pytest.raises(GeometryError, match="mirrored along"):
        prove(make(array), make(np.flip(array, axis=axis).copy()))


@pytest.mark.parametrize("orientation", range(48))
def test_mirrored_grid_of_a_symmetric_mask_is_caught(orientation):
    # The mask is its own mirror image on the grid, so only the grid can tell.
    geometry = phantom_geometry(orientation, shape=SHAPE)
    affine = geometry.affine.copy()
    affine[0] *= -1  # LPS written where RAS was meant
    wrong = Geometry(SHAPE, affine)
    array = np.ones(SHAPE, dtype=np.uint16)
    with pytest.raises(GeometryError, match="nothing was kept"):
        prove(make(array, geometry), make(array, wrong))


@pytest.mark.parametrize("straight", [True, False])
def test_wrong_handedness_is_caught(straight):
    geometry = phantom_geometry(0, degrees=(0, 0, 0) if straight else (8, -5, 11), shape=SHAPE)
    affine = geometry.affine.copy()
    affine[:3, 0] *= -1
    with pytest.raises(GeometryError):
        prove(make(labelmap(), geometry), make(labelmap(), Geometry(SHAPE, affine)))


def test_transposed_array_is_caught():
    shape = (6, 7, 7)
    array = np.zeros(shape, dtype=np.uint16)
    array[1, 2:4, 1:6] = 1
    geometry = phantom_geometry(shape=shape)
    with pytest.raises(GeometryError, match="in another place"):
        prove(make(array, geometry), make(array.transpose(0, 2, 1).copy(), geometry))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_shift_by_one_voxel_is_caught(axis):
    with pytest.raises(GeometryError, match="in another place"):
        prove(make(labelmap()), make(np.roll(labelmap(), 1, axis=axis)))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_origin_off_by_one_voxel_is_caught(axis):
    geometry = phantom_geometry(shape=SHAPE)
    affine = geometry.affine.copy()
    affine[:3, 3] += affine[:3, axis]
    with pytest.raises(GeometryError):
        prove(make(labelmap(), geometry), make(labelmap(), Geometry(SHAPE, affine)))


def test_origin_off_by_half_a_voxel_is_caught():
    geometry = phantom_geometry(shape=SHAPE)
    affine = geometry.affine.copy()
    affine[:3, 3] += affine[:3, 2] / 2  # corner taken for centre
    with pytest.raises(GeometryError, match=r"off by up to 0\.35 mm"):
        prove(make(labelmap(), geometry), make(labelmap(), Geometry(SHAPE, affine)))


@pytest.mark.parametrize("factor", [1.02, 2.0, 0.5])
def test_wrong_spacing_is_caught(factor):
    geometry = phantom_geometry(shape=SHAPE)
    affine = geometry.affine.copy()
    affine[:3, 0] *= factor
    with pytest.raises(GeometryError):
        prove(make(labelmap(), geometry), make(labelmap(), Geometry(SHAPE, affine)))


def test_swapped_values_are_caught():
    array = labelmap()
    swapped = np.select([array == 1, array == 2], [2, 1], 0).astype(np.uint16)
    with pytest.raises(GeometryError, match="swapped"):
        prove(make(array), make(swapped))


def test_swapped_names_are_caught():
    other = (Segment(1, "right thing"), Segment(2, "left thing"), SEGMENTS[2])
    with pytest.raises(GeometryError, match=r"segments \[1, 2\] carry another label"):
        prove(make(labelmap()), make(labelmap(), segments=other))


def test_missing_segment_is_caught():
    array = np.where(labelmap() == 2, 0, labelmap()).astype(np.uint16)
    with pytest.raises(GeometryError, match=r"missing \[2\]"):
        prove(make(labelmap()), make(array, segments=(SEGMENTS[0], SEGMENTS[2])))
    with pytest.raises(GeometryError, match=r"segment 2 has 12 voxels, read back were 0"):
        prove(make(labelmap()), make(array))


def test_lost_place_is_caught():
    with pytest.raises(GeometryError, match="the one read back has none"):
        prove(make(labelmap()), make(labelmap(), Geometry(SHAPE)))
    with pytest.raises(GeometryError, match="the one written has none"):
        prove(make(labelmap(), Geometry(SHAPE)), make(labelmap()))


def test_grid_without_a_place_is_compared_by_index():
    plain = Geometry(SHAPE, pixel_spacing_mm=(0.2, 0.3))
    proof = prove(make(labelmap(), plain), make(labelmap(), plain))
    assert proof.grid == "index"
    assert proof.segments[0].volume_mm3 is None
    assert proof.segments[0].voxels == 13
    with pytest.raises(GeometryError, match="pixel spacing"):
        prove(make(labelmap(), plain), make(labelmap(), Geometry(SHAPE, pixel_spacing_mm=(0.3, 0.2))))


def test_axes_in_another_order_with_their_grid_pass():
    mask = make(labelmap())
    axes, flips = (2, 0, 1), (True, False, True)
    turned = np.flip(mask.array.transpose(axes), axis=(0, 2)).copy()
    proof = prove(mask, make(turned, mask.geometry.reoriented(axes, flips)))
    assert proof.grid == "reordered"
    assert max(s.centroid_error_mm or 0 for s in proof.segments) < 1e-9


def test_left_out_empty_slices_pass_and_left_out_full_ones_do_not():
    mask = make(labelmap())
    kept = make(mask.array[1:], mask.geometry.cropped((1, 0, 0), (5, 7, 8)))
    assert prove(mask, kept).grid == "cropped"
    lost = make(mask.array[2:], mask.geometry.cropped((2, 0, 0), (4, 7, 8)))
    with pytest.raises(GeometryError):
        prove(mask, lost)
    # The other way round: a larger grid read back must hold nothing outside.
    assert prove(kept, mask).grid == "cropped"
    with pytest.raises(GeometryError):
        prove(lost, mask)


def test_stack_against_labelmap():
    mask = make(labelmap())
    stack = np.stack([mask.array == s.number for s in SEGMENTS])
    assert prove(mask, make(stack)).segments == prove(make(stack), mask).segments
    stack[0] = np.flip(stack[0], axis=2)
    with pytest.raises(GeometryError, match="segment 1 has its volume, but in another place"):
        prove(mask, make(stack))


def test_overlapping_stacks():
    stack = np.zeros((3, *SHAPE), dtype=bool)
    stack[0, 1:4, 1:4, 1:4] = True
    stack[1, 2:5, 2:5, 2:5] = True
    proof = prove(make(stack), make(stack.copy()))
    assert [s.voxels for s in proof.segments] == [27, 27, 0]
    wrong = stack.copy()
    wrong[1] = np.flip(wrong[1], axis=0)
    with pytest.raises(GeometryError, match=r"segment 2|mirrored"):
        prove(make(stack), make(wrong))


def test_probabilities_within_half_a_step():
    rng = np.random.default_rng(3)
    stack = rng.random((3, *SHAPE), dtype=np.float32)
    quantised = (np.rint(stack * 255) / 255).astype(np.float32)
    proof = prove(make(stack), make(quantised), probability_atol=0.5 / 255)
    assert not proof.exact
    with pytest.raises(GeometryError):
        prove(make(stack), make(quantised))
    with pytest.raises(GeometryError):
        prove(make(stack), make(np.flip(quantised, axis=3).copy()), probability_atol=0.5 / 255)


def test_lossy_boundary_may_move_by_one_voxel_only():
    shape = (24, 40, 40)
    array = np.zeros(shape, dtype=np.uint16)
    array[4:20, 6:34, 6:34] = 1
    array[2:4, 6:34, 6:20] = 1
    geometry = phantom_geometry(7, shape=shape)
    trimmed = array.copy()
    trimmed[4:8, 6:34, 6] = 0
    proof = prove(make(array, geometry), make(trimmed, geometry), volume_rtol=0.02, centroid_mm=0.2)
    assert proof.segments[0].volume_error == pytest.approx(-112 / 13328)
    assert not proof.exact
    with pytest.raises(GeometryError, match="mirrored along z"):
        prove(make(array, geometry), make(np.flip(array, 0).copy(), geometry), volume_rtol=0.02, centroid_mm=100)
    with pytest.raises(GeometryError, match=r"voxel off"):
        prove(make(array, geometry), make(np.roll(array, 2, 1), geometry), volume_rtol=0.02, centroid_mm=100)
    with pytest.raises(GeometryError, match="centroid"):
        prove(make(array, geometry), make(trimmed, geometry), volume_rtol=0.02)
    with pytest.raises(GeometryError, match="volume"):
        prove(make(array, geometry), make(trimmed, geometry), volume_rtol=0.001, centroid_mm=0.2)


def test_image_proof():
    image = phantom(13)
    assert prove_image(image, replace(image)).grid == "identical"
    with pytest.raises(GeometryError, match="mirrored along x"):
        prove_image(image, replace(image, array=image.array[..., ::-1]))
    with pytest.raises(PixelError, match="values"):
        prove_image(image, replace(image, array=image.array + np.int16(1)))
    with pytest.raises(GeometryError, match="has shape"):
        prove_image(image, Image(image.array[:, :1], image.geometry.cropped((0, 0, 0), (1, 3, 5))))


def test_image_proof_treats_nan_as_equal_and_takes_a_tolerance():
    image = phantom()
    values = image.array.astype(np.float32)
    values[0, 0, 0, 0] = np.nan
    nan = replace(image, array=values)
    assert prove_image(nan, replace(nan, array=values.copy())).exact
    near = replace(nan, array=values + np.float32(0.25))
    assert not prove_image(nan, near, value_atol=0.25).exact
    with pytest.raises(PixelError):
        prove_image(nan, near, value_atol=0.1)
