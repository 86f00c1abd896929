"""Evidence that a stream has changed, which may be looked at every day: e-processes, no false alarm from looking often.

Each new value is ranked among the reference and all that came since (a conformal p value). While values are
exchangeable these ranks are uniform and independent, whatever the values' distribution; a gambler who bets against
that cannot expect to win. His capital is the evidence: it begins at 1, and that it ever reaches 1/alpha has a chance of
at most alpha (Ville), however often it is looked at. With K features an alarm at K/alpha keeps the chance of any false
alarm at alpha, however they depend on each other (Bonferroni).

The gambler does not know when a change comes: a part of his capital begins anew at every value, so that a long calm
costs little (a mixture over the time of change, as in Shiryaev's rule). He does not know its kind either: equal parts
bet on higher, lower, wider and narrower values, a little and much so.

Source:
    Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005 (conformal p, test martingales); Vovk,
    Statistical Science 2021 (testing randomness online); Shin, Ramdas and Rinaldo, New England Journal of Statistics in
    Data Science 2023 (mixtures over the time of change); Waudby-Smith and Ramdas, JRSS B 2024 (bets on a mean).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from isocenter.core.errors import DataError

__all__ = ["PATIENCE", "conformal_of_numbers", "conformal_of_words", "exchangeability", "rate_beyond", "window_p"]

PATIENCE: Final = 50.0
"""After so many values half of the capital has begun to bet."""
_FEW = 5


def conformal_of_numbers(
    reference: Sequence[float], stream: Sequence[float], ties: Sequence[float]
) -> Float[np.ndarray, " n"]:
    """Return the rank of each number of a stream among the reference and what came before it: near 1 where it is high.

    Args:
        reference: In any order.
        stream: In the order of time.
        ties: A number in (0, 1) for each of the stream, drawn at random: places it among its equals.

    Raises:
        DataError: A number is not finite, or there is not one tie for each.

    Example:
        >>> conformal_of_numbers([1.0, 2.0, 3.0], [9.0, 0.0], [0.5, 0.5]).tolist()
        [0.875, 0.1]
    """
    _check(stream, ties)
    if not (np.isfinite(np.asarray(reference)).all() and np.isfinite(np.asarray(stream)).all()):
        raise DataError("ranks are of finite numbers")
    pool = sorted(float(v) for v in reference)
    found = np.empty(len(stream))
    for n, (value, tie) in enumerate(zip(stream, ties, strict=True)):
        insort(pool, float(value))
        below = bisect_left(pool, float(value))
        found[n] = (below + tie * (bisect_right(pool, float(value)) - below)) / len(pool)
    return found


def conformal_of_words(
    reference: Sequence[str], stream: Sequence[str], ties: Sequence[float]
) -> Float[np.ndarray, " n"]:
    """Return the rank of each word by how common it is in the reference and what came so far: near 0 where it is rare.

    Args:
        reference: In any order.
        stream: In the order of time.
        ties: A number in (0, 1) for each of the stream, drawn at random.

    Raises:
        DataError: There is not one tie for each.

    Example:
        >>> conformal_of_words(["a"] * 3, ["b", "a"], [0.5, 0.5]).tolist()
        [0.125, 0.6]
    """
    _check(stream, ties)
    counts = Counter(reference)
    found = np.empty(len(stream))
    for n, (word, tie) in enumerate(zip(stream, ties, strict=True)):
        counts[word] += 1
        mine, total = counts[word], counts.total()
        rarer = sum(c for c in counts.values() if c < mine)
        alike = sum(c for c in counts.values() if c == mine)
        found[n] = (rarer + tie * alike) / total
    return found


def exchangeability(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Return the evidence after each value that the stream is not exchangeable with its reference: log of the capital.

    Args:
        p: Conformal p values in (0, 1), in the order of time.

    Raises:
        DataError: One lies outside (0, 1).

    Example:
        >>> calm, moved = np.tile([0.3, 0.8, 0.1, 0.6], 5), np.full(20, 0.97)
        >>> bool(exchangeability(calm)[-1] < 0), bool(exchangeability(moved)[-1] > np.log(100))
        (True, True)
    """
    if len(p) and not ((p > 0) & (p < 1)).all():
        raise DataError("conformal p values lie between 0 and 1")
    low, high = np.log(p), np.log1p(-p)
    bets = [
        np.log(0.25) - 0.75 * low,
        np.log(0.25) - 0.75 * high,
        np.log(0.6) - 0.4 * low,
        np.log(0.6) - 0.4 * high,
        np.log(2.0) + high,
        np.log(2.0) + low,
        -np.log(np.pi) - 0.5 * (low + high),
        np.log(6.0) + low + high,
    ]
    return _capital(bets, len(p), PATIENCE)


def rate_beyond(
    happened: Sequence[bool] | Bool[np.ndarray, " n"], limit: float, *, patience: float = PATIENCE
) -> Float[np.ndarray, " n"]:
    """Return the evidence after each case that something happens more often than the limit allows: log of the capital.

    Args:
        happened: In the order of time.
        limit: Rate that is allowed, between 0 and 1.
        patience: After so many cases half of the capital has begun to bet; few where the rate may be wrong at once.

    Raises:
        DataError: The limit is no rate.

    Example:
        >>> bool(rate_beyond([True] * 5, 0.1)[-1] > np.log(100)), bool(rate_beyond([False] * 5, 0.1)[-1] < 0)
        (True, True)
    """
    if not 0 < limit < 1:
        raise DataError(f"the limit of a rate lies between 0 and 1, got {limit}")
    yes = np.asarray(happened, dtype=bool)
    bets: list[Float[np.ndarray, " n"]] = []
    for part in (0.03, 0.08, 0.2, 0.4, 0.75):
        rate = limit + (1 - limit) * part
        bets.append(np.asarray(np.where(yes, np.log(rate / limit), np.log((1 - rate) / (1 - limit)))))
    return _capital(bets, len(yes), patience)


def _capital(bets: Sequence[Float[np.ndarray, " n"]], count: int, patience: float) -> Float[np.ndarray, " n"]:
    """Return the log of the capital of a gambler who begins every bet, with some of it, at every value.

    What has not begun yet stays as it is, so the whole is a martingale where each bet is fair.
    """
    if not count:
        return np.zeros(0)
    times = np.arange(1, count + 1)
    kept = patience / (patience + times)
    begins = np.log(patience / ((patience + times) * (patience + times - 1)))
    parts = [np.log(kept)]
    for bet in bets:
        grown = np.cumsum(bet)
        before = np.concatenate([[0.0], grown[:-1]])
        parts.append(grown + np.logaddexp.accumulate(begins - before) - np.log(len(bets)))
    found: Float[np.ndarray, " n"] = np.logaddexp.reduce(np.stack(parts), axis=0)
    return found


def window_p(reference: Sequence[float] | Sequence[str], window: Sequence[float] | Sequence[str]) -> float:
    """Return the p value of one look at a window: Kolmogorov and Smirnov's of numbers, chi-square's of words.

    It describes. Looked at every day, it would give false alarms: alarms come from `exchangeability`.

    Args:
        reference: Values of one side.
        window: Values of the other.

    Returns:
        1 with fewer than 5 values on a side.

    Example:
        >>> window_p(["a"] * 20, ["b"] * 20) < 1e-6 < window_p(list(range(20)), list(range(20)))
        True
    """
    if min(len(reference), len(window)) < _FEW:
        return 1.0
    if not isinstance(reference[0], str):
        return float(stats.ks_2samp(np.asarray(reference, dtype=float), np.asarray(window, dtype=float)).pvalue)
    words = sorted({*map(str, reference), *map(str, window)})
    if len(words) == 1:
        return 1.0
    table = np.array([[list(side).count(word) for word in words] for side in (reference, window)])
    return float(stats.chi2_contingency(table, correction=False).pvalue)


def _check(stream: Sequence[object], ties: Sequence[float]) -> None:
    if len(stream) != len(ties) or not all(0 < tie < 1 for tie in ties):
        raise DataError("each value of a stream needs a number between 0 and 1 that breaks its ties")
