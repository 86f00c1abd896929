"""How well scores put cases in order: AUROC, and the concordance of risks with times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Int64
from scipy.stats import rankdata

from isocenter.core.errors import DataError

__all__ = ["Pairs", "auroc", "auroc_macro", "concordance", "pairs_in_order"]


def auroc(truth: Bool[np.ndarray, " n"], scores: Float[np.ndarray, " n"]) -> float:
    """Return the area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Args:
        truth: Which are positive.
        scores: Higher for positives.

    Returns:
        0 to 1; NaN where one of the two is missing.

    Source:
        Hanley and McNeil, Radiology 1982 (the Mann-Whitney statistic).

    Example:
        >>> auroc(np.array([False, True, True]), np.array([0.1, 0.1, 0.9]))
        0.75
    """
    positives = int(truth.sum())
    negatives = len(truth) - positives
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_macro(truth: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n classes"]) -> float:
    """Return the mean over classes of each against the rest; with two classes that of the second.

    Args:
        truth: Number of the class.
        scores: Of every class.

    Returns:
        0 to 1; NaN where a class is missing.
    """
    if scores.shape[1] == 2:
        return auroc(truth == 1, scores[:, 1])
    return float(np.mean([auroc(truth == number, scores[:, number]) for number in range(scores.shape[1])]))


def concordance(
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    risk: Float[np.ndarray, " n"],
    groups: Int[np.ndarray, " n"] | None = None,
) -> float:
    """Return Harrell's C: of pairs whose order is known, the share where the higher risk came first.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        risk: Higher for earlier events.
        groups: Pairs count within a group only (risks of different networks have no common scale); None for all.

    Returns:
        0 to 1, ties in risk counting half; NaN where no pair's order is known.

    Raises:
        DataError: A time or a risk is not finite.

    Source:
        Harrell et al., Statistics in Medicine 1996.

    Example:
        >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
        1.0
    """
    if not (np.isfinite(days).all() and np.isfinite(risk).all()):
        raise DataError("a time or a risk is not finite; leave the case out and say so")
    before = count = 0.0
    for chosen in [np.ones(len(days), dtype=bool)] if groups is None else [groups == g for g in np.unique(groups)]:
        pairs = pairs_in_order(days[chosen], happened[chosen], risk[chosen])
        # Twice the sum is a whole number, so it is exact however many pairs there are.
        before += float((2 * pairs.lower + pairs.equal).sum())
        count += float(pairs.known.sum())
    return before / 2 / count if count else float("nan")


@dataclass(frozen=True, eq=False)
class Pairs:
    """For each case that had the event, those that are known to have gone without it for longer.

    A case counts as gone without it for longer where it was seen later, or as late and without the event.

    Args:
        cases: Which had the event: their places in the table.
        known: How many went without it for longer.
        lower: How many of those have a lower risk.
        equal: How many of those have the same risk.
    """

    cases: Int64[np.ndarray, " e"]
    known: Int64[np.ndarray, " e"]
    lower: Int64[np.ndarray, " e"]
    equal: Int64[np.ndarray, " e"]


def pairs_in_order(
    days: Float[np.ndarray, " n"], happened: Bool[np.ndarray, " n"], risk: Float[np.ndarray, " n"]
) -> Pairs:
    """Count the pairs whose order is known, in n log n steps.

    Cases are put in a row, the last seen first, of equal days those without the event first. Those that outlast a case
    then stand before all that had the event on its day, and how many of them have a lower risk is read off a wavelet
    matrix of the ranks of risk.

    Source:
        Claude, Navarro and Ordonez, Information Systems 2015 (wavelet matrix).

    Example:
        >>> pairs_in_order(np.array([1.0, 2.0, 2.0]), np.array([True, True, False]), np.array([0.5, 0.5, 0.1])).lower
        array([1, 1])
    """
    order = np.lexsort((happened, -days))
    cases = np.flatnonzero(happened).astype(np.int64)
    # The row sorted by (-day, happened): where the block of those with the event on a day begins.
    later = np.searchsorted(np.sort(days), days[cases], side="right")
    censored = np.sort(days[~happened])
    same_day = np.searchsorted(censored, days[cases], side="right") - np.searchsorted(censored, days[cases])
    known = (len(days) - later + same_day).astype(np.int64)
    ranks = np.unique(risk, return_inverse=True)[1].astype(np.int64)
    lower, equal = _before(ranks[order], known, ranks[cases])
    return Pairs(cases, known, lower, equal)


def _before(
    row: Int64[np.ndarray, " n"], ends: Int64[np.ndarray, " q"], bounds: Int64[np.ndarray, " q"]
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """Return how many of the first `ends` numbers of a row are below a bound, and how many equal it."""
    starts, lower = np.zeros_like(ends), np.zeros_like(ends)
    ends = ends.copy()
    for bit in reversed(range(max(int(row.max(initial=0)).bit_length(), 1))):
        ones = (row >> bit & 1).astype(bool)
        zeros_before = np.append(0, np.cumsum(~ones)).astype(np.int64)
        zeros = zeros_before[-1]
        high = (bounds >> bit & 1).astype(bool)
        from_zero, to_zero = zeros_before[starts], zeros_before[ends]
        lower += np.where(high, to_zero - from_zero, 0)
        starts = np.where(high, zeros + starts - from_zero, from_zero)
        ends = np.where(high, zeros + ends - to_zero, to_zero)
        row = np.concatenate([row[~ones], row[ones]])
    return lower, ends - starts
