"""How far two methods that measure the same differ: bias and limits of agreement, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from isocenter.core.errors import DataError

__all__ = ["LEAST_CASES", "LimitsOfAgreement", "limits_of_agreement"]

LEAST_CASES = 10
"""With fewer cases limits are refused: their intervals would say nothing."""


@dataclass(frozen=True)
class LimitsOfAgreement:
    """Bias, and between which limits 95 % of differences lie.

    Args:
        bias: Mean difference.
        bias_interval: 95 % interval of it.
        lower: Lower limit.
        lower_interval: 95 % interval of it.
        upper: Upper limit.
        upper_interval: 95 % interval of it.
        cases: How many.
    """

    bias: float
    bias_interval: tuple[float, float]
    lower: float
    lower_interval: tuple[float, float]
    upper: float
    upper_interval: tuple[float, float]
    cases: int


def limits_of_agreement(differences: Sequence[float]) -> LimitsOfAgreement:
    """Return the limits of agreement of differences, one for each patient.

    Args:
        differences: Second method less first.

    Raises:
        DataError: Fewer than 10, or one that is not finite.

    Source:
        Bland and Altman, Statistical Methods in Medical Research 1999, section 2.2 (intervals of the limits).

    Example:
        >>> found = limits_of_agreement([-1.0, 1.0] * 10)
        >>> round(found.bias, 3), round(found.upper, 2), found.upper_interval[1] > found.upper
        (0.0, 2.01, True)
    """
    values = np.asarray(differences, dtype=np.float64)
    count = len(values)
    if count < LEAST_CASES:
        raise DataError(f"limits of agreement need {LEAST_CASES} cases, there are {count}")
    if not np.isfinite(values).all():
        raise DataError("limits of agreement are of finite differences")
    bias, spread = float(values.mean()), float(values.std(ddof=1))
    score, t = 1.959963984540054, float(stats.t.ppf(0.975, count - 1))
    of_bias = t * spread / math.sqrt(count)
    of_limit = t * spread * math.sqrt(1 / count + score**2 / (2 * (count - 1)))
    lower, upper = bias - score * spread, bias + score * spread
    return LimitsOfAgreement(
        bias, (bias - of_bias, bias + of_bias),
        lower, (lower - of_limit, lower + of_limit),
        upper, (upper - of_limit, upper + of_limit), count,
    )  # fmt: skip
