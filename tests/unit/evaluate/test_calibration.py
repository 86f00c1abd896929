"""The calibration error of binary events."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, PixelError
from isocenter.evaluate.calibration import reliability


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
