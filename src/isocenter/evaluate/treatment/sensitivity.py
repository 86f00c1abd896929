"""How strong something that was not measured must be to explain an association away."""

from __future__ import annotations

import math

from isocenter.core.errors import DataError

__all__ = ["e_value", "risk_ratio_of_difference", "robustness_value"]


def e_value(risk_ratio: float) -> float:
    """Return how strongly, as a risk ratio, something unmeasured must go with both treatment and outcome.

    Args:
        risk_ratio: The association, or the end of its interval that is nearer to 1.

    Returns:
        1 for no association; the larger, the harder to explain away.

    Raises:
        DataError: The ratio is not a positive number.

    Source:
        VanderWeele and Ding, Annals of Internal Medicine 2017.

    Example:
        >>> round(e_value(3.9), 2), round(e_value(1 / 3.9), 2), e_value(1.0)
        (7.26, 7.26, 1.0)
    """
    if not (math.isfinite(risk_ratio) and risk_ratio > 0):
        raise DataError("a risk ratio must be a positive number")
    ratio = max(risk_ratio, 1 / risk_ratio)
    return ratio + math.sqrt(ratio * (ratio - 1))


def risk_ratio_of_difference(difference: float, deviation: float) -> float:
    """Return the risk ratio that a difference of means stands for, about.

    Args:
        difference: Of means.
        deviation: Of the outcome.

    Raises:
        DataError: The deviation is not positive.

    Source:
        VanderWeele and Ding, Annals of Internal Medicine 2017 (exp(0.91 d)); Chinn, Statistics in Medicine 2000.
    """
    if not deviation > 0:
        raise DataError("the outcome has no spread")
    return math.exp(0.91 * difference / deviation)


def robustness_value(t_statistic: float, freedom: float) -> float:
    """Return the share of what is left of treatment and of outcome that must be explained to bring an effect to zero.

    Args:
        t_statistic: Of the effect.
        freedom: Degrees of freedom of its regression.

    Returns:
        0 to 1: something unmeasured that explains less than this share of both can't explain the effect away.

    Raises:
        DataError: There is no degree of freedom.

    Source:
        Cinelli and Hazlett, JRSS B 2020 (equation 18, q = 1).

    Example:
        >>> round(robustness_value(4.184, 783), 3)  # Darfur, their table 1
        0.139
    """
    if not freedom > 0:
        raise DataError("a robustness value needs degrees of freedom")
    f = abs(t_statistic) / math.sqrt(freedom)
    return 0.5 * (math.sqrt(f**4 + 4 * f**2) - f**2)
