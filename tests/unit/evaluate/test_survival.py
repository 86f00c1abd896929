"""Survival figures against scikit-survival and lifelines where they are installed, and against what they gave."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import concordance
from isocenter.evaluate.survival import (
    brier_at,
    dynamic_auc,
    integrated_brier,
    kaplan_meier,
    uno_concordance,
)
from peers import peer

AT_DAYS = (2.0, 4.5, 7.0, 9.0)
GOLD = {
    "harrell": 0.7030821917808219,
    "uno": 0.7080213774909514,
    "auc": [0.7071603874191049, 0.7370599386767712, 0.758254363125726, 0.7591280897477747],
    "mean_auc": 0.7339504233109396,
    "brier": [0.18654766035960083, 0.22169306935289404, 0.23425083803515223, 0.2201469279044252],
    "integrated": 0.21923265175932197,
}


def _cohort(seed, n=120, *, whole_days=True, ties=True, end=14.0):
    rng = np.random.default_rng(seed)
    risk = rng.normal(size=n)
    event, lost = rng.exponential(8 * np.exp(-0.7 * risk)), rng.exponential(12, n)
    days = np.minimum(np.minimum(event, lost), end)
    happened = (event <= lost) & (event < end)
    if whole_days:
        days = np.ceil(days)
    return days, happened, np.round(risk, 1) if ties else risk


def _theirs(days, happened):
    table = np.empty(len(days), dtype=[("e", bool), ("t", float)])
    table["e"], table["t"] = happened, days
    return table


def _survival(risk, at_days):
    return np.exp(-np.outer(np.exp(0.6 * risk), np.asarray(at_days)) / 12)


def _by_pairs(days, happened, risk, groups=None):
    """Harrell's C over a table of all pairs: what `concordance` was before it was fast."""
    earlier = happened[:, None] & ((days[:, None] < days[None, :]) | ((days[:, None] == days[None, :]) & ~happened))
    if groups is not None:
        earlier &= groups[:, None] == groups[None, :]
    higher = (risk[:, None] > risk[None, :]) + 0.5 * (risk[:, None] == risk[None, :])
    return float((higher * earlier).sum() / earlier.sum())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ties", [True, False])
def test_harrell_is_to_the_last_bit_what_the_table_of_pairs_gives(seed, ties):
    days, happened, risk = _cohort(seed, 10 + 30 * seed, whole_days=seed % 2 == 0, ties=ties)
    assert concordance(days, happened, risk) == _by_pairs(days, happened, risk)
    groups = np.arange(len(days)) % 3
    assert concordance(days, happened, risk, groups) == _by_pairs(days, happened, risk, groups)


def test_harrell_of_degenerate_tables():
    days, alike = np.array([3.0, 3.0, 3.0]), np.zeros(3)
    assert np.isnan(concordance(days, np.ones(3, bool), alike))
    assert concordance(days, np.array([True, False, True]), alike) == 0.5
    assert np.isnan(concordance(days[:0], np.ones(0, bool), alike[:0]))
    with pytest.raises(DataError, match="not finite"):
        concordance(days, np.ones(3, bool), np.array([0.0, np.nan, 1.0]))


def test_harrell_of_a_hundred_thousand_needs_no_table_of_pairs():
    days, happened, risk = _cohort(0, 100_000, ties=False)
    assert 0.65 < concordance(days, happened, risk) < 0.75


@pytest.mark.parametrize("seed", range(6))
def test_equal_to_scikit_survival(seed):
    theirs, curves = peer("sksurv.metrics"), peer("sksurv.nonparametric")
    days, happened, risk = _cohort(seed, whole_days=seed % 2 == 0)
    train = _cohort(100 + seed, 200, whole_days=seed % 2 == 0, end=20.0)[:2]
    table, train_table = _theirs(days, happened), _theirs(*train)
    expected = theirs.concordance_index_censored(happened, days, risk)[0]
    assert concordance(days, happened, risk) == pytest.approx(expected, abs=1e-12)
    for until in (None, 8.0):
        expected = theirs.concordance_index_ipcw(train_table, table, risk, tau=until)[0]
        found = uno_concordance(days, happened, risk, until_days=until, censoring=train)
        assert found == pytest.approx(expected, abs=1e-9)
    for per_day in (risk, np.stack([risk, -risk, risk**2, np.roll(risk, 1)], axis=1)):
        auc, mean = theirs.cumulative_dynamic_auc(train_table, table, per_day, AT_DAYS)
        found = dynamic_auc(days, happened, per_day, at_days=AT_DAYS, censoring=train)
        assert found.auc == pytest.approx(auc, abs=1e-9)
        assert found.mean == pytest.approx(mean, abs=1e-9)
    survival = _survival(risk, AT_DAYS)
    expected = theirs.brier_score(train_table, table, survival, AT_DAYS)[1]
    assert brier_at(days, happened, survival, at_days=AT_DAYS, censoring=train) == pytest.approx(expected, abs=1e-9)
    expected = theirs.integrated_brier_score(train_table, table, survival, AT_DAYS)
    found = integrated_brier(days, happened, survival, at_days=AT_DAYS, censoring=train)
    assert found == pytest.approx(expected, abs=1e-9)
    times, share, ends = curves.kaplan_meier_estimator(happened, days, conf_type="log-log")
    ours = kaplan_meier(days, happened)
    assert (ours.days, ours.survival) == (pytest.approx(times), pytest.approx(share))
    assert (ours.low, ours.high) == (pytest.approx(ends[0]), pytest.approx(ends[1]))


def test_kaplan_meier_equals_lifelines():
    lifelines = peer("lifelines")
    days, happened, _ = _cohort(3)
    fitted = lifelines.KaplanMeierFitter().fit(days, happened)
    ours = kaplan_meier(days, happened)
    asked = np.array([0.0, 1.0, 2.5, 6.0, 13.0])
    assert ours.at(asked) == pytest.approx(fitted.survival_function_at_times(asked).to_numpy())


def test_literal_values():
    """What scikit-survival 0.28.0 gave for this cohort (GPL, so not a dependency): computed, not copied."""
    days, happened, risk = _cohort(7)
    train = _cohort(107, 200, end=20.0)[:2]
    survival = _survival(risk, AT_DAYS)
    assert concordance(days, happened, risk) == pytest.approx(GOLD["harrell"], abs=1e-9)
    assert uno_concordance(days, happened, risk, censoring=train) == pytest.approx(GOLD["uno"], abs=1e-9)
    found = dynamic_auc(days, happened, risk, at_days=AT_DAYS, censoring=train)
    assert found.auc == pytest.approx(GOLD["auc"], abs=1e-9)
    assert found.mean == pytest.approx(GOLD["mean_auc"], abs=1e-9)
    assert brier_at(days, happened, survival, at_days=AT_DAYS, censoring=train) == pytest.approx(
        GOLD["brier"], abs=1e-9
    )
    assert integrated_brier(days, happened, survival, at_days=AT_DAYS, censoring=train) == pytest.approx(
        GOLD["integrated"], abs=1e-9
    )


def test_without_loss_of_sight_the_weights_are_one():
    days, _, risk = _cohort(1, whole_days=False)
    happened = np.ones(len(days), bool)
    assert uno_concordance(days, happened, risk) == pytest.approx(concordance(days, happened, risk))
    survival = _survival(risk, AT_DAYS)
    plain = ((survival - (days[:, None] > np.array(AT_DAYS))) ** 2).mean(axis=0)
    assert brier_at(days, happened, survival, at_days=AT_DAYS) == pytest.approx(plain)


def test_a_day_without_an_event_has_no_auc():
    days, happened, risk = np.array([1.0, 2.0, 5.0, 6.0]), np.array([False, False, True, True]), np.arange(4.0)
    found = dynamic_auc(days, happened, risk, at_days=(1.5, 5.5))
    assert np.isnan(found.auc[0])
    assert found.mean == found.auc[1] == 0.0


def test_refused():
    days, happened, risk = _cohort(2)
    survival = _survival(risk, AT_DAYS)
    with pytest.raises(DataError, match="reach beyond"):
        brier_at(days, happened, survival, at_days=(2.0, 4.0, 7.0, 99.0))
    with pytest.raises(ConfigError, match="growing order"):
        dynamic_auc(days, happened, risk, at_days=(4.0, 2.0))
    with pytest.raises(DataError, match=r"0\.\.1"):
        brier_at(days, happened, survival + 1, at_days=AT_DAYS)
    with pytest.raises(DataError, match="survival at 4 days"):
        brier_at(days, happened, survival, at_days=AT_DAYS[:2])
    with pytest.raises(DataError, match="not finite"):
        uno_concordance(days, happened, np.where(risk > 1, np.nan, risk))
    with pytest.raises(DataError, match="before the start"):
        kaplan_meier(-days, happened)
    with pytest.raises(DataError, match="beyond the last day"):
        uno_concordance(days, happened, risk, censoring=(days[days < 5], happened[days < 5]))
    with pytest.raises(ConfigError, match="two days"):
        integrated_brier(days, happened, survival[:, :1], at_days=AT_DAYS[:1])
