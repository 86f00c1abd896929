"""Space, as properties: index and world are inverse, and turning a grid never moves a voxel in the patient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core import Geometry, Prompt
from isocenter.testing import PHANTOM_SPACING_MM, phantom, phantom_geometry

orientations = st.integers(0, 47)
angles = st.tuples(*[st.floats(-44, 44, allow_nan=False)] * 3)
indices = st.lists(st.tuples(*[st.floats(-50, 50, allow_nan=False)] * 3), min_size=1, max_size=5)


@given(orientations, angles, indices)
@settings(max_examples=200, deadline=None)
def test_index_to_world_and_back(orientation: int, degrees: tuple, index: list) -> None:
    geometry = phantom_geometry(orientation, degrees=degrees)
    there = geometry.to_world(np.array(index))
    assert np.allclose(geometry.to_index(there), index, atol=1e-9)
    assert geometry.spacing_mm == pytest.approx(PHANTOM_SPACING_MM, abs=1e-9)
    assert geometry.voxel_volume_mm3 == pytest.approx(2.5 * 0.8 * 0.7)


@given(orientations, angles)
@settings(max_examples=150, deadline=None)
def test_canonical_turn_keeps_every_voxel_in_its_place(orientation: int, degrees: tuple) -> None:
    image = phantom(orientation, degrees=degrees)
    axes, flips = image.geometry.canonical_steps()
    turned = image.geometry.reoriented(axes, flips)
    array = np.flip(image.array[0].transpose(axes), [i for i in range(3) if flips[i]])
    assert turned.orientation == "SPL"
    assert turned.shape == array.shape
    for value in image.array.ravel()[[0, 7, 29]]:
        before = image.geometry.to_world(np.argwhere(image.array[0] == value).astype(float))
        after = turned.to_world(np.argwhere(array == value).astype(float))
        assert np.allclose(before, after, atol=1e-9)


@given(orientations, st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=100, deadline=None)
def test_crop_keeps_place(orientation: int, start: tuple) -> None:
    geometry = phantom_geometry(orientation)
    cropped = geometry.cropped(start, (4, 4, 4))
    assert np.allclose(cropped.to_world([[1, 2, 3]]), geometry.to_world(np.add(start, (1.0, 2.0, 3.0))[None]))


@given(orientations, angles)
@settings(max_examples=50, deadline=None)
def test_prompts_survive_a_turn_of_the_grid(orientation: int, degrees: tuple) -> None:
    image = phantom(orientation, degrees=degrees)
    point = image.geometry.to_world([[1, 2, 3]])
    prompt = Prompt("point", point)
    turned = image.geometry.reoriented(*image.geometry.canonical_steps())
    array = image.array[0].transpose(image.geometry.canonical_steps()[0])
    array = np.flip(array, [i for i in range(3) if image.geometry.canonical_steps()[1][i]])
    index = np.rint(prompt.index_zyx(turned)[0]).astype(int)
    assert array[tuple(index)] == image.array[0, 1, 2, 3]


def test_mirrored_grid_is_not_the_same_grid() -> None:
    geometry = phantom_geometry(0)
    mirrored = geometry.reoriented((0, 1, 2), (False, False, True))
    assert mirrored.shape == geometry.shape
    assert not geometry.same_grid(mirrored)
    assert geometry.same_grid(Geometry(geometry.shape, np.array(geometry.affine)))
