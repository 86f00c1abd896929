"""Figures where events compete."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.evaluate.competing import competing_brier, competing_concordance
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.survival import brier_at


def drawn(n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    risk = rng.random(n)
    days = np.ceil(rng.exponential(50, n) * (1.5 - risk))
    return days, rng.integers(0, 3, n), risk


def test_without_competing_events_they_are_the_usual_figures() -> None:
    days, codes, risk = drawn()
    codes = np.minimum(codes, 1)
    assert competing_concordance(days, codes, risk) == concordance(days, codes == 1, risk)
    usual = brier_at(days, codes == 1, (1 - risk)[:, None], at_days=[40.0])[0]
    assert competing_brier(days, codes, risk, day=40.0) == pytest.approx(usual, rel=1e-12)


def test_the_true_chance_has_the_least_brier_score() -> None:
    """Half have the event by day 10, a quarter the other one; nobody is lost: 0.5 is the best that can be said."""
    days = np.repeat([5.0, 6.0, 30.0], [100, 50, 50])
    codes = np.repeat([1, 2, 0], [100, 50, 50])
    scores = [competing_brier(days, codes, np.full(200, p), day=10.0) for p in (0.4, 0.5, 0.6, 0.75)]
    assert int(np.argmin(scores)) == 1 and scores[1] == 0.25


def test_weights_make_up_for_those_who_are_lost() -> None:
    rng = np.random.default_rng(1)
    n = 20000
    event, lost = rng.exponential(50, n), rng.exponential(60, n)
    kind = np.where(rng.random(n) < 0.6, 1, 2)
    days, codes = np.minimum(event, lost), np.where(event <= lost, kind, 0)
    p = rng.random(n) * 0.5
    whole = float((((kind == 1) & (event <= 30)) - p).__pow__(2).mean())
    assert competing_brier(days, codes, p, day=30.0) == pytest.approx(whole, abs=0.005)


def test_nobody_in_sight() -> None:
    with pytest.raises(DataError, match="earlier day"):
        competing_brier(np.array([1.0, 2.0]), np.array([1, 0]), np.array([0.5, 0.5]), day=2.0)
