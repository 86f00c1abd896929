"""People from whom nothing can be learnt are refused, and features are prepared without looking at outcomes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from isocenter.core.errors import CapabilityError, DataError
from isocenter.tasks.treat import Cases, Lived, check_cases, cross_fit, fit_preparation, folds_of, subset
from isocenter.tasks.treat.packages import needed

RNG = np.random.default_rng(0)


def _cases(count: int = 200, **changes: object) -> Cases:
    made: dict[str, object] = {
        "features": RNG.standard_normal((count, 2)), "treated": np.arange(count) % 2 == 0,
        "outcome": RNG.standard_normal(count),
    }  # fmt: skip
    return Cases(**{**made, **changes})  # type: ignore[arg-type]


def test_what_nothing_can_be_learnt_from_is_refused() -> None:
    with pytest.raises(DataError, match="everyone got the same option"):
        check_cases(_cases(treated=np.ones(200, dtype=bool)))
    with pytest.raises(DataError, match="only 5 people got one of the options; at least 30"):
        check_cases(_cases(treated=np.arange(200) < 5))
    with pytest.raises(DataError, match="the same for everyone"):
        check_cases(_cases(outcome=np.ones(200)))
    with pytest.raises(DataError, match="not a finite number"):
        check_cases(_cases(outcome=np.full(200, np.nan)))
    days = RNG.exponential(100, 200)
    with pytest.raises(DataError, match="no events under the treatment"):
        check_cases(_cases(lived=Lived(days, np.arange(200) % 2 == 1, 100.0, "days")))
    with pytest.raises(DataError, match="before the start"):
        check_cases(_cases(lived=Lived(days - 1000, np.ones(200, dtype=bool), 100.0, "days")))
    check_cases(_cases())


def test_folds_hold_everyone_out_once_and_spread_the_treated() -> None:
    treated = np.arange(103) % 3 == 0
    seen = []
    for known, held in folds_of(treated, 5, 0):
        assert not set(known) & set(held) and len(known) + len(held) == 103
        assert 5 <= treated[held].sum() <= 8
        seen += held.tolist()
    assert sorted(seen) == list(range(103))


def test_nobody_is_predicted_by_models_that_saw_them() -> None:
    """A person's outcome, changed wildly, does not move what is expected of that person."""
    pytest.importorskip("sklearn")
    cases = _cases(120)
    before = cross_fit(cases, randomised=True, folds=3, learners=("line", "line")).expected[:, 7]
    outcome = cases.outcome.copy()
    outcome[7] += 1e3
    after = cross_fit(_cases(120, features=cases.features, outcome=outcome), randomised=True, folds=3,
                      learners=("line", "line")).expected  # fmt: skip
    assert after[:, 7] == pytest.approx(before)
    assert np.abs(after).max() > 5, "of others it does"


def test_a_trials_propensity_is_its_share() -> None:
    pytest.importorskip("sklearn")
    treated = np.arange(120) % 3 == 0
    found = cross_fit(_cases(120, treated=treated), randomised=True, folds=3, learners=("line", "line"))
    assert found.propensity == pytest.approx(1 / 3) and found.propensity_learner == "share"
    with pytest.raises(DataError, match="too few people"):
        cross_fit(_cases(40, treated=np.arange(40) < 3), randomised=True)


def test_the_learner_is_elected_by_held_out_loss() -> None:
    pytest.importorskip("sklearn")
    x = RNG.standard_normal((300, 2))
    treated = RNG.random(300) < np.where(np.abs(x[:, 0]) > 0.7, 0.9, 0.1)
    found = cross_fit(Cases(x, treated, x[:, 1]), randomised=False, folds=3)
    assert (found.propensity_learner, found.outcome_learner) == ("forest", "line")


def test_preparation() -> None:
    pytest.importorskip("sklearn")
    raw = np.stack(
        [np.exp(RNG.standard_normal(300) * 2), np.arange(300) % 2.0, np.ones(300), RNG.normal(1e6, 1, 300)], 1
    )
    raw[::4, 0] = np.nan
    made = fit_preparation(raw, ("enzyme", "sex", "same", "large"))
    assert made.names == ("enzyme", "sex", "large", "enzyme, not stated")
    out = made(raw)
    assert np.isfinite(out).all() and np.abs(out.mean(axis=0)).max() < 0.3 and 0.5 < out.std(axis=0).min() < 1.5
    assert abs(out[:, 0]).max() < 5, "the long tail is drawn in"
    assert (
        set(np.round(out[:, 3], 3)) == {round(float(v), 3) for v in np.unique(out[:, 3])} and len(set(out[:, 3])) == 2
    )
    with pytest.raises(DataError, match="3 columns, 4 were learnt from"):
        made(raw[:, :3])
    with pytest.raises(DataError, match="no feature differs"):
        fit_preparation(np.ones((5, 2)), ("a", "b"))
    with pytest.raises(DataError, match="2 columns, 1 names"):
        fit_preparation(np.ones((5, 2)), ("a",))


def test_what_lies_beyond_everyone_is_found_where_the_transform_is_bounded() -> None:
    pytest.importorskip("sklearn")
    raw = np.stack([np.exp(RNG.standard_normal(300) * 2), np.arange(300.0)], 1)
    raw[::4, 0] = np.nan
    made = fit_preparation(raw, ("enzyme", "number"))
    assert not made.outside(raw).any()
    strange = np.array([[1e9, 5.0], [np.nan, -40.0], [1.0, 320.0]])
    assert made.outside(strange).tolist() == [[True, False], [False, True], [False, False]]
    assert np.abs(made(strange)[0]).max() < 5, "on its scale 1e9 looks like anyone"


def test_subset_keeps_times() -> None:
    days = RNG.exponential(100, 200)
    cases = _cases(lived=Lived(days, np.ones(200, dtype=bool), 50.0, "survival"))
    some = subset(cases, np.arange(200) < 7)
    assert some.lived is not None and some.lived.days.tolist() == days[:7].tolist() and some.chance
    assert len(subset(cases, np.array([3, 3, 5])).treated) == 3


def test_what_is_not_installed_is_named() -> None:
    with pytest.raises(CapabilityError, match=r'package no_such_thing: pip install "isocenter\[precision\]"'):
        needed("no_such_thing.part")


def test_the_package_imports_without_the_extra() -> None:
    code = (
        "import sys\n"
        "for name in ('econml', 'sklearn', 'pandas', 'lifelines', 'statsmodels'): sys.modules[name] = None\n"
        "import numpy as np, isocenter.verbs.treat, isocenter.tasks.treat as t\n"
        "from isocenter.core.errors import CapabilityError\n"
        "try: t.fit_preparation(np.arange(40.0).reshape(20, 2), ('a', 'b'))\n"
        "except CapabilityError as error: sys.exit('isocenter[precision]' not in str(error))\n"
        "sys.exit('not refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
