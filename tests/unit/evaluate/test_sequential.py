"""E-processes: exact ranks, fair bets, and no more false alarms than promised, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isocenter.core.errors import DataError
from isocenter.evaluate.limits_of_agreement import limits_of_agreement
from isocenter.evaluate.sequential import (
    PATIENCE,
    conformal_of_numbers,
    conformal_of_words,
    exchangeability,
    rate_beyond,
    window_p,
)

ALPHA = 0.1


def paths(count: int, draw, length: int = 150) -> np.ndarray:
    """Return the highest evidence of streams that are exchangeable with their reference of 60."""
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        values, ties = draw(rng, 60 + length), rng.uniform(1e-9, 1 - 1e-9, length).tolist()
        rank = conformal_of_words if isinstance(values[0], str) else conformal_of_numbers
        found.append(exchangeability(rank(values[:60], values[60:], ties)).max())
    return np.array(found)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.standard_cauchy(n).tolist(),
        lambda rng, n: rng.integers(0, 3, n).astype(float).tolist(),
        lambda rng, n: [1.0] * n,
        lambda rng, n: rng.choice(["a", "b", "c"], n, p=[0.7, 0.29, 0.01]).tolist(),
    ],
    ids=["heavy tails", "ties", "constant", "words"],
)
def test_no_more_false_alarms_than_promised_though_every_value_is_looked_at(draw) -> None:
    alarms = int((paths(200, draw) >= np.log(1 / ALPHA)).sum())
    # Above this count the promise is refuted at 1 in 1000.
    assert alarms <= stats.binom.ppf(0.999, 200, ALPHA)


def test_the_bets_are_fair() -> None:
    """Each density integrates to one: the expected capital after one value is the capital before."""
    grid = (np.arange(5000) + 0.5) / 5000
    one = np.exp([exchangeability(np.array([p]))[0] for p in grid])
    waits = PATIENCE / (PATIENCE + 1)
    assert (one.mean() - waits) / (1 - waits) == pytest.approx(1, abs=0.05), "of what bets, as much is left"
    limit = 0.2
    after = [np.exp(rate_beyond([yes], limit)[0]) for yes in (True, False)]
    assert limit * after[0] + (1 - limit) * after[1] == pytest.approx(1)


@pytest.mark.parametrize(("shift", "scale", "most"), [(1.0, 1.0, 120), (3.0, 1.0, 25), (0.0, 2.0, 120)])
def test_a_change_is_seen(shift: float, scale: float, most: int) -> None:
    rng = np.random.default_rng(1)
    reference, stream = rng.normal(size=200), rng.normal(size=400)
    stream[200:] = stream[200:] * scale + shift
    path = exchangeability(conformal_of_numbers(reference.tolist(), stream.tolist(), rng.uniform(size=400).tolist()))
    assert path[:200].max() < np.log(200)
    assert path[200 : 200 + most].max() > np.log(200)


@given(
    st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    st.lists(st.floats(-5, 5), min_size=1, max_size=12),
    st.floats(0.01, 0.99),
)
@settings(max_examples=60, deadline=None)
def test_ranks_are_those_of_counting(reference: list[float], stream: list[float], tie: float) -> None:
    found = conformal_of_numbers(reference, stream, [tie] * len(stream))
    for n, value in enumerate(stream):
        pool = [*reference, *stream[: n + 1]]
        below, same = sum(v < value for v in pool), sum(v == value for v in pool)
        assert found[n] == pytest.approx((below + tie * same) / len(pool))
    moved = conformal_of_numbers([2 * v + 1 for v in reference], [2 * v + 1 for v in stream], [tie] * len(stream))
    ties = len({*reference, *stream}) == len({2 * v + 1 for v in (*reference, *stream)})
    assert not ties or np.allclose(found, moved), "ranks do not know units"


def test_words_that_are_new_are_rare() -> None:
    found = conformal_of_words(["a"] * 50 + ["b"] * 50, ["c"] * 3, [0.5] * 3)
    assert found.max() < 0.05


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.floats(0.02, 0.9))
@settings(max_examples=60, deadline=None)
def test_what_never_happens_is_never_beyond_its_limit(happened: list[bool], limit: float) -> None:
    path = rate_beyond(happened, limit)
    assert len(path) == len(happened) and np.isfinite(path).all()
    assert rate_beyond([False] * len(happened), limit).max() < 0


def test_rates_within_their_limit_give_few_alarms() -> None:
    alarms = 0
    for seed in range(300):
        happened = np.random.default_rng(seed).random(200) < 0.1
        alarms += bool(rate_beyond(happened, 0.1).max() >= np.log(1 / ALPHA))
    assert alarms <= stats.binom.ppf(0.999, 300, ALPHA)
    assert rate_beyond([True, False] * 40, 0.1).max() > np.log(1e6)


def test_one_look() -> None:
    assert window_p([1.0, 2.0, 3.0], [9.0] * 50) == 1.0, "too few to say"
    assert window_p(["a"] * 9, ["a"] * 9) == 1.0
    assert window_p([float(n) for n in range(50)], [float(n) + 30 for n in range(50)]) < 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal_of_numbers([1.0], [float("nan")], [0.5]), "finite"),
        (lambda: conformal_of_numbers([1.0], [1.0], []), "ties"),
        (lambda: conformal_of_words(["a"], ["b"], [1.0]), "ties"),
        (lambda: exchangeability(np.array([0.0])), "between 0 and 1"),
        (lambda: rate_beyond([True], 0.0), "between 0 and 1"),
        (lambda: limits_of_agreement([1.0] * 9), "need 10"),
        (lambda: limits_of_agreement([float("inf")] * 10), "finite"),
    ],
)
def test_what_can_not_be(call, message: str) -> None:
    with pytest.raises(DataError, match=message):
        call()


def test_limits_of_agreement_hold_what_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = limits_of_agreement(rng.normal(2, 3, 40).tolist())
        held += found.upper_interval[0] <= 2 + 1.96 * 3 <= found.upper_interval[1]
        assert found.lower < found.bias < found.upper
    assert held >= stats.binom.ppf(0.001, 200, 0.93)
