"""Two groups of cases of one system: the gap between them with its interval, and how likely chance would make it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import comb

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import LEAST_PATIENTS, Interval, bootstrap_draws

__all__ = ["ENOUGH_BEYOND", "Gap", "compare_groups"]

ENOUGH_BEYOND = 20
"""So many deals with a gap as large end the dealing: more would only tell better how large a large p is."""

Statistic = Callable[[Int64[np.ndarray, " n"]], float]


@dataclass(frozen=True)
class Gap:
    """A group's figure minus the others'.

    Args:
        inside: Figure of the group.
        outside: Figure of the others.
        difference: Group minus others, with its interval over patients.
        p: Chance of a gap at least as large where the group makes no difference.
        test: How p was found.
        least_p: The least p that the test could have given: a smaller one was out of its reach.
    """

    inside: float
    outside: float
    difference: Interval
    p: float
    test: str
    least_p: float = 0.0


def compare_groups(
    statistic: Statistic,
    patients: Sequence[str],
    member: Bool[np.ndarray, " n"],
    *,
    level: float = 0.95,
    resamples: int = 1000,
    most: int | None = None,
    seed: int = 0,
) -> Gap:
    """Compare the cases of a group with all others.

    Patients are resampled together, so that one with cases on both sides is drawn with both. Where every patient lies
    on one side, p comes from dealing the patients to the two sides at random; else from the resamples. After
    `resamples` deals it goes on, up to `most`, until 20 had a gap as large: so a small p is told apart from a smaller
    one, which a correction for many tests needs, and a large one costs little.

    Args:
        statistic: From the indices of cases to the figure; NaN where it is not defined for them.
        patients: The patient of each case.
        member: Whether a case is of the group.
        level: Coverage asked of the interval.
        resamples: How many resamples, and how many deals at least.
        most: How many deals at most; None for no more than `resamples`.
        seed: Decides them.

    Raises:
        DataError: Fewer than 10 patients on a side, or the figure is not defined on one.

    Source:
        Besag and Clifford, Biometrika 1991 (dealing until enough lie beyond); Phipson and Smyth, Statistical
        Applications in Genetics and Molecular Biology 2010 (the deal at hand is counted too).

    Example:
        >>> values = np.repeat([0.9, 0.5], 10)
        >>> patients = [f"p{n}" for n in range(20)]
        >>> found = compare_groups(lambda i: float(values[i].mean()), patients, values < 0.6, resamples=200)
        >>> round(found.difference.value, 3), found.p < 0.01
        (-0.4, True)
    """
    names, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    for side, words in ((member, "in the group"), (~member, "outside the group")):
        count = len(set(index[side].tolist()))
        if count < LEAST_PATIENTS:
            raise DataError(
                f"{count} patients {words}; at least {LEAST_PATIENTS} are needed for an interval of the gap"
            )

    def gap(i: Int64[np.ndarray, " m"], chosen: Bool[np.ndarray, " n"]) -> float:
        there = chosen[i]
        inside, outside = i[there], i[~there]
        if not len(inside) or not len(outside):
            return float("nan")
        return statistic(inside) - statistic(outside)

    draws = bootstrap_draws(
        lambda i: gap(i, member), patients, level=level, resamples=resamples, seed=seed, method="bca"
    )
    everyone = np.arange(len(index), dtype=np.int64)
    figures = float(statistic(everyone[member])), float(statistic(everyone[~member]))
    share = np.bincount(index, member, len(names)) / np.bincount(index, minlength=len(names))
    limit = max(resamples, most or resamples)
    if not np.isin(share, (0.0, 1.0)).all():
        # The figure may be undefined on some resamples, and would be on as large a share of further ones.
        least = 2 / (limit * len(draws.found) / resamples + 1)
        if 0.5 * draws.p_zero * (len(draws.found) + 1) <= ENOUGH_BEYOND and limit > resamples:
            further = bootstrap_draws(lambda i: gap(i, member), patients, level=level, resamples=limit, seed=seed)
            draws = replace(draws, found=further.found)
        return Gap(*figures, draws.interval, draws.p_zero, "bootstrap by patient", least)
    rng, side = np.random.default_rng((seed, 1)), share.astype(bool)
    size, made, dealt, beyond = abs(draws.value) - 1e-12, 0, 0, 0
    while made < limit and (made < resamples or beyond < ENOUGH_BEYOND):
        found = gap(everyone, rng.permutation(side)[index])
        made += 1
        if np.isfinite(found):
            dealt, beyond = dealt + 1, beyond + (abs(found) >= size)
    # Dealt afresh, the very same sides come up with this chance: no p can be told below it.
    least = max(1 / comb(len(names), int(side.sum())), 1 / (limit * dealt / made + 1))
    return Gap(*figures, draws.interval, (beyond + 1) / (dealt + 1), "permutation by patient", least)
