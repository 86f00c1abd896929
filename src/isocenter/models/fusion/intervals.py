"""Time cut into intervals, and survival curves from the hazards of each. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError

__all__ = ["Intervals", "cut_time"]


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of time that follow each other from day 0.

    Args:
        ends: Last day of each, growing; what lies beyond the last is not known.
    """

    ends: Float[np.ndarray, " k"]

    def __len__(self) -> int:
        return len(self.ends)

    def place(
        self, days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]
    ) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Return how many intervals each person has passed, and whether the event came in the next one.

        Those who were lost within an interval have passed it where they were seen for half of it or more.

        Example:
            >>> passed, event = Intervals(np.array([10.0, 20.0])).place(np.array([5.0, 16.0]), np.array([True, False]))
            >>> passed.tolist(), event.tolist()
            ([0, 2], [True, False])
        """
        place = np.searchsorted(self.ends, days, side="left")
        inside = place < len(self.ends)
        begins = np.append(0.0, self.ends)
        at = np.minimum(place, len(self.ends) - 1)
        half = days >= (begins[at] + self.ends[at]) / 2
        passed = np.where(inside & ~happened & half, place + 1, place)
        return np.minimum(passed, len(self.ends)).astype(np.int64), happened & inside

    def survival(self, hazards: Float[np.ndarray, "n k"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day; within an interval the hazard is constant."""
        logs = np.concatenate(
            [np.zeros((len(hazards), 1)), np.cumsum(np.log1p(-np.minimum(hazards, 1 - 1e-7)), axis=1)], axis=1
        )
        days = np.append(0.0, self.ends)
        return np.asarray(np.exp(np.stack([np.interp(at_days, days, row) for row in logs])))


def cut_time(days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], *, most: int = 20) -> Intervals:
    """Cut time where equally many events lie between.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        most: Intervals at most.

    Raises:
        DataError: Nobody had the event after day 0.

    Source:
        Kvamme and Borgan, Lifetime Data Analysis 2021 (intervals by quantiles of events).
    """
    events = days[happened & (days > 0)]
    if not len(events):
        raise DataError("nobody had the event after day 0: nothing can be learnt")
    return Intervals(np.unique(np.quantile(events, np.linspace(0, 1, most + 1)[1:], method="higher")))
