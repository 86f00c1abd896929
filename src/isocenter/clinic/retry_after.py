"""How long another server asks us to wait."""

from __future__ import annotations

from typing import Final

__all__ = ["asked_wait_s"]

_LONGEST_S: Final = 300.0


def asked_wait_s(retry_after: str) -> float:
    """Return the seconds that Retry-After asks for: five minutes at most, 0 where it is a date or no number.

    What another server writes there must neither stop us nor keep us waiting for ever.

    Example:
        >>> [asked_wait_s(text) for text in ("7", "", "Wed, 21 Oct 2026 07:28:00 GMT", "²", "9" * 400)]
        [7.0, 0.0, 0.0, 0.0, 300.0]

    Source:
        RFC 9110, 10.2.3.
    """
    return min(float(retry_after), _LONGEST_S) if retry_after.isascii() and retry_after.isdecimal() else 0.0
