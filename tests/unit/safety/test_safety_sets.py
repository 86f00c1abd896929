"""Sets of classes: kept in simulation, small where they can be, repeatable; refused where nothing can be promised."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.quantiles import coverage_range, least_cases, unit_of, upper_quantile
from isocenter.safety.sets import SetRule, fit_sets, tune_raps


def draw(seed: int, count: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a network that is too sure of itself, and the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, classes))
    q = np.exp(logits)
    q /= q.sum(1, keepdims=True)
    truth = (rng.random((count, 1)) > np.cumsum(q, axis=1)[:, :-1]).sum(1)
    sharp = np.exp(2 * logits)
    return sharp / sharp.sum(1, keepdims=True), truth


@pytest.mark.parametrize(("score", "randomised"), [("lac", False), ("aps", False), ("aps", True), ("raps", True)])
def test_coverage_over_many_splits_follows_the_law_that_is_promised(score: str, randomised: bool) -> None:
    """Of 200 splits, about 95 % must lie in the 95 % range of the beta-binomial law, and the mean near the level."""
    p, truth = draw(1, 1600)
    keys = [str(i) for i in range(len(truth))]
    covered, sizes, inside = [], [], 0
    for seed in range(200):
        order = np.random.default_rng(seed).permutation(len(truth))
        fit, new = order[:800], order[800:]
        given = {"keys": [keys[i] for i in fit], "randomised": randomised} if score != "lac" else {}
        rule = fit_sets(p[fit], truth[fit], score=score, **given)
        found = rule.sets(p[new], keys=[keys[i] for i in new] if randomised else ())
        covered.append(found[np.arange(800), truth[new]].mean())
        sizes.append(found.sum(1).mean())
        low, high = coverage_range(rule.calibration_cases, 0.9, 800)
        inside += low <= covered[-1] <= high or (covered[-1] > high and score != "lac")
    assert inside >= 180
    assert 0.895 < np.mean(covered) < (0.91 if score == "lac" else 0.95)
    assert 1 < np.mean(sizes) < 4.5


def test_lac_gives_the_smallest_sets_and_raps_smaller_ones_than_aps() -> None:
    p, truth = draw(2, 4000)
    fit, new = slice(0, 2000), slice(2000, 4000)
    keys = [str(i) for i in range(4000)]
    size = {
        score: fit_sets(p[fit], truth[fit], score=score, keys=keys[fit], randomised=score != "lac")
        .sets(p[new], keys=keys[new])
        .sum(1)
        .mean()
        for score in ("lac", "aps", "raps")
    }
    assert size["lac"] < size["raps"] < size["aps"]


def test_by_class_a_rare_class_is_held_as_often_as_a_common_one() -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random(6000) < 0.1).astype(int)
    p = 1 / (1 + np.exp(-(rng.normal(-2.0 + 2.0 * truth, 1.0, 6000))))
    p = np.stack([1 - p, p], axis=1)
    fit, new = slice(0, 3000), slice(3000, 6000)
    rare = {}
    for by_class in (False, True):
        found = fit_sets(p[fit], truth[fit], by_class=by_class).sets(p[new])
        rare[by_class] = found[truth[new] == 1, 1].mean()
    assert rare[False] < 0.8 < 0.86 < rare[True], "over all cases, the rare class pays"


def test_a_group_that_was_not_calibrated_is_refused() -> None:
    p, truth = draw(4, 200)
    rule = fit_sets(p, truth, groups=["a", "b"] * 100)
    assert rule.sets(p[:2], groups=["b", "a"]).shape == (2, 6)
    with pytest.raises(DataError, match="nothing is promised for the group 'c'"):
        rule.sets(p[:1], groups=["c"])
    with pytest.raises(DataError, match="0 groups for 1 cases"):
        rule.sets(p[:1])


def test_a_randomised_set_is_the_same_each_time_and_needs_the_images_hash() -> None:
    p, truth = draw(5, 400)
    keys = [f"sha-{i}" for i in range(400)]
    rule = fit_sets(p, truth, score="aps", keys=keys, randomised=True)
    first = rule.sets(p, keys=keys)
    assert np.array_equal(first, rule.sets(p, keys=keys))
    order = np.random.default_rng(0).permutation(400)
    assert np.array_equal(first[order], rule.sets(p[order], keys=[keys[i] for i in order]))
    with pytest.raises(DataError, match="needs the hash of each image"):
        rule.sets(p)
    units = np.array([unit_of(k) for k in keys])
    assert units.min() >= 0 and units.max() < 1 and abs(units.mean() - 0.5) < 0.05


def test_a_rule_survives_json() -> None:
    p, truth = draw(6, 300)
    for rule in (
        fit_sets(p, truth),
        fit_sets(p, truth, score="raps"),
        fit_sets(p, truth, by_class=True),
        fit_sets(p, truth, groups=["x", "y", "z"] * 100),
    ):
        again = SetRule.from_card(json.loads(json.dumps(rule.as_card())))
        assert again == rule
    with pytest.raises(ConfigError, match="not a rule for sets"):
        SetRule.from_card({"score": "lac"})
    with pytest.raises(ConfigError, match="not a rule for sets"):
        SetRule("lac", 0.9, "all", {})


def test_bad_input() -> None:
    p, truth = draw(7, 40)
    with pytest.raises(DataError, match=r"must lie in 0\.\.1"):
        fit_sets(p * 2 - 0.5, truth)
    with pytest.raises(DataError, match="not finite"):
        fit_sets(np.where(p == p.max(), np.nan, p), truth)
    with pytest.raises(DataError, match="sum to 1"):
        fit_sets(p / 2, truth)
    with pytest.raises(DataError, match="two classes or more"):
        fit_sets(np.ones((40, 1)), np.zeros(40, int))
    with pytest.raises(DataError, match="all calibration cases are of one class"):
        fit_sets(p, np.zeros(40, int))
    with pytest.raises(DataError, match="not among the 6 classes"):
        fit_sets(p, truth + 6)
    with pytest.raises(DataError, match="39 groups for 40 cases"):
        fit_sets(p, truth, groups=["a"] * 39)
    with pytest.raises(DataError, match=r"8 calibration cases \(all\) are too few to promise 90%; at least 9"):
        fit_sets(p[:8], truth[:8])
    with pytest.raises(DataError, match=r"calibration cases \(class \d\) are too few"):
        fit_sets(p, truth, by_class=True)
    with pytest.raises(DataError, match="too few to tune RAPS"):
        fit_sets(p, truth, score="raps")
    with pytest.raises(ConfigError, match="never randomised"):
        fit_sets(p, truth, randomised=True)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        fit_sets(p, truth, level=1.0)
    with pytest.raises(DataError, match="for 6 classes, the probabilities are of 2"):
        fit_sets(*draw(8, 400), by_class=True).sets(np.array([[0.5, 0.5]]))
    with pytest.raises(DataError, match="not finite"):
        upper_quantile(np.array([1.0] * 20 + [np.inf]), 0.9)
    with pytest.raises(DataError, match="at least"):
        tune_raps(p[:5], truth[:5], level=0.9, units=np.ones(5))
    with pytest.raises(DataError, match="at least 9"):
        coverage_range(8, 0.9, 10)
    assert [least_cases(v) for v in (0.5, 0.8, 0.9, 0.95, 0.99)] == [1, 4, 9, 19, 99]
