"""Finding the right one among many, and the right one of two: hits at k against chance, and choices between pairs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.tables import check_yes_no

__all__ = [
    "average_precisions",
    "chance_at_k",
    "chance_precision",
    "chance_reciprocal_rank",
    "choices",
    "hits_at_k",
    "mean_reciprocal_rank",
    "ndcg_at_k",
    "recall_at_k",
    "reciprocal_ranks",
]


def _check(right: Bool[np.ndarray, "queries candidates"], k: int) -> None:
    if k < 1:
        raise ConfigError(f"k must be 1 or more, got {k}")
    if not right.any(axis=1).all():
        raise DataError(f"query number {int((~right.any(axis=1)).argmax())} has no right candidate: leave it out")


def _check_finite(similarity: Float[np.ndarray, "queries candidates"]) -> None:
    if not np.isfinite(similarity).all():
        raise DataError("a similarity is not finite")


def hits_at_k(
    similarity: Float[np.ndarray, "queries candidates"], right: Bool[np.ndarray, "queries candidates"], k: int
) -> Float[np.ndarray, " queries"]:
    """Return 1 where a right candidate is among the k most similar, else 0; their mean is the recall at k.

    A tie counts against: whoever finds all candidates alike finds nothing.

    Args:
        similarity: Greater is more alike.
        right: Which candidates are right; one or more for each query.
        k: How many are looked at.

    Raises:
        ConfigError: k is below 1.
        DataError: A query has no right candidate, or a similarity is not finite.

    Example:
        >>> hits_at_k(np.array([[0.9, 0.1, 0.5], [0.2, 0.2, 0.2]]), np.array([[0, 0, 1], [1, 0, 0]], bool), 2).tolist()
        [1.0, 0.0]
    """
    _check(right, k)
    _check_finite(similarity)
    best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
    before = ((similarity >= best) & ~right).sum(axis=1)
    hits: Float[np.ndarray, " queries"] = (before < k).astype(np.float64)
    return hits


def chance_at_k(right: Bool[np.ndarray, "queries candidates"], k: int) -> float:
    """Return the recall at k of whoever puts the candidates in a random order.

    Example:
        >>> chance_at_k(np.eye(4, dtype=bool), 1), chance_at_k(np.ones((1, 3), bool), 2)
        (0.25, 1.0)
    """
    _check(right, k)
    count = right.shape[1]
    wrong = count - right.sum(axis=1).astype(np.float64)
    missed = np.ones(len(right))
    for step in range(min(k, count)):
        missed *= np.clip(wrong - step, 0, None) / (count - step)
    return float((1 - missed).mean())


def reciprocal_ranks(
    similarity: Float[np.ndarray, "queries candidates"], right: Bool[np.ndarray, "queries candidates"]
) -> Float[np.ndarray, " queries"]:
    """Return one over the rank of the first right candidate of each query; a tie counts against, as in `hits_at_k`.

    Raises:
        DataError: A query has no right candidate, or a similarity is not finite.

    Example:
        >>> reciprocal_ranks(np.array([[0.9, 0.1], [0.2, 0.2]]), np.array([[1, 0], [1, 0]], bool)).tolist()
        [1.0, 0.5]
    """
    _check(right, 1)
    _check_finite(similarity)
    best = np.where(right, similarity, -np.inf).max(axis=1, keepdims=True)
    ranks: Float[np.ndarray, " queries"] = 1.0 / (1 + ((similarity >= best) & ~right).sum(axis=1))
    return ranks


def average_precisions(
    similarity: Float[np.ndarray, "queries candidates"], right: Bool[np.ndarray, "queries candidates"]
) -> Float[np.ndarray, " queries"]:
    """Return the average precision of each query: the mean, over its right candidates, of the share right up to each.

    A tie counts against: of equal similarities the wrong ones stand first. The mean over queries is mAP.

    Raises:
        DataError: A query has no right candidate, or a similarity is not finite.

    Source:
        Buckley and Voorhees, SIGIR 2000.

    Example:
        >>> average_precisions(np.array([[0.9, 0.5, 0.1]]), np.array([[1, 0, 1]], bool)).round(4).tolist()
        [0.8333]
    """
    _check(right, 1)
    _check_finite(similarity)
    order = np.lexsort((right, -similarity))
    found = np.take_along_axis(right, order, axis=1)
    precision = np.cumsum(found, axis=1) / np.arange(1, right.shape[1] + 1)
    areas: Float[np.ndarray, " queries"] = (precision * found).sum(axis=1) / found.sum(axis=1)
    return areas


def chance_reciprocal_rank(right: Bool[np.ndarray, "queries candidates"]) -> float:
    """Return the mean reciprocal rank of whoever puts the candidates in a random order.

    Example:
        >>> chance_reciprocal_rank(np.eye(2, dtype=bool))
        0.75
    """
    _check(right, 1)
    count = right.shape[1]
    wrong = count - right.sum(axis=1).astype(np.float64)
    none_yet, mean = np.ones(len(right)), np.zeros(len(right))
    for rank in range(1, count + 1):
        left = np.clip(wrong - rank + 1, 0, None) / (count - rank + 1)
        mean += none_yet * (1 - left) / rank
        none_yet *= left
    return float(mean.mean())


def chance_precision(right: Bool[np.ndarray, "queries candidates"]) -> float:
    """Return the mean average precision of whoever puts the candidates in a random order.

    A right candidate at rank i has i - 1 others before it, of which a share of (right - 1) / (candidates - 1) is right
    on average.

    Example:
        >>> chance_precision(np.eye(2, dtype=bool)), chance_precision(np.ones((1, 3), bool))
        (0.75, 1.0)
    """
    _check(right, 1)
    count = right.shape[1]
    if count == 1:
        return 1.0
    share = (right.sum(axis=1) - 1) / (count - 1)
    harmonic = float((1 / np.arange(1, count + 1)).sum())
    return float((share + (1 - share) * harmonic / count).mean())


def choices(true: Float[np.ndarray, " n"], false: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    """Return 1 where the true one of two is more alike, 0 where the false one is, one half where both are alike.

    Example:
        >>> choices(np.array([0.3, 0.1, 0.2]), np.array([0.1, 0.3, 0.2])).tolist()
        [1.0, 0.0, 0.5]
    """
    if len(true) != len(false):
        raise DataError(f"{len(true)} true and {len(false)} false similarities")
    taken: Float[np.ndarray, " n"] = np.where(true > false, 1.0, np.where(true < false, 0.0, 0.5))
    return taken


def recall_at_k(
    right: Bool[np.ndarray, "queries candidates"], similarity: Float[np.ndarray, "queries candidates"], *, k: int
) -> float:
    """Return the share of queries with a right candidate among the k most similar: the mean of `hits_at_k`.

    Raises:
        ConfigError: k is below 1.
        DataError: A query has no right candidate, a similarity is not finite, or what is right is not bool.

    Example:
        >>> recall_at_k(np.eye(2, dtype=bool), np.array([[0.9, 0.1], [0.8, 0.2]]), k=1)
        0.5
    """
    check_yes_no(right)
    return float(hits_at_k(similarity, right, k).mean())


def mean_reciprocal_rank(
    right: Bool[np.ndarray, "queries candidates"], similarity: Float[np.ndarray, "queries candidates"]
) -> float:
    """Return the mean of one over the rank of the first right candidate; a tie counts against, as in `hits_at_k`.

    Raises:
        DataError: A query has no right candidate, a similarity is not finite, or what is right is not bool.

    Source:
        Voorhees, TREC-8 1999.

    Example:
        >>> mean_reciprocal_rank(np.eye(2, dtype=bool), np.array([[0.9, 0.1], [0.8, 0.2]]))
        0.75
    """
    check_yes_no(right)
    return float(reciprocal_ranks(similarity, right).mean())


def ndcg_at_k(
    gains: Float[np.ndarray, "queries candidates"], similarity: Float[np.ndarray, "queries candidates"], *, k: int
) -> float:
    """Return the normalised discounted cumulative gain: graded relevance, the earlier the better, 0 to 1.

    Of equal similarities each takes the mean gain of all, so that the order of the candidates decides nothing.

    Args:
        gains: How relevant each candidate is, 0 or more.
        similarity: Greater is more alike.
        k: How many are looked at.

    Raises:
        ConfigError: k is below 1.
        DataError: A query without a relevant candidate, a gain below 0, or a number that is not finite.

    Source:
        Jarvelin and Kekalainen, ACM TOIS 2002; McSherry and Najork, ECIR 2008 (ties).

    Example:
        >>> round(ndcg_at_k(np.array([[3.0, 2.0, 0.0]]), np.array([[0.5, 0.9, 0.1]]), k=2), 4)
        0.9134
    """
    _check(gains > 0, k)
    if not (np.isfinite(gains).all() and np.isfinite(similarity).all()) or gains.min() < 0:
        raise DataError("a gain is below 0, or a gain or similarity is not finite")
    discount = 1 / np.log2(np.arange(2, gains.shape[1] + 2))
    discount[k:] = 0.0
    scores = []
    for gain, alike in zip(gains, similarity, strict=True):
        _, group, sizes = np.unique(-alike, return_inverse=True, return_counts=True)
        mean = np.bincount(group, gain) / sizes
        shared = np.add.reduceat(discount, np.append(0, np.cumsum(sizes)[:-1]))
        scores.append(float(mean @ shared) / float(np.sort(gain)[::-1] @ discount))
    return float(np.mean(scores))
