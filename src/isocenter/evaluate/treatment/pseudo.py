"""Outcomes of people who were lost, by leaving each out once: a number per person that regression can take.

The pseudo-value of a person is n times the estimate over all less n - 1 times the estimate without that person. Its
mean given what is known of a person is the person's chance of survival, or expected days, if being lost does not depend
on the outcome within the group that the estimate is taken over: take it within each treatment group.

Source:
    Andersen, Klein and Rosthoj, Biometrika 2003; Andersen, Hansen and Klein, Lifetime Data Analysis 2004 (restricted
    mean); Andersen, Syriopoulou and Parner, Statistics in Medicine 2017 (causal use).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.survival import kaplan_meier

__all__ = ["pseudo_values"]

_BLOCK = 4_000_000


def pseudo_values(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    *,
    horizon_days: float,
    scale: Literal["survival", "days"] = "survival",
) -> Float[np.ndarray, " n"]:
    """Return a pseudo-value for each person of one group.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        horizon_days: Up to which the outcome is meant.
        scale: "survival": chance of being without the event at the horizon; "days": days without it up to there.

    Returns:
        Numbers whose mean is the Kaplan-Meier estimate (nearly, for "days" and "survival" alike); without anybody lost
        before the horizon, whether the event is later than the horizon, or the days up to it. They can lie outside of
        0..1.

    Raises:
        DataError: Fewer than two people, a negative time, or nobody was in sight up to the horizon.
        ConfigError: The horizon is not above 0.

    Example:
        >>> seen = pseudo_values(np.array([1.0, 5.0, 9.0]), np.ones(3, bool), horizon_days=6.0, scale="days")
        >>> seen.round(6).tolist()
        [1.0, 5.0, 6.0]
    """
    if not horizon_days > 0:
        raise ConfigError(f"the horizon must be above 0 days, got {horizon_days:g}")
    if len(days) < 2:
        raise DataError("pseudo-values need two people or more")
    kaplan_meier(days, happened)  # its checks: lengths, finite, not negative
    if days.max() < horizon_days:
        raise DataError(
            f"nobody was in sight up to day {horizon_days:g}: the last day is {days.max():g}; ask for an earlier "
            "horizon"
        )
    times, place = np.unique(np.minimum(days, horizon_days), return_inverse=True)
    # Beyond the horizon nothing is asked: events there leave the curve as it is.
    before = happened & (days <= horizon_days)
    events = np.bincount(place[before], minlength=len(times)).astype(np.float64)
    at_risk = len(days) - np.append(0, np.cumsum(np.bincount(place, minlength=len(times)))[:-1]).astype(np.float64)
    full = _estimate(at_risk[None], events[None], times, horizon_days, scale)[0]
    count, found = len(days), np.empty(len(days))
    step = max(1, _BLOCK // len(times))
    ranks = np.arange(len(times))
    for first in range(0, count, step):
        own = slice(first, first + step)
        without = at_risk - (place[own, None] >= ranks)
        fewer = events - ((place[own, None] == ranks) & before[own, None])
        found[own] = _estimate(without, fewer, times, horizon_days, scale)
    return np.asarray(count * full - (count - 1) * found)


def _estimate(
    at_risk: Float[np.ndarray, "m t"],
    events: Float[np.ndarray, "m t"],
    times: Float[np.ndarray, " t"],
    horizon_days: float,
    scale: str,
) -> Float[np.ndarray, " m"]:
    curve = np.cumprod(1 - events / np.maximum(at_risk, 1), axis=1)
    if scale == "survival":
        return np.asarray(curve[:, -1])
    steps = np.diff(np.concatenate([[0.0], times, [horizon_days]]))
    return np.asarray(steps[0] + curve @ steps[1:])
