"""Clocks that disagree: how far a time that somebody else wrote is from ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

__all__ = ["minutes_from_now"]

_OFFSET: Final = re.compile(r"([+-])(\d\d)(\d\d)")


def minutes_from_now(date: str, time: str, offset: str = "", *, now: datetime | None = None) -> int:
    """Return how many minutes after now a date and a time of DICOM are, to ten minutes; 0 where they say nothing.

    Args:
        date: As VR DA has it.
        time: As VR TM has it; at least hours and minutes.
        offset: From UTC (0008,0201), "+0100" say; "" where it is not said: then this machine's time zone is taken.
        now: For tests.

    Example:
        >>> minutes_from_now("20260102", "101500.25", "+0100", now=datetime(2026, 1, 2, 8, 34, tzinfo=UTC))
        40
        >>> minutes_from_now("20260102", "", "+0100")
        0
    """
    if len(date.strip()) != 8 or len(time.strip()) < 4:
        return 0
    try:
        made = datetime.strptime(date.strip() + time.strip()[:4], "%Y%m%d%H%M")
        found = _OFFSET.fullmatch(offset.strip())
        if found:
            sign = -1 if found[1] == "-" else 1
            made = made.replace(tzinfo=timezone(sign * timedelta(hours=int(found[2]), minutes=int(found[3]))))
        seconds = (made.astimezone(UTC) - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, OverflowError, OSError):
        return 0
    return round(seconds / 600) * 10
