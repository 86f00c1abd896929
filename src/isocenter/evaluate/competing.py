"""How good risks are where another event may come first: who had another event never has the one asked about.

Codes: 0 last seen without any event, 1 the event that is asked about, 2 and on the others.

Source:
    Wolbers et al., Epidemiology 2009 (concordance); Schoop et al., Biometrical Journal 2011 (Brier score).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.tables import check_probabilities, check_same_length

__all__ = ["competing_brier", "competing_concordance"]


def competing_concordance(
    days: Float[np.ndarray, " n"],
    codes: Int64[np.ndarray, " n"],
    risk: Float[np.ndarray, " n"],
    groups: Int64[np.ndarray, " n"] | None = None,
) -> float:
    """Return Harrell's C of the event: those with another event outlast everybody.

    Args:
        days: Until the first event, or until last seen.
        codes: Which.
        risk: Higher for earlier events.
        groups: Pairs count within a group only; None for all.

    Returns:
        0 to 1; NaN where no pair's order is known.

    Raises:
        DataError: A time or a risk is not finite.

    Example:
        >>> days, codes = np.array([1.0, 2.0, 3.0]), np.array([2, 1, 0])
        >>> competing_concordance(days, codes, np.array([0.1, 0.9, 0.5]))
        1.0
    """
    after = np.where(codes > 1, float(days.max(initial=0.0)) + 1, days)
    return concordance(after, codes == 1, risk, groups)


def competing_brier(
    days: Float[np.ndarray, " n"], codes: Int64[np.ndarray, " n"], probability: Float[np.ndarray, " n"], *, day: float
) -> float:
    """Return the Brier score of the chance of having had the event by a day.

    Args:
        days: Until the first event, or until last seen.
        codes: Which.
        probability: Predicted.
        day: By which.

    Raises:
        DataError: Lengths that differ, what is no probability, or nobody is in sight by that day.

    Example:
        >>> days, codes = np.array([1.0, 2.0, 3.0]), np.array([2, 1, 0])
        >>> competing_brier(days, codes, np.array([0.0, 1.0, 0.5]), day=2.5).__round__(4)
        0.0833
    """
    check_same_length(days, codes, probability)
    check_probabilities(probability)
    if not (days > day).any():
        raise DataError(f"nobody was in sight after day {day:g}; ask for an earlier day")
    # As in `survival`: events leave first, and so are not at risk of being lost on their day.
    times, place, counts = np.unique(days, return_inverse=True, return_counts=True)
    at_risk = len(days) - np.append(0, np.cumsum(counts)[:-1])
    lost = np.bincount(place[codes == 0], minlength=len(times))
    events = np.bincount(place[codes > 0], minlength=len(times))
    in_sight = np.append(1.0, np.cumprod(1 - lost / np.maximum(at_risk - events, 1)))
    early = (codes > 0) & (days <= day)
    weights = np.zeros(len(days))
    weights[early] = 1 / in_sight[np.searchsorted(times, days[early], side="right")]
    weights[days > day] = 1 / in_sight[np.searchsorted(times, day, side="right")]
    truth = early & (codes == 1)
    return float((weights * (truth - probability) ** 2).mean())
