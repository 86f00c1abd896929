"""Balance, sensitivity and truth: literal values of papers, and what weighting must do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from isocenter.core.errors import DataError
from isocenter.evaluate.treatment import (
    e_value,
    effective_sample_size,
    interval_coverage,
    inverse_weights,
    pehe,
    policy_regret,
    risk_ratio_of_difference,
    robustness_value,
    standardised_differences,
)


def test_weighting_balances() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6000, 2))
    chance = expit(x[:, 0])
    treated = rng.random(6000) < chance
    before = standardised_differences(x, treated)
    after = standardised_differences(x, treated, inverse_weights(chance, treated))
    assert before[0] > 0.7 and abs(after[0]) < 0.1 and abs(after[1]) < 0.1
    weights = inverse_weights(chance, treated)
    assert weights[treated].mean() == pytest.approx(1) and weights[~treated].mean() == pytest.approx(1)
    assert effective_sample_size(weights[treated]) < treated.sum()
    assert effective_sample_size(np.ones(7)) == 7 and effective_sample_size(np.zeros(3)) == 0


def test_a_feature_without_spread_does_not_differ() -> None:
    features = np.array([[1.0, 5.0], [1.0, 7.0], [1.0, 5.0], [1.0, 7.0]])
    assert standardised_differences(features, np.array([True, True, False, False])).tolist() == [0, 0]
    with pytest.raises(DataError, match="same option"):
        standardised_differences(features, np.ones(4, dtype=bool))


def test_bounds_are_those_of_their_papers() -> None:
    # VanderWeele and Ding 2017: 3.9 (1.8 to 8.7) has E-values 7.26 and 3.0.
    assert (round(e_value(3.9), 2), round(e_value(1.8), 2)) == (7.26, 3.0)
    # Cinelli and Hazlett 2020, Darfur: t 4.18 with 783 degrees of freedom, 13.9 %.
    assert round(robustness_value(4.18, 783), 3) == 0.139
    assert robustness_value(0.0, 10) == 0
    assert risk_ratio_of_difference(0.5, 1.0) == pytest.approx(1.576, abs=0.001)
    for wrong in (lambda: e_value(0.0), lambda: e_value(float("nan")), lambda: robustness_value(1.0, 0),
                  lambda: risk_ratio_of_difference(1.0, 0.0)):  # fmt: skip
        with pytest.raises(DataError):
            wrong()


def test_truth() -> None:
    true = np.array([1.0, -1.0, 2.0])
    assert pehe(true, true) == 0 and policy_regret(true, true) == 0
    assert policy_regret(-true, true) == pytest.approx(4 / 3)
    assert interval_coverage(true, true, true) == 1
    with pytest.raises(DataError):
        policy_regret(true[:0], true[:0])
