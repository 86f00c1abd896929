"""Fine and Gray's regression: of the share that has an event, where another event may come first.

Cause-specific hazards say how fast the event comes to those who are still without any. This one models the share itself
(the subdistribution hazard): whoever had another event stays among those at risk, with the weight of those not yet lost
by then, for the event can't come to them any more. Its ratios say whose share is larger, not how fast it comes.

Source:
    Fine and Gray, Journal of the American Statistical Association 1999.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import DataError
from isocenter.tasks.prognose.cox import CoxModel, maximise

__all__ = ["FineGray", "fine_gray_likelihood", "fit_fine_gray"]


@dataclass(frozen=True, eq=False)
class FineGray:
    """A fitted regression.

    Args:
        cox: Coefficients, means, days of events and the cumulative subdistribution hazard after each.
    """

    cox: CoxModel

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the logarithm of the ratio of subdistribution hazards to the average person."""
        return self.cox.risk(x)

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of not having had the event: one minus its cumulative incidence."""
        return self.cox.survival(x, at_days)

    def contributions(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Return what each column adds to the logarithm of the ratio: their sum is `risk`, exactly."""
        return self.cox.contributions(x)


@dataclass(frozen=True, eq=False)
class _Weighted:
    """People in order of time, and who is at risk with which weight on each day of an event."""

    x: Float[np.ndarray, "n p"]
    events: np.ndarray  # rows of those with the event
    day: Int64[np.ndarray, " e"]  # of each event: number of its day
    event_days: Float[np.ndarray, " t"]
    first: Int64[np.ndarray, " t"]  # of each day: where those begin who had nothing before it
    in_sight: Float[np.ndarray, " t"]  # share not lost before each day
    other: Float[np.ndarray, " n"]  # of each person: one over the share in sight at another event; 0 else

    @classmethod
    def of(
        cls, x: Float[np.ndarray, "n p"], days: Float[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]
    ) -> _Weighted:
        order = np.lexsort((codes == 0, days))
        x, days, codes = x[order], days[order], codes[order]
        event_days, day = np.unique(days[codes == 1], return_inverse=True)
        lost, share = _in_sight(days, codes)
        before = np.append(1.0, share)
        other = np.where(codes > 1, 1 / before[np.searchsorted(lost, days, side="left")], 0.0)
        return cls(
            x, np.flatnonzero(codes == 1), day, event_days, np.searchsorted(days, event_days, side="left"),
            before[np.searchsorted(lost, event_days, side="left")], other,
        )  # fmt: skip

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return for each day of an event the weighted sum over those at risk."""
        shape = (-1, *[1] * (values.ndim - 1))
        later = np.cumsum(values[::-1], axis=0)[::-1]
        had = np.cumsum(values * self.other.reshape(shape), axis=0)
        had = np.concatenate([np.zeros((1, *values.shape[1:])), had])
        return np.asarray(later[self.first] + self.in_sight.reshape(shape) * had[self.first])

    def likelihood(self, beta: Float[np.ndarray, " p"]) -> float:
        eta = self.x @ beta
        top = eta.max()
        return float((eta[self.events] - top).sum() - np.log(self.sums(np.exp(eta - top)))[self.day].sum())

    def step(self, beta: Float[np.ndarray, " p"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p p"]]:
        """Return gradient and Hessian of minus the log partial likelihood."""
        eta = self.x @ beta
        w = np.exp(eta - eta.max())
        counts = np.bincount(self.day, minlength=len(self.event_days))
        inverse = counts / self.sums(w)
        # How often each person counts: on days up to the own time in full, and after another event with a weight.
        until = np.searchsorted(self.first, np.arange(len(w)), side="right")
        whole = np.append(0.0, np.cumsum(inverse))
        shared = np.append(0.0, np.cumsum(inverse * self.in_sight))
        weight = w * (whole[until] + self.other * (shared[-1] - shared[until]))
        mean = self.sums(w[:, None] * self.x) / self.sums(w)[:, None]
        gradient = self.x.T @ weight - self.x[self.events].sum(axis=0)
        return gradient, (self.x * weight[:, None]).T @ self.x - (mean * counts[:, None]).T @ mean

    def baseline(self, beta: Float[np.ndarray, " p"]) -> Float[np.ndarray, " t"]:
        counts = np.bincount(self.day, minlength=len(self.event_days))
        return np.cumsum(counts / self.sums(np.exp(self.x @ beta)))


def _in_sight(
    days: Float[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """Return the days on which people are lost, and the share not lost after each; events leave first."""
    times, place, counts = np.unique(days, return_inverse=True, return_counts=True)
    at_risk = len(days) - np.append(0, np.cumsum(counts)[:-1])
    lost = np.bincount(place[codes == 0], minlength=len(times))
    events = np.bincount(place[codes > 0], minlength=len(times))
    share = np.cumprod(1 - lost / np.maximum(at_risk - events, 1))
    return times[lost > 0], share[lost > 0]


def fit_fine_gray(
    x: Float[np.ndarray, "n p"],
    days: Float[np.ndarray, " n"],
    codes: Int64[np.ndarray, " n"],
    *,
    strength: float = 0.0,
    l1_ratio: float = 0.0,
) -> FineGray:
    """Fit the regression of the first event, ties as Breslow's.

    Args:
        x: A row for each person; columns of one scale, or the penalty weighs them unequally.
        days: Until the first event, or until last seen.
        codes: 0 last seen without any event, 1 the event asked about, 2 and on the others.
        strength: Of the penalty; 0 for none.
        l1_ratio: 0 for ridge, 1 for lasso.

    Raises:
        DataError: Nobody had the event, or a number is not finite.
        TrainingError: The likelihood has no maximum and no penalty holds it.

    Example:
        >>> x = np.array([[0.0], [1.0], [0.0], [1.0], [1.0], [0.0]])
        >>> days, codes = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), np.array([1, 2, 1, 1, 0, 1])
        >>> round(float(fit_fine_gray(x, days, codes).cox.coefficients[0]), 3)
        -1.404
    """
    if not (codes == 1).any():
        raise DataError("nobody had the event: nothing can be learnt")
    if not (np.isfinite(x).all() and np.isfinite(days).all()):
        raise DataError("a covariate or a time is not finite")
    means = x.mean(axis=0)
    people = _Weighted.of(x - means, days, codes)
    beta = maximise(people, len(days), strength=strength, l1_ratio=l1_ratio)
    return FineGray(CoxModel(beta, means, people.event_days, people.baseline(beta)))


def fine_gray_likelihood(
    risk: Float[np.ndarray, " n"], days: Float[np.ndarray, " n"], codes: Int64[np.ndarray, " n"]
) -> float:
    """Return the log partial likelihood of these risks; 0 where nobody had the event."""
    if not (codes == 1).any():
        return 0.0
    return _Weighted.of((risk - risk.mean())[:, None], days, codes).likelihood(np.ones(1))
