"""How good risks and survival curves are, where not everybody is seen to the end.

Every figure takes when (`days`) and whether (`happened`) the event was seen first, then what was predicted. Cases that
were lost earlier are made up for by weighting the others with the chance of still being in sight, G, from a
Kaplan-Meier curve of being lost (events on the same day leave first). `censoring` says on whom G is measured; None
takes the cases themselves, which is usual where no training cases are at hand. Being lost must not depend on the risk.

Values equal scikit-survival's; tests hold that, where it is installed, and literal values where it is not.

Source:
    Kaplan and Meier, JASA 1958; Uno et al., Statistics in Medicine 2011 (C) and JASA 2007 (AUC); Hung and Chiang,
    Canadian Journal of Statistics 2010; Graf et al., Statistics in Medicine 1999 (Brier score).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import ndtri
from scipy.stats import rankdata

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import pairs_in_order
from isocenter.evaluate.tables import check_probabilities, check_same_length, check_yes_no

__all__ = [
    "DynamicAuc",
    "KaplanMeier",
    "brier_at",
    "dynamic_auc",
    "integrated_brier",
    "kaplan_meier",
    "uno_concordance",
]

Censoring = tuple[Float[np.ndarray, " m"], Bool[np.ndarray, " m"]]
"""Days and whether the event happened, of the cases on whom being lost is measured."""


@dataclass(frozen=True, eq=False)
class KaplanMeier:
    """Share without the event, day by day.

    Args:
        days: Every different day on which somebody was last seen, in order.
        survival: Share without the event after that day.
        at_risk: Still in sight and without the event before that day.
        events: On that day.
        low: Lower end of the interval of the share, on the scale log(-log).
        high: Upper end.
    """

    days: Float[np.ndarray, " t"]
    survival: Float[np.ndarray, " t"]
    at_risk: Int64[np.ndarray, " t"]
    events: Int64[np.ndarray, " t"]
    low: Float[np.ndarray, " t"]
    high: Float[np.ndarray, " t"]

    def at(self, days: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
        """Return the share without the event after each of these days; the last value beyond the last day."""
        place = np.searchsorted(self.days, days, side="right")
        return np.append(1.0, self.survival)[place]


def kaplan_meier(
    days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], *, level: float = 0.95
) -> KaplanMeier:
    """Estimate the share without the event over time.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        level: Coverage asked of the interval.

    Raises:
        DataError: No case, lengths that differ, or a time that is not finite or below 0.
        ConfigError: The level is not between 0 and 1.

    Source:
        Kaplan and Meier, JASA 1958; Greenwood 1926 (spread); Kalbfleisch and Prentice 1980 (scale of the interval).

    Example:
        >>> kaplan_meier(np.array([1.0, 2.0, 3.0]), np.array([True, False, True])).survival.round(4).tolist()
        [0.6667, 0.6667, 0.0]
    """
    _check(days, happened)
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    times, at_risk, events = _table(days, happened)
    survival = np.cumprod(1 - events / at_risk)
    left = at_risk - events
    spread = np.cumsum(np.where(left > 0, events / (at_risk * np.maximum(left, 1)), 0.0))
    inner = (survival > 0) & (survival < 1)
    log = np.log(np.where(inner, survival, 0.5))
    half = ndtri((1 + level) / 2) * np.sqrt(spread) / log
    low = np.where(inner, np.exp(log * np.exp(-half)), survival)
    high = np.where(inner, np.exp(log * np.exp(half)), survival)
    return KaplanMeier(times, survival, at_risk, events, np.minimum(low, high), np.maximum(low, high))


def _check(days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]) -> None:
    check_yes_no(happened)
    check_same_length(days, happened)
    if days.min() < 0:
        raise DataError("a time lies before the start; days are counted from the index time")


def _table(
    days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Int64[np.ndarray, " t"], Int64[np.ndarray, " t"]]:
    times, place, counts = np.unique(days, return_inverse=True, return_counts=True)
    events = np.bincount(place[happened], minlength=len(times)).astype(np.int64)
    at_risk = (len(days) - np.append(0, np.cumsum(counts)[:-1])).astype(np.int64)
    return times.astype(np.float64), at_risk, events


@dataclass(frozen=True, eq=False)
class _InSight:
    """Chance of not having been lost by a day."""

    days: Float[np.ndarray, " t"]
    chance: Float[np.ndarray, " t"]

    def at(self, days: Float[np.ndarray, " q"]) -> Float[np.ndarray, " q"]:
        if len(days) and days.max() > self.days[-1]:
            raise DataError(
                f"day {days.max():g} lies beyond the last day, {self.days[-1]:g}, of those on whom being lost is "
                "measured; ask for earlier days, or set until_days"
            )
        return np.append(1.0, self.chance)[np.searchsorted(self.days, days, side="right")]


def _in_sight(days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], censoring: Censoring | None) -> _InSight:
    """Return the curve of being lost; events on the same day leave first, and so are not at risk of it."""
    if censoring is not None:
        days, happened = censoring
        _check(days, happened)
    times, at_risk, events = _table(days, happened)
    lost = _table(days, ~happened)[2]
    return _InSight(times, np.cumprod(1 - lost / np.maximum(at_risk - events, 1)))


def _weights(
    days: Float[np.ndarray, " n"], chosen: Bool[np.ndarray, " n"], in_sight: _InSight
) -> Float[np.ndarray, " n"]:
    """Return one over the chance of still being in sight for the chosen cases, 0 for others."""
    chance = in_sight.at(days[chosen])
    if len(chance) and chance.min() <= 0:
        raise DataError("nobody was in sight any more on the day of an event; set until_days before it")
    weights = np.zeros(len(days))
    weights[chosen] = 1 / chance
    return weights


def uno_concordance(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    risk: Float[np.ndarray, " n"],
    *,
    until_days: float | None = None,
    censoring: Censoring | None = None,
) -> float:
    """Return Uno's C: Harrell's, with each event weighted so that it does not depend on who was lost when.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        risk: Higher for earlier events.
        until_days: Events before this day count; None for all.
        censoring: Days and events of those on whom being lost is measured; None for the cases themselves.

    Returns:
        0 to 1, 0.5 by chance, ties in risk counting half; NaN where no pair's order is known.

    Raises:
        DataError: Lengths that differ, a number that is not finite, or an event on a day on which nobody on whom being
            lost is measured was in sight.

    Source:
        Uno et al., Statistics in Medicine 2011.

    Example:
        >>> uno_concordance(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
        1.0
    """
    _check(days, happened)
    check_same_length(days, risk)
    counted = happened if until_days is None else happened & (days < until_days)
    pairs = pairs_in_order(days, happened, risk)
    weights = _weights(days, counted, _in_sight(days, happened, censoring))[pairs.cases] ** 2
    all_pairs = float(weights @ pairs.known)
    return float(weights @ (pairs.lower + 0.5 * pairs.equal)) / all_pairs if all_pairs else float("nan")


@dataclass(frozen=True, eq=False)
class DynamicAuc:
    """AUC of having had the event by a day, against being without it after that day.

    Args:
        at_days: The days.
        auc: Of each; 0.5 by chance.
        mean: Over the days, each weighted by the events since the one before.
    """

    at_days: Float[np.ndarray, " t"]
    auc: Float[np.ndarray, " t"]
    mean: float


def _days_asked(days: Float[np.ndarray, " n"], at_days: Sequence[float]) -> Float[np.ndarray, " t"]:
    asked = np.asarray(at_days, dtype=np.float64)
    if not len(asked) or not np.isfinite(asked).all() or (np.diff(asked) <= 0).any():
        raise ConfigError("at_days must be days in growing order")
    if asked[0] < days.min() or asked[-1] >= days.max():
        raise DataError(
            f"days {asked[0]:g} to {asked[-1]:g} reach beyond those on which cases were seen; ask within "
            f"{days.min():g} and before {days.max():g}"
        )
    return asked


def dynamic_auc(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    risk: Float[np.ndarray, " n"] | Float[np.ndarray, "n t"],
    *,
    at_days: Sequence[float],
    censoring: Censoring | None = None,
) -> DynamicAuc:
    """Return the cumulative/dynamic AUC: those with the event by a day against those without it after that day.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        risk: Higher for earlier events; one for all days, or one for each.
        at_days: Days asked for, in growing order, within those on which cases were seen.
        censoring: Days and events of those on whom being lost is measured; None for the cases themselves.

    Returns:
        NaN for a day by which nobody had the event; the mean is over the days that have a value.

    Raises:
        DataError: Lengths that differ, a number that is not finite, or a day out of reach.
        ConfigError: Days out of order.

    Source:
        Uno et al., JASA 2007; Hung and Chiang, Canadian Journal of Statistics 2010; Lambert and Chevret, Statistical
        Methods in Medical Research 2016 (mean).
    """
    _check(days, happened)
    check_same_length(days, risk)
    asked = _days_asked(days, at_days)
    if risk.ndim == 2 and risk.shape[1] != len(asked):
        raise DataError(f"risks for {risk.shape[1]} days, asked at {len(asked)}")
    weights = _weights(days, happened & (days <= asked[-1]), _in_sight(days, happened, censoring))
    found = np.full(len(asked), np.nan)
    for place, day in enumerate(asked):
        scores = risk if risk.ndim == 1 else risk[:, place]
        case, control = happened & (days <= day), days > day
        if not case.any():
            continue
        # Rank among controls: how many score lower, ties half.
        both = rankdata(np.concatenate([scores[control], scores[case]]))[int(control.sum()) :]
        lower = both - rankdata(scores[case])
        found[place] = float(weights[case] @ lower) / (float(weights[case].sum()) * int(control.sum()))
    dropped = -np.diff(np.append(1.0, kaplan_meier(days, happened).at(asked)))
    known = np.isfinite(found) & (dropped > 0)
    mean = float(np.average(found[known], weights=dropped[known])) if known.any() else float("nan")
    return DynamicAuc(asked, found, found[0] if len(asked) == 1 else mean)


def brier_at(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    survival: Float[np.ndarray, "n t"],
    *,
    at_days: Sequence[float],
    censoring: Censoring | None = None,
) -> Float[np.ndarray, " t"]:
    """Return the Brier score of survival curves at several days, 0 (perfect) to about 1; 0.25 is a coin.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        survival: Predicted chance of being without the event after each day.
        at_days: The days, in growing order, within those on which cases were seen.
        censoring: Days and events of those on whom being lost is measured; None for the cases themselves.

    Raises:
        DataError: Lengths that differ, what is no probability, or a day out of reach.
        ConfigError: Days out of order.

    Source:
        Graf et al., Statistics in Medicine 1999.
    """
    _check(days, happened)
    check_same_length(days, survival)
    check_probabilities(survival.reshape(-1))
    asked = _days_asked(days, at_days)
    if survival.shape[1] != len(asked):
        raise DataError(f"survival at {survival.shape[1]} days, asked at {len(asked)}")
    in_sight = _in_sight(days, happened, censoring)
    weights = _weights(days, happened & (days <= asked[-1]), in_sight)
    after = in_sight.at(asked)
    if after.min() <= 0:
        raise DataError("nobody was in sight any more by the last day asked for; ask for earlier days")
    case = happened[:, None] & (days[:, None] <= asked)
    control = days[:, None] > asked
    squares = survival**2 * case * weights[:, None] + (1 - survival) ** 2 * control / after
    scores: Float[np.ndarray, " t"] = squares.mean(axis=0)
    return scores


def integrated_brier(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    survival: Float[np.ndarray, "n t"],
    *,
    at_days: Sequence[float],
    censoring: Censoring | None = None,
) -> float:
    """Return the mean Brier score over the time from the first day asked for to the last (trapezoids).

    Raises:
        DataError: As `brier_at`.
        ConfigError: Fewer than two days, or days out of order.

    Source:
        Graf et al., Statistics in Medicine 1999.
    """
    if len(at_days) < 2:
        raise ConfigError("an integral needs two days or more")
    scores = brier_at(days, happened, survival, at_days=at_days, censoring=censoring)
    return float(np.trapezoid(scores, np.asarray(at_days, dtype=np.float64)) / (at_days[-1] - at_days[0]))
