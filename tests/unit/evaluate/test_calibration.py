"""Calibration errors, and the slope and intercept of recalibration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from isocenter.core.errors import ConfigError, DataError, PixelError
from isocenter.evaluate.calibration import (
    adaptive_calibration_error,
    adaptive_reliability,
    class_wise_calibration_error,
    expected_calibration_error,
    recalibration,
    reliability,
    top_label_calibration_error,
    wilson_interval,
)


def test_true_probabilities_have_almost_no_error_and_overconfident_ones_have():
    rng = np.random.default_rng(0)
    probability = rng.uniform(0, 1, 200_000)
    happened = rng.random(200_000) < probability
    assert reliability(probability, happened).expected_calibration_error < 0.01
    pushed = probability**3 / (probability**3 + (1 - probability) ** 3)
    assert reliability(pushed, happened).expected_calibration_error > 0.1


def test_bins_hold_what_they_say():
    found = reliability(np.array([0.0, 0.1, 1.0, 0.95]), np.array([False, True, True, True]), bins=2)
    assert found.counts.tolist() == [2, 2]
    assert found.predicted.tolist() == [0.05, 0.975]
    assert found.observed.tolist() == [0.5, 1.0]
    assert found.expected_calibration_error == pytest.approx((0.45 + 0.025) / 2)


def test_what_is_no_probability_is_refused():
    with pytest.raises(PixelError):
        reliability(np.array([0.5, np.nan]), np.array([True, False]))
    with pytest.raises(PixelError):
        reliability(np.array([0.5, 1.5]), np.array([True, False]))
    with pytest.raises(ConfigError):
        reliability(np.zeros(0), np.zeros(0, dtype=bool))


def test_adaptive_bins_hold_as_many_and_never_tear_ties():
    rng = np.random.default_rng(1)
    probability = rng.random(300) ** 3
    happened = rng.random(300) < probability
    found = adaptive_reliability(happened, probability, bins=10)
    assert found.counts.tolist() == [30] * 10
    order = np.argsort(probability)
    expected = [abs(probability[i].mean() - happened[i].mean()) for i in np.split(order, 10)]
    assert adaptive_calibration_error(happened, probability, bins=10) == pytest.approx(np.mean(expected))
    tied = np.repeat([0.1, 0.2, 0.9], [50, 30, 20])
    turned = rng.permutation(100)
    one = adaptive_reliability(happened[:100], tied, bins=4)
    two = adaptive_reliability(happened[:100][turned], tied[turned], bins=4)
    assert one.counts.tolist() == two.counts.tolist()
    assert np.array_equal(one.observed, two.observed, equal_nan=True)
    assert set(one.counts[one.counts > 0].tolist()) == {50.0, 30.0, 20.0}


def test_wilson_interval_against_scipy():
    happened, cases = np.array([0.0, 3.0, 10.0, 57.0]), np.array([10.0, 10.0, 10.0, 200.0])
    low, high = wilson_interval(happened, cases, level=0.9)
    for i in range(4):
        expected = stats.binomtest(int(happened[i]), int(cases[i])).proportion_ci(0.9, method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert np.isnan(wilson_interval(np.zeros(1), np.zeros(1))[0]).all()
    found = reliability(np.array([0.1, 0.1, 0.9]), np.array([False, True, True]), bins=2)
    low, high = found.observed_interval()
    assert (low <= found.observed).all()
    assert (found.observed <= high).all()
    assert found.maximum_calibration_error == pytest.approx(0.4)


@pytest.mark.parametrize("seed", range(4))
def test_slope_and_intercept_equal_a_logistic_regression_without_penalty(seed):
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(seed)
    true_odds = rng.normal(-1, 2, 400)
    happened = rng.random(400) < 1 / (1 + np.exp(-true_odds))
    probability = 1 / (1 + np.exp(-(1.7 * true_odds + 0.4)))
    found = recalibration(happened, probability)
    odds = np.log(probability / (1 - probability))
    theirs = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds[:, None], happened)
    assert (found.slope, found.intercept) == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=1e-4)
    # With the slope held at 1, as many are expected as happened.
    shifted = 1 / (1 + np.exp(-(odds + found.in_the_large)))
    assert shifted.sum() == pytest.approx(happened.sum(), rel=1e-6)  # the ends are held off 0 and 1


def test_the_slope_tells_overconfidence_and_its_error_the_spread():
    rng = np.random.default_rng(0)
    slopes, errors = [], []
    for _ in range(200):
        odds = rng.normal(0, 1.5, 300)
        happened = rng.random(300) < 1 / (1 + np.exp(-odds))
        found = recalibration(happened, 1 / (1 + np.exp(-2 * odds)))
        slopes.append(found.slope)
        errors.append(found.slope_error)
    assert np.mean(slopes) == pytest.approx(0.5, abs=0.02)
    assert np.std(slopes) == pytest.approx(np.mean(errors), rel=0.2)


def test_calibration_of_several_classes():
    rng = np.random.default_rng(2)
    probability = rng.dirichlet(np.ones(3), 500)
    truth = np.array([rng.choice(3, p=p) for p in probability])
    each = [expected_calibration_error(truth == c, probability[:, c], bins=10) for c in range(3)]
    assert class_wise_calibration_error(truth, probability, bins=10) == pytest.approx(np.mean(each))
    top = reliability(probability.max(1), probability.argmax(1) == truth, bins=10)
    assert top_label_calibration_error(truth, probability, bins=10) == top.expected_calibration_error


def test_where_no_slope_exists_it_is_said():
    with pytest.raises(DataError, match="without overlap"):
        recalibration(np.array([False, False, True, True]), np.array([0.1, 0.2, 0.8, 0.9]))
    with pytest.raises(DataError, match="alike"):
        recalibration(np.array([False, False, True, True]), np.full(4, 0.3))
    with pytest.raises(DataError, match="both kinds"):
        recalibration(np.array([True, True]), np.array([0.1, 0.2]))
    with pytest.raises(DataError, match=r"0\.\.1"):
        recalibration(np.array([True, False]), np.array([0.1, 1.2]))
    with pytest.raises(ConfigError, match="level"):
        wilson_interval(np.ones(1), np.ones(1), level=95)
