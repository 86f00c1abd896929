"""What one file of a series has taught for the next: elements of the very same bytes are not walked again.

Files of a series say mostly the same. Each is cut, at the borders of its top elements, into stretches that are the same
as in the file before, and elements that differ. What the walk makes of a stretch depends on its bytes, on what the
walk carries from one element to the next, and on whose file it is, under which policy; where all of these are equal,
its outcome is used again. Elements that differ are walked one by one, by the same `Walker`. Whatever else differs (the
patient, a name or a number of theirs, a character set, an element more or less) makes the walk begin anew, over the
whole file.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from dataclasses import dataclass, field

from isocenter.data.deidentify.dicom.elements import UNDEFINED, Broken, Elements
from isocenter.data.deidentify.dicom.skim import WANTED, Facts
from isocenter.data.deidentify.dicom.walk import Disorder, Level, Walker
from isocenter.data.deidentify.dicom.words import Words
from isocenter.data.deidentify.identity import KnownIdentity, beyond_ascii, needles
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.pseudonyms import Pseudonyms

__all__ = ["Circumstances", "Neighbours"]

_PIXEL_DATA, _CHARSET = 0x7FE00010, 0x00080005
# Concepts of the data set itself are carried on to other elements; floating-point pixels are pixels too.
_NEVER = frozenset([0x0040A043, 0x7FE00008, 0x7FE00009])
_OPEN_CONCEPT = re.compile(rb"(?:\x40\0\x43\xa0|\0\x40\xa0\x43)(?:[A-Z]{2}..)?\xff{4}", re.DOTALL)
_SOP_CLASS, _SOP_INSTANCE, _PATIENT_ID, _STUDY_UID = 0x00080016, 0x00080018, 0x00100020, 0x0020000D
_MOST_BYTES = 1 << 18
_MOST_DIFFERING = 64
_LONGEST_PAUSE = 64


@dataclass(frozen=True)
class Circumstances:
    """Everything that a walk depends on and that is not in the bytes of the data set.

    Args:
        names: The pseudonyms.
        policy: What may stay.
        known: What the caller says of the patient.
        syntax: Transfer Syntax UID.
        implicit: Whether elements are written without VRs.
        big: Big endian.
    """

    names: Pseudonyms
    policy: Policy
    known: KnownIdentity | None
    syntax: str
    implicit: bool
    big: bool


@dataclass(frozen=True, eq=False)
class _Carried:
    """What a walk carries over the border between two top elements."""

    previous: int
    stated: tuple[int, ...]
    blocks: dict[int, str]
    encodings: bytes

    @staticmethod
    def by(level: Level, words: Words) -> _Carried:
        return _Carried(level.previous, tuple(level.stated), dict(level.blocks), words.encodings)

    def same(self, level: Level, words: Words) -> bool:
        return (
            self.previous == level.previous
            and self.stated == tuple(level.stated)
            and self.encodings == words.encodings
            and self.blocks == level.blocks
            and not level.personal
        )

    def hand_to(self, level: Level, words: Words) -> None:
        level.previous, level.stated, level.blocks = self.previous, list(self.stated), dict(self.blocks)
        level.limit = level.stated[0] if level.stated else UNDEFINED
        words.encodings = self.encodings


@dataclass(eq=False)
class _Same:
    """Elements of the same bytes in every file; `out` is None until they have been walked.

    Args:
        data: The bytes.
        starts: Where each element begins in them.
        tags: Of the elements.
    """

    data: bytes
    starts: list[int]
    tags: list[int]
    out: bytes | None = None
    after: _Carried | None = None
    leaks: bool = False
    removed: Counter[tuple[int, int]] = field(default_factory=Counter)
    found: list[tuple[int, str]] = field(default_factory=list)

    def first_difference(self, data: bytes, position: int) -> int:
        """Return the index of the first element that is not the same in other bytes."""
        low, high = 0, len(self.starts)
        while low < high:
            middle = (low + high) // 2
            stop = self.starts[middle + 1] if middle + 1 < len(self.starts) else len(self.data)
            if data.startswith(self.data[:stop], position):
                low = middle + 1
            else:
                high = middle
        return low

    def part(self, first: int, last: int) -> list[_Same | _Differing]:
        """Return the elements from one index to before another, not walked yet; none of them is no part."""
        if first >= last:
            return []
        begin = self.starts[first]
        stop = self.starts[last] if last < len(self.starts) else len(self.data)
        starts = [start - begin for start in self.starts[first:last]]
        return [_Same(self.data[begin:stop], starts, self.tags[first:last])]


@dataclass(eq=False)
class _Differing:
    """An element whose value is not the same in every file."""

    tag: int
    vr: str
    after: _Carried | None = None


@dataclass(eq=False)
class _Template:
    """One file, cut into parts, up to its pixel data."""

    circumstances: Circumstances
    facts: Facts
    check: bool
    known: KnownIdentity
    patient: str
    days: int | None
    stated: dict[int, tuple[str, bytes]]
    parts: list[_Same | _Differing]
    differing: int = 0


class _Otherwise(Exception):
    """The file is not like the one before it."""


class Neighbours:
    """De-identifies files that are like the one before, as `deidentify_bytes` does without it, and faster.

    One of these is for the files of one series. The outcome is the same for any order of any files.
    """

    def __init__(self) -> None:
        self._template: _Template | None = None
        self._used = False
        self._pause = 0
        self._wait = 0

    def follow(
        self, data: bytes, start: int, circumstances: Circumstances, source: str
    ) -> tuple[Walker, list[bytes | memoryview], Facts, Words] | None:
        """Return what the whole walk would; None where it is needed.

        Args:
            data: The file.
            start: Where its data set begins.
            circumstances: What else the walk depends on.
            source: Name of the file for messages.
        """
        template = self._template
        if template is None or template.circumstances != circumstances:
            self._template = None
            return None
        try:
            done = _followed(template, data, start, source)
        except (_Otherwise, Broken, Disorder, struct.error, IndexError):
            self._template = None
            if not self._used:
                self._pause = min(_LONGEST_PAUSE, max(1, 2 * self._pause))
                self._wait = self._pause
            return None
        self._used, self._pause = True, 0
        return done

    def learn(self, data: bytes, start: int, circumstances: Circumstances, walker: Walker, facts: Facts) -> None:
        """Take a file that was walked as a whole for the one that the next is compared with.

        Args:
            data: The file.
            start: Where its data set begins.
            circumstances: What else its walk depended on.
            walker: What walked it.
            facts: From the first look at it.
        """
        if self._wait:
            self._wait -= 1
            return
        self._used = False
        # A patient or a statement that hangs on the SOP Instance UID would be another in every file.
        own = facts.raw(_SOP_CLASS) or facts.raw(_PATIENT_ID)
        named = walker.words.known.patient_key or facts.text(_PATIENT_ID) or facts.text(_STUDY_UID)
        if not own or not named or not walker.pixels:
            return
        same = _cut(data, start, circumstances)
        if same is not None:
            words = walker.words
            self._template = _Template(
                circumstances, facts, walker.check, words.known, words.patient, words.days, walker.stated, [same]
            )


def _cut(data: bytes, start: int, circumstances: Circumstances) -> _Same | None:
    """Find the elements before the pixel data; None where a walk over one of them looks at more than itself."""
    elements, implicit = Elements(data, big=circumstances.big), circumstances.implicit
    position, starts, tags = start, [], []
    try:
        while True:
            place = elements.at(position, implicit=implicit)
            if place.tag == _PIXEL_DATA:
                break
            if place.tag in _NEVER or place.tag > _PIXEL_DATA or position - start > _MOST_BYTES:
                return None
            starts.append(position - start)
            tags.append(place.tag)
            position = elements.value_end(place, len(data), implicit=implicit)
    except (Broken, struct.error):
        return None
    # Of a concept of undefined length, the walk looks at what comes behind it, which may be in another element.
    if not starts or _OPEN_CONCEPT.search(data, start, position) is not None:
        return None
    return _Same(data[start:position], starts, tags)


def _followed(
    template: _Template, data: bytes, start: int, source: str
) -> tuple[Walker, list[bytes | memoryview], Facts, Words]:
    """Walk a file along a template.

    Raises:
        _Otherwise: It is not like it.
        Broken: Something does not add up, which the whole walk will say better.
    """
    circumstances, values = template.circumstances, template.facts.values
    encodings = template.facts.raw(_CHARSET)
    # Of words beyond ASCII bytes tell nothing: every walk, also that of the template, looks at every text.
    always = beyond_ascii(template.known)

    def walker_of(*, check: bool) -> Walker:
        words = Words(
            circumstances.names, circumstances.policy, template.known, template.patient, template.days, encodings
        )
        return Walker(data, words, template.stated, big=circumstances.big, check=check, source=source)

    walker = walker_of(check=template.check)
    words, implicit = walker.words, circumstances.implicit
    pieces: list[bytes | memoryview] = []
    level = walker.top(pieces, start, implicit=implicit)
    position, index, parts, leaks = start, 0, template.parts, False
    while index < len(parts):
        part = parts[index]
        if isinstance(part, _Differing):
            body, stop = _walked_anew(part, walker, level, position)
            if part.tag == _SOP_INSTANCE:
                values = {**values, _SOP_INSTANCE: data[body:stop]}
            position = stop
        elif not data.startswith(part.data, position):
            _divide(template, index, data, position)
            continue
        else:
            stop = position + len(part.data)
            if part.out is None:
                plain = walker_of(check=False) if template.check and not always else None
                _walked(part, walker, plain, level, position)
            walker.removed.update(part.removed)
            walker.found.extend(part.found)
            if part.out:
                pieces.append(part.out)
            if part.after is not None:
                part.after.hand_to(level, words)
            leaks |= part.leaks
            position = stop
        index += 1
    if walker.elements.at(position, implicit=implicit).tag != _PIXEL_DATA:
        raise _Otherwise
    walker.stretch(level, position, len(data))
    # The whole walk goes a second time over a file only if the first has left a known word in its header.
    if not always and (leaks != template.check or (not leaks and _has_known(walker, pieces))):
        raise _Otherwise
    return walker, pieces, Facts(values), words


def _walked_anew(part: _Differing, walker: Walker, level: Level, position: int) -> tuple[int, int]:
    """Walk an element that differs; return where its value begins and ends.

    Raises:
        _Otherwise: It is another element, or leaves something else to those behind it.
    """
    implicit = level.implicit
    place = walker.elements.at(position, implicit=implicit)
    if place.tag != part.tag or place.vr != part.vr or (part.tag == _SOP_INSTANCE and place.length == UNDEFINED):
        raise _Otherwise
    stop = walker.elements.value_end(place, len(walker.data), implicit=implicit)
    walker.stretch(level, position, stop)
    if part.after is None:
        part.after = _Carried.by(level, walker.words)
    if not part.after.same(level, walker.words):
        raise _Otherwise
    return place.body, stop


def _divide(template: _Template, index: int, data: bytes, position: int) -> None:
    """Take the first element that differs out of a part.

    Raises:
        _Otherwise: It must not differ, or is another element.
    """
    part = template.parts[index]
    if not isinstance(part, _Same):
        raise _Otherwise
    at = part.first_difference(data, position)
    tag = part.tags[at]
    template.differing += 1
    if template.differing > _MOST_DIFFERING or tag == _CHARSET or (tag in WANTED and tag != _SOP_INSTANCE):
        raise _Otherwise
    circumstances = template.circumstances
    place = Elements(part.data, big=circumstances.big).at(part.starts[at], implicit=circumstances.implicit)
    template.parts[index : index + 1] = [
        *part.part(0, at),
        _Differing(tag, place.vr),
        *part.part(at + 1, len(part.starts)),
    ]


def _walked(part: _Same, walker: Walker, plain: Walker | None, level: Level, position: int) -> None:
    """Walk the elements of a part and keep the outcome.

    Args:
        part: The part.
        walker: Of the file at hand.
        plain: The walk that comes first, where `walker` is the second one: what it leaves decides about the second.
        level: As the elements before have left it.
        position: Where the part lies.
    """
    stop = position + len(part.data)
    if plain is not None:
        before = _Carried.by(level, walker.words)
        first: list[bytes | memoryview] = []
        other = plain.top(first, position, implicit=level.implicit)
        before.hand_to(other, plain.words)
        plain.stretch(other, position, stop)
        header = b"".join(first).lower()
        part.leaks = any(word in header for word in needles(walker.words.known))
    kept = walker.removed, walker.found, level.out
    walker.removed, walker.found, level.out = part.removed, part.found, []
    try:
        walker.stretch(level, position, stop)
        part.out = b"".join(level.out)
    finally:
        walker.removed, walker.found, level.out = kept
    part.after = _Carried.by(level, walker.words)


def _has_known(walker: Walker, pieces: list[bytes | memoryview]) -> bool:
    pixels = {place for place, _ in walker.pixels}
    header = b"".join(piece for place, piece in enumerate(pieces) if place not in pixels).lower()
    return any(word in header for word in needles(walker.words.known))
