"""A multipart/related answer of DICOMweb, read part by part as it arrives: no instance is held in memory.

Source:
    RFC 2046, 5.1.1; DICOM PS3.18, 8.6.1.2.1 (multipart payload).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from isocenter.core.errors import TransportError

__all__ = ["boundary_of", "parts_of"]

_MAX_HEADERS = 64 * 1024


def boundary_of(content_type: str) -> bytes | None:
    """Return the boundary of a multipart answer; None where the answer is one part by itself.

    Raises:
        TransportError: Multipart without a boundary.

    Example:
        >>> boundary_of('multipart/related; type="application/dicom"; boundary="x y"')
        b'x y'
        >>> boundary_of("application/dicom") is None
        True
    """
    if not content_type.lower().lstrip().startswith("multipart/"):
        return None
    found = re.search(r'boundary=(?:"([^"]+)"|([^;\s]+))', content_type, re.IGNORECASE)
    if found is None:
        raise TransportError("the server sent a multipart answer without a boundary")
    return (found[1] or found[2]).encode("latin-1")


def parts_of(chunks: Iterable[bytes], boundary: bytes | None) -> Iterator[Iterator[bytes]]:
    r"""Yield the body of each part as chunks; each must be read to its end before the next is asked for.

    Args:
        chunks: Of the answer.
        boundary: None for an answer that is one part.

    Raises:
        TransportError: The answer ends before its last boundary.

    Example:
        >>> raw = b"--b\r\nContent-Type: a\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--"
        >>> [b"".join(part) for part in parts_of([raw[:20], raw[20:31], raw[31:]], b"b")]
        [b'one', b'two']
    """
    if boundary is None:
        yield iter(chunks)
        return
    source = _Source(iter(chunks), b"\r\n--" + boundary)
    source.held = b"\r\n"  # so that the first boundary is found like the others
    for _ in source.until_boundary():
        pass
    while source.headers():
        yield source.until_boundary()
        for _ in source.until_boundary() if not source.at_boundary else ():
            pass


class _Source:
    def __init__(self, chunks: Iterator[bytes], mark: bytes) -> None:
        self.chunks = chunks
        self.mark = mark
        self.held = b""
        self.at_boundary = False

    def more(self) -> None:
        try:
            self.held += next(self.chunks)
        except StopIteration:
            raise TransportError("the server's answer was cut off") from None

    def until_boundary(self) -> Iterator[bytes]:
        """Yield what stands before the next boundary, and go behind it."""
        self.at_boundary = False
        keep = len(self.mark) - 1
        while (place := self.held.find(self.mark)) < 0:
            if len(self.held) > keep:
                yield self.held[:-keep]
                self.held = self.held[-keep:]
            self.more()
        if place:
            yield self.held[:place]
        self.held = self.held[place + len(self.mark) :]
        self.at_boundary = True

    def headers(self) -> bool:
        """Go behind the headers of a part; False where the boundary was the last."""
        while len(self.held) < 2:
            self.more()
        if self.held.startswith(b"--"):
            return False
        while (place := self.held.find(b"\r\n\r\n")) < 0:
            if len(self.held) > _MAX_HEADERS:
                raise TransportError("the server sent headers without end")
            self.more()
        self.held = self.held[place + 4 :] if place else self.held[4:]
        # An empty body begins with its boundary.
        self.held = self.held if not self.held.startswith(self.mark[2:]) else b"\r\n" + self.held
        return True
