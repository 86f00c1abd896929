"""How near predicted effects come to true ones, where the truth is known: in synthetic patients alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError

__all__ = ["interval_coverage", "pehe", "policy_regret"]


def _check(*columns: Float[np.ndarray, " n"]) -> None:
    if len({len(c) for c in columns}) != 1 or not len(columns[0]):
        raise DataError("predicted and true effects differ in length, or there are none")


def pehe(predicted: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]) -> float:
    """Return the error of individual effects: root of the mean squared difference, in the effect's unit.

    Raises:
        DataError: Lengths differ, or there are none.

    Source:
        Hill, Journal of Computational and Graphical Statistics 2011 (precision in estimating heterogeneous effects).

    Example:
        >>> pehe(np.array([1.0, 3.0]), np.array([1.0, 1.0]))
        1.4142135623730951
    """
    _check(predicted, true)
    return float(np.sqrt(np.mean((predicted - true) ** 2)))


def interval_coverage(
    low: Float[np.ndarray, " n"], high: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]
) -> float:
    """Return the share of people whose true effect lies in their interval, ends included.

    Raises:
        DataError: Lengths differ, or there are none.

    Example:
        >>> interval_coverage(np.array([0.0, 2.0]), np.array([1.0, 3.0]), np.array([1.0, 1.0]))
        0.5
    """
    _check(low, high, true)
    return float(np.mean((low <= true) & (true <= high)))


def policy_regret(predicted: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]) -> float:
    """Return what is lost, per person, by going by the sign of the predicted effect and not of the true one.

    Raises:
        DataError: Lengths differ, or there are none.

    Example:
        >>> policy_regret(np.array([1.0, -1.0]), np.array([2.0, 3.0]))
        1.5
    """
    _check(predicted, true)
    return float(np.mean(np.maximum(true, 0) - np.where(predicted > 0, true, 0)))
