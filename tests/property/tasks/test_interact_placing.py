"""Prompts keep their place: in any orientation, and through any reorientation of the grid."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core import Geometry, Prompt
from isocenter.tasks.interact.placing import Placed, place
from isocenter.testing.phantom import all_orientations, phantom_geometry, rotation

SHAPE = (6, 9, 11)
indices = st.tuples(*(st.integers(0, n - 1) for n in SHAPE))


@settings(max_examples=60, deadline=None)
@given(orientation=st.integers(0, 47), index=indices, positive=st.booleans())
def test_a_point_in_millimetres_lands_on_its_voxel(orientation, index, positive):
    geometry = phantom_geometry(orientation, shape=SHAPE)
    prompts = [Prompt("point", geometry.to_world([index]), positive), Prompt("point", geometry.to_world([(0, 0, 0)]))]
    if index == (0, 0, 0) and not positive:
        return
    placed = place(prompts, geometry)
    assert isinstance(placed, Placed)
    mark = placed.marks[index[0]][0]
    np.testing.assert_allclose(mark.points, [index[1:]], atol=1e-6)
    assert mark.positive == positive


@settings(max_examples=60, deadline=None)
@given(
    orientation=st.integers(0, 47),
    axes=st.permutations([0, 1, 2]),
    flips=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    index=indices,
)
def test_prompts_commute_with_reorienting_the_grid(orientation, axes, flips, index):
    geometry = phantom_geometry(orientation, shape=SHAPE)
    turned = geometry.reoriented(tuple(axes), flips)
    prompt = [Prompt("point", geometry.to_world([index]))]
    placed = place(prompt, turned)
    assert isinstance(placed, Placed)
    expected = [
        turned.shape[i] - 1 - index[a] if f else index[a] for i, (a, f) in enumerate(zip(axes, flips, strict=True))
    ]
    assert list(placed.marks) == [expected[0]]
    np.testing.assert_allclose(placed.marks[expected[0]][0].points, [expected[1:]], atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(point=st.tuples(*(st.floats(-30, 30) for _ in range(3))))
def test_a_point_is_placed_or_refused_with_a_reason(point):
    geometry = Geometry(SHAPE)
    placed = place([Prompt("point", np.array([point]), frame="index_zyx")], geometry)
    assert isinstance(placed, str) != bool(geometry.contains_index([point])[0])


def _cube_grid(orientation: int, degrees: tuple[float, float, float]) -> Geometry:
    directions = rotation(degrees=degrees) @ all_orientations()[orientation]
    return Geometry.from_directions((40, 100, 110), directions, spacing_mm=(2.0, 1.0, 0.9), origin_mm=(5.0, -20.0, 3.0))


@settings(max_examples=80, deadline=None)
@given(
    orientation=st.integers(0, 47),
    degrees=st.tuples(*(st.sampled_from([0.0, 5.0, 30.0, 45.0]) | st.floats(-60, 60) for _ in range(3))),
    sides=st.tuples(*(st.floats(4, 30) for _ in range(3))),
)
def test_a_box_in_millimetres_is_held_whole_whatever_the_grid(orientation, degrees, sides):
    geometry = _cube_grid(orientation, degrees)
    middle = geometry.to_world([[20, 50, 55]])[0]
    low, high = middle - np.array(sides) / 2, middle + np.array(sides) / 2
    placed = place([Prompt("box", np.array([low, high]))], geometry)
    if isinstance(placed, str):
        assert "lasso of four corners" in placed
        assert any(abs(d) > 1 for d in degrees)
        return
    assert placed.axis == 0
    corners = geometry.to_index(np.array(list(product(*zip(low, high, strict=True)))))
    region = placed.marks[20][0].points
    # The corners of the box are voxel centres: the region reaches half a voxel beyond, and no further.
    np.testing.assert_allclose(region.min(axis=0), corners[:, 1:].min(axis=0) - 0.5, atol=1e-6)
    np.testing.assert_allclose(region.max(axis=0), corners[:, 1:].max(axis=0) + 0.5, atol=1e-6)
    assert 0 <= placed.first - corners[:, 0].min() + 0.25 < 1 or np.ptp(corners[:, 0]) < 0.75
    assert 0 <= corners[:, 0].max() + 0.25 - placed.last < 1 or np.ptp(corners[:, 0]) < 0.75


@settings(max_examples=60, deadline=None)
@given(orientation=st.integers(0, 47), first=indices, second=indices)
def test_on_a_straight_grid_a_box_in_millimetres_is_the_box_of_its_indices(orientation, first, second):
    geometry = phantom_geometry(orientation, degrees=(0.0, 0.0, 0.0), shape=SHAPE)
    by_index = place([Prompt("box", np.array([first, second], dtype=float), frame="index_zyx")], geometry)
    by_mm = place([Prompt("box", geometry.to_world([first, second]))], geometry)
    assert isinstance(by_index, str) == isinstance(by_mm, str)
    if isinstance(by_index, Placed) and isinstance(by_mm, Placed):
        assert (by_mm.axis, by_mm.first, by_mm.last) == (by_index.axis, by_index.first, by_index.last)
        for plane, marks in by_index.marks.items():
            np.testing.assert_allclose(by_mm.marks[plane][0].points, marks[0].points, atol=1e-6)
