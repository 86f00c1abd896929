"""What the values of one object become: texts, dates, UIDs, ages and dummies."""

from __future__ import annotations

import re
from dataclasses import dataclass

from isocenter.data.deidentify.dicom.charset import codecs_of, decoded, encoded
from isocenter.data.deidentify.dicom.plan import LONG_VRS, TEXT_VRS, Entry
from isocenter.data.deidentify.dicom.profile import (
    AGE,
    CHARSET,
    CHECK,
    CLASS,
    CODE,
    DATE,
    DUMMY,
    EMPTY,
    FLAG,
    KEEP,
    REMOVE,
    STATED,
    TEXT,
    UID,
    WALK,
)
from isocenter.data.deidentify.dicom.values import (
    LONGEST,
    capped_age,
    dummy,
    new_uids,
    padded,
    shifted,
)
from isocenter.data.deidentify.identity import KnownIdentity, needles, pattern
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.pseudonyms import Pseudonyms
from isocenter.data.deidentify.text import clean_text
from isocenter.data.images.body_parts import BODY_PARTS

__all__ = ["Words", "changed_value"]

_DIGITS = re.compile(rb"[0-9.\\ \0]*")
_OFTEN = """
ORIGINAL DERIVED PRIMARY SECONDARY AXIAL LOCALIZER LEFT RIGHT BOTH OTHER NONE STANDARD SOFT SHARP SMOOTH SINGLE DOUBLE
NORM NATIVE PORT ART BLOCK ENERGY WAVE RESEARCH PRONE SUPINE FIRST LAST NEW OLD LOW HIGH LONG SHORT PERFUSION DIFFUSION
VOLUME FLOW PROJECTION RECON DOSE TOMO STATIC DYNAMIC GATED RESAMPLED ANGIO MOSAIC
"""
_TERMS = BODY_PARTS | frozenset(_OFTEN.split())
"""Words of coded strings that may be people's names too; a body part of another name is emptied with that name."""
_SEVERAL = frozenset(["LO", "SH", "UC", "PN", "CS", "AE"])


@dataclass(eq=False)
class Words:
    """How the values of one object change.

    Args:
        names: The pseudonyms.
        policy: The options taken.
        known: Words of the patient, none of which may stay.
        patient: The patient's pseudonym.
        days: By how many days dates move back; None: dates in texts are removed; 0: they stay.
        encodings: Raw value of Specific Character Set.
    """

    names: Pseudonyms
    policy: Policy
    known: KnownIdentity
    patient: str
    days: int | None
    encodings: bytes = b""

    def other_vr(self, entry: Entry, vr: str, *, big: bool) -> Entry | None:
        """Judge a standard attribute that is written with another VR; None: it is removed."""
        if vr == "UN":
            # Bytes under UN are those of implicit little endian (PS3.5 6.2.2), so the dictionary's VR holds.
            return None if big else entry._replace(long=True)
        action = entry.action
        if vr == "SQ":
            action = REMOVE if action in (REMOVE, EMPTY, DUMMY) else WALK
        elif entry.vr == "SQ":
            action = REMOVE
        elif action in (KEEP, CHECK):
            by_vr = {"UI": UID, "DA": DATE, "DT": DATE, "TM": DATE, "PN": EMPTY, "AE": EMPTY}
            action = by_vr.get(vr, action)
            if vr in TEXT_VRS and vr not in ("CS", "AE", "PN") and entry.vr not in TEXT_VRS:
                action = TEXT
        elif action in (DATE, UID, AGE) and vr != entry.vr:
            action = entry.fallback if action == DATE and vr not in ("DA", "DT", "TM") else action
        return Entry(entry.tag, action, vr in LONG_VRS, vr, entry.fallback)


def changed_value(
    words: Words, entry: Entry, action: int, raw: bytes, found: list[tuple[int, str]]
) -> tuple[bytes, int] | None:
    """Return the new value of an element and what was done; None where it stays.

    Args:
        words: How values change.
        entry: The element.
        action: What to do with it.
        raw: Its value.
        found: Where to write what is suspicious.
    """
    vr = entry.vr
    if not raw or action == CHARSET:
        return None
    if action == STATED:
        if entry.tag >> 16 == 0x0010:
            return words.patient.encode(), DUMMY
        return None
    if action == EMPTY:
        return b"", EMPTY
    if action in (CLASS, FLAG):
        return _fixed(words, entry, action, raw, found)
    if action == UID:
        return new_uids(raw, words.names), UID
    if action == DATE:
        moved = shifted(raw, vr, words.days or 0, words.names)
        if moved is not None:
            return (moved, DATE) if moved != raw else None
        found.append((entry.tag, "a date or time that is none; removed"))
        return _fallen_back(entry)
    if action == AGE:
        age = capped_age(raw)
        if age is None:
            return _fallen_back(entry)
        return (age, AGE) if age != raw else None
    if action in (TEXT, CHECK):
        return _text(words, entry, action, raw, found)
    if action == CODE:
        return b"", EMPTY
    return dummy(vr), DUMMY


def _fixed(
    words: Words, entry: Entry, action: int, raw: bytes, found: list[tuple[int, str]]
) -> tuple[bytes, int] | None:
    """Keep a UID of a class, and YES or NO; empty whatever else stands in their place."""
    if action == CLASS:
        return None if _DIGITS.fullmatch(raw) else (b"", EMPTY)
    said = raw.strip(b" \0").upper()
    if said == b"YES" and entry.tag == 0x00280302:
        found.append((entry.tag, "the object says that a face can be recognised in it; remove it from the volume"))
    elif said == b"YES" and not words.policy.clean_pixels:
        found.append((entry.tag, "the object says that text is burnt in, and nobody looked for it"))
    return None if said in (b"YES", b"NO") else (b"", EMPTY)


def _fallen_back(entry: Entry) -> tuple[bytes, int]:
    if entry.fallback == REMOVE:
        return b"", REMOVE
    if entry.fallback == EMPTY:
        return b"", EMPTY
    return dummy(entry.vr), DUMMY


def _text(
    words: Words, entry: Entry, action: int, raw: bytes, found: list[tuple[int, str]]
) -> tuple[bytes, int] | None:
    vr = entry.vr
    if vr not in TEXT_VRS:
        lower = raw.lower()
        if any(word in lower for word in needles(words.known, codecs_of(words.encodings))):
            found.append((entry.tag, "bytes that hold a word of the patient's identity; removed"))
            return b"", REMOVE
        return None
    text = decoded(raw, words.encodings)
    parts = text.split("\\") if vr in _SEVERAL else [text]
    if action == TEXT:
        new = [clean_text(part, known=words.known, shift_days=words.days).text for part in parts]
    else:
        new = [_without_known(words.known, part, vr) for part in parts]
    if new == parts:
        return None
    if action == CHECK:
        found.append((entry.tag, "a word of the patient's identity in an element that is kept; replaced"))
    longest = LONGEST.get(vr)
    joined = "\\".join(part if longest is None else part[:longest].rstrip() for part in new)
    return padded(encoded(joined, words.encodings), vr), TEXT


def _without_known(known: KnownIdentity, text: str, vr: str) -> str:
    """Return a text without the patient's words; a coded string that is one, or has an identifier, is emptied."""
    wanted = pattern(known)
    if wanted is None:
        return text
    if vr in ("CS", "AE"):
        # A term such as HEAD is not the patient of that name; a number, or a word that is no term, is nothing else.
        hits, whole = list(wanted.finditer(text)), text.strip(" \0")
        alone = any(hit.group() == whole for hit in hits) and whole.upper() not in _TERMS
        leaks = alone or any(hit.lastgroup == "id" for hit in hits) or (vr == "AE" and hits)
        return "" if leaks else text
    return wanted.sub(lambda hit: "[NAME]" if hit.lastgroup == "name" else "[ID]", text)
