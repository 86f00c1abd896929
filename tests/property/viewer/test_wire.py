"""Whatever levels and whatever JSON: what is written is read; whatever bytes: read, or refused."""

from __future__ import annotations

import contextlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from isocenter.viewer.wire import WireError, decode_levels, encode_levels, pack, unpack

_SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
_JSON = st.recursive(
    _SCALARS | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=12), elements=st.integers(0, 3))
)
def test_levels_come_back(levels):
    np.testing.assert_array_equal(decode_levels(encode_levels(levels), levels.shape), levels)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40_000)), min_size=1, max_size=20))
def test_long_runs_come_back(runs):
    flat = np.concatenate([np.full(n, level, dtype=np.uint8) for level, n in runs])[None, None]
    packed = encode_levels(flat)
    np.testing.assert_array_equal(decode_levels(packed, flat.shape), flat)
    assert len(packed) <= 4 * len(runs)


@given(st.dictionaries(st.text(), _JSON), st.text(), st.binary(max_size=200))
def test_messages_come_back(head, kind, payload):
    message = unpack(pack({**head, "type": kind}, payload))
    assert message.head == {**head, "type": kind}
    assert (message.kind, message.payload) == (kind, payload)


@given(st.binary(max_size=64), st.tuples(*[st.integers(0, 6)] * 3))
def test_any_bytes_are_runs_or_refused(payload, shape):
    try:
        levels = decode_levels(payload, shape)
    except WireError:
        return
    assert levels.shape == shape
    assert levels.size == 0 or levels.max() <= 3


@given(st.binary(max_size=64))
def test_any_bytes_are_a_message_or_refused(data):
    for candidate in (data, b"ISO1" + data, pack({"type": "ping"})[:8] + data):
        with contextlib.suppress(WireError):
            assert isinstance(unpack(candidate).kind, str)
