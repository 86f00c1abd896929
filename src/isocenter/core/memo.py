"""What was computed once for the very same input, and need not be computed again.

A memo changes when work is done, never what comes of it: what is kept stands under a hash of everything that it was
made from, and is the very array that was made. Nothing is remembered unless somebody asks for it (`remembering`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

import numpy as np

from isocenter.version import __version__

__all__ = ["Memo", "current_memo", "key_of", "recalled", "remembering"]


@runtime_checkable
class Memo(Protocol):
    """Arrays by the hash of what they were made from."""

    def get(self, key: str) -> np.ndarray | None:
        """Return what was put under a key, bit for bit; None where there is nothing sound."""
        ...

    def put(self, key: str, value: np.ndarray) -> None:
        """Keep an array; it may be forgotten at any time."""
        ...


_CURRENT: ContextVar[Memo | None] = ContextVar("isocenter-memo", default=None)


@contextmanager
def remembering(memo: Memo | None) -> Iterator[None]:
    """Use a memo within a block; threads that are started there must be handed it (`current_memo`)."""
    token = _CURRENT.set(memo)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_memo() -> Memo | None:
    """Return the memo in use here; None where nothing is to be remembered."""
    return _CURRENT.get()


def key_of(*parts: str | bytes | np.ndarray) -> str:
    """Return the name of what is made from parts: their hash, with the version of this software.

    Example:
        >>> key_of("a", b"b") == key_of("a", b"b") != key_of("ab", b"")
        True
    """
    digest = hashlib.sha256(__version__.encode())
    for part in parts:
        if isinstance(part, np.ndarray):
            said, content = f"{part.dtype.str}{part.shape}".encode(), memoryview(part.tobytes())
        elif isinstance(part, str):
            said, content = b"text", memoryview(part.encode())
        else:
            said, content = b"bytes", memoryview(part)
        digest.update(f"|{len(said)}:{len(content)}|".encode())
        digest.update(said)
        digest.update(content)
    return digest.hexdigest()


def recalled(memo: Memo | None, key: Callable[[], str], make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return what is kept under a key, or make it and keep it.

    Args:
        memo: Where; None makes it, and keeps nothing.
        key: Returns the key; not asked without a memo, as a hash takes time.
        make: Makes the array, always the same one for the same key.
    """
    if memo is None:
        return make()
    name = key()
    found = memo.get(name)
    if found is None:
        found = make()
        memo.put(name, found)
    return found
