"""Intervals by difficulty keep the promise exactly, whatever it is worth, and are narrower where it tells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.difficulty import DifficultyRule, choose_difficulty, chooses, fit_difficulty
from isocenter.safety.intervals import fit_absolute, fit_normalised

LEVEL = 0.9


def drawn(seed: int, count: int, slope: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Answers, truths, two numbers of which the first tells how far off the answer is, and patients."""
    rng = np.random.default_rng(seed)
    table = np.stack([rng.normal(0, 1, count), rng.normal(5, 2, count)], axis=1)
    truth = rng.gamma(9, 3, count)
    return (
        truth + rng.normal(0, 1, count) * np.exp(slope * table[:, 0]),
        truth,
        table,
        [f"{seed}-{i}" for i in range(count)],
    )


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**20), slope=st.sampled_from((0.0, 0.5, 1.0)), sided=st.booleans())
def test_the_promise_is_kept_on_every_bag_of_calibrating_cases(seed: int, slope: float, sided: bool) -> None:
    """Each calibrating case is the further one in turn: whatever the choosing cases made of the difficulty."""
    answers, truth, table, patients = drawn(seed, 150, slope)
    first = chooses(patients)
    rule = fit_difficulty(table[first], np.abs(truth - answers)[first], ["a", "b"])
    a, t, spread = answers[~first], truth[~first], rule.of_table(table[~first])
    held = []
    for i in range(len(a)):
        r = np.arange(len(a)) != i
        low, high = fit_normalised(a[r], t[r], spread[r], level=LEVEL, sided=sided).around(a[i], spread=spread[i])
        held.append(low - 1e-9 <= t[i] <= high + 1e-9)
    assert np.mean(held) >= LEVEL - 1e-9


@pytest.mark.parametrize("sided", [False, True])
def test_where_gaps_differ_intervals_by_difficulty_are_chosen_narrower_and_even(sided: bool) -> None:
    covered, widths, hard, plain, chosen = [], [], [], [], 0
    for seed in range(60):
        answers, truth, table, patients = drawn(seed, 240, 0.8)
        new, first = np.arange(240) >= 200, chooses(patients)
        tune, fit = first & ~new, ~first & ~new
        gaps = truth - answers
        names = [p for p, m in zip(patients, tune, strict=True) if m]
        rule = choose_difficulty(gaps[tune], np.ones(tune.sum()), table[tune], ["a", "b"], names, sided=sided)
        chosen += rule is not None
        if rule is None:
            continue
        spread = rule.of_table(table)
        fitted = fit_normalised(answers[fit], truth[fit], spread[fit], level=LEVEL, sided=sided)
        one = fit_absolute(answers[fit], truth[fit], level=LEVEL)
        ends = np.array([fitted.around(a, spread=s) for a, s in zip(answers[new], spread[new], strict=True)])
        same = np.array([one.around(a) for a in answers[new]])
        inside = (ends[:, 0] <= truth[new]) & (truth[new] <= ends[:, 1])
        covered.append(inside.mean())
        widths.append(np.mean(ends[:, 1] - ends[:, 0]) / np.mean(same[:, 1] - same[:, 0]))
        difficult = table[new, 0] > 1
        hard += inside[difficult].tolist()
        plain += ((same[:, 0] <= truth[new]) & (truth[new] <= same[:, 1]))[difficult].tolist()
    assert chosen >= 57 and abs(np.mean(covered) - LEVEL) < 0.02
    assert np.mean(widths) < 0.9, "narrower on average"
    assert np.mean(hard) > np.mean(plain) + 0.1, "hard images are covered more often than by one width"


def test_where_gaps_are_alike_one_width_mostly_stays() -> None:
    chosen = 0
    for seed in range(60):
        answers, truth, table, patients = drawn(seed, 60, 0.0)
        chosen += choose_difficulty(truth - answers, np.ones(60), table, ["a", "b"], patients) is not None
    assert chosen < 30


def test_too_few_cases_choose_nothing_and_bad_numbers_are_refused() -> None:
    answers, truth, table, patients = drawn(0, 29, 1.0)
    assert choose_difficulty(truth - answers, np.ones(29), table, ["a", "b"], patients) is None
    with pytest.raises(DataError, match="for a table of shape"):
        fit_difficulty(table, np.ones(29), ["a"])
    with pytest.raises(DataError, match="gaps not negative"):
        fit_difficulty(table, truth - 1e3, ["a", "b"])
    rule = fit_difficulty(table, np.abs(truth - answers), ["a", "b"])
    assert DifficultyRule.from_card(rule.as_card()) == rule and 0.25 <= rule.of({"a": -99, "b": 3}) <= 4
    with pytest.raises(DataError, match="finite number of 'b'"):
        rule.of({"a": 1})
    with pytest.raises(ConfigError, match="do not belong together"):
        DifficultyRule(("a",), (0.0,), (1.0,), (), 3)
    constant = fit_difficulty(np.ones((30, 1)), np.arange(30.0), ["a"])
    assert constant.of({"a": 1.0}) == pytest.approx(1)
