"""New values for old, as bytes: shifted dates, dummies by value representation, texts cut to what fits."""

from __future__ import annotations

import re
from functools import lru_cache

from isocenter.data.deidentify.pseudonyms import Pseudonyms

__all__ = ["LONGEST", "REMOVED_TEXT", "capped_age", "dummy", "new_uids", "padded", "shifted"]

REMOVED_TEXT = b"REMOVED"
LONGEST = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "AE": 16, "CS": 16, "PN": 64}
_TIME = re.compile(rb"[0-9]{2}(:?[0-9]{2}(:?[0-9]{2}(\.[0-9]{1,6})?)?)?")
_DATETIME = re.compile(
    r"([0-9]{4})([0-9]{2})?([0-9]{2})?([0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?)?([+-][0-9]{4})?"
)
_AGE = re.compile(rb"([0-9]{3})([DWMY])")
_BINARY = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "SV": 8, "UV": 8, "AT": 4, "OB": 2, "OW": 2}
_BINARY |= {"OF": 4, "OD": 8, "OL": 4, "OV": 8, "UN": 2}
_DUMMIES = {"DA": b"19000101", "DT": b"19000101000000", "TM": b"000000", "AS": b"000Y", "DS": b"0", "IS": b"0"}
OLDEST_YEARS = 89


def padded(value: bytes, vr: str) -> bytes:
    """Return a value of even length (PS3.5 6.2)."""
    return value if len(value) % 2 == 0 else value + (b"\0" if vr in ("UI", "OB", "UN") else b" ")


def dummy(vr: str) -> bytes:
    """Return a value that says nothing and is valid for its representation."""
    if vr in _BINARY:
        return bytes(_BINARY[vr])
    if vr == "UI":
        return b"2.25.0"
    return padded(_DUMMIES.get(vr, REMOVED_TEXT), vr)


@lru_cache(maxsize=16384)
def shifted(raw: bytes, vr: str, days: int, names: Pseudonyms) -> bytes | None:
    """Return dates moved back by days, times of the day as they are; None where a value is neither.

    Args:
        raw: One or several values with backslashes between.
        vr: DA, DT or TM.
        days: Whole days.
        names: Who moves them.
    """
    out: list[bytes] = []
    for part in raw.strip(b" \0").split(b"\\"):
        value = part.strip()
        if not value:
            out.append(value)
        elif vr == "TM":
            if not _TIME.fullmatch(value):
                return None
            out.append(value)
        else:
            try:
                text = value.decode("ascii")
            except UnicodeDecodeError:
                return None
            moved = names.shift_date(text, days) if vr == "DA" else _moment(text, days, names)
            if not moved:
                return None
            out.append(moved.encode())
    return padded(b"\\".join(out), vr)


def _moment(text: str, days: int, names: Pseudonyms) -> str:
    """Move a DT; where month or day are not given, the result has no more than was given."""
    found = _DATETIME.fullmatch(text)
    if found is None:
        return ""
    year, month, day, time, offset = found.groups()
    moved = names.shift_date(year + (month or "01") + (day or "01"), days)
    if not moved:
        return ""
    precision = 4 if month is None else 6 if day is None else 8
    return moved[:precision] + (time or "") + (offset or "")


def capped_age(raw: bytes) -> bytes | None:
    """Return an age as it is up to 89 years, "090Y" above; None where it is no age.

    Source:
        The Safe Harbor rule of HIPAA (45 CFR 164.514(b)(2)(i)(C)).
    """
    found = _AGE.fullmatch(raw.strip(b" \0"))
    if found is None:
        return None
    per_year = {b"D": 365, b"W": 52, b"M": 12, b"Y": 1}[found[2]]
    return b"090Y" if int(found[1]) > OLDEST_YEARS * per_year else raw


def new_uids(raw: bytes, names: Pseudonyms) -> bytes:
    """Return the pseudonyms of one or several UIDs."""
    parts = raw.strip(b" \0").split(b"\\")
    return padded(b"\\".join(names.uid(part.strip(b" \0").decode("latin-1")).encode() for part in parts), "UI")
