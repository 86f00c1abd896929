"""Effects on single people by each learner, on people whose effects are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from isocenter.core.errors import ConfigError, ModelError
from isocenter.tasks.treat import METHODS, Cases, EffectModel, Lived, cross_fit, fit_effects, fit_options, learn, refute
from isocenter.tasks.treat.models import _Together
from isocenter.tasks.treat.options import OptionModel
from isocenter.tasks.treat.people import cross_fitted_effects
from isocenter.tasks.treat.refute import average


def _people(count: int = 600, seed: int = 0, *, binary: bool = False) -> tuple[Cases, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 3))
    treated = rng.random(count) < expit(0.7 * x[:, 0])
    if binary:
        risks = [expit(0.8 * x[:, 0]), expit(0.8 * x[:, 0] + 0.8 + x[:, 1])]
        return Cases(x, treated, (rng.random(count) < np.where(treated, risks[1], risks[0])) * 1.0, True), (
            risks[1] - risks[0]
        )
    effect = 1 + x[:, 1]
    return Cases(x, treated, 2 * x[:, 0] + effect * treated + rng.standard_normal(count)), effect


@pytest.mark.parametrize("method", [m for m in METHODS if m != "together"])
def test_each_learner_finds_who_benefits(method: str) -> None:
    pytest.importorskip("econml")
    cases, _ = _people()
    others, true = _people(300, 1)
    found = fit_effects(cases, method, resamples=5)
    assert isinstance(found, EffectModel) and found.name == method
    effects = found.effects(others.features)
    assert np.corrcoef(effects.effect, true)[0, 1] > 0.8
    assert effects.effect.mean() == pytest.approx(true.mean(), abs=0.3), "though the treated were others to begin with"
    assert (effects.spread > 0).all()
    low, high = effects.interval(1.645)
    assert ((low <= true) & (true <= high)).mean() > 0.5


class _Says:
    def __init__(self, value: float, spread: float) -> None:
        self.name, self._value, self._spread = "says", value, spread

    def effects(self, features: np.ndarray):
        from isocenter.tasks.treat import Effects

        return Effects(np.full(len(features), self._value), np.full(len(features), self._spread))


def test_together_is_the_mean_and_disagreement_widens_it() -> None:
    agree = _Together((_Says(1.0, 0.2), _Says(1.0, 0.2))).effects(np.zeros((2, 1)))
    differ = _Together((_Says(0.5, 0.2), _Says(1.5, 0.2))).effects(np.zeros((2, 1)))
    assert agree.effect.tolist() == differ.effect.tolist() == [1.0, 1.0]
    # Two errors of 0.2 that correlate by 0.7, and half the variance of what they say.
    assert agree.spread[0] ** 2 == pytest.approx((0.7 * 0.04 + 0.04) / 2)
    assert differ.spread[0] ** 2 == pytest.approx(agree.spread[0] ** 2 + 0.5 / 2)


def test_options_of_chances_and_of_times() -> None:
    pytest.importorskip("sklearn")
    cases, true = _people(3000, 2, binary=True)
    levels = fit_options(cases, resamples=5).levels(cases.features)
    assert ((levels.expected >= 0) & (levels.expected <= 1)).all()
    assert np.corrcoef(levels.expected[1] - levels.expected[0], true)[0, 1] > 0.9
    assert (levels.spread > 0).all() and (fit_options(cases, resamples=0).levels(cases.features).spread == 0).all()
    rng = np.random.default_rng(0)
    days = rng.exponential(400 * np.exp(0.8 * cases.treated * cases.features[:, 1]))
    lost = rng.uniform(200, 1500, len(days))
    for scale, ceiling in (("survival", 1.0), ("days", 500.0)):
        lived = Lived(np.minimum(days, lost), days <= lost, 500.0, scale)
        timed = Cases(cases.features, cases.treated, days, False, lived)
        found = fit_options(timed, resamples=2).levels(cases.features)
        assert ((found.expected >= 0) & (found.expected <= ceiling)).all()
        gain = found.expected[1] - found.expected[0]
        assert np.corrcoef(gain, cases.features[:, 1])[0, 1] > 0.9


def test_what_is_told_adds_up_and_stays_a_chance() -> None:
    pytest.importorskip("econml")
    cases, _ = _people(500, 3, binary=True)
    learnt = learn(cases, "dr-learner", resamples=5)
    effects, pairs = learnt.tell(cases.features[:200] * 2)
    for effect, (untreated, treated) in zip(effects, pairs, strict=True):
        assert treated.value - untreated.value == pytest.approx(effect.value, abs=1e-9)
        assert all(0 <= v <= 1 for a in (untreated, treated) for v in (a.value, a.low, a.high))
        assert effect.low <= effect.value <= effect.high


def test_held_out_effects_do_not_see_the_person() -> None:
    pytest.importorskip("econml")
    cases, _ = _people(200, 4)
    before = cross_fitted_effects(cases, "dr-learner", folds=3)
    outcome = cases.outcome.copy()
    outcome[11] += 500
    after = cross_fitted_effects(Cases(cases.features, cases.treated, outcome), "dr-learner", folds=3)
    assert after[11] == pytest.approx(before[11]) and np.abs(after - before).max() > 1


def test_refutations_pass_a_true_effect_and_catch_a_leak() -> None:
    pytest.importorskip("sklearn")
    cases, true = _people(800, 5)
    nuisance = cross_fit(cases, randomised=False, folds=3, learners=("line", "line"))
    value, error = average(cases, nuisance)
    assert abs(value - true.mean()) < 3 * error
    found = refute(cases, nuisance, randomised=False, tries=5, folds=3)
    assert [r.name for r in found] == ["placebo treatment", "random common cause", "subset"]
    assert all(r.passed for r in found)
    assert abs(found[0].estimate) < 0.3 and found[2].low < value < found[2].high

    # Few people with wild outcomes: the average hangs on who is in the subset.
    outcome = cases.outcome.copy()
    outcome[np.flatnonzero(cases.treated)[:3]] += 3000
    wild = Cases(cases.features, cases.treated, outcome)
    told = refute(wild, cross_fit(wild, randomised=True, learners=("line", "line")), randomised=True, tries=4, folds=3)
    assert told[2].high - told[2].low > 5


def test_wrong_settings_are_refused() -> None:
    cases, _ = _people(100)
    with pytest.raises(ConfigError, match="no method 'oracle'"):
        fit_effects(cases, "oracle")
    days = np.ones(100)
    twice = Cases(np.repeat(cases.features[:, :1], 2, axis=1), cases.treated, days, False,
                  Lived(days, np.arange(100) < 2, 5.0, "days"))  # fmt: skip
    with pytest.raises(ModelError):
        fit_options(subset_without_events(twice))
    assert OptionModel.name == "t-learner"


def subset_without_events(cases: Cases) -> Cases:
    lived = cases.lived
    if lived is None:
        raise ValueError
    return Cases(cases.features, cases.treated, cases.outcome, False,
                 Lived(lived.days, np.zeros_like(lived.happened), 5.0, "days"))  # fmt: skip
