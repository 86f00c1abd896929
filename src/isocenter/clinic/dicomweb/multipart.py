r"""A multipart body read as it arrives, whatever its pieces are, and written part by part.

`retrieve.multipart` pulls an answer from a server that we asked; here a stranger pushes a request into us, so nothing
of it is held but the head of a part.

Source:
    RFC 2046, 5.1.1; DICOM PS3.18, 8.6.1.2.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from isocenter.core.errors import TransportError

__all__ = ["Body", "Head", "MediaType", "Parts", "Tail", "accepted", "part_of", "read_media_type"]

_MOST_HEAD = 16 << 10
_MOST_ACCEPT = 2048
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z/-]+"
_PARAMETER = re.compile(rf'\s*;\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))?')


@dataclass(frozen=True)
class Head:
    """A part begins.

    Args:
        headers: By name in small letters.
    """

    headers: Mapping[str, str]


@dataclass(frozen=True)
class Body:
    """The next bytes of a part; never empty."""

    data: bytes


@dataclass(frozen=True)
class Tail:
    """A part is whole."""


@dataclass(frozen=True)
class MediaType:
    """A media type with its parameters, and how much it is wanted.

    Args:
        name: In small letters, e.g. "multipart/related".
        parameters: By name in small letters, without quotes; without the quality.
        quality: 0 to 1.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    quality: float = 1.0


def read_media_type(text: str) -> MediaType:
    """Read one media type.

    Raises:
        TransportError: It is none.

    Example:
        >>> read_media_type('multipart/related; type="application/dicom"; boundary=x;q=0.5')
        ... # doctest: +ELLIPSIS
        MediaType(name='multipart/related', parameters={'type': 'application/dicom', 'boundary': 'x'}, quality=0.5)
    """
    kind = re.match(rf"\s*({_WORD})", text)
    if kind is None or "/" not in kind[1]:
        raise TransportError("a media type that is none")
    parameters: dict[str, str] = {}
    position = kind.end()
    while (found := _PARAMETER.match(text, position)) is not None:
        value = re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3] or ""
        parameters[found[1].lower()] = value
        position = found.end()
    if text[position:].strip(" \t;"):
        raise TransportError("a media type with parameters that are none")
    quality = parameters.pop("q", "1")
    if not re.fullmatch(r"[01](\.[0-9]{0,3})?", quality):
        raise TransportError("a media type with a quality that is none")
    return MediaType(kind[1].lower(), parameters, min(float(quality), 1.0))


def accepted(header: str) -> list[MediaType]:
    """Read what is accepted, the most wanted first; an empty header accepts anything.

    Raises:
        TransportError: It can't be read, or is too long: quotes that never end take a time that is its square.

    Example:
        >>> [m.name for m in accepted("image/png;q=0.3, image/jpeg")]
        ['image/jpeg', 'image/png']
    """
    if len(header) > _MOST_ACCEPT:
        raise TransportError("a list of media types that is too long")
    pieces = re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', header)[:64]
    found = [read_media_type(piece) for piece in pieces if piece.strip()] or [MediaType("*/*")]
    return sorted((one for one in found if one.quality > 0), key=lambda one: -one.quality)


class Parts:
    r"""Reads a multipart body.

    Args:
        boundary: As its Content-Type has it.

    Example:
        >>> parts = Parts(b"b")
        >>> raw = b"--b\r\nContent-Type: a/b\r\n\r\none\r\n--b--"
        >>> [type(e).__name__ for piece in (raw[:7], raw[7:]) for e in parts.feed(piece)]
        ['Head', 'Body', 'Tail']
        >>> parts.end()
    """

    def __init__(self, boundary: bytes) -> None:
        if not 1 <= len(boundary) <= 70:
            raise TransportError("a multipart body has a boundary of 1 to 70 characters")
        self._mark = b"\r\n--" + boundary
        self._held = bytearray(b"\r\n")  # so that the first boundary is found like the others
        self._state = "before"

    def feed(self, chunk: bytes) -> Iterator[Head | Body | Tail]:
        """Take the next bytes; yield what they complete.

        Raises:
            TransportError: They are not of a multipart body, or the head of a part is too long.
        """
        self._held += chunk
        while self._state != "after":
            if self._state in ("before", "body"):
                place = self._held.find(self._mark)
                end = place if place >= 0 else max(len(self._held) - len(self._mark) + 1, 0)
                if self._state == "body" and end:
                    yield Body(bytes(self._held[:end]))
                del self._held[:end]
                if place < 0:
                    return
                del self._held[: len(self._mark)]
                if self._state == "body":
                    yield Tail()
                self._state = "line"
            elif self._state == "line":
                if not self._behind_boundary():
                    return
            else:
                head = self._head()
                if head is None:
                    return
                self._state = "body"
                yield head
        self._held.clear()  # what follows the last boundary is of no meaning

    def end(self) -> None:
        """Say that nothing follows.

        Raises:
            TransportError: The last boundary did not come.
        """
        if self._state == "line":
            list(self.feed(b"\r\n"))
        if self._state != "after":
            raise TransportError("the multipart body was cut off: its last boundary is missing")

    def _behind_boundary(self) -> bool:
        """Go behind the line of a boundary; False where more of it is needed."""
        if self._held.startswith(b"--"):
            self._state = "after"
            return True
        line = bytes(self._held[:_MOST_HEAD])
        stripped = line.lstrip(b" \t")
        if stripped.startswith(b"\r\n"):
            del self._held[: len(line) - len(stripped) + 2]
            self._state = "head"
            return True
        if stripped in (b"", b"\r", b"-") and len(line) < 256 and (stripped != b"-" or line == b"-"):
            return False
        raise TransportError("the multipart body has a boundary that does not end its line")

    def _head(self) -> Head | None:
        if self._held.startswith(b"\r\n"):
            # No headers at all. One of the two ends of line may already belong to the boundary of an empty body.
            del self._held[: 0 if self._held.startswith(self._mark) else 2]
            return Head({})
        place = self._held.find(b"\r\n\r\n")
        if place < 0 or place > _MOST_HEAD:
            if len(self._held) > _MOST_HEAD:
                raise TransportError("a part of the multipart body has headers without end")
            return None
        lines = bytes(self._held[:place]).decode("latin-1").split("\r\n")
        # A body that is empty begins with its boundary, whose end of line is the second of these.
        del self._held[: place + 4]
        headers = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon:
                raise TransportError("a part of the multipart body has a header that is none")
            headers[name.strip().lower()] = value.strip()
        return Head(headers)


def part_of(boundary: str, content_type: str, location: str = "") -> bytes:
    r"""Return what stands before the body of a part.

    Example:
        >>> part_of("b", "application/dicom")
        b'\r\n--b\r\nContent-Type: application/dicom\r\n\r\n'
    """
    told = f"\r\nContent-Location: {location}" if location else ""
    return f"\r\n--{boundary}\r\nContent-Type: {content_type}{told}\r\n\r\n".encode()
