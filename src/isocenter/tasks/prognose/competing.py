"""Where another event may come first: the share that has each event by a day, of a group and of a person.

One minus Kaplan-Meier, with the other event as lost, says how many would have the event if nobody could have the other:
more than ever will. The cumulative incidence says how many do have it.

Source:
    Aalen and Johansen, Scandinavian Journal of Statistics 1978; Aalen, Annals of Statistics 1978 (spread); Prentice et
    al., Biometrics 1978 (cause-specific hazards).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import DataError
from isocenter.tasks.prognose.cox import CoxModel, fit_cox

__all__ = ["CauseSpecific", "Incidence", "aalen_johansen", "fit_cause_specific"]


@dataclass(frozen=True, eq=False)
class Incidence:
    """Share that has had each event by a day.

    Args:
        days: Every day with an event.
        incidence: Of each event, in the order of its code, after each day.
    """

    days: Float[np.ndarray, " t"]
    incidence: Float[np.ndarray, "causes t"]

    def at(self, days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "causes q"]:
        """Return the share after each of these days."""
        first = np.zeros((len(self.incidence), 1))
        return np.concatenate([first, self.incidence], axis=1)[:, np.searchsorted(self.days, days, side="right")]


def _causes(days: Float[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]) -> int:
    if len(days) != len(codes) or not len(days):
        raise DataError(f"{len(days)} times for {len(codes)} codes")
    if days.min() < 0 or not np.isfinite(days).all():
        raise DataError("a time lies before the start, or is not finite")
    causes = int(codes.max())
    if causes < 1 or codes.min() < 0:
        raise DataError("codes are 0 (last seen without any event), and 1 and on for events; nobody had one")
    return causes


def aalen_johansen(days: Float[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]) -> Incidence:
    """Return the cumulative incidence of each event.

    Args:
        days: Until the first event, or until last seen.
        codes: 0 last seen without any event, 1 and on which event.

    Raises:
        DataError: No event, or a time or code that can't be.

    Example:
        >>> aalen_johansen(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 2, 0, 1])).incidence.tolist()
        [[0.25, 0.25, 0.75], [0.0, 0.25, 0.25]]
    """
    causes = _causes(days, codes)
    times, place, counts = np.unique(days, return_inverse=True, return_counts=True)
    at_risk = len(days) - np.append(0, np.cumsum(counts)[:-1])
    events = np.stack([np.bincount(place[codes == c], minlength=len(times)) for c in range(1, causes + 1)])
    survival = np.cumprod(1 - events.sum(axis=0) / at_risk)
    before = np.append(1.0, survival[:-1])
    incidence = np.cumsum(before * events / at_risk, axis=1)
    kept = events.any(axis=0)
    return Incidence(times[kept], incidence[:, kept])


@dataclass(frozen=True, eq=False)
class CauseSpecific:
    """A Cox regression for each event, and what follows for the share that has it.

    Args:
        models: Of each event, in the order of its code.
        days: Every day with an event.
    """

    models: tuple[CoxModel, ...]
    days: Float[np.ndarray, " t"]

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the incidence of the first event by the last day."""
        return self.incidence(x, self.days[-1:])[:, 0]

    def incidence(
        self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"], *, cause: int = 1
    ) -> Float[np.ndarray, "n q"]:
        """Return the chance of having had an event by each day, when the others may come first."""
        hazards = np.stack([m.cumulative_hazard(x, self.days) for m in self.models])
        steps = np.diff(hazards, axis=2, prepend=0.0)
        before = np.exp(-(hazards.sum(axis=0) - steps.sum(axis=0)))
        # Of those who have some event in a step each event has its share of the hazard: the sum stays below 1.
        total = steps.sum(axis=0)
        some = before * -np.expm1(-total)
        share = np.divide(steps[cause - 1], total, out=np.zeros_like(total), where=total > 0)
        found = np.cumsum(some * share, axis=1)
        first = np.zeros((len(found), 1))
        return np.concatenate([first, found], axis=1)[:, np.searchsorted(self.days, at_days, side="right")]

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of not having had the first event: one minus its incidence."""
        return 1 - self.incidence(x, at_days)

    def contributions(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Return what each column adds to the logarithm of the hazard ratio of the first event."""
        return self.models[0].contributions(x)


def fit_cause_specific(
    x: Float[np.ndarray, "n p"],
    days: Float[np.ndarray, " n"],
    codes: Int64[np.ndarray, " n"],
    *,
    strength: float = 0.0,
    l1_ratio: float = 0.0,
) -> CauseSpecific:
    """Fit a Cox regression for each event, the others counting as lost.

    Args:
        x: A row for each person.
        days: Until the first event, or until last seen.
        codes: 0 last seen without any event, 1 and on which event.
        strength: Of the penalty.
        l1_ratio: 0 for ridge, 1 for lasso.

    Raises:
        DataError: An event that nobody had.
    """
    causes = _causes(days, codes)
    models = tuple(fit_cox(x, days, codes == c, strength=strength, l1_ratio=l1_ratio) for c in range(1, causes + 1))
    return CauseSpecific(models, np.unique(days[codes > 0]))
