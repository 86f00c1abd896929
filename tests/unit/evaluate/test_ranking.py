"""AUROC and concordance against their definitions by counting pairs."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import bootstrap_statistic
from isocenter.evaluate.ranking import auroc, auroc_macro, concordance


def test_auroc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    truth, scores = rng.random(60) < 0.3, np.round(rng.random(60), 1)
    pairs = [(p > n) + 0.5 * (p == n) for p in scores[truth] for n in scores[~truth]]
    assert auroc(truth, scores) == pytest.approx(np.mean(pairs))
    assert auroc(truth, -scores) == pytest.approx(1 - np.mean(pairs))
    assert np.isnan(auroc(np.ones(3, bool), np.arange(3.0)))


def test_macro_is_each_class_against_the_rest():
    rng = np.random.default_rng(1)
    truth, scores = rng.integers(0, 3, 50), rng.random((50, 3))
    assert auroc_macro(truth, scores) == pytest.approx(np.mean([auroc(truth == c, scores[:, c]) for c in range(3)]))
    assert auroc_macro(truth % 2, scores[:, :2]) == pytest.approx(auroc(truth % 2 == 1, scores[:, 1]))
    assert np.isnan(auroc_macro(np.zeros(5, int), scores[:5]))


def test_concordance_by_counting():
    rng = np.random.default_rng(2)
    days, happened, risk = rng.integers(1, 9, 30).astype(float), rng.random(30) < 0.6, np.round(rng.random(30), 1)
    right = total = 0.0
    for i in range(30):
        for j in range(30):
            if happened[i] and (days[i] < days[j] or (days[i] == days[j] and not happened[j])):
                total += 1
                right += (risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j])
    assert concordance(days, happened, risk) == pytest.approx(right / total)
    assert np.isnan(concordance(days, np.zeros(30, bool), risk))


def test_bootstrap_of_any_statistic_resamples_patients():
    values = np.repeat(np.arange(12.0), 5)
    patients = np.repeat([f"p{i}" for i in range(12)], 5).tolist()
    together = bootstrap_statistic(lambda i: float(values[i].mean()), patients)
    alone = bootstrap_statistic(lambda i: float(values[i].mean()), [f"{p}-{i}" for i, p in enumerate(patients)])
    assert together.value == alone.value == pytest.approx(5.5)
    assert together.high - together.low > 1.8 * (alone.high - alone.low), "images of one patient are not independent"
    with pytest.raises(DataError, match="too few for an interval"):
        bootstrap_statistic(lambda _: 1.0, ["a"] * 20)
    with pytest.raises(DataError, match="not defined on these"):
        bootstrap_statistic(lambda _: float("nan"), patients)
