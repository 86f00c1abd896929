"""The parts of a Blosc2 contiguous frame that a shard needs: where its chunks lie in the file, and their checksums.

A frame is a header, the compressed chunks one after another, an index of them, and a trailer with variable-length
metadata. Blosc2 itself reads all of it; only the three lengths in the header, at fixed places, are read here, so that
a part of a file can be fetched, and checked before it is decoded.

Source:
    C-Blosc2, README_CFRAME_FORMAT.rst (contiguous frame, version 2).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from isocenter.core.errors import CapabilityError, DataError

__all__ = [
    "HEAD_BYTES",
    "Chunks",
    "Frame",
    "blosc",
    "checksum_of_header",
    "checksum_of_index",
    "chunks_of",
    "parse_frame",
]

HEAD_BYTES = 4096
"""How much of a file is read at once to learn its lengths; headers are a few hundred bytes."""

_LENGTHS = 47
_MAGIC = b"b2frame\0"
_HEADER_OF_CHUNK = 32
_SPECIAL_FLAGS = 31
_NOT_STORED = {1, 2, 4}
"""Chunks of zeros, of NaN, or never filled have an entry in the index and no bytes in the file."""


def blosc() -> ModuleType:
    """Return Blosc2.

    Raises:
        CapabilityError: It is not installed.
    """
    try:
        import blosc2
    except ModuleNotFoundError as error:
        raise CapabilityError("training shards need Blosc2: pip install 'isocenter[archive]'") from error
    return blosc2  # type: ignore[no-any-return,unused-ignore]


@dataclass(frozen=True)
class Frame:
    """Lengths of the parts of a frame, in bytes.

    Args:
        header: Before the first chunk.
        data: All chunks together.
        total: The whole file.
    """

    header: int
    data: int
    total: int

    @property
    def tail(self) -> int:
        """Where the index and the trailer begin."""
        return self.header + self.data


@dataclass(frozen=True)
class Chunks:
    """The chunks of a frame in their order.

    Args:
        offsets: Where each begins, counted from the end of the header.
        lengths: Compressed bytes of each; 0 for one that is not stored.
        checksums: CRC-32 of the compressed bytes.
    """

    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    checksums: tuple[int, ...]


def parse_frame(head: bytes, *, source: object) -> Frame:
    """Read the lengths of a frame's parts from its first bytes.

    Args:
        head: The first bytes of the file; at least 47 of a frame.
        source: The file's name for messages.

    Raises:
        DataError: It is no Blosc2 frame, or its lengths contradict each other.
    """
    if len(head) < _LENGTHS or head[2:10] != _MAGIC:
        raise DataError("is no Blosc2 frame, or its beginning is damaged; write the shard again", source=source)
    (header,) = struct.unpack(">i", head[11:15])
    (total,) = struct.unpack(">Q", head[16:24])
    (data,) = struct.unpack(">q", head[39:47])
    if not (_LENGTHS <= header <= total and 0 <= data <= total - header):
        raise DataError("the lengths in its header contradict each other; write the shard again", source=source)
    return Frame(header, data, total)


def chunks_of(chunks: Iterable[Any]) -> Chunks:
    """Find where chunks will lie in a frame, and their checksums.

    Args:
        chunks: The compressed chunks in their order, as Blosc2 hands them out.
    """
    offsets, lengths, checksums, position = [], [], [], 0
    for chunk in chunks:
        special = (chunk[_SPECIAL_FLAGS] >> 4) & 7
        stored = 0 if special in _NOT_STORED and len(chunk) == _HEADER_OF_CHUNK else len(chunk)
        offsets.append(position)
        lengths.append(stored)
        checksums.append(zlib.crc32(chunk) if stored else 0)
        position += stored
    return Chunks(tuple(offsets), tuple(lengths), tuple(checksums))


def checksum_of_header(header: bytes) -> int:
    """Return the CRC-32 of a frame's header with the length of the file left out, which metadata changes."""
    return zlib.crc32(header[:16] + bytes(8) + header[24:])


def checksum_of_index(tail: bytes) -> int:
    """Return the CRC-32 of the index by which Blosc2 finds the chunks.

    Args:
        tail: The file from the end of its chunks on: the index, itself a chunk, and then the metadata.
    """
    length = struct.unpack("<i", tail[12:16])[0] if len(tail) >= _HEADER_OF_CHUNK else 0
    return zlib.crc32(tail[: max(0, length)])
