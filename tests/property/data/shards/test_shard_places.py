"""A patch of a shard shows, at each place of the patient in mm, what the source shows there."""

from __future__ import annotations

import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from isocenter.core import Image, Mask, Segment
from isocenter.testing import phantom_geometry

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")

from isocenter.data.shards import open_shard, write_shard

SIZES = st.tuples(*[st.integers(1, 40)] * 3)
DEGREES = st.tuples(*[st.sampled_from([0.0, 8.0, -21.0, 44.0, 45.0])] * 3)


# No shrinking: each try writes files, and a failure as found says enough.
@settings(deadline=None, max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    shape=SIZES,
    orientation=st.integers(0, 47),
    degrees=DEGREES,
    size=SIZES,
    at=st.tuples(*[st.floats(0, 1)] * 3),
    aim=st.tuples(*[st.integers(1, 20)] * 3),
    seed=st.integers(0, 99),
)
def test_patch_in_patient_mm_is_the_source(shape, orientation, degrees, size, at, aim, seed) -> None:
    geometry = phantom_geometry(orientation, degrees=degrees, shape=shape)
    rng = np.random.default_rng(seed)
    image = Image(rng.integers(-1000, 1000, (2, *shape)).astype(np.int16), geometry)
    mask = Mask(rng.integers(0, 3, shape).astype(np.uint16), geometry, (Segment(1, "a"), Segment(2, "b")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.b2nd"
        write_shard(image, path, mask=mask, patch=aim)
        shard = open_shard(path)
        directions = np.asarray(shard.geometry.directions)
        along = directions[2, 0] + directions[1, 1] + directions[0, 2]
        others = [sum(abs(directions[p[i], i]) for i in range(3)) for p in permutations(range(3))]
        assert along >= max(others) - 1e-5, "z, y and x run as near to S, P and L as any order and direction of axes"
        start = [int(a * (n - 1)) for a, n in zip(at, shard.geometry.shape, strict=True)]
        cut = [min(e, n - s) for e, n, s in zip(size, shard.geometry.shape, start, strict=True)]
        assert shard.mask is not None
        values, labels = shard.patch(start, cut), shard.mask.patch(start, cut)
        where = shard.geometry.cropped((start[0], start[1], start[2]), (cut[0], cut[1], cut[2]))
        index = np.argwhere(np.ones(cut, np.bool_))
        source = geometry.to_index(where.to_world(index))
        rounded = np.rint(source).astype(int)
        assert np.abs(source - rounded).max() < 1e-6
        z, y, x = rounded.T
        assert np.array_equal(values.reshape(2, -1), image.array[:, z, y, x])
        assert np.array_equal(labels.reshape(-1), mask.array[z, y, x])
        back = shard.read(as_source=True)
        assert back.geometry == geometry
        assert back.array.tobytes() == image.array.tobytes()
