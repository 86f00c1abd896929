"""Effects of a treatment on single people, by four learners with one face, and by all of them together.

Each learner cross-fits its own propensity and outcome models (honest sample splitting); the causal forest splits once
more, into those who shape a tree and those who fill it.

Source:
    Athey, Tibshirani and Wager, Annals of Statistics 2019 (forest); Kennedy, Electronic Journal of Statistics 2023
    (DR-learner); Nie and Wager, Biometrika 2021 (R-learner); Kunzel et al., PNAS 2019 (T-learner); Buckland, Burnham
    and Augustin, Biometrics 1997 (spread of an average of models).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError
from isocenter.tasks.treat.cases import Cases, check_cases
from isocenter.tasks.treat.nuisance import outcome_learner, propensity_learner
from isocenter.tasks.treat.options import OptionModel, fit_options
from isocenter.tasks.treat.packages import needed
from isocenter.tasks.treat.reduce import Reduction

__all__ = ["METHODS", "EffectModel", "Effects", "fit_effects"]

_TREES = 400
_SHARED = 0.7
_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Effects:
    """Effects on people, in the outcome's unit.

    Args:
        effect: With less without the treatment.
        spread: Standard deviation of the estimate.
    """

    effect: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]

    def interval(self, z: float) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return both ends, `z` deviations away."""
        return self.effect - z * self.spread, self.effect + z * self.spread


@runtime_checkable
class EffectModel(Protocol):
    """What every learner can say."""

    @property
    def name(self) -> str:
        """Return the learner's name."""

    def effects(self, features: Float[np.ndarray, "n p"]) -> Effects:
        """Return the effect on each person."""


@dataclass(frozen=True, eq=False)
class _FromEconML:
    name: str
    model: Any

    def effects(self, features: Float[np.ndarray, "n p"]) -> Effects:
        with _quiet():
            found = self.model.effect_inference(features)
        return Effects(
            np.asarray(found.point_estimate, dtype=float).ravel(), np.asarray(found.stderr, dtype=float).ravel()
        )


class _quiet(warnings.catch_warnings):  # noqa: N801  # used as a block
    """EconML's own warnings of scikit-learn's coming changes: nothing that a user could act on."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)


def _econml(name: str, model: Any, cases: Cases) -> _FromEconML:
    with _quiet():
        model.fit(cases.outcome, cases.treated.astype(int), X=cases.features)
    return _FromEconML(name, model)


def _forest(cases: Cases, seed: int, resamples: int) -> EffectModel:
    del resamples
    model = needed("econml.dml").CausalForestDML(
        model_y=outcome_learner("line", seed), model_t=propensity_learner("line", seed), discrete_treatment=True,
        cv=_FOLDS, n_estimators=_TREES, min_samples_leaf=5, random_state=seed, n_jobs=1,
    )  # fmt: skip
    return _econml("causal-forest", model, cases)


def _dr(cases: Cases, seed: int, resamples: int) -> EffectModel:
    del resamples
    model = needed("econml.dr").LinearDRLearner(
        model_regression=outcome_learner("line", seed), model_propensity=propensity_learner("line", seed),
        min_propensity=0.03, cv=_FOLDS, random_state=seed,
    )  # fmt: skip
    return _econml("dr-learner", model, cases)


def _r(cases: Cases, seed: int, resamples: int) -> EffectModel:
    del resamples
    final = needed("econml.sklearn_extensions.linear_model").StatsModelsLinearRegression()
    model = needed("econml.dml").NonParamDML(
        model_y=outcome_learner("line", seed), model_t=propensity_learner("line", seed), model_final=final,
        discrete_treatment=True, cv=_FOLDS, random_state=seed,
    )  # fmt: skip
    return _econml("r-learner", model, cases)


@dataclass(frozen=True, eq=False)
class _FromOptions:
    options: OptionModel
    name: str = "t-learner"

    def effects(self, features: Float[np.ndarray, "n p"]) -> Effects:
        levels = self.options.levels(features)
        return Effects(levels.expected[1] - levels.expected[0], levels.effect_spread)


def _t(cases: Cases, seed: int, resamples: int) -> EffectModel:
    return _FromOptions(fit_options(cases, resamples=resamples, seed=seed))


@dataclass(frozen=True, eq=False)
class _Together:
    """The mean of several learners.

    Its spread has two parts. What sampling does to all of them alike: the learners see the same people, so their
    errors are taken to be correlated (0.7, as seen between synthetic cohorts). And what the learners disagree about,
    over their number.
    """

    members: tuple[EffectModel, ...]
    name: str = "together"

    def effects(self, features: Float[np.ndarray, "n p"]) -> Effects:
        found = [member.effects(features) for member in self.members]
        each, spread = np.stack([f.effect for f in found]), np.stack([f.spread for f in found])
        count = len(found)
        sampling = (_SHARED * spread.mean(axis=0) ** 2 * (count - 1) + (spread**2).mean(axis=0)) / count
        return Effects(each.mean(axis=0), np.sqrt(sampling + each.var(axis=0, ddof=1) / count))


@dataclass(frozen=True, eq=False)
class _OfBlocks:
    """A learner of components, for people whose blocks are whole."""

    model: EffectModel
    reduction: Reduction

    @property
    def name(self) -> str:
        return self.model.name

    def effects(self, features: Float[np.ndarray, "n p"]) -> Effects:
        return self.model.effects(self.reduction(features))


def _together(cases: Cases, seed: int, resamples: int) -> EffectModel:
    return _Together(tuple(fit(cases, seed, resamples) for fit in (_forest, _dr, _r, _t)))


METHODS: MappingProxyType[str, Callable[[Cases, int, int], EffectModel]] = MappingProxyType(
    {"together": _together, "causal-forest": _forest, "dr-learner": _dr, "r-learner": _r, "t-learner": _t}
)
"""Learners by name."""


def fit_effects(cases: Cases, method: str = "together", *, resamples: int = 30, seed: int = 0) -> EffectModel:
    """Learn the effect on single people.

    Args:
        cases: People, with support for both options.
        method: Of `METHODS`.
        resamples: Of the T-learner's bootstrap; 0 where no intervals are needed.
        seed: Decides everything random.

    Raises:
        ConfigError: There is no such method.
        DataError: Nothing can be learnt from these people; see `check_cases`.
        ModelError: A model can't be fitted.
        CapabilityError: EconML or scikit-learn is not installed.
    """
    if method not in METHODS:
        raise ConfigError(f"no method {method!r}; there are {', '.join(METHODS)}")
    check_cases(cases)
    own, reduction = cases.reduced()
    found = METHODS[method](own, seed, resamples)
    return _OfBlocks(found, reduction) if reduction.parts else found
