"""Messages of the interaction socket: what is refused, and what they look like byte by byte."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest

from isocenter.core.errors import TransportError
from isocenter.viewer.wire import LONGEST_JSON, WireError, decode_levels, encode_levels, pack, unpack


def test_a_message_has_the_bytes_that_the_contract_says():
    levels = np.zeros((1, 2, 100), dtype=np.uint8)
    levels[0, 0, :3], levels[0, 1, 99] = (1, 2, 3), 3
    data = pack({"type": "delta", "seq": 1}, encode_levels(levels))
    head = b'{"type":"delta","seq":1}'
    runs = bytes([1, 1, 2, 1, 3, 1, 0, 0x80 | (196 & 0x7F), 196 >> 7, 3, 1])
    assert data == b"ISO1" + struct.pack("<I", len(head)) + head + runs
    assert unpack(data).kind == "delta"
    np.testing.assert_array_equal(decode_levels(unpack(data).payload, levels.shape), levels)


@pytest.mark.parametrize(
    ("data", "framed"),
    [
        (b"", False),
        (b"ISO1\x00", False),
        (b"ISO2" + struct.pack("<I", 2) + b"{}", False),
        (b"ISO1" + struct.pack("<I", 3) + b"{}", False),
        (b"ISO1" + struct.pack("<I", 0xFFFFFFFF) + b"{}", False),
        (b"ISO1" + struct.pack("<I", 2) + b"{}", True),
        (b"ISO1" + struct.pack("<I", 2) + b"[]", True),
        (b"ISO1" + struct.pack("<I", 3) + b'{"t', True),
        (b"ISO1" + struct.pack("<I", 10) + b'{"type":1}', True),
        (b"ISO1" + struct.pack("<I", 4) + b"\xff\xfe\xfd\xfc", True),
        (b"ISO1" + struct.pack("<I", 24) + b'{"type":"x","value":NaN}', True),
        (b"ISO1" + struct.pack("<I", 900_000) + b"[" * 900_000, True),
        (b"ISO1" + struct.pack("<I", 20_009) + b'{"type":' + b"9" * 20_000 + b"}", True),
    ],
)
def test_malformed_messages_are_refused(data, framed):
    with pytest.raises(WireError) as refusal:
        unpack(data)
    assert refusal.value.framed is framed
    assert isinstance(refusal.value, TransportError)


@pytest.mark.parametrize("head", [{"seq": 1}, {"type": 3}, {"type": "x", "a": float("nan")}, {"type": "x", "a": b"y"}])
def test_what_is_no_message_is_not_written(head):
    with pytest.raises(WireError):
        pack(head)
    with pytest.raises(WireError, match="bytes"):
        pack({"type": "x" * LONGEST_JSON})


@pytest.mark.parametrize(
    "payload",
    [
        b"\x00",  # no length
        b"\x00\x80",  # a length that never ends
        b"\x00\x80\x80\x80\x80\x80\x80\x01",  # longer than any box
        b"\x00\x00\x00\x08",  # an empty run
        b"\x04\x08",  # no such level
        b"\x80\x01\x00\x07",  # begins in the middle
        b"\x00\x07",  # too few voxels
        b"\x00\x09",  # too many
        b"\x00\x08\x00",  # bytes left over
        b"",
    ],
)
def test_malformed_runs_are_refused(payload):
    with pytest.raises(WireError):
        decode_levels(payload, (2, 2, 2))


def test_a_small_message_can_not_ask_for_much_memory():
    tracemalloc.start()
    for shape in [(1 << 20, 1 << 20, 1 << 20), (1 << 10, 1 << 10, 1 << 10), (-1, 2, 2), (1 << 31, 1, 1)]:
        with pytest.raises(WireError):
            decode_levels(b"\x00\xff\xff\xff\xff\x7f", shape)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    with pytest.raises(WireError):
        decode_levels(b"\x00\x01", (0, 2, 2))
    with pytest.raises(WireError):
        encode_levels(np.full((1, 1, 1), 4, dtype=np.uint8))
    assert decode_levels(b"", (0, 5, 5)).shape == (0, 5, 5)
