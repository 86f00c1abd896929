"""Resampling goes through patient millimetres."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.core.errors import ConfigError, GeometryError
from isocenter.data.images.resample import resample_to
from isocenter.testing import phantom, phantom_geometry


def test_same_grid_is_the_identity():
    image = phantom(17)
    for order in (0, 1):
        np.testing.assert_array_equal(resample_to(image, image.geometry, order=order).array, image.array)
    assert resample_to(image, image.geometry, order=0).array.dtype == np.int16
    assert resample_to(image, image.geometry).array.dtype == np.float32


@pytest.mark.parametrize("orientation", range(0, 48, 7))
def test_reoriented_grid_moves_voxels_and_nothing_else(orientation):
    image = phantom(orientation)
    axes, flips = (2, 0, 1), (True, False, True)
    turned = resample_to(image, image.geometry.reoriented(axes, flips), order=0)
    np.testing.assert_array_equal(turned.array[0], np.flip(image.array[0].transpose(axes), axis=(0, 2)))


def test_linear_between_two_voxels_and_outside():
    array = np.arange(4, dtype=np.int16).reshape(1, 1, 1, 4) * 10 - 5
    source = Image(array, Geometry.axial((1, 1, 4), spacing_mm=(1, 1, 2)))
    target = Geometry.axial((1, 1, 10), spacing_mm=(1, 1, 1), origin_mm=(-2, 0, 0))
    # centres at x = -2 .. 7; the source covers -1 .. 7
    expected = [-5, -5, -5, 0, 5, 10, 15, 20, 25, 25]
    assert resample_to(source, target).array[0, 0, 0].tolist() == expected
    filled = resample_to(source, target, outside=-1000)
    assert filled.array[0, 0, 0, 0] == -1000
    assert filled.array[0, 0, 0, 1:].tolist() == expected[1:]
    assert "resampled to (1, 1, 10) voxels" in filled.notes[0]


def test_agrees_with_simpleitk():
    rng = np.random.default_rng(4)
    source = Image(rng.normal(size=(1, 9, 10, 11)).astype(np.float32), phantom_geometry(5, shape=(9, 10, 11)))
    target = phantom_geometry(30, degrees=(3, 20, -9), shape=(7, 8, 6))
    middle = source.geometry.to_world([[4, 4.5, 5]])[0] - target.to_world([[3, 3.5, 2.5]])[0]
    affine = target.affine.copy()
    affine[:3, 3] += middle
    target = Geometry(target.shape, affine)

    def as_itk(array, geometry):
        image = sitk.GetImageFromArray(array)
        spacing = np.linalg.norm(geometry.affine[:3, :3], axis=0)
        image.SetSpacing(spacing[::-1].tolist())
        image.SetDirection((geometry.affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
        image.SetOrigin(geometry.affine[:3, 3].tolist())
        return image

    grid = as_itk(np.zeros(target.shape, np.float32), target)
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(as_itk(source.array[0], source.geometry), grid, sitk.Transform(), sitk.sitkLinear, -99.0)
    )
    ours = resample_to(source, target, outside=-99).array[0]
    inside = (theirs != -99) & (ours != -99)
    assert inside.mean() > 0.3
    np.testing.assert_allclose(ours[inside], theirs[inside], atol=1e-4)
    assert ((theirs == -99) != (ours == -99)).mean() < 0.02  # the very rim


def test_masks_stay_masks():
    geometry = phantom_geometry(2, shape=(4, 4, 4))
    labels = np.zeros((4, 4, 4), np.uint16)
    labels[1:3, 1:3, 1:3] = 300
    fine = Geometry.from_directions(
        (8, 8, 8),
        geometry.directions,
        spacing_mm=tuple(s / 2 for s in geometry.spacing_mm),
        origin_mm=geometry.to_world([[-0.25, -0.25, -0.25]])[0],
    )
    mask = Mask(labels, geometry, (Segment(300, "x"),))
    out = resample_to(mask, fine, order=3)
    assert out.array.dtype == np.uint16
    np.testing.assert_array_equal(out.array, labels.repeat(2, 0).repeat(2, 1).repeat(2, 2))
    planes = Mask((labels > 0)[None], geometry, mask.segments)
    np.testing.assert_array_equal(resample_to(planes, fine).array[0], out.array > 0)
    soft = resample_to(Mask((labels > 0)[None].astype(np.float32), geometry, mask.segments), fine, order=3)
    assert soft.array.dtype == np.float32
    assert 0 < soft.array[0, 2, 2, 1] < 1


def test_no_place_no_resampling():
    image = Image(phantom().array, Geometry((2, 3, 5)))
    with pytest.raises(GeometryError, match="needs a place"):
        resample_to(image, phantom_geometry())
    with pytest.raises(GeometryError, match="frames of a cine"):
        resample_to(Image(phantom().array, Geometry((2, 3, 5), stack="time")), phantom_geometry())
    with pytest.raises(ConfigError, match="order must be 0 to 5"):
        resample_to(phantom(), phantom_geometry(), order=6)
