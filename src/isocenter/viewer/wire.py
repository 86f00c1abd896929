"""Binary messages of the interaction socket, read and written by the server and by our client alike.

A message is little-endian::

    "ISO1" | uint32 n | n bytes of JSON (UTF-8, one object with a "type") | payload

A payload holds levels of probability in a box, C order (z, y, x), as runs: a level byte, then the length as LEB128.
Level 0 is out (p < 0.25), 1 maybe (p < 0.5), 2 probably (p < 0.75), 3 in: the mask is level 2 and above, the band of
doubt is levels 1 and 2.

What comes from a socket is not trusted: sizes are checked before anything is allocated for them, and every refusal is a
`WireError` whose `framed` says whether the message could be told apart from what follows.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from isocenter.core.errors import TransportError

__all__ = [
    "LONGEST_JSON",
    "MAGIC",
    "MOST_VOXELS",
    "Message",
    "WireError",
    "decode_levels",
    "encode_levels",
    "pack",
    "unpack",
]

MAGIC = b"ISO1"
LONGEST_JSON = 8 << 20
"""Bytes of JSON in one message, a replay; a scribble of 10,000 points to 0.001 mm has about 300,000."""
MOST_VOXELS = 1 << 31
"""Voxels that one payload may speak of."""
_HEAD = struct.Struct("<4sI")
_LEVELS = 4


class WireError(TransportError):
    """A message that breaks the form.

    Args:
        message: What is wrong with it.
        framed: Whether the frame was whole, so that the conversation can go on.
    """

    def __init__(self, message: str, *, framed: bool = True) -> None:
        self.framed = framed
        super().__init__(message)


@dataclass(frozen=True, eq=False)
class Message:
    """One message.

    Args:
        head: Its JSON, with a "type".
        payload: Bytes after it; empty for most.
    """

    head: Mapping[str, object] = field(default_factory=dict)
    payload: bytes = b""

    @property
    def kind(self) -> str:
        """Its type."""
        return str(self.head["type"])


def pack(head: Mapping[str, object], payload: bytes | memoryview = b"") -> bytes:
    r"""Write a message.

    Raises:
        WireError: The head has no type, holds what JSON can't (a number that is not finite), or is too long.

    Example:
        >>> pack({"type": "ping"})
        b'ISO1\x0f\x00\x00\x00{"type":"ping"}'
    """
    if not isinstance(head.get("type"), str):
        raise WireError("a message needs a type")
    try:
        text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise WireError(f"a message can't be written as JSON: {error}") from error
    if len(text) > LONGEST_JSON:
        raise WireError(f"a message's JSON may have {LONGEST_JSON} bytes, this has {len(text)}")
    return b"".join((_HEAD.pack(MAGIC, len(text)), text, payload))


def unpack(data: bytes) -> Message:
    """Read a message.

    Raises:
        WireError: It is not framed as one (`framed` is False), or its JSON is no object with a type.

    Example:
        >>> unpack(pack({"type": "ping"}, b"abc")).payload
        b'abc'
    """
    if len(data) < _HEAD.size:
        raise WireError(f"a message has {_HEAD.size} bytes or more, this has {len(data)}", framed=False)
    magic, length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise WireError("a message begins with ISO1; this is another protocol, or another version", framed=False)
    if length > LONGEST_JSON or _HEAD.size + length > len(data):
        raise WireError(f"a message says that its JSON has {length} bytes, which it has not", framed=False)
    text = data[_HEAD.size : _HEAD.size + length]
    try:
        head = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise WireError("a message's JSON can't be read") from error
    if not isinstance(head, dict) or not isinstance(head.get("type"), str):
        raise WireError('a message\'s JSON is an object with a "type"')
    return Message(head, bytes(data[_HEAD.size + length :]))


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def encode_levels(levels: UInt8[np.ndarray, "z y x"]) -> bytes:
    """Write levels as runs.

    Args:
        levels: 0 to 3.

    Raises:
        WireError: A value is none of the four.

    Example:
        >>> encode_levels(np.array([[[0, 0, 0, 3]]], dtype=np.uint8)).hex()
        '00030301'
    """
    flat = np.ascontiguousarray(levels).ravel()
    if not flat.size:
        return b""
    if int(flat.max()) >= _LEVELS:
        raise WireError(f"levels are 0 to {_LEVELS - 1}")
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), flat.size - 1)
    runs = np.diff(ends, prepend=-1)
    # A run takes as many bytes as it has groups of seven bits; every byte's place is known before any is written.
    widths = np.ones(len(runs), dtype=np.int64)
    longest = int(runs.max())
    bits = 7
    while longest >> bits:
        widths += runs >= (1 << bits)
        bits += 7
    starts = np.concatenate(([0], np.cumsum(widths + 1)[:-1]))
    out = np.zeros(int((widths + 1).sum()), dtype=np.uint8)
    out[starts] = flat[ends]
    for group in range(int(widths.max())):
        has = widths > group
        more = (widths > group + 1)[has]
        out[starts[has] + 1 + group] = ((runs[has] >> (7 * group)) & 0x7F) | np.where(more, 0x80, 0)
    return out.tobytes()


def decode_levels(payload: bytes, shape: tuple[int, int, int]) -> UInt8[np.ndarray, "z y x"]:
    """Read levels from runs.

    Args:
        payload: As `encode_levels` writes it.
        shape: Of the box (z, y, x).

    Raises:
        WireError: The runs do not fill the box exactly, or a level is none of the four. Nothing is allocated then.

    Example:
        >>> decode_levels(bytes.fromhex("00030301"), (1, 2, 2)).tolist()
        [[[0, 0], [0, 3]]]
    """
    if len(shape) != 3 or min(shape) < 0:
        raise WireError("a box has three sides, none of them negative")
    size = math.prod(shape)
    if size > MOST_VOXELS:
        raise WireError(f"a box may hold {MOST_VOXELS} voxels, this has {size}")
    if not size:
        if payload:
            raise WireError("an empty box has no runs")
        return np.zeros(shape, dtype=np.uint8)
    values, runs = _runs(np.frombuffer(payload, dtype=np.uint8))
    # Each run is at most 2 ** 35: the sum of what a message can hold stays far below 2 ** 63.
    if int(runs.sum()) != size:
        raise WireError(f"runs fill {int(runs.sum())} voxels of a box of {size}")
    return np.repeat(values, runs).reshape(shape)


def _runs(codes: UInt8[np.ndarray, " n"]) -> tuple[UInt8[np.ndarray, " r"], np.ndarray]:
    """Return levels and lengths of runs, without a loop over bytes: a number ends at the first byte below 128.

    The level byte before a number is below 128 too, so that bytes below 128 are, in turn, a level and a number's end.
    """
    ends = np.flatnonzero(codes < 0x80)
    if not len(ends) or len(ends) % 2 or ends[-1] != len(codes) - 1:
        raise WireError("runs are cut off")
    firsts, lasts = ends[0::2], ends[1::2]
    if firsts[0] != 0 or (firsts[1:] != lasts[:-1] + 1).any():
        raise WireError("a run begins with a level of 128 or more")
    values = codes[firsts]
    if int(values.max()) >= _LEVELS:
        raise WireError(f"levels are 0 to {_LEVELS - 1}")
    widths = lasts - firsts
    if int(widths.max()) > 5:
        raise WireError("a run is longer than any box")
    runs = np.zeros(len(firsts), dtype=np.int64)
    for group in range(int(widths.max())):
        has = widths > group
        runs[has] |= (codes[firsts[has] + 1 + group].astype(np.int64) & 0x7F) << (7 * group)
    if not runs.all():
        raise WireError("a run is empty")
    return values, runs
