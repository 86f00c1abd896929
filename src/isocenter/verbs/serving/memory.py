"""What is kept in memory for a while: at most so many bytes, and never read twice at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

__all__ = ["Kept"]

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key, the least recently used of which go first; called from several threads.

    Two people asking for one thing at once share one making of it. A value that is larger than the whole room is
    returned and not kept.

    Args:
        most_bytes: The room.
        size: How many bytes a value takes.

    Example:
        >>> kept = Kept(10, len)
        >>> kept.get("a", lambda: b"123456"), kept.get("b", lambda: b"7890"), kept.bytes
        (b'123456', b'7890', 10)
        >>> _ = kept.get("c", lambda: b"x"); kept.holds("a"), kept.bytes
        (False, 5)
    """

    def __init__(self, most_bytes: int, size: Callable[[T], int]) -> None:
        self.most_bytes = most_bytes
        self._size = size
        self._lock = threading.Lock()
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._making: dict[Hashable, Future[T]] = {}
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def holds(self, key: Hashable) -> bool:
        """Tell whether a value is kept."""
        return key in self._values

    def peek(self, key: Hashable) -> T | None:
        """Return a value that is kept, None where there is none."""
        with self._lock:
            found = self._values.get(key)
            if found is None:
                return None
            self._values.move_to_end(key)
            return found[0]

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept, or make it; whoever asks meanwhile waits for the same."""
        with self._lock:
            found = self._values.get(key)
            if found is not None:
                self._values.move_to_end(key)
                return found[0]
            making = self._making.get(key)
            if making is None:
                mine: Future[T] = Future()
                self._making[key] = mine
        if making is not None:
            return making.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._making[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._making[key]
            self._keep(key, value)
        mine.set_result(value)
        return value

    def drop(self, key: Hashable) -> None:
        """Let go of a value."""
        with self._lock:
            found = self._values.pop(key, None)
            self._bytes -= 0 if found is None else found[1]

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._values.clear()
            self._bytes = 0

    def _keep(self, key: Hashable, value: T) -> None:
        size = self._size(value)
        if size > self.most_bytes:
            return
        self._values[key] = (value, size)
        self._bytes += size
        while self._bytes > self.most_bytes:
            _, (_, gone) = self._values.popitem(last=False)
            self._bytes -= gone
