"""The Cox model of each option: against lifelines, and against a hazard that is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from isocenter.core.errors import ModelError
from isocenter.tasks.treat.hazard import fit_hazard


def _people(count: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 3))
    days = rng.exponential(500 * np.exp(-(0.8 * x[:, 0] - 0.4 * x[:, 1])))
    lost = rng.uniform(0, 1500, count)
    return x, np.minimum(days, lost), days <= lost


def test_it_is_that_of_lifelines() -> None:
    lifelines, pandas = pytest.importorskip("lifelines"), pytest.importorskip("pandas")
    x, days, happened = _people()
    ours = fit_hazard(x, days, happened, penalty=0.05)
    table = pandas.DataFrame(x, columns=list("abc")).assign(days=days, happened=happened)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = lifelines.CoxPHFitter(penalizer=0.05).fit(table, "days", "happened")
        survival = peer.predict_survival_function(table.iloc[:5], times=[100.0, 400.0]).to_numpy()
    # lifelines penalises weights of features that it scaled; ours are about unit deviation already.
    assert ours.weights == pytest.approx(peer.params_.to_numpy(), abs=0.01)
    for row, day in enumerate((100.0, 400.0)):
        assert ours.survival(x[:5], day) == pytest.approx(survival[row], abs=0.01)


def test_ties_count_as_at_risk() -> None:
    x = np.array([[0.0], [1.0], [0.0], [1.0], [0.5]])
    days, happened = np.array([2.0, 2.0, 3.0, 4.0, 2.0]), np.array([True, True, False, True, False])
    found = fit_hazard(x, days, happened, penalty=1e-6)
    assert found.days.tolist() == [2.0, 4.0]
    risk = np.exp((x - x.mean()) @ found.weights)
    assert found.cumulated[0] == pytest.approx(2 / risk.sum()), "all five are at risk on day 2 (Breslow)"


def test_survival_and_mean_days_are_of_one_curve() -> None:
    x, days, happened = _people(200, 1)
    found = fit_hazard(x, days, happened)
    grid = np.linspace(0, 600, 2001)
    curve = np.stack([found.survival(x[:3], day) for day in grid])
    assert found.mean_days(x[:3], 600.0) == pytest.approx(np.trapezoid(curve, grid, axis=0), rel=1e-3)
    assert found.survival(x[:3], 0.0).tolist() == [1, 1, 1]


def test_a_known_hazard_is_found() -> None:
    x, days, happened = _people(6000, 2)
    assert fit_hazard(x, days, happened, penalty=0.0).weights == pytest.approx([0.8, -0.4, 0.0], abs=0.06)


def test_no_event_is_refused() -> None:
    x, days, happened = _people(50)
    with pytest.raises(ModelError, match="no event"):
        fit_hazard(x, days, np.zeros_like(happened))


def test_one_feature_that_tells_the_event_stays_finite() -> None:
    x, days, _ = _people(50)
    order = np.argsort(days)
    x[order, 0] = np.linspace(-2, 2, 50)
    assert np.isfinite(fit_hazard(x, days, np.ones(50, dtype=bool)).weights).all()
