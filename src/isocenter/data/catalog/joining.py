"""Things that belong together, and those that belong together with these."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["Joined"]

T = TypeVar("T", bound=Hashable)


class Joined(Generic[T]):
    """Groups that grow together (union-find).

    Example:
        >>> groups = Joined([("a", "b"), ("b", "c")])
        >>> groups.of("a") == groups.of("c"), groups.of("a") == groups.of("d")
        (True, False)
    """

    def __init__(self, pairs: Iterable[tuple[T, T]] = ()) -> None:
        self._above: dict[T, T] = {}
        for one, other in pairs:
            self.join(one, other)

    def of(self, one: T) -> T:
        """Return what stands for the group of something; itself where it was never joined."""
        top = one
        while (above := self._above.get(top, top)) != top:
            top = above
        while (above := self._above.get(one, one)) != one:
            self._above[one], one = top, above
        return top

    def join(self, one: T, other: T) -> None:
        """Join two groups."""
        first, second = self.of(one), self.of(other)
        if first != second:
            self._above[first] = second
