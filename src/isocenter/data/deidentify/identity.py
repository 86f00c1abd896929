"""What is already known of a patient: words that must not be found in anything that is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["KnownIdentity", "needles", "pattern"]

_SPLIT = re.compile(r"[\^=,;\s\\]+")
_LEAST_LETTERS, _LEAST_DIGITS, _LONG_NAME = 3, 4, 7
_DIGIT = re.compile(r"\d")
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


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
    """Return words of names and whole identifiers, lower case, longest first."""
    names: set[str] = set()
    numbers = set(known.identifiers)
    for name in known.names:
        for group in name.split("="):
            stripped = [part.strip(".").lower() for part in _SPLIT.split(group) if part.strip(".")]
            parts = [part for part in stripped if not any(sign.isdigit() for sign in part)]
            numbers.update(part for part in stripped if part not in parts)
            names.update(p for p in parts if len(p) >= _LEAST_LETTERS or (len(p) > 1 and _WIDE.search(p)))
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
    return _longest_first(names), _longest_first(identifiers)


def _longest_first(words: set[str]) -> tuple[str, ...]:
    return tuple(sorted(words, key=lambda word: (-len(word), word)))


@lru_cache(maxsize=4096)
def needles(known: KnownIdentity) -> tuple[bytes, ...]:
    """Return lower-case bytes whose absence from a header shows at once that nothing known is in it."""
    names, identifiers = _words(known)
    out: dict[bytes, None] = {}
    for word in (*names, *identifiers):
        for encoding in ("latin-1", "utf-8", "gb18030"):
            try:
                out[word.encode(encoding)] = None
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
