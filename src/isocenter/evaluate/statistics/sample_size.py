"""How many further patients an answer would take: to halve an interval, or to show the difference that was seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import nct, t

from isocenter.core.errors import ConfigError, DataError

__all__ = ["SampleSize", "patients_for_power", "sample_size"]

_MOST = 10_000_000
_FARTHEST = 35.0
"""The noncentral t has no digits beyond; two patients show such an effect already."""


@dataclass(frozen=True)
class SampleSize:
    """Patients that an answer would take.

    Args:
        patients: That there are.
        half_interval: Further ones for an interval of half the width.
        difference: Further ones to show the difference that was seen; None where no difference is asked or seen, or
            more than ten millions would be needed.
        power: Chance of showing it.
        level: 1 minus the two-sided error of the test.
    """

    patients: int
    half_interval: int
    difference: int | None = None
    power: float = 0.8
    level: float = 0.95


def patients_for_power(effect: float, *, power: float = 0.8, level: float = 0.95) -> int | None:
    """Return the patients with which a paired t test shows an effect.

    Args:
        effect: Mean difference over its standard deviation between patients.
        power: Chance of showing it.
        level: 1 minus the two-sided error of the test.

    Returns:
        The least number; None where it passes ten millions.

    Raises:
        ConfigError: Power or level is not between 0 and 1.

    Source:
        Cohen 1988, chapter 2 (noncentral t).

    Example:
        >>> patients_for_power(0.5)
        34
    """
    if not (0 < power < 1 and 0 < level < 1):
        raise ConfigError(f"power and level must lie between 0 and 1, got {power} and {level}")
    size = abs(effect)

    def enough(count: int) -> bool:
        edge = float(t.ppf((1 + level) / 2, count - 1))
        at = min(size * math.sqrt(count), _FARTHEST)
        if count > 2000:  # the noncentral t is a t that is moved by then
            return float(t.sf(edge - at, count - 1)) >= power
        return float(nct.sf(edge, count - 1, at) + nct.cdf(-edge, count - 1, at)) >= power

    low, high = 2, 4
    while not enough(high):
        low, high = high, high * 2
        if high > _MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def sample_size(
    patients: Sequence[str],
    differences: Sequence[float] | Float[np.ndarray, " n"] | None = None,
    *,
    power: float = 0.8,
    level: float = 0.95,
) -> SampleSize:
    """Return how many further patients would halve the interval, and show the difference that was seen.

    An interval narrows with the root of the number of patients: half the width takes four times as many. The
    difference is taken to be the true one, which it rarely is: a hint, not a plan.

    Args:
        patients: The patient of each image.
        differences: Of each image, second system minus first; their means by patient are what is tested.
        power: Chance of showing the difference.
        level: 1 minus the two-sided error of the test.

    Raises:
        DataError: Lengths differ, or a difference is not finite.
        ConfigError: Power or level is not between 0 and 1.

    Example:
        >>> sample_size([f"p{n}" for n in range(20)]).half_interval
        60
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    count = len(names)
    if differences is None:
        return SampleSize(count, 3 * count, None, power, level)
    array = np.asarray(differences, dtype=np.float64)
    if len(array) != len(patients) or not np.isfinite(array).all():
        raise DataError("a sample size needs one finite difference for each image")
    means = np.bincount(index, array, count) / np.bincount(index, minlength=count)
    spread = float(means.std(ddof=1)) if count > 1 else 0.0
    mean = float(means.mean())
    if mean == 0 or (spread == 0 and count < 2):
        return SampleSize(count, 3 * count, None, power, level)
    needed = patients_for_power(mean / spread if spread else math.inf, power=power, level=level)
    return SampleSize(count, 3 * count, None if needed is None else max(0, needed - count), power, level)
