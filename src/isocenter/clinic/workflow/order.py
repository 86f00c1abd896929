"""The order of work: what is critical first, then by priority, then by time; and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Waiting", "order_of_work"]


@dataclass(frozen=True)
class Waiting:
    """A study that waits to be worked on.

    Args:
        study: Its UID.
        critical: Whether what was seen of it so far is critical.
        priority: How urgent it is; higher comes first.
        since: When its last instance came, in seconds of the epoch.
    """

    study: str
    critical: bool
    priority: int
    since: float


def order_of_work(studies: Iterable[Waiting], now: float, patience_s: float) -> list[Waiting]:
    """Return studies in the order in which they are to be worked on.

    A study that has waited for longer than `patience_s` comes before all that have not, whatever they are: so it waits
    no longer than that, and for the studies that had waited so long before it.

    Args:
        studies: In any order.
        now: Time, in seconds of the epoch.
        patience_s: How long urgent studies may overtake others.

    Example:
        >>> a, b, c = Waiting("a", False, 0, 5.0), Waiting("b", False, 1, 8.0), Waiting("c", True, 0, 9.0)
        >>> [one.study for one in order_of_work([a, b, c], now=10.0, patience_s=60.0)]
        ['c', 'b', 'a']
        >>> [one.study for one in order_of_work([a, b, c], now=66.0, patience_s=60.0)]
        ['a', 'c', 'b']
    """

    def place(one: Waiting) -> tuple[bool, bool, int, float, str]:
        if now - one.since >= patience_s:
            return False, False, 0, one.since, one.study
        return True, not one.critical, -one.priority, one.since, one.study

    return sorted(studies, key=place)
