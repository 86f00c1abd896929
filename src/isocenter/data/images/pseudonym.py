"""The secret key behind pseudonyms: the environment's, else one that this installation drew for itself.

A pseudonym that anybody can compute again is a patient's identifier in another spelling: identifiers are short, and
trying them all takes seconds. So the key is never anything that a result or an image holds.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["KEY_VARIABLE", "Key", "key_file", "pseudonym", "pseudonym_key"]

KEY_VARIABLE = "ISOCENTER_PSEUDONYM_KEY"
_BYTES = 32


class Key(bytes):
    """A secret that never shows itself when it is printed or logged."""

    def __repr__(self) -> str:
        """Return the name of the type alone."""
        return "Key(...)"

    __str__ = __repr__


def key_file() -> Path:
    """Return where this user's key is kept: ``isocenter/pseudonym.key`` in the folder of configurations."""
    stated = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(stated) if stated else Path.home() / ".config") / "isocenter" / "pseudonym.key"


def pseudonym_key() -> tuple[Key, bool]:
    """Return the key, and whether the next run on this machine will have it too.

    The environment variable ISOCENTER_PSEUDONYM_KEY comes first: several machines that share it give one pseudonym to
    one patient. Without it, the user's key file is taken, and made, readable by the user alone, where there is none.
    Where none can be kept (a home that is read-only), a key is drawn for this process.
    """
    stated = os.environ.get(KEY_VARIABLE, "")
    if stated:
        return Key(stated.encode()), True
    with suppress(OSError, RuntimeError):  # a user without a home is a RuntimeError
        file = key_file()
        if not file.is_file():
            _make(file)
        kept = file.read_bytes()
        if len(kept) >= _BYTES:
            return Key(kept), True
    return _of_this_process(), False


def pseudonym(key: bytes, *parts: str) -> str:
    """Return 32 hexadecimal digits that depend on the key and on every part.

    Example:
        >>> pseudonym(b"k", "a", "b") == pseudonym(b"k", "ab", "")
        False
    """
    return hmac.new(key, "\0".join(parts).encode(), hashlib.sha256).hexdigest()[:32]


@cache
def _of_this_process() -> Key:
    return Key(secrets.token_bytes(_BYTES))


def _make(file: Path) -> None:
    """Draw a key; when two processes do at once, both end with the one that came first."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{secrets.token_hex(4)}-{file.name}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
        with suppress(FileExistsError):
            file.hardlink_to(temporary)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
