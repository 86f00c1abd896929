"""Propensity and expected outcomes, each person's from models that never saw that person.

Two learners stand for election, a line and a forest; the one with the smaller held-out loss is taken, and which one is
told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.core.errors import DataError
from isocenter.tasks.treat.cases import Cases
from isocenter.tasks.treat.packages import needed
from isocenter.tasks.treat.reduce import fit_reduction

__all__ = ["Nuisance", "cross_fit", "folds_of", "outcome_learner", "propensity_learner"]

_FLOOR = 0.01


@dataclass(frozen=True, eq=False)
class Nuisance:
    """Of every person, from the folds that the person is not in.

    Args:
        propensity: Chance of the treatment; the share of the treated where treatment was randomised.
        predicted: Chance of the treatment as a model tells it from the features, also in a trial: there it should be
            worth nothing.
        expected: Outcome without and with the treatment.
        propensity_learner: "line" or "forest"; "share" where treatment was randomised.
        outcome_learner: "line" or "forest".
    """

    propensity: Float[np.ndarray, " n"]
    predicted: Float[np.ndarray, " n"]
    expected: Float[np.ndarray, "2 n"]
    propensity_learner: str
    outcome_learner: str


def folds_of(
    treated: Bool[np.ndarray, " n"], folds: int, seed: int
) -> Iterator[tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"]]]:
    """Yield who is learnt from and who is held out, with the treated spread evenly over the folds."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(treated), dtype=np.int64)
    for group in (treated, ~treated):
        members = np.flatnonzero(group)
        fold[rng.permutation(members)] = np.arange(len(members)) % folds
    for number in range(folds):
        yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def propensity_learner(name: str, seed: int) -> Any:
    """Return a classifier by name.

    Raises:
        CapabilityError: scikit-learn is not installed.
    """
    if name == "line":
        return needed("sklearn.linear_model").LogisticRegression(C=1.0, max_iter=500)
    return needed("sklearn.ensemble").RandomForestClassifier(
        100, min_samples_leaf=15, max_features=0.5, n_jobs=1, random_state=seed
    )


def outcome_learner(name: str, seed: int) -> Any:
    """Return a regressor by name.

    Raises:
        CapabilityError: scikit-learn is not installed.
    """
    if name == "line":
        return needed("sklearn.linear_model").RidgeCV(alphas=np.logspace(-2, 4, 13))
    return needed("sklearn.ensemble").RandomForestRegressor(
        100, min_samples_leaf=15, max_features=0.5, n_jobs=1, random_state=seed
    )


def _predict_propensity(cases: Cases, name: str, folds: int, seed: int) -> Float[np.ndarray, " n"]:
    found = np.empty(len(cases.treated))
    for learn, held in folds_of(cases.treated, folds, seed):
        reduction = fit_reduction(cases.features[learn], cases.blocks)
        model = propensity_learner(name, seed).fit(reduction(cases.features[learn]), cases.treated[learn])
        found[held] = model.predict_proba(reduction(cases.features[held]))[:, 1]
    return found


def _predict_outcomes(cases: Cases, name: str, folds: int, seed: int) -> Float[np.ndarray, "2 n"]:
    found = np.empty((2, len(cases.treated)))
    for learn, held in folds_of(cases.treated, folds, seed):
        reduction = fit_reduction(cases.features[learn], cases.blocks)
        others = reduction(cases.features[held])
        for option, group in enumerate((~cases.treated[learn], cases.treated[learn])):
            own = learn[group]
            model = outcome_learner(name, seed).fit(reduction(cases.features[own]), cases.outcome[own])
            found[option, held] = model.predict(others)
    return np.clip(found, 0, 1) if cases.chance else found


def _log_loss(chance: Float[np.ndarray, " n"], treated: Bool[np.ndarray, " n"]) -> float:
    clipped = np.clip(chance, 1e-4, 1 - 1e-4)
    return float(-np.mean(np.where(treated, np.log(clipped), np.log(1 - clipped))))


def cross_fit(
    cases: Cases, *, randomised: bool, folds: int = 5, seed: int = 0, learners: tuple[str, str] | None = None
) -> Nuisance:
    """Predict propensity and both outcomes for everyone.

    Args:
        cases: People.
        randomised: Whether a coin decided: the propensity is then the share of the treated, whatever the features say.
        folds: How many.
        seed: Decides them.
        learners: Names for propensity and outcome; None to choose by held-out loss.

    Raises:
        DataError: A fold would have nobody under an option.
        CapabilityError: scikit-learn is not installed.
    """
    if min(int(cases.treated.sum()), int((~cases.treated).sum())) < 2 * folds:
        raise DataError(f"too few people under one option for {folds} folds")
    names = ("line", "forest")
    tried = names if learners is None else (learners[0],)
    chances = {
        name: _predict_propensity(cases, name, folds, seed) for name in tried if name in names
    }  # fmt: skip
    best = min(chances, key=lambda n: _log_loss(chances[n], cases.treated)) if chances else "line"
    predicted = chances[best] if chances else _predict_propensity(cases, "line", folds, seed)
    tried = names if learners is None else (learners[1],)
    levels = {name: _predict_outcomes(cases, name, folds, seed) for name in tried}

    def error(name: str) -> float:
        own = np.where(cases.treated, levels[name][1], levels[name][0])
        return float(np.mean((cases.outcome - own) ** 2))

    chosen = min(levels, key=error)
    propensity = np.full(len(cases.treated), cases.treated.mean()) if randomised else predicted
    return Nuisance(
        np.clip(propensity, _FLOOR, 1 - _FLOOR), predicted, levels[chosen], "share" if randomised else best, chosen
    )
