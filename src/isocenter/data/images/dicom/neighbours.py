"""Headers read by what the file before has taught: elements of the very same bytes are not decoded again.

Files of a series say mostly the same. A header is cut, at the borders of its elements, into stretches that are the same
as in the file before, and elements that differ; only these are read. Anything else that differs (a tag, a value
representation, an element more or less) makes the scanner of `header` begin anew.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from pathlib import Path

from isocenter.data.images.dicom.header import (
    WANTED,
    Header,
    LeanWalker,
    Short,
    Unusual,
    Wanted,
    decode,
    scan_bytes,
    scan_head,
)

__all__ = ["HeaderNeighbours", "Kin"]

_PIXEL_DATA, _SYNTAX, _UNDEFINED = 0x7FE00010, 0x00020010, 0xFFFFFFFF
_FIRST = 132
_NOWHERE = Path()
_MOST_BYTES = 1 << 18
_MOST_DIFFERING = 64
_LONGEST_PAUSE = 64
_SHORT, _LONG = struct.Struct("<H").unpack_from, struct.Struct("<I").unpack_from


@dataclass(eq=False)
class _Same:
    """Elements of the same bytes in every file.

    Args:
        data: The bytes.
        starts: Where each element begins in them.
    """

    data: bytes
    starts: list[int]

    def first_difference(self, data: bytes, position: int) -> int:
        """Return the index of the first element that is not the same in other bytes."""
        low, high = 0, len(self.data)
        while low < high:
            middle = (low + high + 1) // 2
            if data.startswith(self.data[:middle], position):
                low = middle
            else:
                high = middle - 1
        return bisect_right(self.starts, low) - 1

    def part(self, first: int, last: int) -> list[_Part]:
        """Return the elements from one index to before another; none of them is no part."""
        if first >= last:
            return []
        begin = self.starts[first]
        stop = self.starts[last] if last < len(self.starts) else len(self.data)
        return [_Same(self.data[begin:stop], [start - begin for start in self.starts[first:last]])]


@dataclass(eq=False)
class _Differing:
    """An element whose value is not the same in every file.

    Args:
        tag: Group and element.
        vr: As written, "" in implicit VR.
        begins: The bytes of both.
        ahead: Bytes before its value.
        short: Whether its length has two bytes.
        wanted: Whether its value is.
    """

    tag: int
    vr: str
    begins: bytes
    ahead: int
    short: bool
    wanted: bool


_Part = _Same | _Differing


@dataclass(frozen=True, eq=False)
class Kin:
    """What headers share that were read by the same parts: the value of every element but those that differ.

    Args:
        differing: Keywords of elements that may differ.
    """

    differing: tuple[str, ...] = ()


@dataclass(eq=False)
class _Template:
    """One header, cut into parts, up to its pixel data."""

    parts: list[_Part]
    values: dict[str, object]
    syntax: str
    implicit: bool
    pixels: bytes
    ahead: int
    encapsulated: bool
    differing: int = 0
    kin: Kin = field(default_factory=Kin)


class _Otherwise(Exception):
    """The file is not like the one before it."""


@dataclass(eq=False)
class HeaderNeighbours:
    """Reads headers of files that lie together, as `scan_head` and `scan_bytes` do, and faster.

    The headers have no path: whoever uses this holds the contents.

    Args:
        wanted: What to read.
    """

    wanted: Wanted = field(default_factory=lambda: WANTED)

    def __post_init__(self) -> None:
        self.kin: Kin | None = None
        """What the header that was read last shares with others; None where that is not known."""
        self._template: _Template | None = None
        self._used = False
        self._pause = 0
        self._wait = 0

    def scan_head(self, path: str, name: str, head: bytes, size: int) -> Header:
        """Read the wanted elements of a DICOM file whose first bytes are at hand.

        Raises:
            PixelError: As `header.scan_head`.
        """
        found = self._follow(name, head, size)
        if found is None:
            found = replace(scan_head(Path(path), name, head, size, wanted=self.wanted), path=_NOWHERE)
            self._learn(head, found)
        return found

    def scan_bytes(self, content: bytes, name: str) -> Header:
        """Read the wanted elements of a DICOM file that is held in memory.

        Raises:
            PixelError: As `header.scan_bytes`.
        """
        found = self._follow(name, content, len(content))
        if found is None:
            found = replace(scan_bytes(content, name, wanted=self.wanted), path=_NOWHERE)
            self._learn(content, found)
        return found

    def _follow(self, name: str, head: bytes, size: int) -> Header | None:
        template = self._template
        self.kin = None
        if template is None:
            return None
        try:
            if head[128:132] != b"DICM":
                raise _Otherwise
            found = self._followed(template, name, head, size)
        except (_Otherwise, Unusual, Short, struct.error):
            self._template = None
            if not self._used:
                self._pause = min(_LONGEST_PAUSE, max(1, 2 * self._pause))
                self._wait = self._pause
            return None
        self._used, self._pause = True, 0
        self.kin = template.kin
        return found

    def _followed(self, template: _Template, name: str, head: bytes, size: int) -> Header:
        position, parts, raw = _FIRST, template.parts, {}
        index = 0
        while index < len(parts):
            part = parts[index]
            if isinstance(part, _Same):
                if not head.startswith(part.data, position):
                    self._divide(template, index, head, position)
                    continue
                position += len(part.data)
            else:
                if not head.startswith(part.begins, position):
                    raise _Otherwise
                at = position + part.ahead
                length = _SHORT(head, at - 2)[0] if part.short else _LONG(head, at - 4)[0]
                if length == _UNDEFINED:
                    if part.tag >> 16 == 2:
                        raise _Otherwise
                    position = LeanWalker(head, implicit=template.implicit).skip(at)
                else:
                    position = at + length
                if part.wanted:
                    raw[part.tag] = (part.vr, head[at:position], length)
            index += 1
        if not head.startswith(template.pixels, position) or position + 12 > len(head):
            raise _Otherwise
        at = position + template.ahead
        length = _LONG(head, at - 4)[0]
        if (length == _UNDEFINED) != template.encapsulated:
            raise _Otherwise
        values = {**template.values, **self._decoded(raw)}
        return Header(
            _NOWHERE, name, values, template.syntax, at, None if template.encapsulated else length, size,
            lean=True, has_pixels=True,
        )  # fmt: skip

    def _decoded(self, raw: dict[int, tuple[str, bytes, int]]) -> dict[str, object]:
        """Decode what the scanner would keep: a sequence whose presence counts is not there if it is empty."""
        kept = {}
        for tag, (vr, value, length) in raw.items():
            if self.wanted[tag][1] != "present":
                kept[tag] = (vr, value)
            elif length:
                kept[tag] = (vr, b"")
        return decode(kept, self.wanted, little=True)

    def _divide(self, template: _Template, index: int, head: bytes, position: int) -> None:
        """Take the first element that differs out of a part.

        Raises:
            _Otherwise: It must not differ, or too many do.
        """
        part = template.parts[index]
        if not isinstance(part, _Same):
            raise _Otherwise
        at = part.first_difference(head, position)
        start = part.starts[at]
        group = _SHORT(part.data, start)[0]
        tag, vr, ahead, _ = LeanWalker(part.data + bytes(12), implicit=template.implicit and group != 2).element(start)
        template.differing += 1
        if template.differing > _MOST_DIFFERING or tag == _SYNTAX:
            raise _Otherwise
        ahead -= start
        wanted = tag in self.wanted
        begins = part.data[start : start + (6 if vr else 4)]
        one = _Differing(tag, vr, begins, ahead, bool(vr) and ahead == 8, wanted)
        template.parts[index : index + 1] = [*part.part(0, at), one, *part.part(at + 1, len(part.starts))]
        if wanted:
            keyword = self.wanted[tag][0]
            told = (keyword, "UnreadableFrames") if keyword == "NumberOfFrames" else (keyword,)
            for one_of in told:
                template.values.pop(one_of, None)
            template.kin = Kin((*template.kin.differing, *told))

    def _learn(self, head: bytes, found: Header) -> None:
        """Take a header that was read as a whole for the one that the next is compared with."""
        if self._wait:
            self._wait -= 1
            return
        self._used = False
        if not found.lean or found.pixel_offset is None or found.pixel_offset > min(len(head), _MOST_BYTES):
            return
        implicit = found.transfer_syntax_uid == "1.2.840.10008.1.2"
        starts, position = [], _FIRST
        plain, meta = LeanWalker(head, implicit=implicit), LeanWalker(head, implicit=False)
        while True:
            walker = meta if head[position : position + 2] == b"\x02\0" else plain
            tag, vr, value_at, length = walker.element(position)
            if tag == _PIXEL_DATA:
                break
            starts.append(position - _FIRST)
            position = walker.skip(value_at) if length == _UNDEFINED else value_at + length
        self._template = _Template(
            parts=[_Same(head[_FIRST:position], starts)],
            values=dict(found.values),
            syntax=found.transfer_syntax_uid,
            implicit=implicit,
            pixels=head[position : position + (6 if vr else 4)],
            ahead=found.pixel_offset - position,
            encapsulated=found.pixel_bytes is None,
        )
