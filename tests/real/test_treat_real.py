"""ACTG 175: averages against figures that others published of this very table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from isocenter.evaluate.treatment import average_effect, doubly_robust_scores, pseudo_values
from isocenter.tasks.treat import Cases, cross_fit, fit_preparation, fit_support, supported

pytestmark = pytest.mark.real

BEFORE = ("age", "wtkg", "hemo", "homo", "drugs", "karnof", "oprior", "z30", "preanti", "race", "gender", "str2",
          "symptom", "cd40", "cd80")  # fmt: skip


@pytest.fixture(scope="module")
def actg175(shared_data: Path) -> dict[str, np.ndarray]:
    file = shared_data / "clinical" / "ACTG175.txt"
    if not file.is_file():
        pytest.skip("the table of ACTG 175 is not in the folder of real data")
    with file.open() as text:
        rows = list(csv.DictReader(text, delimiter=" "))
    assert len(rows) == 2139
    return {name: np.array([float(r[name]) for r in rows]) for name in (*BEFORE, "arms", "days", "cens", "cd420")}


def _features(table: dict[str, np.ndarray]) -> np.ndarray:
    raw = np.stack([table[n] for n in BEFORE], axis=1)
    return fit_preparation(raw, BEFORE)(raw)


def test_cd4_at_20_weeks_is_that_of_the_published_adjusted_analysis(actg175: dict[str, np.ndarray]) -> None:
    """Tsiatis et al., Statistics in Medicine 2008: 46.81 (standard error 6.76), adjusted about 50 (5.1)."""
    pytest.importorskip("sklearn")
    treated, outcome = actg175["arms"] > 0, actg175["cd420"]
    plain = outcome[treated].mean() - outcome[~treated].mean()
    assert plain == pytest.approx(46.81, abs=0.01), "this is the table"
    cases = Cases(_features(actg175), treated, outcome)
    nuisance = cross_fit(cases, randomised=True, learners=("line", "line"))
    scores = doubly_robust_scores(outcome, treated, nuisance.propensity, nuisance.expected)
    found = average_effect(scores)
    assert found.value == pytest.approx(50, abs=2.0)
    assert (found.high - found.low) / 2 / 1.96 == pytest.approx(5.1, abs=0.3), "adjusting pays"
    assert found.low < plain < found.high


@pytest.mark.parametrize(("arm", "published"), [(1, 0.32 - 0.18), (2, 0.32 - 0.20), (3, 0.32 - 0.22)])
def test_fewer_end_points_as_the_trial_reported(actg175: dict[str, np.ndarray], arm: int, published: float) -> None:
    """Hammer et al., NEJM 1996: 32 % had the end point under zidovudine alone, 18, 20 and 22 % in the other arms."""
    pytest.importorskip("sklearn")
    own = np.isin(actg175["arms"], (0, arm))
    treated = actg175["arms"][own] == arm
    days, happened = actg175["days"][own], actg175["cens"][own] == 1
    outcome = np.empty(len(days))
    for group in (treated, ~treated):
        outcome[group] = pseudo_values(days[group], happened[group], horizon_days=1000.0)
    cases = Cases(_features(actg175)[own], treated, outcome)
    nuisance = cross_fit(cases, randomised=True, learners=("line", "line"))
    found = average_effect(doubly_robust_scores(outcome, treated, nuisance.propensity, nuisance.expected))
    assert found.low < published < found.high and found.low > 0


def test_a_trial_refuses_hardly_anyone(actg175: dict[str, np.ndarray]) -> None:
    pytest.importorskip("sklearn")
    treated = actg175["arms"] > 0
    raw = np.stack([actg175[n] for n in BEFORE], axis=1)
    cases = Cases(_features(actg175), treated, actg175["cd420"])
    nuisance = cross_fit(cases, randomised=True, learners=("line", "line"))
    support = fit_support(cases, nuisance, raw=raw, names=BEFORE, randomised=True)
    assert support.rules == () and supported(support.refusals(cases.features)).mean() > 0.97
