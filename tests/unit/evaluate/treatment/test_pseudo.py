"""Pseudo-values: what they average to, against leaving people out by hand, and against lifelines."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.survival import kaplan_meier
from isocenter.evaluate.treatment import pseudo_values


def _people(count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    days = np.ceil(rng.exponential(300, count))  # many ties
    return np.minimum(days, 700.0), (rng.random(count) < 0.7) & (days < 700)


def _by_hand(days: np.ndarray, happened: np.ndarray, horizon: float, scale: str) -> float:
    curve = kaplan_meier(days, happened)
    if scale == "survival":
        return float(curve.at(np.array([horizon]))[0])
    grid = np.arange(horizon)  # days are whole, so the curve is constant between them
    return float(curve.at(grid.astype(float)).sum())


@pytest.mark.parametrize("scale", ["survival", "days"])
def test_each_is_the_estimate_with_and_without_the_person(scale: str) -> None:
    days, happened = _people()
    found = pseudo_values(days, happened, horizon_days=400.0, scale=scale)  # type: ignore[arg-type]
    whole, count = _by_hand(days, happened, 400.0, scale), len(days)
    for person in range(0, count, 7):
        rest = np.arange(count) != person
        without = _by_hand(days[rest], happened[rest], 400.0, scale)
        assert found[person] == pytest.approx(count * whole - (count - 1) * without, abs=1e-6)
    assert found.mean() == pytest.approx(whole, rel=0.02)


def test_restricted_mean_of_lifelines() -> None:
    lifelines = pytest.importorskip("lifelines")
    utils = pytest.importorskip("lifelines.utils")
    days, happened = _people(300, 3)
    fitted = lifelines.KaplanMeierFitter().fit(days, happened)
    mean = utils.restricted_mean_survival_time(fitted, t=500.0)
    assert pseudo_values(days, happened, horizon_days=500.0, scale="days").mean() == pytest.approx(mean, rel=0.002)
    chance = float(fitted.predict(500.0))
    assert pseudo_values(days, happened, horizon_days=500.0).mean() == pytest.approx(chance, rel=0.005)


def test_where_nobody_is_lost_they_are_what_was_seen() -> None:
    days = np.array([10.0, 50.0, 200.0, 400.0, 500.0])
    events = np.ones(5, dtype=bool)
    assert pseudo_values(days, events, horizon_days=300.0).round(9).tolist() == [0, 0, 0, 1, 1]
    assert pseudo_values(days, events, horizon_days=300.0, scale="days").round(6).tolist() == [10, 50, 200, 300, 300]


def test_what_cannot_be_said_is_refused() -> None:
    days, happened = _people()
    with pytest.raises(DataError, match="nobody was in sight up to day 900"):
        pseudo_values(days, happened, horizon_days=900.0)
    with pytest.raises(DataError, match="before the start"):
        pseudo_values(days - 800, happened, horizon_days=100.0)
    with pytest.raises(ConfigError, match="above 0"):
        pseudo_values(days, happened, horizon_days=0.0)
    with pytest.raises(DataError, match="two people"):
        pseudo_values(days[:1], happened[:1], horizon_days=10.0)
