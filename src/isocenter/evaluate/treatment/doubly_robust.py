"""Averages, calibration and policies by doubly robust scores.

The score of an option for a person is what the outcome model says of that option, plus, for those who got it, the error
of the model over the chance of getting it. Its mean is the mean outcome if all got the option, if either the outcome
model or the propensity is right. Models must not have seen the person they are asked about.

Source:
    Robins, Rotnitzky and Zhao, JASA 1994; Chernozhukov et al., Econometrics Journal 2018 (cross-fitting); Chernozhukov
    et al., Econometrica 2025 (best linear predictor, group effects); Athey and Wager, Econometrica 2021 (policies).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtri

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.bootstrap import Interval, refuse_few

__all__ = [
    "BestLinearPredictor",
    "GroupEffect",
    "OptionScores",
    "average_effect",
    "best_linear_predictor",
    "doubly_robust_scores",
    "group_effects",
    "policy_value",
]


@dataclass(frozen=True, eq=False)
class OptionScores:
    """Scores of both options for every person, in the outcome's unit.

    Args:
        untreated: Of the comparator.
        treated: Of the treatment.
    """

    untreated: Float[np.ndarray, " n"]
    treated: Float[np.ndarray, " n"]

    @property
    def effect(self) -> Float[np.ndarray, " n"]:
        """Score of the difference."""
        return np.asarray(self.treated - self.untreated)


def doubly_robust_scores(
    outcome: Float[np.ndarray, " n"],
    treated: Bool[np.ndarray, " n"],
    propensity: Float[np.ndarray, " n"],
    expected: Float[np.ndarray, "2 n"],
) -> OptionScores:
    """Return the scores of both options.

    Args:
        outcome: What was seen, or a pseudo-value of it.
        treated: Who got the treatment.
        propensity: Chance of the treatment, strictly between 0 and 1, from models that did not see the person.
        expected: Expected outcome without and with the treatment, from such models.

    Raises:
        DataError: Lengths differ, or a propensity is 0 or 1: leave such people out first, nothing can be said of them.

    Example:
        >>> half = np.full(2, 0.5)
        >>> scores = doubly_robust_scores(np.array([1.0, 0.0]), np.array([True, False]), half, np.full((2, 2), 0.5))
        >>> scores.effect.tolist()
        [1.0, 1.0]
    """
    if not len(outcome) == len(treated) == len(propensity) == expected.shape[1]:
        raise DataError("outcome, treatment, propensity and expected outcomes differ in length")
    if not (propensity.min() > 0 and propensity.max() < 1):
        raise DataError("a chance of treatment is 0 or 1: leave such people out, nothing can be said of them")
    gave = np.where(treated, (outcome - expected[1]) / propensity, 0.0)
    kept = np.where(treated, 0.0, (outcome - expected[0]) / (1 - propensity))
    return OptionScores(expected[0] + kept, expected[1] + gave)


def _mean(values: Float[np.ndarray, " n"], level: float) -> Interval:
    if not 0 < level < 1:
        raise ConfigError(f"level must lie between 0 and 1, got {level}")
    refuse_few(len(values))
    mean, half = float(values.mean()), float(ndtri((1 + level) / 2) * values.std(ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half, level, len(values), len(values), "influence")


def average_effect(scores: OptionScores, *, level: float = 0.95) -> Interval:
    """Return the mean difference between the options, over all people that are scored.

    Raises:
        DataError: Fewer than 10 people.
        ConfigError: The level is not between 0 and 1.
    """
    return _mean(scores.effect, level)


def policy_value(
    scores: OptionScores,
    treat: Bool[np.ndarray, " n"],
    *,
    against: Bool[np.ndarray, " n"] | None = None,
    level: float = 0.95,
) -> Interval:
    """Return the mean outcome if these people were treated and no others.

    Args:
        scores: Of people.
        treat: Who would be treated, decided without the person's own outcome.
        against: Another rule; the difference to its value is then returned.
        level: Coverage asked.

    Raises:
        DataError: Fewer than 10 people, or lengths differ.

    Source:
        Athey and Wager, Econometrica 2021.
    """
    if len(treat) != len(scores.treated) or (against is not None and len(against) != len(treat)):
        raise DataError(f"{len(scores.treated)} people, rules for {len(treat)}")
    own = np.where(treat, scores.treated, scores.untreated)
    return _mean(own if against is None else own - np.where(against, scores.treated, scores.untreated), level)


@dataclass(frozen=True)
class BestLinearPredictor:
    """The line that best tells true effects from predicted ones.

    Args:
        mean: Average effect.
        slope: 1: predicted differences between people are the true ones; 0: they say nothing. Its interval is NaN wide
            where all predictions are equal.
        p_no_heterogeneity: One-sided p of a slope of 0 or less.
    """

    mean: Interval
    slope: Interval
    p_no_heterogeneity: float


def best_linear_predictor(
    scores: OptionScores, predicted: Float[np.ndarray, " n"], *, level: float = 0.95
) -> BestLinearPredictor:
    """Regress the scores of the effect on what was predicted.

    Args:
        scores: Of people.
        predicted: Effect of each, from models that did not see the person.
        level: Coverage asked.

    Raises:
        DataError: Fewer than 10 people, lengths differ, or all predictions are equal.

    Source:
        Chernozhukov et al., Econometrica 2025; White 1980 (intervals, HC3).
    """
    if len(predicted) != len(scores.treated):
        raise DataError(f"{len(scores.treated)} people, predictions for {len(predicted)}")
    refuse_few(len(predicted))
    centred = predicted - predicted.mean()
    if not float((centred**2).sum()) > 0:
        raise DataError("all predicted effects are equal: there is no difference between people to check")
    design = np.stack([np.ones(len(centred)), centred], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ scores.effect
    leverage = np.einsum("ni,ij,nj->n", design, inverse, design)
    errors = (scores.effect - design @ found) / (1 - leverage)
    spread = np.sqrt(np.diag(inverse @ (design.T * errors**2) @ design @ inverse))
    z = float(ndtri((1 + level) / 2))
    count = len(predicted)
    made = [
        Interval(float(b), float(b - z * s), float(b + z * s), level, count, count, "HC3")
        for b, s in zip(found, spread, strict=True)
    ]
    from_zero = float(found[1] / spread[1])
    return BestLinearPredictor(made[0], made[1], float(0.5 * _erfc(from_zero / np.sqrt(2))))


def _erfc(value: float) -> float:
    from math import erfc

    return erfc(value)


@dataclass(frozen=True)
class GroupEffect:
    """People of similar predicted effect.

    Args:
        predicted: Mean of what was predicted.
        found: Average effect by scores.
    """

    predicted: float
    found: Interval


def group_effects(
    scores: OptionScores, predicted: Float[np.ndarray, " n"], *, groups: int = 5, level: float = 0.95
) -> Sequence[GroupEffect]:
    """Return average effects of groups by predicted effect, least first.

    Args:
        scores: Of people.
        predicted: Effect of each, from models that did not see the person.
        groups: How many, of equal size.
        level: Coverage asked.

    Raises:
        DataError: A group would have fewer than 10 people, or lengths differ.
        ConfigError: Fewer than two groups.

    Source:
        Chernozhukov et al., Econometrica 2025 (sorted group average effects).
    """
    if groups < 2:
        raise ConfigError(f"groups must be 2 or more, got {groups}")
    if len(predicted) != len(scores.treated):
        raise DataError(f"{len(scores.treated)} people, predictions for {len(predicted)}")
    parts = np.array_split(np.argsort(predicted, kind="stable"), groups)
    effect = scores.effect
    return tuple(GroupEffect(float(predicted[part].mean()), _mean(effect[part], level)) for part in parts)
