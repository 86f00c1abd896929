"""One DICOM object without its identity: `deidentify_bytes`.

Pseudonyms for UIDs and patient, dates moved back, texts cleaned, private elements, graphics and the rest of PS3.15
table E.1-1 removed. Pixel data stay bit by bit, in every transfer syntax.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from isocenter.core.errors import PixelError
from isocenter.data.deidentify.dicom.charset import codecs_of
from isocenter.data.deidentify.dicom.elements import Elements, adding_up
from isocenter.data.deidentify.dicom.neighbours import Circumstances, Neighbours
from isocenter.data.deidentify.dicom.pixels import blank_text
from isocenter.data.deidentify.dicom.plan import LONG_VRS, SHORT_VRS
from isocenter.data.deidentify.dicom.profile import NAMES
from isocenter.data.deidentify.dicom.skim import Facts, identity_of, skim
from isocenter.data.deidentify.dicom.values import padded
from isocenter.data.deidentify.dicom.walk import Disorder, Walker
from isocenter.data.deidentify.dicom.words import Words
from isocenter.data.deidentify.identity import KnownIdentity, beyond_ascii, needles
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.pseudonyms import Pseudonyms
from isocenter.version import __version__

__all__ = ["Deidentified", "Suspicion", "deidentify_bytes"]

_IMPLICIT, _EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
_DEFLATED = ("1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95")
_BIG = "1.2.840.10008.1.2.2"
_GE_PRIVATE = "1.2.840.113619.5.2"  # implicit VR little endian with big-endian pixels
_DIRECTORY = "1.2.840.10008.1.3.10"
_LARGEST = 1 << 32
_STREAM_HEAD, _TELLING = 4096, 5
_UID = re.compile(r"[0-9.]{1,64}")
_STATES = {"shifted": b"MODIFIED", "full": b"UNMODIFIED", "none": b"REMOVED "}


@dataclass(frozen=True)
class Suspicion:
    """Something that a person should look at; it never holds the value.

    Args:
        tag: Group and element, "" for the object as a whole.
        reason: What is suspicious, and what was done.
    """

    tag: str
    reason: str


@dataclass(frozen=True, eq=False)
class Deidentified:
    """An object without identity.

    Args:
        data: The new file.
        removed: How often each action changed each attribute, by (tag, action); tags as eight hexadecimal digits.
        suspicious: What a person should look at.
        pixel_boxes: Parts of the picture that were blanked: (frame, top, left, bottom, right); frame -1 is all frames.
        patient_key: The patient's pseudonym, which is also Patient ID and Patient's Name.
        shift_days: By how many days dates moved back; 0 where they stay or are removed.
    """

    data: bytes = field(repr=False)
    removed: Mapping[tuple[str, str], int]
    suspicious: tuple[Suspicion, ...]
    pixel_boxes: tuple[tuple[int, int, int, int, int], ...] = ()
    patient_key: str = ""
    shift_days: int = 0


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the data set begins, and how it is written."""

    start: int
    syntax: str
    sop_class: str
    sop_instance: str
    lost: int
    implicit: bool

    @property
    def big(self) -> bool:
        return self.syntax == _BIG


def deidentify_bytes(
    data: bytes,
    names: Pseudonyms,
    policy: Policy,
    *,
    known: KnownIdentity | None = None,
    source: str = "",
    neighbours: Neighbours | None = None,
) -> Deidentified:
    """Take the identity out of one DICOM file.

    Args:
        data: The whole file, with or without preamble.
        names: Pseudonyms under the secret key.
        policy: What may stay.
        known: More words of the patient than the file itself says, and the pseudonym if the caller has it.
        source: Name of the file for messages.
        neighbours: What files of the same series have taught; the outcome is the same without it.

    Returns:
        The new file, and what was changed.

    Raises:
        PixelError: Not DICOM, cut off, wrong lengths, or a DICOMDIR; nothing is half cleaned.

    Source:
        DICOM PS3.15 annex E.
    """
    if policy.off:
        return Deidentified(data, {}, (Suspicion("", "not de-identified: the policy is off"),))
    layout = _layout(data, source)
    if layout.sop_class == _DIRECTORY:
        raise PixelError("is the directory of a medium (DICOMDIR), no object; pass the objects it lists", source=source)
    start, deflated = layout.start, layout.syntax in _DEFLATED
    if deflated:
        data, start = _inflated(data, start, source), 0
    try:
        if neighbours is None or deflated:
            clean = _cleaned(data, start, layout, names, policy, known, source)
        else:
            clean = _like_neighbours(data, layout, Circumstances(names, policy, known, layout.syntax, layout.implicit,
                                                                 layout.big), neighbours, source)  # fmt: skip
    except Disorder:
        with adding_up(source):
            data = Elements(data, big=layout.big).in_order(start, implicit=layout.implicit)
        try:
            clean = _cleaned(data, 0, layout, names, policy, known, source)
        except Disorder:
            raise PixelError("has elements in disorder; nothing of it was kept", source=source) from None
    walker, pieces, facts, words = clean
    removed = Counter({(_tag_text(tag), NAMES[action]): count for (tag, action), count in walker.removed.items()})
    if layout.lost:
        removed["file meta", "remove"] += layout.lost
    suspicious = tuple(dict.fromkeys(Suspicion(f"{tag:08X}", reason) for tag, reason in walker.found))
    if deflated:
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = squeeze.compress(b"".join(pieces)) + squeeze.flush()
        pieces = [body + b"\0" * (len(body) % 2)]
    instance_uid = layout.sop_instance or facts.text(0x00080018)
    if not policy.retain_uids:
        instance_uid = names.uid(instance_uid)
    out = b"".join([_meta(layout.syntax, layout.sop_class or facts.text(0x00080016), instance_uid), *pieces])
    boxes: tuple[tuple[int, int, int, int, int], ...] = ()
    if policy.clean_pixels and walker.pixels:
        blanked = blank_text(out, source=source)
        out, boxes = blanked.data, blanked.boxes
        suspicious += tuple(Suspicion("7FE00010", note) for note in blanked.notes)
    return Deidentified(out, removed, suspicious, boxes, words.patient, words.days or 0)


def _cleaned(
    data: bytes,
    start: int,
    layout: _Layout,
    names: Pseudonyms,
    policy: Policy,
    known: KnownIdentity | None,
    source: str,
) -> tuple[Walker, list[bytes | memoryview], Facts, Words]:
    """Walk once, and once more with an eye on everything that is kept where a known word is still in it.

    Bytes tell that at once for words of ASCII; for others the walk that looks at every text is the only one.

    Raises:
        Disorder: Elements are not in ascending order, so that the first look may have missed whose it is.
    """
    facts = skim(data, start, policy, implicit=layout.implicit, big=layout.big, source=source)
    known = identity_of(facts).with_more(known)
    patient = known.patient_key or facts.patient_key(names)
    days = {"shifted": names.shift_days(patient), "full": 0, "none": None}[policy.retain_dates]
    stated = _stated(patient, policy) if facts.raw(0x00080016) or facts.raw(0x00080018) or facts.raw(0x00100020) else {}
    for check in (True,) if beyond_ascii(known) else (False, True):
        words = Words(names, policy, known, patient, days, facts.raw(0x00080005))
        walker = Walker(data, words, stated, big=layout.big, check=check, source=source)
        pieces = walker.run(start, implicit=layout.implicit)
        pixel_pieces = {place for place, _ in walker.pixels}
        header = b"".join(piece for place, piece in enumerate(pieces) if place not in pixel_pieces).lower()
        if not any(word in header for word in needles(known)):
            break
    _note_streams(walker)
    return walker, pieces, facts, words


def _like_neighbours(
    data: bytes, layout: _Layout, circumstances: Circumstances, neighbours: Neighbours, source: str
) -> tuple[Walker, list[bytes | memoryview], Facts, Words]:
    """Walk only what is not the same as in the file before; the whole where more differs than values."""
    clean = neighbours.follow(data, layout.start, circumstances, source)
    if clean is not None:
        _note_streams(clean[0])
        return clean
    about = circumstances
    clean = _cleaned(data, layout.start, layout, about.names, about.policy, about.known, source)
    neighbours.learn(data, layout.start, circumstances, clean[0], clean[2])
    return clean


def _note_streams(walker: Walker) -> None:
    data, known = walker.data, walker.words.known
    for _, body in walker.pixels:
        # Comments and application segments of JPEG streams stand at their beginning; the stream itself is not changed.
        begins = data[body : body + _STREAM_HEAD].lower()
        words = needles(known, codecs_of(walker.words.encodings))
        if data[body - 4 : body] == b"\xff" * 4 and any(len(w) >= _TELLING and w in begins for w in words):
            walker.found.append((0x7FE00010, "a word of the patient's identity inside the compressed stream; it stays"))


def _layout(data: bytes, source: str) -> _Layout:
    """Find the data set: after preamble and file meta, after file meta alone, or at once."""
    start = 132 if data[128:132] == b"DICM" else 0
    values: dict[int, bytes] = {}
    lost, position = 0, start
    try:
        while data[position : position + 2] == b"\x02\x00":
            tag = 0x00020000 | struct.unpack_from("<H", data, position + 2)[0]
            vr = data[position + 4 : position + 6].decode("latin-1")
            if vr in LONG_VRS:
                body, length = position + 12, struct.unpack_from("<I", data, position + 8)[0]
            elif vr in SHORT_VRS:
                body, length = position + 8, struct.unpack_from("<H", data, position + 6)[0]
            else:
                raise PixelError("has a file meta group that cannot be read; repair it", source=source)
            position = body + length
            if position > len(data):
                raise PixelError("is cut off in its file meta group", source=source)
            values[tag] = data[body:position]
            lost += tag not in (0x00020000, 0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013)
    except struct.error as error:
        raise PixelError("is cut off in its file meta group", source=source) from error
    syntax, sop_class, sop_instance = (
        values.get(tag, b"").decode("latin-1").strip("\0 ") for tag in (0x00020010, 0x00020002, 0x00020003)
    )
    if not _UID.fullmatch(syntax):
        syntax = _guessed(data, position, source)
    return _Layout(position, syntax, sop_class, sop_instance, lost, _is_implicit(data, position, syntax))


def _is_implicit(data: bytes, position: int, syntax: str) -> bool:
    """Tell whether elements are written without VRs; the first of them knows better than the file meta.

    An object that is written otherwise than its transfer syntax says stays so: readers that looked past it still do.
    """
    if syntax in _DEFLATED or len(data) < position + 8:
        return syntax in (_IMPLICIT, _GE_PRIVATE)
    return data[position + 4 : position + 6].decode("latin-1") not in LONG_VRS | SHORT_VRS


def _guessed(data: bytes, position: int, source: str) -> str:
    """Tell how a data set without file meta is written, by its first element."""
    head = data[position : position + 8]
    if len(head) < 8:
        raise PixelError("is not a DICOM file, or holds nothing", source=source)
    group = struct.unpack_from("<H", head)[0]
    explicit = head[4:6].decode("latin-1") in LONG_VRS | SHORT_VRS
    if explicit:
        return _BIG if group > 0x00FF and struct.unpack_from(">H", head)[0] <= 0x00FF else _EXPLICIT
    if group not in (0x0002, 0x0008, 0x0004, 0x0010):
        raise PixelError("is not a DICOM file", source=source)
    return _IMPLICIT


def _inflated(data: bytes, start: int, source: str) -> bytes:
    try:
        unpack = zlib.decompressobj(-15)
        out = unpack.decompress(data[start:], _LARGEST)
        if unpack.unconsumed_tail:
            raise PixelError("unpacks to more than 4 GiB; it is not kept", source=source)
        return out + unpack.flush()
    except zlib.error as error:
        raise PixelError("is cut off or damaged (its deflated part cannot be unpacked)", source=source) from error


def _tag_text(tag: int) -> str:
    """Write a tag; all private elements of a group are one, as "0019xxxx"."""
    return f"{tag >> 16:04X}xxxx" if tag >> 16 & 1 and tag & 0xFFFF == 0xFFFF else f"{tag:08X}"


def _stated(patient: str, policy: Policy) -> dict[int, tuple[str, bytes]]:
    # A face is removed from volumes, by `deface`; a slice that went through here still has its part of it.
    taken = replace(policy, deface=False).codes()
    codes = b"\\".join(f"{code}|DCM|{meaning}".encode() for code, meaning in taken)
    method = f"Isocenter {__version__}; DICOM PS3.15 Basic Profile with options"
    return {
        0x00100010: ("PN", patient.encode()),
        0x00100020: ("LO", patient.encode()),
        0x00120062: ("CS", b"YES "),
        0x00120063: ("LO", padded(method.encode()[:64], "LO")),
        0x00120064: ("SQ", codes),
        0x00280303: ("CS", _STATES[policy.retain_dates]),
    }


def _meta(syntax: str, sop_class: str, sop_instance: str) -> bytes:
    """Write preamble and file meta anew (PS3.10 7.1)."""

    def element(number: int, vr: bytes, value: bytes) -> bytes:
        head = struct.pack("<HH", 2, number) + vr
        if vr == b"OB":
            return head + b"\0\0" + struct.pack("<I", len(value)) + value
        return head + struct.pack("<H", len(value)) + value

    def uid(text: str) -> bytes:
        return padded(text.encode("ascii", "replace"), "UI")

    body = element(1, b"OB", b"\0\1")
    if _UID.fullmatch(sop_class):
        body += element(2, b"UI", uid(sop_class))
    if _UID.fullmatch(sop_instance):
        body += element(3, b"UI", uid(sop_instance))
    body += element(0x10, b"UI", uid(syntax))
    body += element(0x12, b"UI", uid(PYDICOM_IMPLEMENTATION_UID))
    body += element(0x13, b"SH", padded(f"ISOCENTER {__version__}".encode()[:16], "SH"))
    return bytes(128) + b"DICM" + element(0, b"UL", struct.pack("<I", len(body))) + body
