"""How much of what varies between measurements is between subjects: intraclass correlation, with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy import stats

from isocenter.core.errors import ConfigError, DataError

__all__ = ["IntraclassCorrelation", "intraclass_correlation"]


@dataclass(frozen=True)
class IntraclassCorrelation:
    """An intraclass correlation.

    Args:
        value: At most 1; below 0 where subjects differ less than measurements of one do. None where nothing varies.
        low: Lower end of the interval.
        high: Upper end.
        level: Coverage of the interval.
        subjects: How many.
        measurements: Of each.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    subjects: int
    measurements: int


def intraclass_correlation(
    values: Float[np.ndarray, "subjects measurements"], *, form: Literal["1,1", "3,1"] = "1,1", level: float = 0.95
) -> IntraclassCorrelation:
    """Return the intraclass correlation of single measurements.

    Args:
        values: One row for each subject; all finite.
        form: "1,1": measurements of different subjects have nothing in common (one-way random; perturbations drawn
            anew for each). "3,1": the k-th measurement is made in the same way for all, and its bias does not count
            (two-way mixed, consistency; the same perturbations for all).
        level: Coverage of the interval.

    Raises:
        DataError: Fewer than two subjects or measurements, or values that are not finite.
        ConfigError: There is no such form, or the level is not between 0 and 1.

    Source:
        Shrout and Fleiss 1979; McGraw and Wong 1996 (intervals by F distributions).

    Example:
        >>> ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7.0]])
        >>> round(intraclass_correlation(ratings, form="3,1").value or 0, 2)
        0.71
    """
    n, k = values.shape
    if n < 2 or k < 2:
        raise DataError(f"an intraclass correlation needs two subjects and two measurements of each, got {n} and {k}")
    if not np.isfinite(values).all():
        raise DataError("an intraclass correlation can't be computed from values that are not finite")
    if form not in ("1,1", "3,1"):
        raise ConfigError(f"the form of an intraclass correlation is '1,1' or '3,1', got {form!r}")
    if not 0 < level < 1:
        raise ConfigError(f"the level of an interval lies between 0 and 1, got {level}")
    mean = values.mean()
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    total = float(((values - mean) ** 2).sum())
    between = k * float(((rows - mean) ** 2).sum())
    within = total - between
    freedom = n * (k - 1)
    if form == "3,1":
        within -= n * float(((columns - mean) ** 2).sum())
        freedom = (n - 1) * (k - 1)
    across, error = between / (n - 1), max(0.0, within) / freedom
    scale = float(np.abs(values).max()) ** 2
    if across + error <= 1e-24 * scale or scale == 0:
        return IntraclassCorrelation(None, None, None, level, n, k)
    value = (across - error) / (across + (k - 1) * error)
    if error == 0:
        return IntraclassCorrelation(1.0, 1.0, 1.0, level, n, k)
    ratio, tail = across / error, (1 + level) / 2
    low = ratio / float(stats.f.ppf(tail, n - 1, freedom))
    high = ratio * float(stats.f.ppf(tail, freedom, n - 1))
    return IntraclassCorrelation(value, (low - 1) / (low + k - 1), (high - 1) / (high + k - 1), level, n, k)
