"""A walk over the elements of a DICOM data set that writes the same data set without the identity.

What is kept stays as its own bytes, in runs; only what changes is written anew. A length that does not add up ends the
walk with an error, so that no file is ever half cleaned.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field

from isocenter.data.deidentify.dicom.elements import (
    CUT_OFF,
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    Broken,
    Elements,
    Place,
    adding_up,
)
from isocenter.data.deidentify.dicom.plan import LONG_VRS, SHORT_VRS, Entry, explicit_plan, implicit_plan
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

__all__ = ["Disorder", "Level", "Walker"]

_PIXELS = frozenset([0x7FE00008, 0x7FE00009, 0x7FE00010])
_DEEPEST = 64
_TRAILING, _OVERLAY_BIT = 0xFFFCFFFC, 0x60000102
_SHORT = frozenset(vr.encode() for vr in SHORT_VRS)
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
class Level:
    """One data set or item being walked.

    Args:
        out: Where its new bytes go.
        start: Where the run of kept bytes begins that is not yet written.
        end: Where it must end at the latest.
        implicit: Whether it is written without value representations.
        depth: 0 for the data set itself.
        stated: Tags that are still to be written into it, in order.

    `until` is where a walk over a part of it stops: at the end, but for `Walker.stretch`.
    """

    out: list[bytes | memoryview]
    start: int
    end: int
    implicit: bool
    depth: int
    stated: list[int]

    def __post_init__(self) -> None:
        self.limit = self.stated[0] if self.stated else UNDEFINED
        self.until = self.end
        self.previous = -1
        self.personal = False
        self.changed = False
        self.blocks: dict[int, str] = {}


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
        pieces: list[bytes | memoryview] = []
        with adding_up(self.source):
            self._dataset(position, len(self.data), pieces, implicit=implicit, depth=0)
        return pieces

    def top(self, out: list[bytes | memoryview], position: int, *, implicit: bool) -> Level:
        """Return the level of the data set itself, for walking it a stretch at a time."""
        return Level(out, position, len(self.data), implicit, 0, sorted(self.stated))

    def stretch(self, level: Level, position: int, until: int) -> None:
        """Walk whole elements; stretch after stretch, from the first element to the last, it is what `run` does.

        Args:
            level: From `top`; it carries on what a stretch leaves to the next.
            position: Where the first element begins.
            until: Where the last one ends; the end of the bytes ends the data set.

        Raises:
            Broken: As `run`, without a source.
            struct.error: The bytes end inside an element.
            Disorder: Elements not in ascending order.
        """
        level.start, level.until = position, until
        position = self._elements(level, position)
        if position != until:
            raise Broken(CUT_OFF)
        if until == len(self.data):
            self._insert(level, UNDEFINED, position)
        self._flush(level, position)

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
        level = Level(out, position, end, implicit, depth, sorted(self.stated) if depth == 0 else [])
        encodings = self.words.encodings
        position = self._elements(level, position)
        self._insert(level, UNDEFINED, position)
        self._flush(level, position)
        self.words.encodings = encodings if depth else self.words.encodings
        if open_end:
            if self.pair.unpack_from(self.data, position) != (0xFFFE, 0xE00D):
                raise Broken("has an item without an end")
            position += 8
        return position, level.changed

    def _elements(self, level: Level, position: int) -> int:
        """Walk the elements of a level; return where they end."""
        data, get = self.data, self.plans[level.implicit].get
        implicit, end, until, at_top = level.implicit, level.end, level.until, level.depth == 0
        size, u16, u32 = 4 if implicit else 6, self.u16.unpack_from, self.u32.unpack_from
        limit, previous = level.limit, level.previous
        while position < until:
            entry = get(data[position : position + size])
            if entry is None:
                after = self._unplanned(level, position, previous)
                if after == position:
                    break
                position, previous, limit = after, max(level.previous, previous), level.limit
                continue
            if implicit:
                body = position + 8
                length = u32(data, position + 4)[0]
            elif entry[2]:
                body = position + 12
                length = u32(data, position + 8)[0]
            else:
                body = position + 8
                length = u16(data, position + 6)[0]
            tag = entry[0]
            if tag <= previous and at_top:
                raise Disorder
            previous = tag
            if tag >= limit:
                limit = self._insert(level, tag, position)
            stop = body + length
            if stop > end and length != UNDEFINED:
                raise Broken(CUT_OFF)
            if entry[1] == KEEP and length != UNDEFINED:
                position = stop
            else:
                position = self._handled(level, entry, position, Place(tag, entry[3], body, length))
        level.previous = previous
        return position

    def _flush(self, level: Level, position: int) -> None:
        """Write the run of kept bytes that ends at a position."""
        if position > level.start:
            level.out.append(self.view[level.start : position])
        level.start = position

    def _insert(self, level: Level, tag: int, position: int) -> int:
        """Write what the object says of itself up to a tag; return the next tag of that."""
        if level.stated and level.stated[0] <= tag:
            self._flush(level, position)
            while level.stated and level.stated[0] <= tag:
                level.out.append(self._stated(level.stated.pop(0), level.implicit))
        level.limit = level.stated[0] if level.stated else UNDEFINED
        return level.limit

    def _handled(self, level: Level, entry: Entry, position: int, place: Place) -> int:
        """Do what the plan says with an element that does not simply stay; return where it ends."""
        tag, _, body, length = place
        stop = 0 if length == UNDEFINED else body + length
        if entry.action == KEEP:
            return stop or self.elements.value_end(place, level.end, implicit=level.implicit)
        if tag == _CONCEPT:
            level.personal = _PERSONAL.search(self.data, body, stop or min(body + 1024, level.end)) is not None
        elif entry.action == CHARSET:
            self.words.encodings = self.data[body:stop]
        elif level.personal and tag == _TEXT_VALUE:
            entry = entry._replace(action=DUMMY)
        new, stop = self._element(entry, position, body, stop, level)
        if new is not None:
            self._flush(level, position)
            level.out.extend(new)
            level.start = stop
            level.changed = True
        return stop

    def _unplanned(self, level: Level, position: int, previous: int) -> int:
        """Handle an element that the plan does not know; return where it ends, or its own place at the item's end."""
        at_top = level.depth == 0
        try:
            if not self.words.policy.retain_safe_private and self.data[position + self.big] & 1:
                after = self._private_run(position, level)
                self._flush(level, position)
                level.start, level.changed = after, True
                return after
            entry, place = self._odd(position, level)
            if place.tag == ITEM_END:
                if at_top:
                    raise Broken("has the end of an item where none is open")
                return position
            if at_top and place.tag <= previous:
                raise Disorder
            level.previous = place.tag
            if place.tag >= level.limit:
                self._insert(level, place.tag, position)
            if place.tag in _PIXELS and at_top:
                stop = self.elements.value_end(place, level.end, implicit=level.implicit)
                self._flush(level, position)
                self.pixels.append((len(level.out), place.body))
                self._flush(level, stop)
                return stop
            return self._handled(level, entry, position, place._replace(vr=entry.vr))
        except (Broken, struct.error, IndexError):
            if not (at_top and self.pixels):
                raise
        # Bytes after the pixel data that are no elements: no reader needs them, and nobody knows what they are.
        self.removed[_TRAILING, REMOVE] += 1
        self._flush(level, position)
        level.start, level.changed = level.end, True
        return level.end

    def _private_run(self, position: int, level: Level) -> int:
        """Return where a run of private elements ends."""
        data, end, elements, low = self.data, level.end, self.elements, int(self.big)
        u16, implicit, removed, until = self.u16.unpack_from, level.implicit, self.removed, level.until
        while position < until and data[position + low] & 1:
            if not implicit and data[position + 4 : position + 6] in _SHORT:
                removed[u16(data, position)[0] << 16 | 0xFFFF, REMOVE] += 1
                position += 8 + u16(data, position + 6)[0]
            else:
                place = elements.at(position, implicit=implicit)
                removed[place.tag | 0xFFFF, REMOVE] += 1
                position = elements.value_end(place, end, implicit=implicit)
        if position > end:
            raise Broken(CUT_OFF)
        return position

    def _odd(self, position: int, level: Level) -> tuple[Entry, Place]:
        """Judge an element that the plan does not know by its first bytes."""
        place = self.elements.at(position, implicit=level.implicit)
        tag, vr, body, length = place
        group = tag >> 16
        if group == 0xFFFE and tag != ITEM_END:
            raise Broken("has an item where an element belongs")
        if length != UNDEFINED and body + length > level.end:
            raise Broken(CUT_OFF)
        action = KEEP if tag in _PIXELS else REMOVE
        if tag & 0xFF00FFFF == _OVERLAY_BIT and self.data[body : body + 2].strip(b"\0"):
            self.found.append((tag, "an overlay in the unused bits of the pixel data; it stays there"))
        if group & 1:
            action = self._private(tag, vr, self.data[body : body + min(length, 64)], level.blocks)
        elif not level.implicit and action == REMOVE:
            other = self._other_vr(position, vr)
            if other is not None:
                return other, place
        return Entry(tag, action, vr in LONG_VRS, vr, REMOVE), place

    def _private(self, tag: int, vr: str, value: bytes, blocks: dict[int, str]) -> int:
        """Return the action for a private element: kept only if safe and of its own VR."""
        group, element = tag >> 16, tag & 0xFFFF
        if 0x10 <= element <= 0xFF:
            creator = value.strip(b" \0").decode("latin-1")
            blocks[group << 8 | element] = creator
            return KEEP if safe_elements(creator, group) else REMOVE
        safe = safe_elements(blocks.get(group << 8 | element >> 8, ""), group).get(element & 0xFF)
        kept = safe is not None and vr in ("", "UN", safe)
        return KEEP if kept else REMOVE

    def _other_vr(self, position: int, vr: str) -> Entry | None:
        """Judge a standard attribute that is written with another VR than the dictionary's."""
        group, element = self.pair.unpack_from(self.data, position)
        entry = self.plans[True].get(struct.pack("<HH", group, element))
        if entry is None:
            return None
        return self.words.other_vr(entry, vr, big=self.big)

    def _element(
        self, entry: Entry, position: int, body: int, stop: int, level: Level
    ) -> tuple[list[bytes | memoryview] | None, int]:
        """Return what an element becomes (None: it stays) and where it ends."""
        tag, action = entry.tag, entry.action
        implicit, depth, end = level.implicit, level.depth, level.end
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
            if action not in (REMOVE, EMPTY, DUMMY) and not (action == STATED and depth == 0):
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
