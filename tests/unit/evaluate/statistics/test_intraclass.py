"""Intraclass correlations against the published example, and simulated coverage."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.statistics import intraclass_correlation

# Shrout and Fleiss 1979, table 2.
RATINGS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=np.float64
)


def test_published_values_and_intervals():
    one, three = (intraclass_correlation(RATINGS, form=f) for f in ("1,1", "3,1"))
    assert one.value == pytest.approx(0.17, abs=0.005)
    assert three.value == pytest.approx(0.71, abs=0.005)
    # The intervals that R's psych::ICC prints for this table.
    assert (one.low, one.high) == pytest.approx((-0.133, 0.723), abs=0.001)
    assert (three.low, three.high) == pytest.approx((0.342, 0.946), abs=0.001)


def test_intervals_cover():
    rng = np.random.default_rng(0)
    truth, hits = 0.8, 0
    for _ in range(400):
        values = rng.normal(0, np.sqrt(truth), (20, 1)) + rng.normal(0, np.sqrt(1 - truth), (20, 4))
        found = intraclass_correlation(values)
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_shared_bias_counts_only_in_the_first_form():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(10, 1)) + 0.01 * rng.normal(size=(10, 3)) + np.array([0, 5, 10])
    assert intraclass_correlation(values, form="3,1").value > 0.99
    assert intraclass_correlation(values, form="1,1").value < 0.1


def test_nothing_varies_or_nothing_can_be_said():
    assert intraclass_correlation(np.full((4, 3), 7.0)).value is None
    assert intraclass_correlation(np.arange(4.0)[:, None] + np.zeros(3)).value == pytest.approx(1)
    for wrong in (np.zeros((1, 3)), np.zeros((3, 1)), np.full((3, 3), np.nan)):
        with pytest.raises(DataError):
            intraclass_correlation(wrong)
    with pytest.raises(ConfigError):
        intraclass_correlation(RATINGS, level=1.5)
