"""Cox regression, beside lifelines and, where it is installed, scikit-survival."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError, TrainingError
from isocenter.tasks.prognose.cox import CoxModel, breslow_baseline, fit_cox, partial_likelihood, strongest_penalty
from survival_cases import matrix

X, DAYS, HAPPENED = matrix()


def of_lifelines(strength: float, l1_ratio: float) -> np.ndarray:
    lifelines = pytest.importorskip("lifelines")
    pandas = pytest.importorskip("pandas")
    with warnings.catch_warnings():
        # lifelines 0.30 writes to pandas objects in a way that pandas 4 will change; its values are right today.
        warnings.simplefilter("ignore", pandas.errors.Pandas4Warning)
        fitter = lifelines.CoxPHFitter(penalizer=strength, l1_ratio=l1_ratio)
        fitter.fit(pandas.DataFrame(X).assign(days=DAYS, happened=HAPPENED), "days", "happened")
        return np.asarray(fitter.params_.to_numpy())


@pytest.mark.parametrize(("strength", "l1_ratio", "tolerance"), [(0, 0, 1e-4), (0.1, 0, 1e-4), (0.05, 1, 2e-3)])
def test_coefficients_are_those_of_lifelines(strength: float, l1_ratio: float, tolerance: float) -> None:
    """It stops early, and its lasso is smoothed; scikit-survival below is met to the last digits."""
    ours = fit_cox(X, DAYS, HAPPENED, strength=strength, l1_ratio=l1_ratio).coefficients
    np.testing.assert_allclose(ours, of_lifelines(strength, l1_ratio), atol=tolerance)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_everything_is_that_of_scikit_survival(ties: str) -> None:
    linear = pytest.importorskip("sksurv.linear_model")
    from sksurv.util import Surv

    peer = linear.CoxPHSurvivalAnalysis(ties=ties).fit(X, Surv.from_arrays(HAPPENED, DAYS))
    ours = fit_cox(X, DAYS, HAPPENED, ties=ties)  # type: ignore[arg-type]
    np.testing.assert_allclose(ours.coefficients, peer.coef_, atol=1e-8)
    if ties == "breslow":
        at = np.array([5.0, 20.0, 60.0])
        theirs = np.array([f(at) for f in peer.predict_survival_function(X[:7])])
        np.testing.assert_allclose(ours.survival(X[:7], at), theirs, atol=1e-8)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.5, 0.1])
def test_the_elastic_net_is_that_of_scikit_survival(l1_ratio: float) -> None:
    linear = pytest.importorskip("sksurv.linear_model")
    from sksurv.util import Surv

    y = Surv.from_arrays(HAPPENED, DAYS)
    peer = linear.CoxnetSurvivalAnalysis(l1_ratio=l1_ratio, alphas=[0.05], tol=1e-12, max_iter=10**6).fit(X, y)
    ours = fit_cox(X, DAYS, HAPPENED, strength=0.05, l1_ratio=l1_ratio, ties="breslow").coefficients
    np.testing.assert_allclose(ours, peer.coef_[:, 0], atol=1e-5)


@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
def test_no_small_change_of_coefficients_is_better(l1_ratio: float) -> None:
    fitted = fit_cox(X, DAYS, HAPPENED, strength=0.05, l1_ratio=l1_ratio).coefficients

    def objective(b: np.ndarray) -> float:
        penalty = l1_ratio * np.abs(b).sum() + (1 - l1_ratio) / 2 * b @ b
        return -partial_likelihood(X, DAYS, HAPPENED, b) / len(X) + 0.05 * float(penalty)

    best = objective(fitted)
    for j in range(len(fitted)):
        for change in (1e-3, -1e-3):
            moved = fitted.copy()
            moved[j] += change
            assert objective(moved) > best
    assert (fitted == 0).any()


def test_the_strongest_penalty_leaves_nothing_and_a_weaker_one_does() -> None:
    most = strongest_penalty(X, DAYS, HAPPENED, l1_ratio=0.5)
    assert not fit_cox(X, DAYS, HAPPENED, strength=most * 1.001, l1_ratio=0.5).coefficients.any()
    assert fit_cox(X, DAYS, HAPPENED, strength=most * 0.95, l1_ratio=0.5).coefficients.any()


def test_contributions_add_up_exactly() -> None:
    model = fit_cox(X, DAYS, HAPPENED)
    np.testing.assert_allclose(model.contributions(X).sum(axis=1), model.risk(X), rtol=1e-12)


def test_a_baseline_for_a_risk_learnt_elsewhere() -> None:
    model = fit_cox(X, DAYS, HAPPENED)
    risk = model.risk(X)
    at = np.array([10.0, 50.0])
    again = breslow_baseline(risk + 3.0, DAYS, HAPPENED)
    np.testing.assert_allclose(again.survival((risk + 3.0)[:, None], at), model.survival(X, at), atol=1e-10)


def test_curves_fall_and_stay_shares() -> None:
    model = CoxModel(np.array([200.0]), np.zeros(1), np.array([1.0, 2.0]), np.array([0.1, 0.3]))
    curves = model.survival(np.array([[-10.0], [0.0], [10.0]]), np.array([0.5, 1.0, 3.0]))
    assert ((curves >= 0) & (curves <= 1)).all() and (np.diff(curves, axis=1) <= 0).all()
    assert curves[1].round(4).tolist() == [1.0, 0.9048, 0.7408]


def test_what_can_not_be_learnt_is_said() -> None:
    nobody = np.zeros(len(X), dtype=bool)
    with pytest.raises(DataError, match="nobody had the event"):
        fit_cox(X, DAYS, nobody)
    with pytest.raises(ConfigError):
        fit_cox(X, DAYS, HAPPENED, strength=-1.0)
    with pytest.raises(DataError, match="not finite"):
        fit_cox(np.where(X > 2, np.nan, X), DAYS, HAPPENED)
    order = np.arange(20.0)
    with pytest.raises(TrainingError, match="come to rest"):
        fit_cox(-order[:, None], order + 1, np.ones(20, dtype=bool))
