"""Fine and Gray's regression: beside a likelihood written out by hand, and against a share that is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from isocenter.core.errors import DataError
from isocenter.evaluate.ranking import concordance
from isocenter.tasks.prognose.cox import fit_cox
from isocenter.tasks.prognose.fine_gray import fine_gray_likelihood, fit_fine_gray
from isocenter.tasks.prognose.learners import Choice, CompetingLearner, FineGrayLearner, Times, learn
from isocenter.tasks.prognose.nested import patient_folds
from survival_cases import matrix, people


def in_sight(days: np.ndarray, codes: np.ndarray, day: float) -> float:
    """Kaplan-Meier of being lost, just before a day, person by person."""
    share = 1.0
    for t in sorted({float(d) for d, c in zip(days, codes, strict=True) if c == 0 and d < day}):
        lost = sum(1 for d, c in zip(days, codes, strict=True) if d == t and c == 0)
        events = sum(1 for d, c in zip(days, codes, strict=True) if d == t and c > 0)
        at_risk = sum(1 for d in days if d >= t)
        share *= 1 - lost / (at_risk - events)
    return share


def by_hand(x: np.ndarray, days: np.ndarray, codes: np.ndarray, beta: np.ndarray) -> float:
    """The log partial likelihood, one event and one person at a time."""
    eta, total = x @ beta, 0.0
    for i in np.flatnonzero(codes == 1):
        weight = np.zeros(len(days))
        for k in range(len(days)):
            if days[k] >= days[i]:
                weight[k] = 1
            elif codes[k] > 1:
                weight[k] = in_sight(days, codes, days[i]) / in_sight(days, codes, days[k])
        total += eta[i] - np.log((weight * np.exp(eta)).sum())
    return float(total)


def drawn(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)), np.ceil(rng.exponential(8, n)), rng.integers(0, 3, n)


def test_a_likelihood_on_paper() -> None:
    """Lost on day 1 of four; another event on day 2; events on days 3 and 4: weights 1 and (2/3)/(2/3) = 1.

    On day 3 at risk are the two to come and the one of day 2; on day 4 the last and the one of day 2.
    """
    days, codes = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 2, 1, 1])
    risk = np.array([0.3, 1.0, -0.5, 0.2])
    eta = risk - risk.mean()
    paper = eta[2] - np.log(np.exp(eta[[1, 2, 3]]).sum()) + eta[3] - np.log(np.exp(eta[[1, 3]]).sum())
    assert fine_gray_likelihood(risk, days, codes) == pytest.approx(paper, rel=1e-12)
    # One more is lost on day 3, after the event: on day 4 the one of day 2 counts by half.
    days, codes, eta = np.append(days, 3.0), np.append(codes, 0), np.append(risk, 0.0)
    eta = eta - eta.mean()
    day_3 = eta[2] - np.log(np.exp(eta[[1, 2, 3, 4]]).sum())
    day_4 = eta[3] - np.log(np.exp(eta[3]) + 0.5 * np.exp(eta[1]))
    found = fine_gray_likelihood(np.append(risk, 0.0), days, codes)
    assert found == pytest.approx(day_3 + day_4, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_fit_is_that_of_the_likelihood_written_out(seed: int) -> None:
    x, days, codes = drawn(40, seed)
    ours = fit_fine_gray(x, days, codes).cox.coefficients
    assert fine_gray_likelihood(x @ ours, days, codes) == pytest.approx(by_hand(x, days, codes, ours), rel=1e-9)
    theirs = minimize(lambda b: -by_hand(x, days, codes, b), np.zeros(2), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_without_other_events_it_is_cox_regression() -> None:
    x, days, happened = matrix(200, 2)
    ours, cox = fit_fine_gray(x, days, happened.astype(np.int64)), fit_cox(x, days, happened, ties="breslow")
    np.testing.assert_allclose(ours.cox.coefficients, cox.coefficients, atol=1e-8)


def shares(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """People whose share with the event is known: Fine and Gray's own simulation, with people lost."""
    rng = np.random.default_rng(seed)
    x, truth, p = rng.normal(size=(n, 2)), np.array([0.5, -0.5]), 0.4
    ratio = np.exp(x @ truth)
    ever = 1 - (1 - p) ** ratio
    first = rng.random(n) < ever
    event = -np.log(1 - (1 - (1 - rng.random(n) * ever) ** (1 / ratio)) / p)
    time, lost = np.where(first, event, rng.exponential(1, n)), rng.exponential(2, n)
    return x, np.minimum(time, lost), np.where(time <= lost, np.where(first, 1, 2), 0), truth


def test_a_share_that_is_known_is_found_again() -> None:
    x, days, codes, truth = shares(20000, 4)
    model = fit_fine_gray(x, days, codes)
    np.testing.assert_allclose(model.cox.coefficients, truth, atol=0.04)
    who, at = np.array([[0.0, 0.0], [1.0, -1.0], [-1.0, 1.0]]), np.array([0.3, 1.0, 2.0])
    known = 1 - (1 - 0.4 * (1 - np.exp(-at))) ** np.exp(who @ truth)[:, None]
    np.testing.assert_allclose(1 - model.survival(who, at), known, atol=0.015)
    # Those with another event taken for lost, the share is overstated: that is what the weights are for.
    cox = fit_cox(x, days, codes == 1)
    assert (1 - cox.survival(who, at) > known + 0.01)[:, 1:].all()


def test_the_learner_chooses_its_penalty_and_stands_beside_the_cause_specific_one() -> None:
    known, times = people(300)
    second = np.random.default_rng(2).random(300) < 0.4
    times = Times(times.days, times.happened & ~second, np.where(times.happened, 1 + second, 0).astype(np.int64))
    folds = patient_folds([str(n) for n in range(300)], times.happened, 3)
    made = [learn(one, known, times, Choice(folds, concordance)) for one in (FineGrayLearner(), CompetingLearner())]
    at = np.array([100.0, 300.0])
    ours, other = (m.survival(known, at) for m in made)
    assert np.corrcoef(ours[:, 1], other[:, 1])[0, 1] > 0.85
    np.testing.assert_allclose(ours.mean(axis=0), other.mean(axis=0), atol=0.02)
    with pytest.raises(DataError, match="no events compete"):
        learn(FineGrayLearner(), known, Times(times.days, times.happened), Choice(folds, concordance))


def test_what_can_not_be_is_refused() -> None:
    x, days, codes = drawn(20)
    with pytest.raises(DataError, match="nobody had the event"):
        fit_fine_gray(x, days, np.where(codes == 1, 2, codes))
    with pytest.raises(DataError, match="not finite"):
        fit_fine_gray(np.full_like(x, np.nan), days, codes)
