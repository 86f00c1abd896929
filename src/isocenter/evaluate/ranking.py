"""How well scores put cases in order: AUROC, and the concordance of risks with times."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

__all__ = ["auroc", "auroc_macro", "concordance"]


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

    Source:
        Harrell et al., Statistics in Medicine 1996.

    Example:
        >>> concordance(np.array([1.0, 2.0, 3.0]), np.array([True, False, True]), np.array([3.0, 2.0, 1.0]))
        1.0
    """
    # Pairs (i, j): i had the event, and j was seen without it for longer, or as long and is censored.
    earlier = happened[:, None] & ((days[:, None] < days[None, :]) | ((days[:, None] == days[None, :]) & ~happened))
    if groups is not None:
        earlier &= groups[:, None] == groups[None, :]
    count = int(earlier.sum())
    if not count:
        return float("nan")
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return float((higher * earlier).sum() / count)
