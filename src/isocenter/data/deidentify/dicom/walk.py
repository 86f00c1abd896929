"""A walk over the elements of a DICOM data set that writes the same data set without the identity.

What is kept stays as its own bytes, in runs; only what changes is written anew. A length that does not add up ends the
walk with an error, so that no file is ever half cleaned.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field

from isocenter.core.errors import PixelError
from isocenter.data.deidentify.dicom.elements import (
    CUT_OFF,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Broken,
    Elements,
    Place,
)
from isocenter.data.deidentify.dicom.plan import LONG_VRS, Entry, explicit_plan, implicit_plan
from isocenter.data.deidentify.dicom.profile import (
    CHARSET,
    DUMMY,
    EMPTY,
    KEEP,
    REMOVE,
    STATED,
    WALK,
)
from isocenter.data.deidentify.dicom.safe_private import safe_elements
from isocenter.data.deidentify.dicom.words import Words, changed_value

__all__ = ["Disorder", "Walker"]

_PIXELS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
_DEEPEST = 64
_CONCEPT, _TEXT_VALUE = 0x0040A043, 0x0040A160
# Concepts of content items whose text is an identity as a whole (PS3.16 TID 1001 ff.: observer and subject context).
_PERSONAL = re.compile(
    rb"121(?:008|009|013|016|017|020|021|022|028|029|030|031)(?![0-9])"
    rb"|(?:patient|subject|person|observer|physician|operator|recording)[a-z' ]{0,16}(?:name|id\b|identifier)"
    rb"|accession|birth|\bmrn\b|medical record|address|telephone|phone number",
    re.IGNORECASE,
)


class Disorder(Exception):
    """Elements of the data set are not in ascending order."""


@dataclass(eq=False)
class Walker:
    """One data set on its way out.

    Args:
        data: The bytes.
        words: How texts, dates and UIDs are changed.
        stated: What the object says of itself, written at the top in place of what was there: tag to (VR, value).
        big: Big endian.
        check: Look for known words in everything that is kept.
        source: Name for messages.
    """

    data: bytes
    words: Words
    stated: dict[int, tuple[str, bytes]]
    big: bool = False
    check: bool = False
    source: str = ""
    removed: Counter[tuple[int, int]] = field(default_factory=Counter)
    found: list[tuple[int, str]] = field(default_factory=list)
    pixels: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.view = memoryview(self.data)
        self.elements = Elements(self.data, big=self.big)
        self.u16, self.u32, self.pair = self.elements.u16, self.elements.u32, self.elements.pair
        policy = self.words.policy
        self.plans = (
            explicit_plan(policy, big=self.big, check=self.check),
            implicit_plan(policy, check=self.check),
        )

    def run(self, position: int, *, implicit: bool) -> list[bytes | memoryview]:
        """Walk the whole data set.

        Args:
            position: Where it begins.
            implicit: Without value representations.

        Returns:
            Its new bytes in pieces; `pixels` are indices of those that are pixel data.

        Raises:
            PixelError: Lengths that do not add up, or an element that is none.
            Disorder: Elements not in ascending order.
        """
        self.pieces: list[bytes | memoryview] = []
        try:
            self._dataset(position, len(self.data), self.pieces, implicit=implicit, depth=0)
        except struct.error as error:
            raise PixelError("is cut off inside an element; nothing of it was kept", source=self.source) from error
        except Broken as error:
            raise PixelError(f"{error}; nothing of it was kept", source=self.source) from None
        return self.pieces

    def _dataset(
        self,
        position: int,
        end: int,
        out: list[bytes | memoryview],
        *,
        implicit: bool,
        depth: int,
        open_end: bool = False,
    ) -> tuple[int, bool]:
        """Walk one data set or item; return where it ends and whether anything in it changed."""
        if depth > _DEEPEST:
            raise Broken(f"has sequences nested more than {_DEEPEST} deep")
        data, view, plan = self.data, self.view, self.plans[implicit]
        size, u16, u32 = 4 if implicit else 6, self.u16.unpack_from, self.u32.unpack_from
        top = depth == 0
        stated = sorted(self.stated) if top else []
        limit = stated[0] if stated else UNDEFINED
        start, previous, personal = position, -1, False
        blocks: dict[int, str] = {}
        changed = False
        encodings = self.words.encodings
        get = plan.get
        while position < end:
            entry = get(data[position : position + size])
            if entry is None:
                try:
                    odd = self._odd(position, end, implicit, blocks)
                except (Broken, struct.error):
                    if not (top and self.pixels):
                        raise
                    # Bytes after the pixel data that are no elements: no reader needs them.
                    self.removed[0xFFFCFFFC, REMOVE] += 1
                    if position > start:
                        out.append(view[start:position])
                    start = position = end
                    break
                if odd is None:
                    if not open_end:
                        raise Broken("has the end of an item where none is open")
                    break
                entry, body, length = odd
            elif implicit:
                body = position + 8
                length = u32(data, position + 4)[0]
            elif entry[2]:
                body = position + 12
                length = u32(data, position + 8)[0]
            else:
                body = position + 8
                length = u16(data, position + 6)[0]
            tag, action = entry[0], entry[1]
            if top:
                if tag <= previous:
                    raise Disorder
                previous = tag
                if tag >= limit:
                    if position > start:
                        out.append(view[start:position])
                    start = position
                    while stated and stated[0] <= tag:
                        out.append(self._stated(stated.pop(0), implicit))
                    limit = stated[0] if stated else UNDEFINED
            stop = body + length
            if length == UNDEFINED:
                stop = 0
            elif stop > end:
                raise Broken(CUT_OFF)
            if action == KEEP:
                if not stop:
                    stop = self.elements.value_end(Place(tag, entry[3], body, length), end, implicit=implicit)
                if tag in _PIXELS and top:
                    if position > start:
                        out.append(view[start:position])
                    self.pixels.append((len(out), body))
                    out.append(view[position:stop])
                    start = stop
                position = stop
                continue
            if action >= WALK:
                if tag == _CONCEPT:
                    personal = _PERSONAL.search(data, body, stop or min(body + 1024, end)) is not None
                elif action == CHARSET:
                    self.words.encodings = data[body:stop]
            elif personal and tag == _TEXT_VALUE:
                entry = entry._replace(action=DUMMY)
            new, stop = self._element(entry, position, body, stop, implicit=implicit, depth=depth, end=end)
            if new is not None:
                if position > start:
                    out.append(view[start:position])
                out.extend(new)
                start = stop
                changed = True
            position = stop
        if position > start:
            out.append(view[start:position])
        for tag in stated:
            out.append(self._stated(tag, implicit))
        if depth:
            self.words.encodings = encodings
        if open_end:
            if self.pair.unpack_from(data, position) != (0xFFFE, 0xE00D):
                raise Broken("has an item without an end")
            position += 8
        return position, changed

    def _odd(self, position: int, end: int, implicit: bool, blocks: dict[int, str]) -> tuple[Entry, int, int] | None:
        """Judge an element that the plan does not know by its first bytes; None at the end of an item."""
        tag, vr, body, length = self.elements.at(position, implicit=implicit)
        group = tag >> 16
        if group == 0xFFFE:
            if tag == ITEM_END:
                return None
            raise Broken("has an item where an element belongs")
        if body + (length if length != UNDEFINED else 0) > end:
            raise Broken(CUT_OFF)
        action = KEEP if tag in _PIXELS else REMOVE
        if group & 1:
            action, vr = self._private(tag, vr, self.data[body : body + min(length, 64)], blocks)
        elif not implicit and action == REMOVE:
            entry = self._other_vr(position, vr)
            if entry is not None:
                return entry, body, length
        return Entry(tag, action, vr in LONG_VRS, vr or "OW", REMOVE), body, length

    def _private(self, tag: int, vr: str, value: bytes, blocks: dict[int, str]) -> tuple[int, str]:
        """Return action and VR for a private element: kept only if safe and of its own VR."""
        if not self.words.policy.retain_safe_private:
            return REMOVE, vr
        group, element = tag >> 16, tag & 0xFFFF
        if 0x10 <= element <= 0xFF:
            creator = value.strip(b" \0").decode("latin-1")
            blocks[group << 8 | element] = creator
            return (KEEP if safe_elements(creator, group) else REMOVE), "LO"
        safe = safe_elements(blocks.get(group << 8 | element >> 8, ""), group).get(element & 0xFF)
        kept = safe is not None and vr in ("", "UN", safe)
        return (KEEP if kept else REMOVE), vr

    def _other_vr(self, position: int, vr: str) -> Entry | None:
        """Judge a standard attribute that is written with another VR than the dictionary's."""
        group, element = self.pair.unpack_from(self.data, position)
        entry = self.plans[True].get(struct.pack("<HH", group, element))
        if entry is None:
            return None
        return self.words.other_vr(entry, vr, big=self.big)

    def _element(
        self, entry: Entry, position: int, body: int, stop: int, *, implicit: bool, depth: int, end: int
    ) -> tuple[list[bytes | memoryview] | None, int]:
        """Return what an element becomes (None: it stays) and where it ends."""
        tag, action, _, vr, fallback = entry
        raw_vr = "" if implicit else self.data[position + 4 : position + 6].decode("latin-1")
        if action == WALK:
            inner_implicit = implicit or raw_vr == "UN"
            if raw_vr in ("OB", "OW") or (raw_vr == "UN" and self.big):
                raise Broken("has a sequence that is written as bytes")
            value, stop = self._sequence(body, stop, end, implicit=inner_implicit, depth=depth)
            if value is None:
                return None, stop
            length = sum(map(len, value))
            undefined = self.u32.unpack_from(self.data, body - 4)[0] == UNDEFINED
            head = self.data[position : body - 4] + self.u32.pack(UNDEFINED if undefined else length)
            return [head, *value], stop
        if not stop:
            stop = self.elements.value_end(Place(tag, raw_vr, body, UNDEFINED), end, implicit=implicit)
            if action not in (REMOVE, EMPTY, DUMMY):
                raise Broken("has a text or a number of undefined length")
        if action == STATED and depth == 0:
            return [], stop
        if action == REMOVE:
            if tag & 0xFFFF:
                self.removed[tag, REMOVE] += 1
            return [], stop
        new = changed_value(self.words, entry, action, self.data[body:stop], self.found)
        if new is None:
            return None, stop
        value_bytes, done = new
        self.removed[tag, done] += 1
        if done == REMOVE:
            return [], stop
        return [self._header(position, body, len(value_bytes), implicit=implicit) + value_bytes], stop

    def _header(self, position: int, body: int, length: int, *, implicit: bool) -> bytes:
        """Return the header of an element as it was, with another length."""
        if implicit or body - position == 12:
            return self.data[position : body - 4] + self.u32.pack(length)
        if length > 0xFFFE:
            raise Broken("has a value that is too long once it is cleaned")
        return self.data[position : body - 2] + self.u16.pack(length)

    def _stated(self, tag: int, implicit: bool) -> bytes:
        vr, value = self.stated[tag]
        if vr == "SQ":
            value = b"".join(
                self._written(ITEM, "", item, implicit=True)
                for item in (self._codes(code, implicit) for code in value.split(b"\\"))
            )
        return self._written(tag, vr, value, implicit=implicit)

    def _codes(self, code: bytes, implicit: bool) -> bytes:
        """Write a coded entry from "value|scheme|meaning"."""
        parts = code.split(b"|")
        pairs = zip(("SH", "SH", "LO"), (0x00080100, 0x00080102, 0x00080104), parts, strict=True)
        return b"".join(self._written(t, vr, v + b" " * (len(v) % 2), implicit=implicit) for vr, t, v in pairs)

    def _written(self, tag: int, vr: str, value: bytes, *, implicit: bool) -> bytes:
        head = self.pair.pack(tag >> 16, tag & 0xFFFF)
        if implicit:
            return head + self.u32.pack(len(value)) + value
        if vr in LONG_VRS:
            return head + vr.encode() + b"\0\0" + self.u32.pack(len(value)) + value
        return head + vr.encode() + self.u16.pack(len(value)) + value

    def _sequence(
        self, position: int, stop: int, end: int, *, implicit: bool, depth: int
    ) -> tuple[list[bytes | memoryview] | None, int]:
        """Walk the items of a sequence; return its new value, None where nothing changed, and where it ends."""
        data, view = self.data, self.view
        last = stop or end
        items: list[tuple[int, int, list[bytes | memoryview] | None, bool]] = []
        any_changed = False
        while position < last:
            group, element = self.pair.unpack_from(data, position)
            length = self.u32.unpack_from(data, position + 4)[0]
            tag = group << 16 | element
            if tag == SEQUENCE_END and not stop:
                break
            if tag != ITEM:
                raise Broken("has a sequence with something else than items in it")
            inner: list[bytes | memoryview] = []
            open_end = length == UNDEFINED
            item_end = last if open_end else position + 8 + length
            if item_end > last:
                raise Broken("is cut off, or an item is longer than its sequence")
            after, changed = self._dataset(
                position + 8, item_end, inner, implicit=implicit, depth=depth + 1, open_end=open_end
            )
            if after != item_end and not open_end:
                raise Broken("has an item that ends before its length")
            items.append((position, after, inner if changed else None, open_end))
            any_changed |= changed
            position = after
        if not stop:
            if position + 8 > end:
                raise Broken("has a sequence without an end")
            position += 8
        elif position != stop:
            raise Broken("has a sequence whose items do not fill it")
        if not any_changed:
            return None, position
        value: list[bytes | memoryview] = []
        for at, after, pieces, open_end in items:
            if pieces is None:
                value.append(view[at:after])
                continue
            length = UNDEFINED if open_end else sum(map(len, pieces))
            value.append(data[at : at + 4] + self.u32.pack(length))
            value.extend(pieces)
            if open_end:
                value.append(view[after - 8 : after])
        if not stop:
            value.append(view[position - 8 : position])
        return value, position
