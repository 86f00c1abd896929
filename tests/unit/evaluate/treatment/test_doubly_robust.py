"""Averages, groups and rules by doubly robust scores, on people whose effects are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.treatment import (
    OptionScores,
    average_effect,
    best_linear_predictor,
    doubly_robust_scores,
    group_effects,
    policy_value,
)


def _people(seed: int, count: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(count)
    chance = expit(0.8 * x)
    treated = rng.random(count) < chance
    effect = 1.0 + x
    outcome = 2 * x + effect * treated + rng.standard_normal(count)
    return x, chance, treated, effect, outcome


@pytest.mark.parametrize(("right_outcome", "right_chance"), [(True, False), (False, True), (True, True)])
def test_either_model_may_be_wrong(right_outcome: bool, right_chance: bool) -> None:
    x, chance, treated, effect, outcome = _people(1)
    expected = np.stack([2 * x, 2 * x + effect]) if right_outcome else np.zeros((2, len(x)))
    scores = doubly_robust_scores(outcome, treated, chance if right_chance else np.full(len(x), 0.4), expected)
    found = average_effect(scores, level=0.99)
    assert found.low < effect.mean() < found.high


def test_both_wrong_is_wrong() -> None:
    x, _, treated, effect, outcome = _people(1)
    scores = doubly_robust_scores(outcome, treated, np.full(len(x), 0.5), np.zeros((2, len(x))))
    assert average_effect(scores, level=0.99).low > effect.mean(), "confounding is not made up for"


def test_intervals_cover_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(200):
        x, chance, treated, effect, outcome = _people(seed, 500)
        scores = doubly_robust_scores(outcome, treated, chance, np.stack([2 * x, 2 * x + effect]))
        found = average_effect(scores, level=0.9)
        inside += found.low < 1.0 < found.high
    assert 0.83 <= inside / 200 <= 0.96


def test_groups_and_line_follow_true_differences() -> None:
    x, chance, treated, effect, outcome = _people(2)
    scores = doubly_robust_scores(outcome, treated, chance, np.stack([2 * x, 2 * x + effect]))
    line = best_linear_predictor(scores, effect)
    assert line.slope.low < 1 < line.slope.high and line.p_no_heterogeneity < 1e-6
    assert line.mean.value == pytest.approx(average_effect(scores).value)
    double = best_linear_predictor(scores, 2 * effect)
    assert double.slope.value == pytest.approx(line.slope.value / 2)
    groups = group_effects(scores, effect)
    assert [g.predicted for g in groups] == sorted(g.predicted for g in groups)
    assert all(g.found.low < g.predicted < g.found.high for g in groups[1:4])
    nothing = best_linear_predictor(scores, np.random.default_rng(0).standard_normal(len(x)))
    assert nothing.p_no_heterogeneity > 0.01


def test_line_equals_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.api")
    x, chance, treated, effect, outcome = _people(3, 300)
    scores = doubly_robust_scores(outcome, treated, chance, np.zeros((2, len(x))))
    centred = effect - effect.mean()
    peer = api.OLS(scores.effect, api.add_constant(centred)).fit(cov_type="HC3")
    ours = best_linear_predictor(scores, effect)
    assert (ours.mean.value, ours.slope.value) == pytest.approx(tuple(peer.params))
    assert (ours.slope.high - ours.slope.value) / 1.959964 == pytest.approx(peer.bse[1], rel=1e-4)


def test_rules_are_worth_what_they_bring() -> None:
    x, chance, treated, effect, outcome = _people(4)
    scores = doubly_robust_scores(outcome, treated, chance, np.stack([2 * x, 2 * x + effect]))
    best, everyone = effect > 0, np.ones(len(x), dtype=bool)
    gain = policy_value(scores, best, against=everyone)
    assert gain.low < np.maximum(-effect, 0).mean() < gain.high and gain.low > 0
    whole = policy_value(scores, best)
    assert whole.value == pytest.approx(policy_value(scores, everyone).value + gain.value)
    assert policy_value(scores, everyone, against=everyone).high == 0


def test_what_cannot_be_said_is_refused() -> None:
    scores = OptionScores(np.zeros(20), np.ones(20))
    with pytest.raises(DataError, match="is 0 or 1"):
        doubly_robust_scores(np.zeros(2), np.array([True, False]), np.array([0.0, 0.5]), np.zeros((2, 2)))
    with pytest.raises(DataError, match="all predicted effects are equal"):
        best_linear_predictor(scores, np.ones(20))
    with pytest.raises(DataError, match="too few"):
        average_effect(OptionScores(np.zeros(5), np.ones(5)))
    with pytest.raises(DataError, match="rules for 3"):
        policy_value(scores, np.ones(3, dtype=bool))
    with pytest.raises(DataError, match="predictions for 3"):
        group_effects(scores, np.ones(3))
    with pytest.raises(DataError, match="predictions for 3"):
        best_linear_predictor(scores, np.ones(3))
    with pytest.raises(DataError, match="too few"):
        group_effects(scores, np.arange(20.0), groups=5)
    for wrong in (lambda: group_effects(scores, np.ones(20), groups=1), lambda: average_effect(scores, level=1.0)):
        with pytest.raises(ConfigError):
            wrong()
