"""A share of cases with its interval, where several cases may be of one patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool
from scipy import stats

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import Interval

__all__ = ["share_by_patient"]


def share_by_patient(
    happened: Sequence[bool] | Bool[np.ndarray, " n"], patients: Sequence[str], *, level: float = 0.95
) -> Interval:
    """Return the share of cases in which something happened, with an interval that knows whose cases they are.

    Where every patient has one case it is the exact binomial interval (Clopper and Pearson). Else the number of cases
    is made smaller by the design effect, how many times the share varies more over patients than over independent
    cases; where it can't be told, because all or none happened, each patient counts as one case.

    Args:
        happened: Of each case.
        patients: The patient of each case.
        level: Coverage asked of the interval.

    Raises:
        DataError: No case, or lengths that differ.

    Source:
        Korn and Graubard, Survey Methodology 1998 (effective sample size, with the correction for few patients).

    Example:
        >>> one = share_by_patient([True] * 18 + [False] * 2, [f"p{n}" for n in range(20)])
        >>> two = share_by_patient([True] * 18 + [False] * 2, [f"p{n // 2}" for n in range(20)])
        >>> round(one.low, 3), two.low < one.low
        (0.683, True)
    """
    array = np.asarray(happened, dtype=bool)
    if not len(array) or len(array) != len(patients):
        raise DataError(f"a share needs cases, and the patient of each: got {len(array)} and {len(patients)}")
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    cases, count = len(array), len(names)
    share = float(array.mean())
    size = _effective(array, index, count) if count < cases else float(cases)
    tail, some = (1 - level) / 2, share * size
    low = 0.0 if share == 0 else float(stats.beta.ppf(tail, some, size - some + 1))
    high = 1.0 if share == 1 else float(stats.beta.ppf(1 - tail, some + 1, size - some))
    method = "exact binomial" if count == cases else "exact binomial, effective number of cases"
    return Interval(share, low, high, level, count, cases, method)


def _effective(array: Bool[np.ndarray, " n"], index: np.ndarray, count: int) -> float:
    """Return how many independent cases these are worth: from one to as many as there are."""
    cases, share = len(array), float(array.mean())
    if share in (0.0, 1.0) or count < 2:
        return float(count)
    sums, sizes = np.bincount(index, array, count), np.bincount(index, minlength=count)
    spread = float(((sums - share * sizes) ** 2).sum()) * count / (count - 1) / cases**2
    effect = max(1.0, spread / (share * (1 - share) / (cases - 1)))
    few = float(stats.t.ppf(0.975, cases - 1) / stats.t.ppf(0.975, count - 1)) ** 2
    return max(1.0, min(float(cases), cases / effect * few))
