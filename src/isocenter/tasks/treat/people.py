"""Effects and levels of people: cross-fitted for those learnt from, and for anyone, with support."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, ndtri

from isocenter.tasks.treat.answer import Amount
from isocenter.tasks.treat.cases import Cases, subset
from isocenter.tasks.treat.models import EffectModel, fit_effects
from isocenter.tasks.treat.nuisance import folds_of
from isocenter.tasks.treat.options import OptionModel, fit_options, log_odds

__all__ = ["Learnt", "cross_fitted_effects", "learn"]


def cross_fitted_effects(
    cases: Cases,
    method: str,
    *,
    folds: int = 5,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Float[np.ndarray, " n"]:
    """Return the effect on each person by learners that never saw that person.

    Args:
        cases: People.
        method: Of `METHODS`.
        folds: How many.
        seed: Decides everything random.
        progress: Told the share that is done.

    Raises:
        DataError: A fold has too few people.
    """
    found = np.empty(len(cases.treated))
    for number, (known, held) in enumerate(folds_of(cases.treated, folds, seed), start=1):
        model = fit_effects(subset(cases, known), method, resamples=0, seed=seed)
        found[held] = model.effects(cases.features[held]).effect
        if progress is not None:
            progress(number / folds)
    return found


@dataclass(frozen=True, eq=False)
class Learnt:
    """What was learnt of an outcome.

    Args:
        effects: Of the difference.
        options: Of each option.
        chance: Whether the outcome is a chance.
        level: Coverage asked of the intervals.
    """

    effects: EffectModel
    options: OptionModel
    chance: bool
    level: float

    def tell(self, features: Float[np.ndarray, "n p"]) -> tuple[tuple[Amount, ...], tuple[tuple[Amount, Amount], ...]]:
        """Return the difference, and both options' outcomes, of each person.

        The options' outcomes lie half the difference to both sides of what the options' own models say on average, so
        that their difference is the difference told. Their spread grows by what the learners disagree about.
        """
        z = float(ndtri((1 + self.level) / 2))
        found, levels = self.effects.effects(features), self.options.levels(features)
        own = levels.expected[1] - levels.expected[0]
        middle = levels.expected.mean(axis=0)
        effect = np.clip(found.effect, -1, 1) if self.chance else found.effect
        both = np.stack([middle - effect / 2, middle + effect / 2])
        if self.chance:
            # Where a side would leave 0..1, both move, and the difference stays.
            both = both - np.clip(both.max(axis=0) - 1, 0, None)
            both = both + np.clip(-both.min(axis=0), 0, None)
        spread = np.sqrt(levels.spread**2 + (effect - own) ** 2 / 4)

        def amount(value: float, deviation: float, low: float, high: float) -> Amount:
            return Amount(
                float(value), float(np.clip(value - z * deviation, low, high)),
                float(np.clip(value + z * deviation, low, high)),
            )  # fmt: skip

        bound = 1.0 if self.chance else np.inf
        least = 0.0 if self.chance else -np.inf
        if self.chance:
            # On the scale of log odds: near 0 and 1 a chance is far less sure upwards (downwards) than its deviation.
            odds = log_odds(both)
            deviation = np.sqrt(levels.odds_spread**2 + (odds - log_odds(levels.expected)) ** 2)
            ends = np.stack([expit(odds - z * deviation), expit(odds + z * deviation)])
            low, high = np.minimum(ends[0], both), np.maximum(ends[1], both)
        differences = tuple(
            amount(e, s, -bound, bound) for e, s in zip(effect, found.spread, strict=True)
        )  # fmt: skip
        if self.chance:
            told = [[Amount(float(v), float(a), float(b)) for v, a, b in zip(*side, strict=True)]
                    for side in zip(both, low, high, strict=True)]  # fmt: skip
        else:
            told = [[amount(v, s, least, bound) for v, s in zip(*side, strict=True)]
                    for side in zip(both, spread, strict=True)]  # fmt: skip
        pairs = tuple(zip(*told, strict=True))
        return differences, pairs


def learn(cases: Cases, method: str, *, level: float = 0.9, resamples: int = 30, seed: int = 0) -> Learnt:
    """Learn the difference and both options' outcomes.

    Args:
        cases: People, with support for both options.
        method: Of `METHODS`.
        level: Coverage asked of the intervals.
        resamples: Of the bootstrap.
        seed: Decides everything random.

    Raises:
        ConfigError: There is no such method.
        DataError: Nothing can be learnt from these people.
        ModelError: A model can't be fitted.
    """
    effects = fit_effects(cases, method, resamples=resamples, seed=seed)
    options = fit_options(cases, resamples=resamples, seed=seed)
    return Learnt(effects, options, cases.chance, level)
