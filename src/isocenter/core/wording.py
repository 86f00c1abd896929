"""Questions as they are compared: two that differ in case, blanks or marks at their end are one."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["plain_question"]


def plain_question(text: str) -> str:
    """Return a question in lower case, with single blanks, without marks at its end.

    Example:
        >>> plain_question(" Which  side is the mass on?")
        'which side is the mass on'
    """
    return re.sub(r"[\s?.!:]+$", "", " ".join(unicodedata.normalize("NFC", text).lower().split()))
