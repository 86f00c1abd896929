"""The forest: its splits by hand, its curves, and its concordance beside scikit-survival's."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.survival import kaplan_meier
from isocenter.tasks.prognose.forest import ForestSettings, fit_forest
from survival_cases import matrix


def test_a_column_that_parts_early_from_late_is_found() -> None:
    """Of 40 people half have the event on days 1 to 20, half on 101 to 120; the second column says which."""
    late = np.repeat([0.0, 1.0], 20)
    x = np.stack([np.random.default_rng(0).normal(size=40), late], axis=1)
    days = np.arange(1.0, 41) + 80 * late
    forest = fit_forest(x, days, np.ones(40, dtype=bool), ForestSettings(20, 2, 8), seed=1)
    assert (forest.column[forest.roots] == 1).all() and (forest.cut[forest.roots] == 0.5).all()
    risk = forest.risk(x)
    assert risk[:20].min() > risk[20:].max()


def test_a_forest_that_can_not_split_is_a_kaplan_meier_curve() -> None:
    x, days, happened = matrix(200)
    forest = fit_forest(x, days, happened, ForestSettings(400, 1, 150), seed=0)
    assert (forest.column == -1).all() and len(forest.mortality) == 400
    at = np.array([5.0, 20.0, 60.0])
    # Of resamples, so their mean is near that of all and not it.
    np.testing.assert_allclose(forest.survival(x[:1], at)[0], kaplan_meier(days, happened).at(at), atol=0.01)


def test_each_leaf_holds_what_it_must_and_every_person_has_one() -> None:
    x, days, happened = matrix(250)
    forest = fit_forest(x, days, happened, ForestSettings(30, 2, 12), seed=3)
    leaves = forest.leaves(x)
    assert leaves.shape == (250, 30) and (forest.column == -1).sum() == len(forest.mortality) == leaves.max() + 1
    curves = forest.survival(x, np.linspace(0, 200, 30))
    assert ((curves >= 0) & (curves <= 1)).all() and (np.diff(curves, axis=1) <= 1e-9).all()
    assert (curves[:, 0] == 1).all()


def test_the_same_seed_gives_the_same_forest() -> None:
    x, days, happened = matrix(120)
    one, again, other = (fit_forest(x, days, happened, ForestSettings(10), seed=s).risk(x) for s in (4, 4, 5))
    assert (one == again).all() and (one != other).any()


def test_concordance_is_that_of_scikit_survival() -> None:
    ensemble = pytest.importorskip("sksurv.ensemble")
    from sksurv.util import Surv

    x, days, happened = matrix(600, seed=5)
    new, later, came = matrix(600, seed=6)
    peer = ensemble.RandomSurvivalForest(n_estimators=100, min_samples_leaf=10, max_features="sqrt", random_state=0)
    theirs = concordance(later, came, peer.fit(x, Surv.from_arrays(happened, days)).predict(new))
    ours = concordance(later, came, fit_forest(x, days, happened, ForestSettings(100, None, 10)).risk(new))
    assert abs(ours - theirs) < 0.015 and ours > 0.65


def test_what_can_not_be_learnt_is_said() -> None:
    x, days, _ = matrix(30)
    with pytest.raises(DataError, match="nobody had the event"):
        fit_forest(x, days, np.zeros(30, dtype=bool))
    with pytest.raises(DataError, match="not finite"):
        fit_forest(np.full((30, 1), np.nan), days, np.ones(30, dtype=bool))
    with pytest.raises(ConfigError):
        ForestSettings(trees=0)
