"""How two sets of values differ: the population stability index of shares, Kolmogorov-Smirnov's distance of numbers.

Both are larger than 0 between two halves of one set. So each comes with an interval by patient, and with what chance
alone gives: the 95th percentile when patients are dealt to the two sides at random.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from isocenter.core.errors import DataError

__all__ = ["Drift", "drift_of_numbers", "drift_of_words"]

_DRAWS = 200
_LEAST = 10
"""Patients on each side, at least."""
_SMOOTH = 0.5


@dataclass(frozen=True)
class Drift:
    """A difference.

    Args:
        measure: "PSI" or "KS".
        value: 0 for none.
        low: Lower end of its 95 % interval (percentiles of resampled patients).
        high: Upper end.
        by_chance: 95th percentile of its value between sides that patients were dealt to at random.
    """

    measure: str
    value: float
    low: float
    high: float
    by_chance: float

    @property
    def beyond_chance(self) -> bool:
        """Whether it is larger than chance gives in 19 of 20 cases."""
        return self.value > self.by_chance


def drift_of_words(
    old: Sequence[str], old_patients: Sequence[str], new: Sequence[str], new_patients: Sequence[str], *, seed: int = 0
) -> Drift:
    """Return the population stability index of values that are words.

    Args:
        old: Values of one side.
        old_patients: Whose they are.
        new: Values of the other.
        new_patients: Whose they are.
        seed: Decides resamples.

    Raises:
        DataError: Fewer than 10 patients on a side, or lengths that differ.

    Example:
        >>> people = [str(n) for n in range(20)]
        >>> drift_of_words(["a"] * 20, people, ["b"] * 20, people).beyond_chance
        True
    """
    words, index = np.unique(np.array([*old, *new], dtype=np.str_), return_inverse=True)

    def psi(weights: Float[np.ndarray, " n"]) -> float:
        one, other = (
            np.bincount(index[part], weights[part], len(words)) + _SMOOTH
            for part in (slice(len(old)), slice(len(old), None))
        )
        one, other = one / one.sum(), other / other.sum()
        return float(((other - one) * np.log(other / one)).sum())

    def dealt(sides: Int[np.ndarray, " n"]) -> float:
        one, other = (np.bincount(index[sides == n], minlength=len(words)) + _SMOOTH for n in (0, 1))
        one, other = one / one.sum(), other / other.sum()
        return float(((other - one) * np.log(other / one)).sum())

    return _measured("PSI", psi, dealt, old, old_patients, new, new_patients, seed)


def drift_of_numbers(
    old: Sequence[float], old_patients: Sequence[str], new: Sequence[float], new_patients: Sequence[str], *,
    seed: int = 0,
) -> Drift:  # fmt: skip
    """Return Kolmogorov-Smirnov's distance: the largest gap between the two shares at or below a number.

    Args:
        old: Numbers of one side.
        old_patients: Whose they are.
        new: Numbers of the other.
        new_patients: Whose they are.
        seed: Decides resamples.

    Raises:
        DataError: Fewer than 10 patients on a side, lengths that differ, or a number that is not finite.
    """
    pooled = np.array([*old, *new], dtype=np.float64)
    if not np.isfinite(pooled).all():
        raise DataError("drift is of finite numbers; count the missing ones apart")
    _, index = np.unique(pooled, return_inverse=True)
    first = np.arange(len(pooled)) < len(old)

    def gap(weights: Float[np.ndarray, " n"], sides: Int[np.ndarray, " n"]) -> float:
        shares = [np.cumsum(np.bincount(index[sides == n], weights[sides == n], int(index.max()) + 1)) for n in (0, 1)]
        return float(np.abs(shares[0] / shares[0][-1] - shares[1] / shares[1][-1]).max())

    sides = np.where(first, 0, 1)
    ones = np.ones(len(pooled))
    return _measured("KS", lambda w: gap(w, sides), lambda s: gap(ones, s), old, old_patients, new, new_patients, seed)


def _measured(
    measure: str, of_weights: Callable[..., float], of_sides: Callable[..., float], old: Sequence[object],
    old_patients: Sequence[str], new: Sequence[object], new_patients: Sequence[str], seed: int,
) -> Drift:  # fmt: skip
    if len(old) != len(old_patients) or len(new) != len(new_patients):
        raise DataError("there must be one patient for each value")
    names = np.array([*(f"a {p}" for p in old_patients), *(f"b {p}" for p in new_patients)], dtype=np.str_)
    people, who = np.unique(names, return_inverse=True)
    first = np.array([str(name).startswith("a ") for name in people], dtype=bool)
    counts = (int(first.sum()), int((~first).sum()))
    if min(counts) < _LEAST:
        raise DataError(f"drift needs {_LEAST} patients on each side, there are {counts[0]} and {counts[1]}")
    rng = np.random.default_rng(seed)
    resampled, dealt = [], []
    for _ in range(_DRAWS):
        weights = np.zeros(len(people))
        for side, count in ((first, counts[0]), (~first, counts[1])):
            weights[side] = rng.multinomial(count, np.full(count, 1 / count))
        resampled.append(of_weights(weights[who]))
        sides = np.zeros(len(people), dtype=np.int64)
        sides[rng.permutation(len(people))[: counts[1]]] = 1
        dealt.append(of_sides(sides[who]))
    low, high = np.percentile(resampled, (2.5, 97.5))
    value = of_weights(np.ones(len(who)))
    return Drift(measure, value, float(low), float(high), float(np.percentile(dealt, 95)))
