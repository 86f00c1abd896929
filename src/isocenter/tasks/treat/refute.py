"""Attempts to refute an average effect: a placebo must show nothing, and what should change nothing must not.

Source:
    Sharma and Kiciman, DoWhy, 2020 (placebo treatment, random common cause, data subset).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import t as student

from isocenter.tasks.treat.cases import Cases, subset
from isocenter.tasks.treat.nuisance import Nuisance, cross_fit

__all__ = ["Refutation", "average", "refute"]

_SHARE = 0.8
_SURE = 0.99


@dataclass(frozen=True)
class Refutation:
    """One attempt.

    Args:
        name: "placebo treatment", "random common cause" or "subset".
        estimate: Mean of the average effects that were found.
        low: Least of them.
        high: Largest.
        passed: Whether the effect withstood.
        words: What was done and what should be found.
    """

    name: str
    estimate: float
    low: float
    high: float
    passed: bool
    words: str


def average(cases: Cases, nuisance: Nuisance) -> tuple[float, float]:
    """Return the doubly robust average effect and its standard error."""
    chance, treated = nuisance.propensity, cases.treated
    gain = nuisance.expected[1] - nuisance.expected[0]
    error = cases.outcome - np.where(treated, nuisance.expected[1], nuisance.expected[0])
    scores = gain + np.where(treated, error / chance, -error / (1 - chance))
    return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(len(scores)))


def _told(name: str, found: Float[np.ndarray, " k"], passed: bool, words: str) -> Refutation:
    return Refutation(name, float(found.mean()), float(found.min()), float(found.max()), passed, words)


def refute(
    cases: Cases, nuisance: Nuisance, *, randomised: bool, tries: int = 8, folds: int = 5, seed: int = 0
) -> tuple[Refutation, ...]:
    """Try to refute an average effect.

    Args:
        cases: People.
        nuisance: Of them; its learners are kept.
        randomised: Whether a coin decided.
        tries: How many placebos, and how many subsets.
        folds: Of cross-fitting.
        seed: Decides everything random.

    Raises:
        DataError: Too few people for the folds of a subset.
    """
    rng = np.random.default_rng(seed)
    learners = ("line" if nuisance.propensity_learner == "share" else nuisance.propensity_learner,
                nuisance.outcome_learner)  # fmt: skip
    value, error = average(cases, nuisance)

    def again(some: Cases, number: int) -> float:
        own = cross_fit(some, randomised=randomised, folds=folds, seed=seed + number, learners=learners)
        return average(some, own)[0]

    placebos = []
    for number in range(tries):
        dealt = Cases(
            cases.features, rng.permutation(cases.treated), cases.outcome, cases.binary, cases.lived, cases.blocks
        )
        placebos.append(again(dealt, number))
    found = np.array(placebos)
    limit = float(student.ppf((1 + _SURE) / 2, max(tries - 1, 1)) * found.std(ddof=1) / np.sqrt(tries))
    made = [
        _told(
            "placebo treatment", found, abs(float(found.mean())) <= limit,
            f"treatment dealt out by chance, {tries} times: no difference should be found",
        )
    ]  # fmt: skip
    noise = rng.standard_normal((len(cases.treated), 1))
    wider = Cases(
        np.hstack([cases.features, noise]), cases.treated, cases.outcome, cases.binary, cases.lived, cases.blocks
    )
    found = np.array([again(wider, 0)])
    made.append(
        _told(
            "random common cause", found, abs(float(found[0]) - value) <= error,
            "a column of chance numbers added: the average should move by less than its standard error",
        )
    )  # fmt: skip
    count = len(cases.treated)
    parts = [np.sort(rng.permutation(count)[: int(_SHARE * count)]) for _ in range(tries)]
    found = np.array([again(subset(cases, part), number) for number, part in enumerate(parts)])
    made.append(
        _told(
            "subset", found, bool(np.abs(found - value).max() <= 2 * error),
            f"{100 * _SHARE:.0f} % of the people, {tries} times: no average should be two standard errors away",
        )
    )  # fmt: skip
    return tuple(made)
