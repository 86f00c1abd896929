"""Deflated data, unpacked only as far as is allowed: a kilobyte of them may hold a gigabyte.

Source:
    DICOM PS3.5, A.5 (Deflated Explicit VR Little Endian); RFC 1951.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["unpacked_within", "unpacks_within"]

_BLOCK = 1 << 20


def unpacked_within(data: bytes, most: int) -> bytes | None:
    """Return what deflated data hold; None where they are broken, or hold more than `most` bytes.

    Example:
        >>> packed = zlib.compressobj(wbits=-15)
        >>> data = packed.compress(bytes(1000)) + packed.flush()
        >>> unpacked_within(data, 1000) == bytes(1000), unpacked_within(data, 999)
        (True, None)
    """
    made = bytearray()
    try:
        for piece in _pieces([data]):
            made += piece
            if len(made) > most:
                return None
    except (zlib.error, EOFError):
        return None
    return bytes(made)


def unpacks_within(file: Path, start: int, most: int) -> bool:
    """Tell whether the deflated rest of a file is whole, and holds at most `most` bytes.

    Args:
        file: The file.
        start: Where the deflated data begin.
        most: Bytes.
    """
    size = 0
    with file.open("rb") as stream:
        stream.seek(start)
        try:
            for piece in _pieces(iter(lambda: stream.read(_BLOCK), b"")):
                size += len(piece)
                if size > most:
                    return False
        except (zlib.error, EOFError):
            return False
    return True


def _pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what blocks hold, never much at once."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    for block in blocks:
        left = block
        while left and not inflate.eof:
            yield inflate.decompress(left, _BLOCK)
            left = inflate.unconsumed_tail
    while not inflate.eof:
        rest = inflate.decompress(b"", _BLOCK)
        if not rest:
            raise EOFError("cut off")
        yield rest
