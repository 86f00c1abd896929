"""Drift: nothing between two halves of one set, something where something changed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from isocenter.core.errors import DataError
from isocenter.evaluate.drift import drift_of_numbers, drift_of_words

PEOPLE = [str(n) for n in range(80)]


def test_the_distance_is_scipys_and_chance_covers_two_halves() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(size=80), rng.normal(size=80)
    found = drift_of_numbers(one.tolist(), PEOPLE, other.tolist(), PEOPLE)
    assert found.value == pytest.approx(ks_2samp(one, other).statistic)
    assert not found.beyond_chance
    moved = drift_of_numbers(one.tolist(), PEOPLE, (other + 1).tolist(), PEOPLE)
    assert moved.beyond_chance and moved.low < moved.value < moved.high + 0.1


def test_chance_is_exceeded_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    beyond = [
        drift_of_numbers(
            rng.normal(size=30).tolist(), PEOPLE[:30], rng.normal(size=30).tolist(), PEOPLE[:30], seed=n
        ).beyond_chance
        for n in range(40)
    ]
    assert sum(beyond) <= 7


def test_rows_of_one_patient_move_together() -> None:
    # Ten people with fifty equal rows each are ten people, not five hundred.
    one = [n % 2 for n in range(10) for _ in range(50)]
    other = [int(n < 8) for n in range(10) for _ in range(50)]
    who = [str(n) for n in range(10) for _ in range(50)]
    many = [str(n) for n in range(500)]
    assert not drift_of_numbers(one, who, other, who).beyond_chance
    assert drift_of_numbers(one, many, other, many).beyond_chance


def test_words() -> None:
    same = drift_of_words(["CT", "MR"] * 40, PEOPLE, ["MR", "CT"] * 40, PEOPLE)
    assert same.value == pytest.approx(0) and not same.beyond_chance
    assert drift_of_words(["CT"] * 80, PEOPLE, ["CT", "US"] * 40, PEOPLE).beyond_chance


def test_too_few_people_and_what_is_no_number() -> None:
    with pytest.raises(DataError, match="10 patients"):
        drift_of_words(["a"] * 50, ["x"] * 50, ["a"] * 80, PEOPLE)
    with pytest.raises(DataError, match="finite"):
        drift_of_numbers([float("nan")] * 80, PEOPLE, [1.0] * 80, PEOPLE)
    with pytest.raises(DataError, match="one patient"):
        drift_of_numbers([1.0], PEOPLE, [1.0] * 80, PEOPLE)
