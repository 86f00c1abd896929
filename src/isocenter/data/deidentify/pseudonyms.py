"""New names for old: patients, studies and accessions by keyed hash, and dates moved by a patient's own shift.

The same key gives the same pseudonym in every run and for every source. Without the key nobody can compute one again.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary

from isocenter.core.errors import ConfigError
from isocenter.data.images.pseudonym import pseudonym

__all__ = ["MOST_DAYS", "Pseudonyms"]

MOST_DAYS = 3652
_DATE = re.compile(r"([0-9]{4})([.-]?)([0-9]{2})\2([0-9]{2})")


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms under one secret key.

    Args:
        key: The secret; `isocenter.data.images.pseudonym.pseudonym_key` keeps one for this user.

    Raises:
        ConfigError: The key is empty.

    Example:
        >>> names = Pseudonyms(b"a secret")
        >>> names.patient("", "12345") == names.patient("", "12345")
        True
        >>> names.patient("A", "12345") == names.patient("B", "12345")
        False
        >>> names.uid("1.2.840.10008.5.1.4.1.1.2")
        '1.2.840.10008.5.1.4.1.1.2'
        >>> names.shift_date("20240301", 61)
        '20231231'
    """

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not self.key:
            raise ConfigError("pseudonyms need a secret key, and this one is empty")

    def patient(self, issuer: str, identifier: str) -> str:
        """Return 32 hexadecimal digits for a patient's identifier and who issued it."""
        return pseudonym(self.key, "patient", issuer, identifier)

    def uid(self, uid: str) -> str:
        """Return a UID under "2.25."; those that the standard itself gives a meaning stay as they are.

        Source:
            DICOM PS3.5 B.2 (a UUID as a UID), PS3.6 annex A (the UIDs of the standard).
        """
        return _uid(self.key, uid)

    def accession(self, issuer: str, number: str) -> str:
        """Return 16 hexadecimal digits for an accession number."""
        return pseudonym(self.key, "accession", issuer, number)[:16]

    def shift_days(self, patient_key: str) -> int:
        """Return how many whole days all dates of a patient move back: 1 to 3652."""
        return 1 + int.from_bytes(_digest(self.key, "shift", patient_key)[:8], "big") % MOST_DAYS

    def shift_date(self, text: str, days: int) -> str:
        """Move a date back; "" where it is no date of the calendar.

        Args:
            text: YYYYMMDD, or with dots or hyphens.
            days: Whole days to move back.

        Returns:
            YYYYMMDD.
        """
        return _shift_date(text, days)

    def shift(self, moment: datetime, days: int) -> datetime:
        """Move a moment back by whole days; the time of the day stays.

        Raises:
            OverflowError: It falls before the year 1.
        """
        return moment - timedelta(days=days)

    def token(self, *parts: str) -> str:
        """Return 32 hexadecimal digits for anything else that needs a name, under its own kind as the first part."""
        return pseudonym(self.key, *parts)


def _digest(key: bytes, *parts: str) -> bytes:
    return hmac.digest(key, "\0".join(parts).encode(), hashlib.sha256)


@lru_cache(maxsize=65536)
def _uid(key: bytes, uid: str) -> str:
    # Not by its root: devices have made UIDs of studies under that of the standard.
    if not uid or uid in UID_dictionary:
        return uid
    return f"2.25.{int.from_bytes(_digest(key, 'uid', uid)[:16], 'big')}"


@lru_cache(maxsize=16384)
def _shift_date(text: str, days: int) -> str:
    found = _DATE.fullmatch(text)
    if found is None:
        return ""
    try:
        moved = date(int(found[1]), int(found[3]), int(found[4])) - timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved.year:04d}{moved.month:02d}{moved.day:02d}"
