"""Order statistics of calibration cases, and the coverage that they promise.

Everything conformal rests on one fact: if a further case is exchangeable with n calibration cases, its score is at most
the k-th smallest of theirs with a chance of at least k / (n + 1). This module holds that rank once, refuses where n is
too small for the level, and says how far the coverage of one fitted rule may lie from its level by chance.

Source:
    Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005; Vovk, ACML 2012 (coverage given the
    calibration cases follows a beta distribution); Angelopoulos and Bates, Foundations and Trends in ML 2023.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
from jaxtyping import Float
from scipy.stats import betabinom

from isocenter.core.errors import ConfigError, DataError

__all__ = ["check_level", "coverage_range", "least_cases", "lower_quantile", "unit_of", "upper_quantile"]

_NOISE = 9
"""Decimals that a product of a count and a level is trusted to: 10 * (1 - 0.9) is 1, not 0.9999999999999998."""


def check_level(level: float) -> None:
    """Refuse a level that is not a chance between 0 and 1.

    Raises:
        ConfigError: So it is.
    """
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level:g}")


def least_cases(level: float) -> int:
    """Return how many calibration cases a level needs at least: with fewer only "anything" could be promised.

    Raises:
        ConfigError: The level is not between 0 and 1.

    Example:
        >>> least_cases(0.9), least_cases(0.95)
        (9, 19)
    """
    check_level(level)
    return math.ceil(round(level / (1 - level), _NOISE))


def upper_quantile(scores: Float[np.ndarray, " n"], level: float, *, of: str = "cases") -> float:
    """Return the score that a further case stays at or below with at least the chance `level`.

    It is the ceil((n + 1) level)-th smallest of n scores.

    Args:
        scores: Of calibration cases; lower is more usual.
        level: The chance.
        of: What the cases are, for the message.

    Raises:
        ConfigError: The level is not between 0 and 1.
        DataError: Too few cases for the level, or a score that is not finite.

    Example:
        >>> upper_quantile(np.arange(1.0, 20.0), 0.9)
        18.0
    """
    least = least_cases(level)
    if len(scores) < least:
        raise DataError(
            f"{len(scores)} calibration cases ({of}) are too few to promise {level:.0%}; at least {least} are needed"
        )
    if not np.isfinite(scores).all():
        raise DataError(f"a score of the calibration cases ({of}) is not finite; leave out what can't be answered")
    rank = math.ceil(round((len(scores) + 1) * level, _NOISE))
    return float(np.partition(scores, rank - 1)[rank - 1])


def lower_quantile(scores: Float[np.ndarray, " n"], level: float, *, of: str = "cases") -> float:
    """Return the score that a further case stays at or above with at least the chance `level`.

    Raises:
        ConfigError: The level is not between 0 and 1.
        DataError: As `upper_quantile`.

    Example:
        >>> lower_quantile(np.arange(1.0, 20.0), 0.9)
        2.0
    """
    return -upper_quantile(-scores, level, of=of)


def coverage_range(calibration: int, level: float, tested: int, *, chance: float = 0.95) -> tuple[float, float]:
    """Return between which shares of tested cases a fitted rule covers with the given chance, if it is right.

    Args:
        calibration: Cases it was fitted on.
        level: What it promises.
        tested: Cases it is tried on.
        chance: Of the range.

    Returns:
        Least and largest share, of a beta-binomial distribution (scores without ties).

    Raises:
        ConfigError: The level is not between 0 and 1.
        DataError: No case to test, or too few calibration cases.

    Example:
        >>> [round(v, 3) for v in coverage_range(1000, 0.9, 1000)]
        [0.873, 0.925]
    """
    least = least_cases(level)
    if calibration < least or tested < 1:
        raise DataError(f"{calibration} calibration and {tested} tested cases: at least {least} and 1 are needed")
    rank = math.ceil(round((calibration + 1) * level, _NOISE))
    law = betabinom(tested, rank, calibration + 1 - rank)
    return float(law.ppf((1 - chance) / 2)) / tested, float(law.ppf((1 + chance) / 2)) / tested


def unit_of(key: str) -> float:
    """Return a number from 0 to 1 (1 excluded) that depends on the key alone: the chance of a randomised set.

    A set that is drawn at random must be the same each time that an image is read: so its chance comes from the image's
    own hash.

    Example:
        >>> unit_of("a") == unit_of("a"), 0 <= unit_of("b") < 1
        (True, True)
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48
