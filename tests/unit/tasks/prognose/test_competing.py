"""Competing events: beside lifelines, and against what must hold."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.evaluate.survival import kaplan_meier
from isocenter.tasks.prognose.competing import aalen_johansen, fit_cause_specific
from survival_cases import matrix


def drawn(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, days, happened = matrix(n, 3)
    second = np.random.default_rng(9).random(n) < 0.4
    return x, days, np.where(happened, np.where(second, 2, 1), 0).astype(np.int64)


def test_the_incidence_is_that_of_lifelines() -> None:
    lifelines, pandas = pytest.importorskip("lifelines"), pytest.importorskip("pandas")
    _, days, codes = drawn()
    # Without ties: there it draws random jitter.
    days = days + np.arange(len(days)) * 1e-6
    ours = aalen_johansen(days, codes)
    for cause in (1, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pandas.errors.Pandas4Warning)
            fitter = lifelines.AalenJohansenFitter(calculate_variance=False)
            fitter.fit(days, codes, event_of_interest=cause)
        curve = fitter.cumulative_density_
        at = np.array([5.0, 20.0, 60.0])
        theirs = curve.to_numpy()[np.searchsorted(curve.index.to_numpy(), at, side="right") - 1, 0]
        np.testing.assert_allclose(ours.at(at)[cause - 1], theirs, atol=1e-9)


def test_all_incidences_and_survival_add_up_to_one() -> None:
    _, days, codes = drawn()
    at = np.array([1.0, 10.0, 50.0])
    np.testing.assert_allclose(aalen_johansen(days, codes).at(at).sum(axis=0), 1 - kaplan_meier(days, codes > 0).at(at))


def test_one_minus_kaplan_meier_promises_more_than_happens() -> None:
    _, days, codes = drawn()
    at = np.array([50.0])
    assert 1 - kaplan_meier(days, codes == 1).at(at)[0] > aalen_johansen(days, codes).at(at)[0, 0] + 0.02


def test_persons_incidences_average_to_the_groups() -> None:
    x, days, codes = drawn(1500)
    model = fit_cause_specific(x, days, codes)
    at = np.array([10.0, 40.0])
    group = aalen_johansen(days, codes).at(at)
    for cause in (1, 2):
        mean = model.incidence(x, at, cause=cause).mean(axis=0)
        np.testing.assert_allclose(mean, group[cause - 1], atol=0.02)
    both = sum(model.incidence(x, at, cause=c) for c in (1, 2))
    assert both.max() <= 1 and (np.diff(model.survival(x, at), axis=1) <= 0).all()


def test_without_competing_events_it_is_cox_regression() -> None:
    x, days, happened = matrix(200, 2, tied=False)
    model = fit_cause_specific(x, days, happened.astype(np.int64))
    at = np.array([5.0, 25.0])
    np.testing.assert_allclose(model.survival(x, at), model.models[0].survival(x, at), atol=1e-9)


@pytest.mark.parametrize(("days", "codes"), [([1.0, 2.0], [0, 0]), ([-1.0, 2.0], [1, 0]), ([1.0, 2.0], [1, -1])])
def test_what_can_not_be_is_refused(days: list[float], codes: list[int]) -> None:
    with pytest.raises(DataError):
        aalen_johansen(np.array(days), np.array(codes, dtype=np.int64))
