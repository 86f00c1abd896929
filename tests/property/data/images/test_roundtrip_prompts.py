"""A click means the same place before and after resampling."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core import Geometry, Mask, Prompt, Segment
from isocenter.data.images.resample import resample_to
from isocenter.testing import phantom_geometry

orientations = st.integers(0, 47)
angles = st.tuples(*[st.floats(-30, 30)] * 3)


@given(orientation=orientations, degrees=angles, other=orientations, seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_prompts_commute_with_resampling(orientation, degrees, other, seed):
    """Pointing and then resampling gives the voxel that resampling and then pointing gives."""
    rng = np.random.default_rng(seed)
    shape = (4, 5, 6)
    geometry = phantom_geometry(orientation, degrees=degrees, shape=shape)
    labels = np.arange(1, 121, dtype=np.uint16).reshape(shape)
    mask = Mask(labels, geometry, tuple(Segment(n, f"voxel {n}") for n in range(1, 121)))
    # a finer grid, its axes in another order and direction, its voxels nested in the old ones
    fine = Geometry.from_directions(
        (12, 15, 18),
        geometry.directions,
        spacing_mm=tuple(s / 3 for s in geometry.spacing_mm),
        origin_mm=geometry.to_world([[-1 / 3] * 3])[0],
    )
    axes = tuple(int(a) for a in np.argsort(rng.random(3)))
    target = fine.reoriented((axes[0], axes[1], axes[2]), (bool(other & 1), bool(other & 2), bool(other & 4)))
    resampled = resample_to(mask, target)
    index = rng.uniform(-0.45, np.array(shape) - 0.55, size=(8, 3))
    inside = np.abs(index * 3 - np.rint(index * 3)) < 0.45  # clear of the border between two fine voxels
    prompt = Prompt(
        "scribble", geometry.to_world(index[inside.all(axis=1)] if inside.all(axis=1).any() else [[0, 0, 0]])
    )
    before = np.rint(prompt.index_zyx(geometry)).astype(int)
    after = np.rint(prompt.index_zyx(target)).astype(int)
    np.testing.assert_array_equal(labels[tuple(before.T)], resampled.array[tuple(after.T)])
    np.testing.assert_allclose(target.to_world(prompt.index_zyx(target)), prompt.coordinates, atol=1e-9)
