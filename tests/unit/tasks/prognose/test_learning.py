"""Learning with every choice inside: preparation, settings, nested folds, bands, drivers, support."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import concordance
from isocenter.models.covariates import Covariate, Covariates, Preparation, fit_preparation
from isocenter.tasks.prognose.bands import band_around, refits
from isocenter.tasks.prognose.deep import NetworkLearner
from isocenter.tasks.prognose.drivers import drivers
from isocenter.tasks.prognose.learners import Choice, CoxLearner, Curves, ForestLearner, Learner, Times, learn
from isocenter.tasks.prognose.nested import nested, patient_folds
from isocenter.tasks.prognose.people import fit_support
from isocenter.tasks.prognose.preparing import fit_people
from survival_cases import people

LEARNERS: dict[str, Learner] = {
    "cox": CoxLearner(strengths=4),
    "forest": ForestLearner(trees=40, leaves=(30, 10), shares=(0.0,), tuning=20),
    "deepsurv": NetworkLearner("deepsurv", decays=(0.1,), steps=80),
    "discrete": NetworkLearner("discrete", decays=(0.1,), steps=80),
}
PEOPLE, TIMES = people()
NAMES = [f"p{n // 2}" for n in range(len(PEOPLE))]


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_learns_what_matters(name: str) -> None:
    if name == "deepsurv":
        pytest.importorskip("torchsurv")
    folds = patient_folds(NAMES, TIMES.happened, 3)
    held_out = nested(
        LEARNERS[name], PEOPLE, TIMES, patients=NAMES, folds=folds, at_days=np.array([50.0, 200.0, 500.0]),
        choice=(3, concordance, 0),
    )  # fmt: skip
    assert concordance(TIMES.days, TIMES.happened, held_out.risk, folds) > 0.66
    assert np.isfinite(held_out.survival).all() and (np.diff(held_out.survival, axis=1) <= 0).all()
    assert len(held_out.settings) == 3 and held_out.dropped["marker"] > 0.02
    # Curves mean what they say: on average they are the share that is without the event.
    from isocenter.evaluate.survival import kaplan_meier

    observed = kaplan_meier(TIMES.days, TIMES.happened).at(np.array([50.0, 200.0, 500.0]))
    np.testing.assert_allclose(held_out.survival.mean(axis=0), observed, atol=0.06)


def test_patients_are_not_torn_apart_and_events_are_spread() -> None:
    folds = patient_folds(NAMES, TIMES.happened, 4, seed=2)
    assert all(len(set(folds[[n for n, p in enumerate(NAMES) if p == name]])) == 1 for name in set(NAMES))
    events = [int(TIMES.happened[folds == f].sum()) for f in range(4)]
    assert max(events) - min(events) < 25
    with pytest.raises(DataError, match="can't be spread over"):
        patient_folds(["a", "b", "c"], np.array([True, False, False]), 2)


def test_a_preparation_sees_its_own_people_only() -> None:
    """What is held out may change at will: neither the settings nor the preparation of its fold move."""
    folds = patient_folds(NAMES, TIMES.happened, 3)
    settings = {"patients": NAMES, "folds": folds, "at_days": np.array([200.0]), "choice": (3, concordance, 0)}
    before = nested(LEARNERS["cox"], PEOPLE, TIMES, **settings)  # type: ignore[arg-type]
    out = folds == 0
    age = PEOPLE.columns[0].values
    spoilt = Covariates((Covariate("age", np.where(out, age * 7, age), "a"), *PEOPLE.columns[1:]))
    days = np.where(out, TIMES.days[::-1], TIMES.days)
    after = nested(LEARNERS["cox"], spoilt, Times(days, TIMES.happened), **settings)  # type: ignore[arg-type]
    assert before.settings[0] == after.settings[0]
    assert before.settings[1] != after.settings[1] or (before.risk[folds == 1] != after.risk[folds == 1]).any()


def test_a_preparation_is_kept_as_a_card() -> None:
    preparation = fit_preparation(PEOPLE)
    again = Preparation.from_card(preparation.as_card())
    assert again == preparation and again.features[-1] == ("stage", "stage: III")
    assert ("marker", "marker missing") in preparation.features
    np.testing.assert_array_equal(again.matrix(PEOPLE), preparation.matrix(PEOPLE))
    with pytest.raises(ConfigError):
        Preparation.from_card([{"name": "age"}])


def test_a_word_or_unit_that_was_not_learnt_from() -> None:
    preparation = fit_preparation(PEOPLE)
    person = PEOPLE.rows(np.array([0], dtype=np.int64))
    age, marker, _ = person.columns
    strange = Covariates((age, marker, Covariate("stage", np.zeros(1), "", ("IV",))))
    assert preparation.outside(strange) == (("stage",),)
    old = Covariates((Covariate("age", np.array([140.0]), "a"), *person.columns[1:]))
    assert preparation.outside(old) == (("age",),) and preparation.outside(person) == ((),)
    with pytest.raises(DataError, match="'age' is not what was learnt from: a is needed, got mo"):
        preparation.matrix(Covariates((Covariate("age", np.array([700.0]), "mo"), *person.columns[1:])))
    with pytest.raises(DataError, match="needs the covariate 'stage'"):
        preparation.matrix(Covariates(person.columns[:2]))


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match="no covariate differs"):
        fit_preparation(Covariates((Covariate("a", np.ones(5)),)))
    with pytest.raises(DataError, match="each name once"):
        Covariates((Covariate("a", np.ones(5)), Covariate("a", np.ones(5))))


def test_bands_hold_the_truth_about_as_often_as_they_say() -> None:
    """Of 20 sets drawn by one rule, how often the band of one person's curve holds that person's true share."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(20):
        x = rng.normal(size=150)
        event, lost = rng.exponential(100 * np.exp(-x)), rng.uniform(50, 300, 150)
        drawn = Covariates((Covariate("x", x),))
        times = Times(np.minimum(event, lost), event <= lost)
        learner = CoxLearner(l1_ratios=(0.0,), strengths=1)
        trained = learn(learner, drawn, times, Choice(np.zeros(150, dtype=np.int64), concordance))
        trained = type(trained)("cox", trained.preparation, learner.fit(
            trained.preparation.matrix(drawn), times, {"strength": 0.0, "l1_ratio": 0.0}, 0
        ), {"strength": 0.0, "l1_ratio": 0.0})  # fmt: skip
        again = refits(learner, trained, drawn, times, [str(n) for n in range(150)], count=20, seed=0)
        person, at = Covariates((Covariate("x", np.array([1.0])),)), np.array([60.0])
        band = band_around(trained.survival(person, at), [one.survival(person, at) for one in again])
        truth = np.exp(-60 / 100 * np.e)
        hits += bool(band.low[0, 0] <= truth <= band.high[0, 0])
    assert hits >= 15  # 18 expected of 20; below 15 has a chance of 1 % at 90 %


@pytest.mark.parametrize("name", ["cox", "forest"])
def test_drivers_add_up_and_name_what_matters(name: str) -> None:
    folds = patient_folds(NAMES, TIMES.happened, 3)
    trained = learn(LEARNERS[name], PEOPLE, TIMES, Choice(folds, concordance))
    assert isinstance(trained.model, Curves)
    person = PEOPLE.rows(np.array([int(np.nanargmax(PEOPLE.columns[1].values))], dtype=np.int64))
    found = drivers(trained, person, PEOPLE, horizon_days=200.0)
    assert found[0].covariate == "marker" and found[0].adds > 0 and {d.exact for d in found} == {name == "cox"}
    total = sum(d.adds for d in found)
    if name == "cox":
        assert total == pytest.approx(trained.risk(person)[0], abs=1e-9)
    else:
        scores = np.log(-np.log(trained.survival(PEOPLE, np.array([200.0]))[:, 0]))
        own = np.log(-np.log(trained.survival(person, np.array([200.0]))[0, 0]))
        assert total == pytest.approx(own - scores.mean(), abs=0.25)


def test_support_refuses_a_stranger_and_few_others() -> None:
    preparation = fit_people(PEOPLE)
    support = fit_support(preparation, PEOPLE, tuple(NAMES), refused_share=0.02)
    refused = [support.refuses(PEOPLE.rows(np.array([n], dtype=np.int64))) for n in range(len(PEOPLE))]
    assert sum(r is not None for r in refused) <= 0.02 * len(refused) + 1
    _, marker, stage = PEOPLE.rows(np.array([0], dtype=np.int64)).columns
    stranger = Covariates((Covariate("age", np.array([200.0]), "a"), marker, stage))
    assert "age lies beyond" in str(support.refuses(stranger))
    # Each value alone is usual, the two together are not.
    corner = Covariates((Covariate("age", np.array([88.0]), "a"), Covariate("marker", np.array([-2.9]), "ug/L"), stage))
    assert "no 5 patients" in str(support.refuses(corner))
    near = support.nearest(PEOPLE.rows(np.array([7], dtype=np.int64)), 10)
    assert near[0] == 7 and len(near) == 10
    with pytest.raises(DataError, match="too few"):
        fit_support(preparation, PEOPLE.rows(np.arange(20)), tuple(NAMES[:20]), refused_share=0.01)
