"""What must hold of pseudo-values, bounds and balance whatever the people are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.evaluate.treatment import (
    OptionScores,
    e_value,
    policy_value,
    pseudo_values,
    robustness_value,
    standardised_differences,
)

TIMES = st.lists(st.integers(0, 60), min_size=3, max_size=25)


@given(times=TIMES, horizon=st.integers(1, 59), data=st.data())
@settings(max_examples=60, deadline=None)
def test_pseudo_values_do_not_depend_on_the_order_of_people(
    times: list[int], horizon: int, data: st.DataObject
) -> None:
    days = np.array([*times, 61], dtype=float)
    happened = np.array(data.draw(st.lists(st.booleans(), min_size=len(days), max_size=len(days))))
    order = np.array(data.draw(st.permutations(range(len(days)))))
    for scale in ("survival", "days"):
        found = pseudo_values(days, happened, horizon_days=float(horizon), scale=scale)  # type: ignore[arg-type]
        again = pseudo_values(days[order], happened[order], horizon_days=float(horizon), scale=scale)  # type: ignore[arg-type]
        assert again == pytest.approx(found[order], abs=1e-7) and np.isfinite(found).all()


@given(times=TIMES, horizon=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_without_loss_they_are_what_was_seen(times: list[int], horizon: int) -> None:
    days = np.array([*times, 61], dtype=float)
    seen = pseudo_values(days, np.ones(len(days), dtype=bool), horizon_days=float(horizon), scale="days")
    assert seen == pytest.approx(np.minimum(days, horizon), abs=1e-7)


@given(ratio=st.floats(0.01, 100), t=st.floats(0, 1e3), freedom=st.floats(1, 1e6))
def test_bounds_are_in_range_and_symmetric(ratio: float, t: float, freedom: float) -> None:
    assert e_value(ratio) == pytest.approx(e_value(1 / ratio)) and e_value(ratio) >= 1
    assert 0 <= robustness_value(t, freedom) <= 1 and robustness_value(-t, freedom) == robustness_value(t, freedom)
    assert robustness_value(t, freedom) <= robustness_value(t + 1, freedom)


@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 1e3), shift=st.floats(-1e3, 1e3))
@settings(max_examples=30, deadline=None)
def test_balance_has_no_unit_and_a_side(seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    x, treated = rng.standard_normal((30, 2)), np.arange(30) % 3 == 0
    found = standardised_differences(x, treated)
    assert standardised_differences(x * scale + shift, treated) == pytest.approx(found, abs=1e-6)
    assert standardised_differences(x, ~treated) == pytest.approx(-found, abs=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_rule_against_itself_is_worth_nothing_and_differences_add_up(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = OptionScores(rng.standard_normal(20), rng.standard_normal(20))
    rule, other = rng.random(20) < 0.5, rng.random(20) < 0.5
    assert policy_value(scores, rule, against=rule).value == 0
    difference = policy_value(scores, rule).value - policy_value(scores, other).value
    assert policy_value(scores, rule, against=other).value == pytest.approx(difference)
