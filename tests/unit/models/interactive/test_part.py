"""Fields that are 0 outside a box give the numbers that whole fields give."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from isocenter.models.interactive.part import Part, box_of, box_sides, join_boxes
from isocenter.models.interactive.volume import Cube

_SHAPE = (5, 6, 7)


@st.composite
def boxes(draw):
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in _SHAPE]
    return tuple(slice(a, b) for a, b in ends)


def field(box, seed=0):
    whole = np.zeros(_SHAPE, dtype=np.float32)
    whole[box] = np.random.default_rng(seed).uniform(0.1, 1, whole[box].shape)
    return whole


@given(boxes(), boxes())
def test_a_part_is_its_field(one, other):
    whole = field(one)
    part = Part.of(whole)
    np.testing.assert_array_equal(part.whole(), whole)
    np.testing.assert_array_equal(part.within(other), whole[other])
    grown = part.grown(other)
    np.testing.assert_array_equal(grown.whole(), whole)
    both = (field(one) > 0) | (field(other) > 0)
    assert box_of(both) == join_boxes(box_of(field(one) > 0), box_of(field(other) > 0))
    if all(box_sides(other)):
        assert all(g.start <= o.start and o.stop <= g.stop for g, o in zip(grown.box, other, strict=True))


def test_what_is_pasted_without_the_faint_is_what_is_pasted():
    rng = np.random.default_rng(3)
    block = np.zeros((8, 8, 8), dtype=np.float32)
    block[2:5, 3:6, 1:4] = rng.uniform(0.2, 1, (3, 3, 3))
    for cube in (
        Cube((14.2, 15.0, 13.7), 20.0, (1.0, 1.0, 1.0), 8),
        Cube((3.0, 28.0, 1.0), 24.0, (2.0, 1.0, 1.0), 8),  # reaches beyond the volume
        Cube((15.0, 15.0, 15.0), 4.0, (1.0, 1.0, 1.0), 8),
    ):
        shape = (20, 30, 28)
        whole, part = cube.paste(block, shape), cube.paste_part(block, shape, least=0.1)
        np.testing.assert_allclose(
            part.whole(), whole, rtol=0, atol=1e-6
        )  # sums of other lengths are rounded otherwise
        assert part.values.size < whole.size / 4
        volume = rng.normal(size=shape).astype(np.float32)
        volume[:, :9] = 0
        np.testing.assert_allclose(cube.cut(Part.of(volume), outside=0.5), cube.cut(volume, outside=0.5), atol=1e-6)
        stored = (volume * 100).astype(np.int16)
        np.testing.assert_array_equal(cube.cut(stored, outside=0.5), cube.cut(stored.astype(np.float32), outside=0.5))
    assert cube.paste_part(np.zeros((8, 8, 8), np.float32), shape, least=0.1).values.size == 0
