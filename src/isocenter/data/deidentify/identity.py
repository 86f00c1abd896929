"""What is already known of a patient: words that must not be found in anything that is kept."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["KnownIdentity", "beyond_ascii", "needles", "pattern"]

_SPLIT = re.compile(r"[\^=,;\s\\]+")
_LEAST_LETTERS, _LEAST_DIGITS, _LONG_NAME = 3, 4, 7
_DIGIT = re.compile(r"\d")
_DOUBLE = re.compile(r"[-'’‐‑]+")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ACCENT = re.compile(r"[\u0300-\u036f]")
_ESCAPE = re.compile(rb"\x1b[\x20-\x2f]*[\x30-\x7e]")


@dataclass(frozen=True)
class KnownIdentity:
    """A patient's own names, identifiers and birth date, as the sources spell them.

    Args:
        names: Names of persons: the patient's, also physicians', in any order and with DICOM's separators.
        identifiers: Patient ID, accession, insurance and other numbers; what is shorter than four signs is not looked
            for.
        dates: Days that identify (the birth date), YYYYMMDD.
        patient_key: The patient's pseudonym, where the caller has joined several sources; "" computes it from the
            identifier.
    """

    names: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    patient_key: str = ""

    def with_more(self, other: KnownIdentity | None) -> KnownIdentity:
        """Return the words of both; the other's pseudonym, where it has one, comes first."""
        if other is None:
            return self
        return KnownIdentity(
            tuple(dict.fromkeys(self.names + other.names)),
            tuple(dict.fromkeys(self.identifiers + other.identifiers)),
            tuple(dict.fromkeys(self.dates + other.dates)),
            other.patient_key or self.patient_key,
        )


@lru_cache(maxsize=4096)
def _words(known: KnownIdentity) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return words of names and whole identifiers, in every spelling that lower case does not join, longest first."""
    names: set[str] = set()
    numbers = set(known.identifiers)
    for name in known.names:
        read, *wrong = _as_latin(name) or (name,)
        names.update(wrong)
        for group in read.split("="):
            stripped = [part.strip(".").lower() for part in _SPLIT.split(group) if part.strip(".")]
            parts = [part for part in stripped if not any(sign.isdigit() for sign in part)]
            numbers.update(part for part in stripped if part not in parts)
            names.update(p for p in parts if len(p) >= _LEAST_LETTERS or (len(p) > 1 and _WIDE.search(p)))
            for part in parts:  # of a double name many go by one half; an apostrophe is written in many ways, or not
                halves = [half for half in _DOUBLE.split(part) if half]
                if len(halves) > 1:
                    names.update(half for half in (*halves, "".join(halves)) if len(half) >= _LEAST_LETTERS)
            if len(parts) > 1:
                first, second = parts[:2]
                joint = "" if _WIDE.search(first) else " "
                names.update(
                    {joint.join((first, second)), joint.join((second, first))} if len(first + second) > 2 else ()
                )
    # An identifier without a digit may be a word like any other ("CHEST"): it is looked for as a name is.
    names.update(i.strip().lower() for i in numbers if len(i.strip()) >= _LEAST_DIGITS and not _DIGIT.search(i))
    numbers = {i for i in numbers if _DIGIT.search(i)}
    identifiers = {i.strip().lower() for i in numbers if len(i.strip()) >= _LEAST_DIGITS}
    for day in known.dates:
        if len(day) == 8 and day.isdigit():
            identifiers.update((day, f"{day[:4]}-{day[4:6]}-{day[6:]}"))
    names, identifiers = ({s for word in words for s in _spellings(word)} for words in (names, identifiers))
    return _longest_first(names), _longest_first(identifiers)


def _spellings(word: str) -> set[str]:
    """Return a lower-case word as it may stand in lower case elsewhere: "straße" is STRASSE, "άλφα" is ΑΛΦΑ.

    In upper case accents are often left out and letters may become two, and accents may be signs of their own.
    """
    if word.isascii():
        return {word}
    plain = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", word)))
    said = {word, word.upper().lower(), plain, plain.upper().lower()}
    return said | {unicodedata.normalize(form, one) for one in said for form in ("NFC", "NFD")}


def _as_latin(name: str) -> tuple[str, ...]:
    """Return what a name in UTF-8 that was taken for Latin-1 is, and that in each case as taken; () for other names.

    Files that state no character set are read so, and the wrong letters of ü and Ü are no letter in two cases.
    """
    if name.isascii():
        return ()
    try:
        read = name.encode("latin-1").decode()
    except UnicodeError:
        return ()
    parts = [part for part in _SPLIT.split(read) if len(part) >= _LEAST_LETTERS and not part.isascii()]
    cases = (one for part in parts for one in (part.lower(), part.upper(), part.title()))
    return (read, *(one.encode().decode("latin-1") for one in cases))


def _longest_first(words: set[str]) -> tuple[str, ...]:
    return tuple(sorted(words, key=lambda word: (-len(word), word)))


@lru_cache(maxsize=4096)
def beyond_ascii(known: KnownIdentity) -> bool:
    """Tell whether a known word has letters whose bytes hang on character set and case: `needles` may miss them."""
    return not all(word.isascii() for words in _words(known) for word in words)


@lru_cache(maxsize=4096)
def needles(known: KnownIdentity, codecs: tuple[str, ...] = ()) -> tuple[bytes, ...]:
    """Return bytes, lower case as far as ASCII goes, that known words may be in bytes of no stated character set.

    Their absence shows at once that nothing known is there, unless `beyond_ascii`.

    Args:
        known: The words.
        codecs: Of the object's own character sets, as Python names them.
    """
    names, identifiers = _words(known)
    out: dict[bytes, None] = {}
    for word in (*names, *identifiers):
        for spelled in (word,) if word.isascii() else dict.fromkeys((word, word.upper(), word.title())):
            for encoding in ("ascii",) if spelled.isascii() else (*codecs, "latin-1", "utf-8", "gb18030"):
                try:
                    out[_ESCAPE.sub(b"", spelled.encode(encoding)).lower()] = None
                except UnicodeEncodeError:
                    continue
    return tuple(out)


@lru_cache(maxsize=4096)
def pattern(known: KnownIdentity) -> re.Pattern[str] | None:
    """Return what finds known words in text, ignoring case: group "name" or group "id"; None where nothing is known."""
    names, identifiers = _words(known)
    parts = []
    if names:
        spelled = "|".join(re.escape(word).replace("\\ ", r"[\s,.^_-]+") for word in names)
        # A long name is looked for inside other words too ("ofZebrowski"); a short one would be part of many.
        loose = (word for word in names if _WIDE.search(word) or (len(word) >= _LONG_NAME and " " not in word))
        plain = "|".join(re.escape(word) for word in loose)
        parts.append(rf"(?P<name>(?<![^\W\d_])(?:{spelled})(?![^\W\d_]){'|' + plain if plain else ''})")
    if identifiers:
        # "1234" is not in "512346"; "A1234" is in "XA1234".
        edged = (
            ("(?<!\\d)" if word[0].isdigit() else "") + re.escape(word) + ("(?!\\d)" if word[-1].isdigit() else "")
            for word in identifiers
        )
        parts.append(f"(?P<id>{'|'.join(edged)})")
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None
