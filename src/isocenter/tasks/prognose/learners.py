"""One face for all that learns times to an event: fit the preparation, choose the settings inside, fit the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError, TrainingError
from isocenter.models.covariates import Covariates
from isocenter.tasks.prognose.competing import CauseSpecific, fit_cause_specific
from isocenter.tasks.prognose.cox import fit_cox, partial_likelihood, strongest_penalty
from isocenter.tasks.prognose.fine_gray import fine_gray_likelihood, fit_fine_gray
from isocenter.tasks.prognose.forest import ForestSettings, fit_forest
from isocenter.tasks.prognose.preparing import PeoplePreparation, fit_people

__all__ = [
    "Choice",
    "CompetingLearner",
    "CoxLearner",
    "Curves",
    "Ensemble",
    "FineGrayLearner",
    "ForestLearner",
    "Learner",
    "Score",
    "SourceCurves",
    "SourceLearner",
    "Times",
    "Trained",
    "learn",
    "prepared",
]

Setting = Mapping[str, float]
Score = Callable[[Float[np.ndarray, " n"], Bool[np.ndarray, " n"], Float[np.ndarray, " n"]], float]
"""How well risks put people in order: days, whether it happened, risk; larger is better."""


@dataclass(frozen=True, eq=False)
class Times:
    """Times to an event of some people.

    Args:
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        codes: Where events compete: 0 for none, 1 for the event, 2 and on for the others; None where none competes.
    """

    days: Float[np.ndarray, " n"]
    happened: Bool[np.ndarray, " n"]
    codes: Int64[np.ndarray, " n"] | None = None

    def rows(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " k"]) -> Times:
        """Return some of them."""
        codes = None if self.codes is None else self.codes[chosen]
        return Times(self.days[chosen], self.happened[chosen], codes)


@runtime_checkable
class Curves(Protocol):
    """A fitted model: rows of a matrix in, risks and survival curves out."""

    def risk(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, " n"]:
        """Return a number for each person, higher for earlier events."""

    def survival(self, x: Float[np.ndarray, "n p"], at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day."""


@runtime_checkable
class Learner(Protocol):
    """A way to learn times to an event."""

    @property
    def name(self) -> str:
        """Which."""

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return the settings to choose from, the most cautious first."""

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Fit with one setting."""

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return how good a model is on people that it did not learn from; larger is better."""


@runtime_checkable
class Ensemble(Protocol):
    """A learner of many trees or networks, of which fewer do while settings are chosen."""

    @property
    def whole(self) -> Setting:
        """What is set once the rest is chosen."""


@runtime_checkable
class SourceLearner(Learner, Protocol):
    """A way to learn from modalities of which a person may lack any: its matrix has gaps, NaN throughout."""

    def over(self, layout: tuple[tuple[str, int], ...]) -> Learner:
        """Return the learner for modalities of these names and widths, side by side."""


@runtime_checkable
class SourceCurves(Curves, Protocol):
    """A model of modalities with gaps."""

    def attention(self, x: Float[np.ndarray, "n p"]) -> Float[np.ndarray, "n sources"]:
        """Return how much each modality was attended to; adds up to 1 for each person."""


@dataclass(frozen=True)
class CoxLearner:
    """Cox regression with an elastic net; its strength is chosen by the partial likelihood of people held out.

    Args:
        l1_ratios: To choose from; 0 is ridge, 1 lasso.
        strengths: How many, from the strongest down to a thousandth of it.
    """

    l1_ratios: tuple[float, ...] = (0.0, 0.5, 1.0)
    strengths: int = 10
    name: str = "cox"

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return strengths and ratios, the strongest first."""
        shares = np.geomspace(1.0, 1e-3, self.strengths)
        found = []
        for ratio in self.l1_ratios:
            most = strongest_penalty(x, times.days, times.happened, l1_ratio=max(ratio, 0.1))
            found += [{"l1_ratio": ratio, "strength": float(most * share)} for share in shares]
        return sorted(found, key=lambda s: -s["strength"])

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Fit with one setting; nothing is random."""
        del seed
        return fit_cox(x, times.days, times.happened, strength=setting["strength"], l1_ratio=setting["l1_ratio"])

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return the log partial likelihood of people held out."""
        del score
        return partial_likelihood(model.risk(x)[:, None], times.days, times.happened, np.ones(1))


@dataclass(frozen=True)
class CompetingLearner:
    """A Cox regression for each of several competing events, of one penalty, chosen as for one event.

    Args:
        cox: Of the event that is asked about.
    """

    cox: CoxLearner = CoxLearner()
    name: str = "competing-cox"

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return strengths and ratios, the strongest first."""
        return self.cox.settings(x, times)

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Fit with one setting.

        Raises:
            DataError: The times tell of no competing events.
        """
        del seed
        if times.codes is None:
            raise DataError("no events compete: take Cox regression")
        return fit_cause_specific(
            x, times.days, times.codes, strength=setting["strength"], l1_ratio=setting["l1_ratio"]
        )

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return the log partial likelihood of the event that is asked about."""
        if not isinstance(model, CauseSpecific):
            raise DataError("this learner judges models of competing events")
        return self.cox.judge(model.models[0], x, times, score)


@dataclass(frozen=True)
class FineGrayLearner:
    """Fine and Gray's regression of the share that has the event, with an elastic net.

    Args:
        cox: Whose strengths and ratios are chosen from.
    """

    cox: CoxLearner = CoxLearner()
    name: str = "fine-gray"

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return strengths and ratios, the strongest first."""
        return self.cox.settings(x, times)

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Fit with one setting; nothing is random.

        Raises:
            DataError: The times tell of no competing events.
        """
        del seed
        if times.codes is None:
            raise DataError("no events compete: take Cox regression")
        return fit_fine_gray(x, times.days, times.codes, strength=setting["strength"], l1_ratio=setting["l1_ratio"])

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return the log partial likelihood of people held out."""
        del score
        if times.codes is None:
            raise DataError("this learner judges models of competing events")
        return fine_gray_likelihood(model.risk(x), times.days, times.codes)


@dataclass(frozen=True)
class ForestLearner:
    """A random survival forest; the size of leaves and the columns tried are chosen by concordance.

    Args:
        trees: Of the forest.
        leaves: Least people in a leaf, to choose from.
        shares: Of columns tried at a node, to choose from; 0 is the square root of all.
        tuning: Trees while settings are chosen.
    """

    trees: int = 200
    leaves: tuple[int, ...] = (40, 15, 5)
    shares: tuple[float, ...] = (0.0, 0.5)
    tuning: int = 50
    name: str = "forest"

    @property
    def whole(self) -> Setting:
        """What is set once the rest is chosen: all trees."""
        return {"trees": self.trees}

    def settings(self, x: Float[np.ndarray, "n p"], times: Times) -> Sequence[Setting]:
        """Return leaves and columns, large leaves first; a leaf is at most a tenth of the people."""
        most = max(1, len(times.days) // 10)
        leaves = sorted({min(leaf, most) for leaf in self.leaves}, reverse=True)
        p = x.shape[1]
        columns = sorted({max(1, round(share * p) if share else round(p**0.5)) for share in self.shares})
        return [{"least_leaf": leaf, "columns": c, "trees": self.tuning} for leaf in leaves for c in columns]

    def fit(self, x: Float[np.ndarray, "n p"], times: Times, setting: Setting, seed: int) -> Curves:
        """Grow a forest with one setting."""
        settings = ForestSettings(int(setting["trees"]), int(setting["columns"]), int(setting["least_leaf"]))
        return fit_forest(x, times.days, times.happened, settings, seed=seed)

    def judge(self, model: Curves, x: Float[np.ndarray, "n p"], times: Times, score: Score) -> float:
        """Return the concordance of people held out."""
        return score(times.days, times.happened, model.risk(x))


@dataclass(frozen=True, eq=False)
class Trained:
    """A model with the preparation that makes its matrix.

    Args:
        learner: Name of what learnt it.
        preparation: Of covariates.
        model: The curves.
        setting: That was chosen.
    """

    learner: str
    preparation: PeoplePreparation
    model: Curves
    setting: Setting

    def matrix(self, people: Covariates) -> Float[np.ndarray, "n p"]:
        """Return people as the model takes them."""
        with_gaps = isinstance(self.model, SourceCurves)
        return self.preparation.gapped(people) if with_gaps else self.preparation.matrix(people)

    def risk(self, people: Covariates) -> Float[np.ndarray, " n"]:
        """Return a number for each person, higher for earlier events."""
        return self.model.risk(self.matrix(people))

    def survival(self, people: Covariates, at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day."""
        return self.model.survival(self.matrix(people), at_days)


def prepared(learner: Learner, people: Covariates) -> tuple[Learner, PeoplePreparation, Float[np.ndarray, "n p"]]:
    """Return the learner, the preparation fitted on these people, and their matrix as the learner takes it.

    Raises:
        DataError: Nothing can be learnt from these people.
    """
    preparation = fit_people(people)
    if isinstance(learner, SourceLearner):
        return learner.over(preparation.layout), preparation, preparation.gapped(people)
    return learner, preparation, preparation.matrix(people)


@dataclass(frozen=True, eq=False)
class Choice:
    """How settings are chosen.

    Args:
        folds: Number of the inner fold of each person; people of one patient share it.
        score: For learners that are judged by the order of risks.
        seed: Of everything random.
    """

    folds: Int64[np.ndarray, " n"]
    score: Score
    seed: int = 0


@dataclass(eq=False)
class _Tried:
    setting: Setting
    sums: list[float] = field(default_factory=list)


def learn(learner: Learner, people: Covariates, times: Times, choice: Choice) -> Trained:
    """Choose the settings on inner folds and fit on all of these people.

    Every inner fold has its own preparation, fitted on its training part. Settings come in order from the most
    cautious; a bolder one is taken only where it is better.

    Args:
        learner: What learns.
        people: What is known of them.
        times: Their times.
        choice: Of settings.

    Raises:
        DataError: Nothing can be learnt from these people, or settings can't be chosen.
    """
    learner, preparation, x = prepared(learner, people)
    settings = learner.settings(x, times)
    setting = settings[0] if len(settings) == 1 else _chosen(learner, people, times, choice, settings)
    # Settings are chosen with fewer trees or networks than are learnt in the end.
    final = {**setting, **(learner.whole if isinstance(learner, Ensemble) else {})}
    return Trained(learner.name, preparation, learner.fit(x, times, final, choice.seed), final)


def _chosen(learner: Learner, people: Covariates, times: Times, choice: Choice, settings: Sequence[Setting]) -> Setting:
    tried = [_Tried(s) for s in settings]
    for number in np.unique(choice.folds):
        out = choice.folds == number
        if not (times.happened[out].any() and times.happened[~out].any()):
            continue
        ready, preparation, x = prepared(learner, people.rows(~out))
        apart = people.rows(out)
        held_out = preparation.gapped(apart) if isinstance(ready, SourceLearner) else preparation.matrix(apart)
        for one in tried:
            setting = dict(one.setting)
            if "columns" in setting:
                setting["columns"] = min(setting["columns"], x.shape[1])
            try:
                model = ready.fit(x, times.rows(~out), setting, choice.seed)
                found = ready.judge(model, held_out, times.rows(out), choice.score)
            except TrainingError:  # a setting that does not come to rest is not chosen
                found = -np.inf
            one.sums.append(found)
    # A fold without a pair in known order judges nobody.
    kept = [[v for v in one.sums if not np.isnan(v)] for one in tried]
    means = [float(np.mean(v)) if v else -np.inf for v in kept]
    best = int(np.argmax(means))
    if not np.isfinite(means[best]):
        raise DataError("settings can't be chosen: too few events to hold some out; at least one a fold is needed")
    return tried[best].setting
