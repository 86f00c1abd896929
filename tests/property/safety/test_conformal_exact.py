"""What conformal rules promise holds exactly on every bag of cases: each is the further case in turn.

Given n + 1 exchangeable cases, which of them is "the further one" is a uniform draw. So the promise can be checked
without any simulation: the mean over all draws must keep it, for whatever numbers hypothesis thinks of.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core.errors import DataError
from isocenter.safety.intervals import fit_absolute, fit_normalised, fit_quantiles, fit_ratio
from isocenter.safety.masks import THRESHOLDS, fit_mask_threshold, missed_shares
from isocenter.safety.quantiles import least_cases, lower_quantile, upper_quantile
from isocenter.safety.sets import class_scores, fit_sets

LEVELS = st.sampled_from((0.5, 0.8, 0.9))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**20), count=st.integers(10, 60), level=LEVELS)
def test_a_further_score_stays_below_exactly_as_often_as_its_rank_says(seed: int, count: int, level: float) -> None:
    scores = np.random.default_rng(seed).permutation(count).astype(float)
    below = [scores[i] <= upper_quantile(np.delete(scores, i), level) for i in range(count)]
    above = [scores[i] >= lower_quantile(np.delete(scores, i), level) for i in range(count)]
    rank = math.ceil(round(count * level, 9))  # n = count - 1, so (n + 1) level
    assert sum(below) == sum(above) == rank


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**20),
    classes=st.integers(2, 5),
    score=st.sampled_from(("lac", "aps")),
    randomised=st.booleans(),
    level=LEVELS,
)
def test_sets_hold_the_true_class_often_enough_on_every_bag(
    seed: int, classes: int, score: str, randomised: bool, level: float
) -> None:
    rng, count = np.random.default_rng(seed), 30
    p = rng.dirichlet(np.full(classes, 0.5), count).round(2)  # ties, on purpose
    p[:, 0] = np.clip(1 - p[:, 1:].sum(1), 0, 1)
    p /= p.sum(1, keepdims=True)
    truth = rng.integers(0, classes, count)
    truth[:2] = 0, 1
    keys = [f"{seed}-{i}" for i in range(count)]
    drawn = randomised and score == "aps"
    held = []
    for i in range(count):
        rest = np.arange(count) != i
        if len(np.unique(truth[rest])) < 2:
            held.append(True)
            continue
        others = [k for k, r in zip(keys, rest, strict=True) if r]
        rule = fit_sets(p[rest], truth[rest], score=score, level=level, keys=others if drawn else (), randomised=drawn)
        held.append(bool(rule.sets(p[i : i + 1], keys=[keys[i]] if drawn else ())[0, truth[i]]))
    assert sum(held) >= math.ceil(round(count * level, 9))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_by_class_each_class_is_held_and_by_group_each_group(seed: int) -> None:
    rng, count, level = np.random.default_rng(seed), 40, 0.8
    truth = np.repeat([0, 1], count // 2)
    p = rng.beta(1 + 4 * truth, 2)
    p = np.stack([1 - p, p], axis=1)
    groups = np.array(["a", "b"])[rng.permutation(count) % 2]
    by_class, by_group = np.zeros(count, bool), np.zeros(count, bool)
    for i in range(count):
        rest = np.arange(count) != i
        rule = fit_sets(p[rest], truth[rest], level=level, by_class=True)
        by_class[i] = rule.sets(p[i : i + 1])[0, truth[i]]
        rule = fit_sets(p[rest], truth[rest], level=level, groups=groups[rest].tolist())
        by_group[i] = rule.sets(p[i : i + 1], groups=[str(groups[i])])[0, truth[i]]
    for c in (0, 1):
        assert by_class[truth == c].mean() >= level - 1e-9
    for g in ("a", "b"):
        assert by_group[groups == g].mean() >= level - 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), level=LEVELS)
def test_intervals_hold_the_true_number_often_enough_on_every_bag(seed: int, level: float) -> None:
    rng, count = np.random.default_rng(seed), 2 * least_cases((1 + level) / 2) + 2
    truth, spread = rng.gamma(3, 2, count), rng.uniform(0.2, 2, count)
    answers = np.maximum(0.01, truth + rng.normal(0, 1, count) * spread)
    low, high = answers - spread, answers + spread
    held: dict[str, list[bool]] = {}
    for i in range(count):
        r = np.arange(count) != i
        found = {
            "absolute": fit_absolute(answers[r], truth[r], level=level).around(answers[i]),
            "normalised": fit_normalised(answers[r], truth[r], spread[r], level=level).around(
                answers[i], spread=spread[i]
            ),
            "quantiles": fit_quantiles(low[r], high[r], truth[r], level=level).around(
                answers[i], quantiles=(low[i], high[i])
            ),
            "ratio": fit_ratio(answers[r], truth[r], level=level).around(answers[i]),
        }
        for name, (a, b) in found.items():
            held.setdefault(name, []).append(a - 1e-9 <= truth[i] <= b + 1e-9)
    assert all(np.mean(h) >= level - 1e-9 for h in held.values()), {k: np.mean(h) for k, h in held.items()}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), bound=st.sampled_from((0.1, 0.2, 0.4)))
def test_masks_miss_no_more_than_the_bound_on_every_bag(seed: int, bound: float) -> None:
    rng, count = np.random.default_rng(seed), 25
    missed = []
    for _ in range(count):
        reference = rng.random(40) < 0.5
        reference[0] = True
        missed.append(missed_shares(np.clip(rng.normal(0.3 + 0.4 * reference, 0.25), 0, 1), reference))
    table, lost = np.array(missed), []
    for i in range(count):
        try:
            rule = fit_mask_threshold(np.delete(table, i, axis=0), most_missed=bound)
        except DataError:
            lost.append(0.0)  # refused: no mask is given, and nothing is missed in silence
        else:
            lost.append(table[i, THRESHOLDS.index(rule.threshold)])
    assert np.mean(lost) <= bound + 1e-9


def test_scores_grow_from_likely_to_unlikely() -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(6), 50)
    for score in ("lac", "aps", "raps"):
        found = class_scores(p, score, np.ones(50), free=2, penalty=0.1)
        order = np.argsort(-p, axis=1)
        assert (np.diff(np.take_along_axis(found, order, axis=1), axis=1) >= 0).all()
    assert class_scores(p, "aps", np.ones(50)).max() == pytest.approx(1)
