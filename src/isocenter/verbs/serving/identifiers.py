"""Opaque names for addresses: nothing of a path or a patient can be read from them."""

from __future__ import annotations

import hashlib
import re
import secrets

__all__ = ["identifier", "is_identifier", "random_identifier"]

_FORM = re.compile(r"[0-9a-f]{16}")


def identifier(*parts: str) -> str:
    r"""Return 16 hexadecimal digits that stand for some text, the same each time.

    Example:
        >>> identifier("study", "1.2.3")
        'd00b29bc9add9ad1'
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def random_identifier() -> str:
    """Return 16 hexadecimal digits that stand for nothing."""
    return secrets.token_hex(8)


def is_identifier(text: str) -> bool:
    """Tell whether a text has the form of an identifier; nothing else is ever part of a file's name.

    Example:
        >>> is_identifier("0123456789abcdef"), is_identifier("../../etc/passwd")
        (True, False)
    """
    return _FORM.fullmatch(text) is not None
