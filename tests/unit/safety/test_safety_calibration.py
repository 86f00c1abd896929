"""Temperature, Platt, isotonic, risks and thresholds of masks: against named references, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.calibration import reliability
from isocenter.safety.calibration import (
    Isotonic,
    Platt,
    Temperature,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from isocenter.safety.intervals import IntervalRule, fit_absolute, fit_normalised, fit_quantiles, fit_ratio
from isocenter.safety.masks import THRESHOLDS, MaskRule, fit_mask_threshold, missed_shares
from isocenter.safety.risks import RiskRule, fit_risks


def events(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores whose chance is the square of their logistic function: a curve that no line follows."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, count)
    return scores, rng.random(count) < (1 / (1 + np.exp(-scores))) ** 2


def test_isotonic_is_that_of_scikit_learn() -> None:
    peer = pytest.importorskip("sklearn.isotonic")
    scores, happened = events(1, 500)
    theirs = peer.IsotonicRegression(out_of_bounds="clip").fit(scores, happened.astype(float))
    at = np.linspace(-8, 8, 301)
    np.testing.assert_allclose(fit_isotonic(scores, happened).apply(at), theirs.predict(at), atol=1e-9)
    rounded = scores.round(0)  # ties
    theirs = peer.IsotonicRegression(out_of_bounds="clip").fit(rounded, happened.astype(float))
    np.testing.assert_allclose(fit_isotonic(rounded, happened).apply(at), theirs.predict(at), atol=1e-9)


def test_platt_is_that_of_scikit_learn() -> None:
    peer = pytest.importorskip("sklearn.calibration")
    scores, happened = events(2, 300)
    theirs = peer._SigmoidCalibration().fit(scores, happened.astype(int))
    ours = fit_platt(scores, happened)
    np.testing.assert_allclose([ours.slope, ours.intercept], [-theirs.a_, -theirs.b_], rtol=1e-3, atol=1e-3)


def test_each_map_brings_probabilities_nearer_to_what_happens() -> None:
    scores, happened = events(3, 3000)
    new, then = events(4, 3000)
    raw = 1 / (1 + np.exp(-2 * new))
    before = reliability(raw, then).expected_calibration_error
    for fitted in (fit_platt(scores, happened), fit_isotonic(scores, happened)):
        assert reliability(np.asarray(fitted.apply(new)), then).expected_calibration_error < 0.3 * before
    logits = np.stack([np.zeros(3000), 6 * scores], axis=1)
    assert fit_temperature(logits, happened.astype(int)).value > 3, "far too sure"


def test_a_few_cases_that_are_all_right_do_not_make_an_answer_certain() -> None:
    logits = np.tile([[4.0, -4.0]], (20, 1))
    found = fit_temperature(logits, np.zeros(20, int)).apply(logits[:1])
    assert 0.9 < found[0, 0] < 0.99


def test_risks_bracket_what_happens_and_widen_where_cases_are_few() -> None:
    scores, happened = events(5, 400)
    rule = fit_risks(scores, happened.astype(float))
    again = RiskRule.from_card(json.loads(json.dumps(rule.as_card())))
    assert again == rule
    new, then = events(6, 4000)
    found = np.array([rule.around(float(s)) for s in new[:600]])
    low, middle, high = found.T
    assert (low <= middle + 1e-12).all() and (middle <= high + 1e-12).all() and low.min() >= 0 and high.max() <= 1
    assert low.mean() - 0.02 <= then.mean() <= high.mean() + 0.02
    assert reliability(middle, then[:600]).expected_calibration_error < 0.06
    few = fit_risks(scores[:60], happened[:60].astype(float))
    widths = [np.mean([r.around(float(s))[2] - r.around(float(s))[0] for s in new[:200]]) for r in (rule, few)]
    assert widths[1] > 2 * widths[0]


def test_one_of_the_two_chances_is_calibrated_exactly_on_every_bag() -> None:
    """Venn-Abers: given the bag, the one that fits the outcome equals the frequency among cases with that chance."""
    scores, happened = events(7, 60)
    outcome = happened.astype(float)
    told = []
    for i in range(60):
        rest = np.arange(60) != i
        low, _, high = fit_risks(scores[rest], outcome[rest]).around(float(scores[i]))
        told.append(high if happened[i] else low)
    for chance in np.unique(np.round(told, 12)):
        mine = np.isclose(told, chance)
        assert outcome[mine].mean() == pytest.approx(chance, abs=1e-9)


def test_weights_stand_for_cases() -> None:
    scores, outcome = np.arange(40.0), (np.arange(40) % 3 == 0).astype(float)
    doubled = fit_risks(np.repeat(scores, 2), np.repeat(outcome, 2))
    weighed = fit_risks(scores, outcome, np.full(40, 2.0))
    assert doubled.around(17.5) == pytest.approx(weighed.around(17.5))


def test_rules_survive_json() -> None:
    rng = np.random.default_rng(0)
    truth = rng.gamma(3, 1, 100)
    answers = truth + rng.normal(0, 0.1, 100)
    for rule in (fit_absolute(answers, truth), fit_ratio(np.abs(answers) + 0.1, truth)):
        assert IntervalRule.from_card(json.loads(json.dumps(rule.as_card()))) == rule
    scores, happened = events(8, 100)
    fitted = fit_isotonic(scores, happened)
    assert Isotonic.from_card(json.loads(json.dumps(fitted.as_card()))) == fitted
    mask = fit_mask_threshold(np.tile(np.array(THRESHOLDS) / 3, (30, 1)))
    assert MaskRule.from_card(json.loads(json.dumps(mask.as_card()))) == mask
    assert Platt(**fit_platt(scores, happened).as_card()) and Temperature(**Temperature(2.0).as_card())
    for kind in (IntervalRule, Isotonic, MaskRule, RiskRule):
        with pytest.raises(ConfigError, match="this is not"):
            kind.from_card({"unknown": 1})


def test_a_ratio_puts_a_constant_error_of_volumes_right() -> None:
    rng = np.random.default_rng(1)
    truth = rng.gamma(4, 2, 300)
    rule = fit_ratio(1.25 * truth * np.exp(rng.normal(0, 0.05, 300)), truth)
    low, high = rule.around(12.5)
    assert low < 10 < high < 12.5, "a network that outlines a quarter too much"


def test_a_negative_correction_never_turns_an_interval_over() -> None:
    wide = fit_quantiles(np.full(50, -10.0), np.full(50, 10.0), np.linspace(-1, 1, 50))
    assert wide.around(0.0, quantiles=(-0.5, 0.7)) == pytest.approx((0.1, 0.1))


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: fit_absolute(np.zeros(5), np.zeros(5)), "5 calibration cases"),
        (lambda: fit_absolute(np.zeros(30), np.full(30, np.nan)), "not finite"),
        (lambda: fit_normalised(np.zeros(30), np.zeros(30), np.zeros(30)), "not positive"),
        (lambda: fit_quantiles(np.ones(30), np.zeros(30), np.zeros(30)), "above its high"),
        (lambda: fit_ratio(np.zeros(30), np.ones(30)), "positive answers"),
        (lambda: fit_ratio(np.ones(18), np.ones(18)), "at least 19"),
        (lambda: fit_platt(np.zeros(9), np.zeros(9, bool)), "all cases are of one class"),
        (lambda: fit_isotonic(np.zeros(9), np.ones(9, bool)), "all cases are of one class"),
        (lambda: fit_isotonic(np.array([np.nan, 1]), np.array([True, False])), "must be finite"),
        (lambda: fit_temperature(np.zeros((0, 2)), np.zeros(0, int)), "needs cases"),
        (lambda: fit_temperature(np.full((3, 2), np.inf), np.zeros(3, int)), "not finite"),
        (lambda: fit_risks(np.zeros(30), np.zeros(30)), "0 of 30 calibration cases have the event"),
        (lambda: fit_risks(np.zeros(30), np.full(30, 0.5)), "0 or 1"),
        (lambda: fit_risks(np.zeros(30), np.zeros(30), np.zeros(30)), "not positive"),
        (lambda: fit_risks(np.arange(40.0), (np.arange(40) % 2).astype(float)).around(float("nan")), "finite score"),
        (lambda: fit_mask_threshold(np.zeros((8, 99))), "8 cases are too few to bound"),
        (lambda: fit_mask_threshold(np.ones((50, 99))), "does not see the structure"),
        (lambda: fit_mask_threshold(np.full((50, 99), 2.0)), r"lie in 0\.\.1"),
        (lambda: fit_mask_threshold(np.zeros((50, 3))), "99 thresholds"),
        (lambda: missed_shares(np.array([1.5]), np.array([True])), r"0\.\.1"),
        (lambda: IntervalRule("absolute", 0.9, -1.0, 1.0, 9).around(float("inf")), "finite answer"),
        (lambda: IntervalRule("normalised", 0.9, -1.0, 1.0, 9).around(1.0, spread=0.0), "must be positive"),
        (lambda: IntervalRule("quantiles", 0.9, -1.0, 1.0, 9).around(1.0), "the two that the network states"),
        (lambda: IntervalRule("ratio", 0.9, 0.9, 1.0, 9).around(-1.0), "not negative"),
    ],
)
def test_bad_input(attempt, message: str) -> None:
    with pytest.raises(DataError, match=message):
        attempt()


def test_bad_settings() -> None:
    for attempt in (
        lambda: Temperature(0.0),
        lambda: Isotonic((1.0, 0.0), (0.0, 1.0)),
        lambda: Isotonic((0.0, 1.0), (0.0, 2.0)),
        lambda: IntervalRule("absolute", 0.9, 0.0, float("inf"), 9),
        lambda: fit_mask_threshold(np.zeros((50, 99)), most_missed=0.0),
    ):
        with pytest.raises(ConfigError):
            attempt()
