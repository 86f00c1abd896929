"""What is to be expected under each option: one model per option (a T-learner), with bootstrap spread.

Times take a Cox model per option, from which survival at the horizon or mean days up to it follow; yes-or-no outcomes a
logistic one, numbers a ridge line.

Source:
    Kunzel et al., PNAS 2019 (T-learner); Cox, JRSS B 1972.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from isocenter.core.errors import ModelError
from isocenter.tasks.treat.cases import Cases, subset
from isocenter.tasks.treat.hazard import Hazard, fit_hazard
from isocenter.tasks.treat.nuisance import outcome_learner, propensity_learner
from isocenter.tasks.treat.reduce import Reduction

__all__ = ["OptionLevels", "OptionModel", "fit_options", "log_odds"]

_TRIES = 5
_RAREST = 1e-3


@dataclass(frozen=True, eq=False)
class OptionLevels:
    """Expected outcomes of people.

    Args:
        expected: Without and with the treatment.
        spread: Standard deviation of each by bootstrap; 0 where none was asked for.
        effect_spread: Of the difference.
        odds_spread: Of the log odds, where outcomes are chances; else 0.
    """

    expected: Float[np.ndarray, "2 n"]
    spread: Float[np.ndarray, "2 n"]
    effect_spread: Float[np.ndarray, " n"]
    odds_spread: Float[np.ndarray, "2 n"]


def log_odds(chance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return log odds; chances nearer to 0 or 1 than one in a thousand are taken to be that."""
    return np.asarray(logit(np.clip(chance, _RAREST, 1 - _RAREST)))


@runtime_checkable
class _Level(Protocol):
    def __call__(self, features: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]: ...


@dataclass(frozen=True, eq=False)
class _Lasting:
    hazard: Hazard
    horizon_days: float
    scale: str

    def __call__(self, features: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        if self.scale == "survival":
            return self.hazard.survival(features, self.horizon_days)
        return self.hazard.mean_days(features, self.horizon_days)


def _fit_level(cases: Cases, seed: int) -> _Level:
    """Fit one option's model."""
    if cases.lived is not None:
        lived = cases.lived
        hazard = fit_hazard(cases.features, lived.days, lived.happened, shrink=True)
        return _Lasting(hazard, lived.horizon_days, lived.scale)
    if cases.binary and len(np.unique(cases.outcome)) == 2:
        classifier: Any = propensity_learner("line", seed).fit(cases.features, cases.outcome > 0.5)
        return _Chance(classifier)
    line: Any = outcome_learner("line", seed).fit(cases.features, cases.outcome)
    return _Line(line, cases.chance)


@dataclass(frozen=True, eq=False)
class _Chance:
    model: Any

    def __call__(self, features: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        return np.asarray(self.model.predict_proba(features)[:, 1])


@dataclass(frozen=True, eq=False)
class _Line:
    model: Any
    chance: bool

    def __call__(self, features: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        found = np.asarray(self.model.predict(features))
        return np.clip(found, 0, 1) if self.chance else found


class OptionModel:
    """One model per option, and the same on resampled people.

    Args:
        models: Without and with the treatment.
        resampled: Pairs of them.
        reduction: Of features, before anything else.
    """

    name = "t-learner"

    def __init__(
        self, models: tuple[_Level, _Level], resampled: tuple[tuple[_Level, _Level], ...], reduction: Reduction
    ) -> None:
        self._models, self._resampled, self._reduction = models, resampled, reduction

    def levels(self, features: Float[np.ndarray, "n p"]) -> OptionLevels:
        """Return what is to be expected of people under each option."""
        features = self._reduction(features)
        expected = np.stack([model(features) for model in self._models])
        if not self._resampled:
            nothing = np.zeros_like(expected)
            return OptionLevels(expected, nothing, np.zeros(len(features)), nothing)
        drawn = np.stack([[model(features) for model in pair] for pair in self._resampled])
        spread = drawn.std(axis=0, ddof=1)
        effect_spread = np.asarray((drawn[:, 1] - drawn[:, 0]).std(axis=0, ddof=1))
        chances = bool((drawn >= 0).all() and (drawn <= 1).all())
        odds_spread = log_odds(drawn).std(axis=0, ddof=1) if chances else np.zeros_like(spread)
        return OptionLevels(expected, spread, effect_spread, odds_spread)


def _pair(cases: Cases, seed: int) -> tuple[_Level, _Level]:
    return _fit_level(subset(cases, ~cases.treated), seed), _fit_level(subset(cases, cases.treated), seed)


def _drawn_pair(cases: Cases, rng: np.random.Generator, seed: int) -> tuple[_Level, _Level]:
    """Fit on people drawn with replacement within each option; a draw that no model can be fitted on is drawn anew."""
    for _ in range(_TRIES):
        groups = [np.flatnonzero(~cases.treated), np.flatnonzero(cases.treated)]
        who = np.concatenate([rng.choice(group, len(group)) for group in groups])
        try:
            return _pair(subset(cases, who), seed)
        except (ModelError, np.linalg.LinAlgError):
            continue
    raise ModelError(
        "the outcome models can't be fitted on resampled people: too few, or features that repeat each other"
    )


def fit_options(cases: Cases, *, resamples: int = 30, seed: int = 0) -> OptionModel:
    """Learn what to expect under each option.

    Args:
        cases: People.
        resamples: How often people are drawn anew for the spread; 0 for none.
        seed: Decides them.

    Raises:
        ModelError: A model can't be fitted.
        CapabilityError: scikit-learn is not installed.
    """
    rng = np.random.default_rng(seed)
    own, reduction = cases.reduced()
    drawn = tuple(_drawn_pair(own, rng, seed) for _ in range(resamples))
    return OptionModel(_pair(own, seed), drawn, reduction)
