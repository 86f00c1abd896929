"""Cox regression with an elastic net: proximal Newton steps with an exact Hessian.

The objective is that of glmnet: minus the log partial likelihood divided by the number of people, plus
``strength * (l1_ratio * |b|_1 + (1 - l1_ratio) / 2 * |b|_2^2)``. Ties are Efron's, or Breslow's where asked. Sums over
those at risk are cumulative sums over people in order of time, so a step costs n p^2 and no loop over people.

Source:
    Cox, JRSS B 1972; Efron, JASA 1977; Breslow, Biometrics 1974 (baseline); Simon et al., J. Stat. Software 2011.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import ConfigError, DataError, TrainingError

__all__ = [
    "CoxModel",
    "PartialLikelihood",
    "breslow_baseline",
    "fit_cox",
    "maximise",
    "partial_likelihood",
    "strongest_penalty",
]

Ties = Literal["efron", "breslow"]
_STEPS, _SWEEPS, _HALVINGS = 200, 1000, 40
_MOST = 500.0
"""Largest logarithm of a hazard ratio that is still taken to the exponential."""
_RUNAWAY = 20.0
"""A logarithm of a hazard ratio to the average person beyond this is no finding, but a likelihood without a maximum."""


@dataclass(frozen=True, eq=False)
class CoxModel:
    """A fitted Cox regression.

    Args:
        coefficients: Logarithm of the hazard ratio of each column.
        means: Of each column; a person with these has the baseline hazard.
        days: With an event.
        hazard: Cumulative baseline hazard after each of these days.
    """

    coefficients: Float[np.ndarray, " p"]
    means: Float[np.ndarray, " p"]
    days: Float[np.ndarray, " t"]
    hazard: Float[np.ndarray, " t"]

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return the logarithm of the hazard ratio to the average person."""
        return np.asarray((x - self.means) @ self.coefficients)

    def cumulative_hazard(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> np.ndarray:
        """Return the cumulative hazard of each person after each day, (n, q)."""
        baseline = np.append(0.0, self.hazard)[np.searchsorted(self.days, at_days, side="right")]
        return np.asarray(np.exp(np.clip(self.risk(x), -_MOST, _MOST))[:, None] * baseline)

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day."""
        return np.asarray(np.exp(-self.cumulative_hazard(x, at_days)))

    def contributions(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n p"]:
        """Return what each column adds to the logarithm of the hazard ratio: their sum is `risk`, exactly."""
        return np.asarray((x - self.means) * self.coefficients)


@dataclass(frozen=True, eq=False)
class _Ordered:
    """People in order of time, and where those at risk begin; computed once a fit."""

    x: Float[np.ndarray, "n p"]
    happened: Bool[np.ndarray, " n"]
    first: Int64[np.ndarray, " e"]  # of each event: where those at risk begin
    last: Int64[np.ndarray, " n"]  # of each person: how many events came until their day
    share: Float[np.ndarray, " e"]  # of each event: how much of its ties has left already
    group: Int64[np.ndarray, " e"]  # of each event: number of its day
    event_days: Float[np.ndarray, " t"]

    @classmethod
    def of(
        cls, x: Float[np.ndarray, "n p"], days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], ties: Ties
    ) -> _Ordered:
        order = np.lexsort((~happened, days))
        x, days, happened = x[order], days[order], happened[order]
        event_days, group, count = np.unique(days[happened], return_inverse=True, return_counts=True)
        begins = np.append(0, np.cumsum(count)[:-1])
        share = (np.arange(len(group)) - begins[group]) / count[group]
        first = np.searchsorted(days, event_days, side="left")[group]
        last = np.searchsorted(days[happened], days, side="right")
        if ties == "breslow":
            share = np.zeros_like(share)
        return cls(x, happened, first, last, share, group, event_days)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return for each event the sum over those at risk, less what has left of its ties."""
        later = np.cumsum(values[::-1], axis=0)[::-1]
        tied = np.zeros((len(self.event_days), *values.shape[1:]))
        np.add.at(tied, self.group, values[self.happened])
        share = self.share.reshape(-1, *[1] * (values.ndim - 1))
        return np.asarray(later[self.first] - share * tied[self.group])

    def likelihood(self, beta: Float[np.ndarray, " p"]) -> float:
        eta = self.x @ beta
        top = eta.max()
        return float((eta[self.happened] - top).sum() - np.log(self.sums(np.exp(eta - top))).sum())

    def step(self, beta: Float[np.ndarray, " p"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p p"]]:
        """Return gradient and Hessian of minus the log partial likelihood."""
        eta = self.x @ beta
        w = np.exp(eta - eta.max())
        at_risk = self.sums(w)
        inverse = 1 / at_risk
        # How often each person counts among those at risk, those with the event less what has left of their ties.
        weight = np.append(0.0, np.cumsum(inverse))[self.last]
        leaving = np.zeros(len(self.event_days))
        np.add.at(leaving, self.group, self.share * inverse)
        weight[self.happened] -= leaving[self.group]
        weight = w * weight
        gradient = self.x.T @ (weight - self.happened)
        mean = self.sums(w[:, None] * self.x) * inverse[:, None]
        return gradient, (self.x * weight[:, None]).T @ self.x - mean.T @ mean

    def baseline(self, beta: Float[np.ndarray, " p"]) -> Float[np.ndarray, " t"]:
        added = np.zeros(len(self.event_days))
        np.add.at(added, self.group, 1 / self.sums(np.exp(self.x @ beta)))
        return np.cumsum(added)


def fit_cox(
    x: Float[np.ndarray, "n p"],
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    *,
    strength: float = 0.0,
    l1_ratio: float = 0.0,
    ties: Ties = "efron",
    start: Float[np.ndarray, " p"] | None = None,
) -> CoxModel:
    """Fit a Cox regression.

    Args:
        x: A row for each person; columns of one scale, or the penalty weighs them unequally.
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        strength: Of the penalty; 0 for none.
        l1_ratio: 0 for ridge, 1 for lasso.
        ties: How events of one day are counted.
        start: Where to begin: the coefficients of a neighbouring strength.

    Raises:
        ConfigError: A setting is out of range.
        DataError: Nobody had the event, or a number is not finite.
        TrainingError: The likelihood has no maximum (a column tells who has the event without a mistake) and no penalty
            holds it.

    Example:
        >>> x = np.array([[0.0], [1.0], [0.0], [1.0], [1.0], [0.0]])
        >>> days = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        >>> round(float(fit_cox(x, days, np.array([True, True, False, True, True, True])).coefficients[0]), 4)
        0.8455
    """
    if not happened.any():
        raise DataError("nobody had the event: nothing can be learnt")
    if not (np.isfinite(x).all() and np.isfinite(days).all()):
        raise DataError("a covariate or a time is not finite")
    means = x.mean(axis=0)
    people = _Ordered.of(x - means, days, happened, ties)
    beta = maximise(people, len(days), strength=strength, l1_ratio=l1_ratio, start=start)
    return CoxModel(beta, means, people.event_days, people.baseline(beta))


@runtime_checkable
class PartialLikelihood(Protocol):
    """A partial likelihood of people, as `maximise` takes it."""

    @property
    def x(self) -> Float[np.ndarray, "n p"]:
        """A row for each person."""

    def likelihood(self, beta: Float[np.ndarray, " p"]) -> float:
        """Return its logarithm."""

    def step(self, beta: Float[np.ndarray, " p"]) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, "p p"]]:
        """Return gradient and Hessian of minus its logarithm."""


def maximise(
    people: PartialLikelihood,
    n: int,
    *,
    strength: float,
    l1_ratio: float,
    start: Float[np.ndarray, " p"] | None = None,
) -> Float[np.ndarray, " p"]:
    """Return the coefficients of the largest penalised partial likelihood.

    Args:
        people: Its people.
        n: How many they are.
        strength: Of the penalty; 0 for none.
        l1_ratio: 0 for ridge, 1 for lasso.
        start: Where to begin.

    Raises:
        ConfigError: A setting is out of range.
        TrainingError: The likelihood has no maximum and no penalty holds it.
    """
    if strength < 0 or not 0 <= l1_ratio <= 1:
        raise ConfigError(f"a penalty needs a strength of 0 or more and a ratio in 0..1, got {strength}, {l1_ratio}")
    beta = np.zeros(people.x.shape[1]) if start is None else start.copy()
    l1, l2 = strength * l1_ratio, strength * (1 - l1_ratio)

    def objective(b: Float[np.ndarray, " p"]) -> float:
        return -people.likelihood(b) / n + l1 * float(np.abs(b).sum()) + l2 / 2 * float(b @ b)

    now = objective(beta)
    for _ in range(_STEPS):
        gradient, hessian = people.step(beta)
        move = _direction(gradient / n + l2 * beta, hessian / n + l2 * np.eye(len(beta)), beta, l1)
        size = 1.0
        for _ in range(_HALVINGS):
            then = objective(beta + size * move)
            if then <= now:
                break
            size /= 2
        else:
            break
        beta = beta + size * move
        if not np.isfinite(beta).all() or (strength == 0 and np.abs(people.x @ beta).max() > _RUNAWAY):
            raise TrainingError(
                "Cox regression does not come to rest: a covariate tells who has the event without a mistake; leave it "
                "out, or set a penalty"
            )
        if now - then < 1e-11 * (1 + abs(now)) and np.abs(size * move).max() < 1e-7:
            break
        now = then
    return beta


def _direction(
    gradient: Float[np.ndarray, " p"], hessian: Float[np.ndarray, "p p"], beta: Float[np.ndarray, " p"], l1: float
) -> Float[np.ndarray, " p"]:
    """Return the step to the minimum of the quadratic with the lasso's corners, by coordinate descent."""
    diagonal = np.maximum(np.diag(hessian), 1e-12)
    if l1 == 0:
        found: np.ndarray = np.linalg.lstsq(hessian, -gradient, rcond=1e-12)[0]
        return found
    new = beta.copy()
    slope = gradient.copy()
    active = np.arange(len(beta))
    for sweep in range(_SWEEPS):
        largest = 0.0
        for j in active:
            whole = new[j] - slope[j] / diagonal[j]
            target = np.sign(whole) * max(abs(whole) - l1 / diagonal[j], 0.0)
            change = target - new[j]
            if change:
                slope += hessian[:, j] * change
                new[j] = target
                largest = max(largest, abs(change))
        if largest < 1e-10:
            if len(active) == len(beta):
                break
            active = np.arange(len(beta))
        elif sweep % 10 == 0 and sweep:
            active = np.flatnonzero(new)
    return np.asarray(new - beta)


def partial_likelihood(
    x: Float[np.ndarray, "n p"],
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    coefficients: Float[np.ndarray, " p"],
    *,
    ties: Ties = "efron",
) -> float:
    """Return the log partial likelihood of these coefficients; 0 where nobody had the event."""
    if not happened.any():
        return 0.0
    return _Ordered.of(x - x.mean(axis=0), days, happened, ties).likelihood(coefficients)


def strongest_penalty(
    x: Float[np.ndarray, "n p"], days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], *, l1_ratio: float
) -> float:
    """Return the strength from which on a lasso leaves no column; a hundredth of the ratio stands in for ridge."""
    people = _Ordered.of(x - x.mean(axis=0), days, happened, "efron")
    gradient = people.step(np.zeros(x.shape[1]))[0]
    return float(np.abs(gradient).max()) / len(days) / max(l1_ratio, 0.01)


def breslow_baseline(
    risk: Float[np.ndarray, " n"], days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]
) -> CoxModel:
    """Return the model of one column, a risk that something else has learnt, with its baseline hazard.

    Args:
        risk: Logarithm of the hazard ratio of the people learnt from.
        days: Until the event, or until last seen.
        happened: Whether the event happened.
    """
    means = np.array([risk.mean()])
    people = _Ordered.of(risk[:, None] - means, days, happened, "efron")
    return CoxModel(np.ones(1), means, people.event_days, people.baseline(np.ones(1)))
