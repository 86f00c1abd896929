"""Many tests at once: p values corrected so that chance does not look like a finding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError

__all__ = ["benjamini_hochberg", "holm"]


def _checked(p: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    array = np.asarray(p, dtype=np.float64)
    if array.ndim != 1 or not (np.isfinite(array).all() and (array >= 0).all() and (array <= 1).all()):
        raise DataError("p values must be finite and lie in 0..1")
    return array


def holm(p: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return p values corrected so that the chance of even one false finding stays below the level (Holm).

    Args:
        p: Of all tests made, found or not, in any order.

    Raises:
        DataError: One is not a p value.

    Source:
        Holm, Scandinavian Journal of Statistics 1979.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    array = _checked(p)
    order = np.argsort(array, kind="stable")
    steps = np.maximum.accumulate(array[order] * np.arange(len(array), 0, -1))
    found = np.empty_like(array)
    found[order] = np.minimum(steps, 1)
    return found


def benjamini_hochberg(p: Sequence[float] | Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return p values corrected so that of all findings the false ones are at most the level's share, on average.

    Args:
        p: Of all tests made, found or not, in any order.

    Raises:
        DataError: One is not a p value.

    Source:
        Benjamini and Hochberg, Journal of the Royal Statistical Society B 1995.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.04, 0.04]
    """
    array = _checked(p)
    count = len(array)
    order = np.argsort(array, kind="stable")[::-1]
    steps = np.minimum.accumulate(array[order] * count / np.arange(count, 0, -1))
    found = np.empty_like(array)
    found[order] = np.minimum(steps, 1)
    return found
