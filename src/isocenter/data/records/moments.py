"""Dates and times of every form, as ISO 8601 of the precision that the source has: nothing is invented.

"2024" stays a year, an hour without a zone stays without one. What is no date of the calendar is None, and the reader
says so.
"""

from __future__ import annotations

import re
from datetime import date, datetime

__all__ = ["as_moment", "dicom_moment", "fhir_moment", "hl7_moment", "table_moment"]

_COMPACT = re.compile(
    r"(?P<year>\d{4})(?:(?P<month>\d{2})(?:(?P<day>\d{2})"
    r"(?:(?P<hour>\d{2})(?:(?P<minute>\d{2})(?:(?P<second>\d{2})(?P<part>\.\d{1,6})?)?)?)?)?)?"
    r"(?P<zone>[+-]\d{4})?"
)
_LONG = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d{2})(?:-(?P<day>\d{2})"
    r"(?:[T ](?P<hour>\d{2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?P<part>\.\d{1,9})?)?"
    r" ?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?)?)?"
)
_POINTED = re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})")
_STROKED = re.compile(r"(?P<one>\d{1,2})/(?P<other>\d{1,2})/(?P<year>\d{4})")
_YEAR_FIRST = re.compile(r"(?P<year>\d{4})[/.](?P<month>\d{1,2})[/.](?P<day>\d{1,2})")


def hl7_moment(text: str) -> str | None:
    """Return a time stamp of HL7 v2 (TS, DTM, DT) as ISO 8601; None where it is none.

    Source:
        HL7 v2.5.1, 2.A.22 (DTM): YYYY[MM[DD[HH[MM[SS[.S[S[S[S]]]]]]]]][+/-ZZZZ].

    Example:
        >>> hl7_moment("202401311605+0100"), hl7_moment("2024"), hl7_moment("20240231")
        ('2024-01-31T16:05+01:00', '2024', None)
    """
    return _made(_COMPACT.fullmatch(text.strip()))


def dicom_moment(day: str, time: str = "", zone: str = "") -> str | None:
    """Return a date of DICOM, with its time of day, as ISO 8601; None where it is none.

    Example:
        >>> dicom_moment("20240131", "160512.25"), dicom_moment("20240131"), dicom_moment("2024.01.31")
        ('2024-01-31T16:05:12.25', '2024-01-31', '2024-01-31')
    """
    day, time = day.strip(), time.strip().replace(":", "")
    if re.fullmatch(r"\d{4}\.\d{2}\.\d{2}", day):  # ACR-NEMA, which PS3.5 6.2 asks readers to take
        day = day.replace(".", "")
    zone = zone.strip() if len(time) >= 4 else ""
    return hl7_moment(day + (time if len(day) == 8 else "") + zone)


def fhir_moment(text: str) -> str | None:
    """Return a date, dateTime or instant of FHIR as it is; None where it is none.

    Example:
        >>> fhir_moment("2024-01"), fhir_moment("2024-01-31T16:05:00Z"), fhir_moment("yesterday")
        ('2024-01', '2024-01-31T16:05:00+00:00', None)
    """
    return _made(_LONG.fullmatch(text.strip()))


def table_moment(text: str, *, day_first: bool | None = None) -> str | None:
    """Return a date of a table as ISO 8601; None where it is none, or where day and month can't be told.

    Args:
        text: As the cell has it: 2024-01-31, 20240131, 2024/1/31, 31.1.2024, 31/1/2024 or 1/31/2024.
        day_first: Of dates with strokes, whether the day stands first; None refuses those that read both ways.

    Example:
        >>> table_moment("31.1.2024"), table_moment("1/31/2024"), table_moment("1/2/2024")
        ('2024-01-31', '2024-01-31', None)
        >>> table_moment("1/2/2024", day_first=True)
        '2024-02-01'
    """
    text = text.strip()
    found = _LONG.fullmatch(text) or _POINTED.fullmatch(text) or _YEAR_FIRST.fullmatch(text)
    if found is None and len(text) >= 8:
        found = _COMPACT.fullmatch(text)
    if found is not None:
        return _made(found)
    stroked = _STROKED.fullmatch(text)
    if stroked is None:
        return None
    one, other, year = int(stroked["one"]), int(stroked["other"]), int(stroked["year"])
    if day_first is None:
        if one == other:
            day_first = True
        elif one > 12 or other > 12:
            day_first = one > 12
        else:
            return None
    day, month = (one, other) if day_first else (other, one)
    return _checked(f"{year:04d}-{month:02d}-{day:02d}")


def as_moment(text: str) -> datetime | None:
    """Return the first moment that an ISO text of ours may mean, without its zone kept; None for "".

    Example:
        >>> as_moment("2024-01"), as_moment("")
        (datetime.datetime(2024, 1, 1, 0, 0), None)
    """
    if not text:
        return None
    padded = text + {4: "-01-01", 7: "-01"}.get(len(text), "")
    return datetime.fromisoformat(padded)


def _made(found: re.Match[str] | None) -> str | None:
    if found is None:
        return None
    parts = found.groupdict()
    out = parts["year"]
    for name in ("month", "day"):
        if parts.get(name):
            out += f"-{int(parts[name]):02d}"
    if parts.get("hour"):
        out += f"T{parts['hour']}:{parts.get('minute') or '00'}"
        if parts.get("second"):
            out += f":{parts['second']}{(parts.get('part') or '')[:7]}"
        zone = parts.get("zone") or ""
        out += "+00:00" if zone == "Z" else zone if ":" in zone or not zone else f"{zone[:3]}:{zone[3:]}"
    return _checked(out)


def _checked(text: str) -> str | None:
    """Return the text if the calendar has it."""
    try:
        if len(text) <= 10:
            year, month, day = [int(part) for part in text.split("-")] + [1] * (2 - text.count("-"))
            date(year, month, day)
        else:
            datetime.fromisoformat(text)
    except ValueError:
        return None
    return text
