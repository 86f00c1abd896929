"""Two systems on the same cases: the difference with its interval, and how likely chance alone would make it.

Every comparison is by patient: a resample draws whole patients, and a permutation exchanges the two systems for a whole
patient. A difference is always second minus first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.special import ndtr
from scipy.stats import binomtest, rankdata

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import Interval, bootstrap_draws, bootstrap_mean
from isocenter.evaluate.ranking import auroc

__all__ = [
    "Comparison",
    "compare_accuracy",
    "compare_auroc",
    "compare_means",
    "compare_statistic",
    "delong",
    "mcnemar",
    "sign_flip",
]

_ALL_SIGNS = 14
"""Up to so many patients every exchange is tried (16,384), beyond it as many as asked are drawn."""
_ROWS = 512

Indices = Int64[np.ndarray, " n"]


@dataclass(frozen=True)
class Comparison:
    """Second system minus first, on the same cases.

    Args:
        first: Figure of the first.
        second: Figure of the second.
        difference: Second minus first, with its interval by paired resampling of patients.
        p: Chance of a difference at least as large where the two are alike.
        test: How p was found.
    """

    first: float
    second: float
    difference: Interval
    p: float
    test: str


def _paired(first: np.ndarray, second: np.ndarray, patients: Sequence[str]) -> None:
    if not len(first) == len(second) == len(patients):
        raise DataError(
            f"a paired test needs the same cases of both: {len(first)} and {len(second)} values, {len(patients)} "
            "patient labels"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise DataError("a paired test needs finite values of both systems")


def compare_means(
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " m"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Comparison:
    """Compare the means of per-case values: BCa interval of the difference, and a sign-flip test by patient.

    Args:
        first: Value of each case by the first system.
        second: By the second, in the same order.
        patients: The patient of each case.
        level: Coverage asked of the interval.
        resamples: Of the interval, and exchanges of the test where not all are tried.
        seed: Decides them.

    Raises:
        DataError: Fewer than 10 patients, lengths that differ, or a value that is not finite.

    Example:
        >>> patients = [f"p{n}" for n in range(12)]
        >>> found = compare_means(np.full(12, 0.5), np.full(12, 0.75), patients)
        >>> found.difference.value, round(found.p, 5)
        (0.25, 0.00049)
    """
    _paired(first, second, patients)
    interval = bootstrap_mean(second - first, patients, level=level, resamples=resamples, seed=seed)
    p, how = sign_flip(second - first, patients, draws=resamples, seed=seed)
    return Comparison(float(first.mean()), float(second.mean()), interval, p, f"sign flip by patient, {how}")


def sign_flip(
    differences: Float[np.ndarray, " n"], patients: Sequence[str], *, draws: int = 10000, seed: int = 0
) -> tuple[float, str]:
    """Return the two-sided p of a mean difference of zero, by exchanging the two systems for whole patients.

    Args:
        differences: Of each case.
        patients: The patient of each case.
        draws: Exchanges that are drawn, where there are more than 14 patients; with fewer all are tried.
        seed: Decides them.

    Returns:
        p, and "all exchanges" or how many were drawn.

    Source:
        Fisher 1935; Phipson and Smyth 2010 (the observed one is counted among the drawn).

    Example:
        >>> sign_flip(np.array([1.0, 2.0, 3.0]), ["a", "b", "c"])
        (0.25, 'all exchanges')
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    sums = np.bincount(index, differences, len(names))
    seen = abs(sums.sum())
    # Sums of the same terms in another order differ in their last bits: that is no difference.
    slack = 1e-9 * float(np.abs(sums).sum())
    count = len(names)
    if count <= _ALL_SIGNS:
        signs = 1 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        return float((np.abs(signs @ sums) >= seen - slack).mean()), "all exchanges"
    rng, beyond = np.random.default_rng(seed), 0
    for start in range(0, draws, _ROWS):
        signs = rng.choice([-1.0, 1.0], size=(min(_ROWS, draws - start), count))
        beyond += int((np.abs(signs @ sums) >= seen - slack).sum())
    return (beyond + 1) / (draws + 1), f"{draws} exchanges"


def compare_statistic(
    first: Callable[[Indices], float],
    second: Callable[[Indices], float],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare any two figures of the same cases: both on each resample of patients, and their difference.

    Args:
        first: From indices of cases to the first system's figure; NaN where it is not defined.
        second: The same of the second.
        patients: The patient of each case.
        level: Coverage asked of the interval.
        resamples: How many resamples.
        seed: Decides them.

    Raises:
        DataError: As `bootstrap_statistic`.
    """
    draws = bootstrap_draws(
        lambda i: second(i) - first(i), patients, level=level, resamples=resamples, seed=seed, method="bca"
    )
    everyone = np.arange(len(patients), dtype=np.int64)
    return Comparison(
        float(first(everyone)), float(second(everyone)), draws.interval, draws.p_zero, "paired bootstrap by patient"
    )


def compare_auroc(
    truth: Bool[np.ndarray, " n"],
    first: Float[np.ndarray, " n"],
    second: Float[np.ndarray, " n"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare two areas under the ROC curve: paired bootstrap interval; p by DeLong where each patient has one case.

    Raises:
        DataError: Lengths differ, a score is not finite, one class only, or fewer than 10 patients.
    """
    _paired(first, second, patients)
    found = compare_statistic(
        lambda i: auroc(truth[i], first[i]),
        lambda i: auroc(truth[i], second[i]),
        patients,
        level=level,
        resamples=resamples,
        seed=seed,
    )
    if len(set(patients)) < len(patients):
        return found  # DeLong takes cases for independent
    _, _, p = delong(truth, first, second)
    return Comparison(found.first, found.second, found.difference, p, "DeLong")


def delong(
    truth: Bool[np.ndarray, " n"], first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"]
) -> tuple[float, float, float]:
    """Return the difference of two areas under the ROC curve, its standard error, and the two-sided p.

    Cases must be independent: one of each patient.

    Raises:
        DataError: One class has fewer than two cases.

    Source:
        DeLong et al., Biometrics 1988; by mid-ranks as in Sun and Xu, IEEE Signal Processing Letters 2014.

    Example:
        >>> truth = np.array([False, False, False, True, True, True])
        >>> delong(truth, np.arange(6.0), np.arange(6.0))
        (0.0, 0.0, 1.0)
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if min(positives, negatives) < 2:
        raise DataError("DeLong's test needs at least two cases of each class")
    areas, of_positives, of_negatives = [], [], []
    for scores in (first, second):
        everyone, mine, others = rankdata(scores), rankdata(scores[truth]), rankdata(scores[~truth])
        of_positives.append((everyone[truth] - mine) / negatives)
        of_negatives.append(1 - (everyone[~truth] - others) / positives)
        areas.append(float(of_positives[-1].mean()))
    covariance = np.cov(of_positives) / positives + np.cov(of_negatives) / negatives
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = areas[1] - areas[0]
    error = float(np.sqrt(max(variance, 0.0)))
    if error < 1e-12:
        return difference, 0.0, 1.0 if abs(difference) < 1e-12 else 0.0
    return difference, error, float(2 * ndtr(-abs(difference) / error))


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float:
    """Return the exact two-sided p that two systems are right equally often, from the cases where one alone is right.

    Cases must be independent: one of each patient.

    Args:
        first: Whether the first system was right.
        second: Whether the second was.

    Source:
        McNemar, Psychometrika 1947, exact by the binomial distribution.

    Example:
        >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
        0.03125
    """
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    return float(binomtest(one, one + other).pvalue) if one + other else 1.0


def compare_accuracy(
    first: Bool[np.ndarray, " n"],
    second: Bool[np.ndarray, " n"],
    patients: Sequence[str],
    *,
    level: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Comparison:
    """Compare how often two systems are right: McNemar's exact test, by sign flips where patients have several cases.

    Raises:
        DataError: Fewer than 10 patients, or lengths that differ.
    """
    found = compare_means(
        first.astype(np.float64), second.astype(np.float64), patients, level=level, resamples=resamples, seed=seed
    )
    if len(set(patients)) < len(patients):
        return found
    return Comparison(found.first, found.second, found.difference, mcnemar(first, second), "McNemar, exact")
