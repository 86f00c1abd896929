"""Of whom something can be said, and what is told of them."""

from __future__ import annotations

import re

import numpy as np
import pytest

from isocenter.core import ModelRef
from isocenter.core.errors import ConfigError
from isocenter.tasks.treat import Amount, Cases, Refusal, Wording, answer_person, cross_fit, fit_support, supported
from isocenter.tasks.treat.answer import NO_RECOMMENDATION, frequency_words, verdict_words

NAMES = ("kidney [umol/L]", "age [a]")


def _support(randomised: bool = False, seed: int = 0, count: int = 900):
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(seed)
    kidney = np.where(rng.random(count) < 0.1, rng.uniform(160, 300, count), rng.normal(90, 15, count))
    age = rng.normal(60, 10, count)
    chance = np.where(kidney > 150, 0.0, 0.4 + 0.2 * (age > 60))
    treated = rng.random(count) < (np.full(count, 0.5) if randomised else chance)
    raw = np.stack([kidney, age], axis=1)
    scale = np.array([90.0, 60.0]), np.array([40.0, 10.0])
    features = (raw - scale[0]) / scale[1]
    cases = Cases(features, treated, rng.standard_normal(count))
    nuisance = cross_fit(cases, randomised=randomised, folds=3, learners=("forest", "line"))
    made = fit_support(cases, nuisance, raw=raw, names=NAMES, options=("usual", "new"), randomised=randomised)
    return made, features, kidney > 150, scale, nuisance


def test_a_group_that_never_got_an_option_is_refused_and_named() -> None:
    made, features, planted, scale, nuisance = _support()
    refusals = made.refusals(features, nuisance.propensity)
    assert all(r is not None and r.kind == "group" for r, p in zip(refusals, planted, strict=True) if p)
    assert supported(refusals)[~planted].mean() > 0.95
    assert len(made.rules) == 1
    assert re.match(rf"of ({planted.sum()}|{planted.sum() + 1}) people with kidney \[umol/L\] above 1", made.rules[0])
    assert made.rules[0].endswith("none got new")
    limit = float(made.rules[0].split("above ")[1].split(",")[0])
    assert 100 < limit < 175
    new = (np.array([[200.0, 55.0], [90.0, 55.0]]) - scale[0]) / scale[1]
    assert [r is None for r in made.refusals(new)] == [False, True]


def test_people_like_nobody_are_refused_in_a_trial_too() -> None:
    made, features, _, scale, _ = _support(randomised=True)
    assert supported(made.refusals(features)).mean() > 0.97
    far = (np.array([[90.0, 130.0]]) - scale[0]) / scale[1]
    found = made.refusals(far)[0]
    assert found is not None and found.kind == "unlike"
    assert made.rules == () and made.propensity(far).tolist() == [0.5]


def test_a_group_by_two_features_is_found_too() -> None:
    """Nobody young with failing kidneys is treated: neither limit alone is without treated people."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(4)
    raw = rng.uniform(0, 1, (1500, 2))
    corner = (raw[:, 0] > 0.7) & (raw[:, 1] < 0.3)
    treated = (rng.random(1500) < 0.5) & ~corner
    nuisance = cross_fit(Cases(raw, treated, raw[:, 0]), randomised=False, folds=3, learners=("line", "line"))
    made = fit_support(Cases(raw, treated, raw[:, 0]), nuisance, raw=raw, names=("kidney", "age"))
    assert any(re.search(r"kidney above 0\.[67]\d* and age at most 0\.[23]", rule) for rule in made.rules)
    refused = ~supported(made.refusals(raw, nuisance.propensity))
    assert refused[corner].mean() > 0.9 and refused[~corner].mean() < 0.05


def test_no_group_is_found_where_there_is_none() -> None:
    made, features, planted, _, nuisance = _support(seed=1)
    again = fit_support(
        Cases(features[~planted], np.arange(int((~planted).sum())) % 3 == 0, np.zeros(int((~planted).sum()))),
        nuisance, raw=features[~planted], names=NAMES,
    )  # fmt: skip
    assert again.rules == ()
    with pytest.raises(ConfigError, match="least share"):
        fit_support(Cases(features, planted, features[:, 0]), nuisance, raw=features, names=NAMES, least_share=0.7)
    assert made.least_share == 0.05


WORDING = Wording("new", "usual", "are alive at day 900", "1", True, True, 0.9, 900.0)
MODEL, SHA = ModelRef("together", "0.1"), ("0" * 64,)


def _answer(effect: Amount, refusal: Refusal | None = None, wording: Wording = WORDING, limit: float = 0.5):
    levels = (Amount(0.4, 0.3, 0.5), Amount(0.4 + effect.value, 0.4, 0.7))
    return answer_person(wording, refusal, effect, levels, width_limit=limit, model=MODEL, inputs=SHA)


def test_an_answer_is_an_interval_of_the_house() -> None:
    found = _answer(Amount(0.12, 0.02, 0.22))
    assert found.verdict == "favours new (higher is better; association)"
    made = found.prediction
    assert made.abstained is None and made.uncertainty is not None
    assert (made.value.difference, made.value.horizon_days) == (0.12, 900.0)  # type: ignore[union-attr]
    assert (made.uncertainty.low, made.uncertainty.high, made.uncertainty.level) == (0.02, 0.22, 0.9)
    assert "association" in made.uncertainty.description and "association" in made.notes[0]
    assert not any("effect" in line for line in found.sentences)


def test_verdicts() -> None:
    assert _answer(Amount(0.12, -0.02, 0.22)).verdict == "no sure difference (higher is better; association)"
    assert _answer(Amount(-0.12, -0.22, -0.02)).verdict == "favours usual (higher is better; association)"
    trial = Wording("new", "usual", "are alive", "1", True, False, 0.9)
    assert _answer(Amount(0.12, 0.02, 0.22), wording=trial).verdict == "favours new (higher is better)"
    harm = Wording("new", "usual", "have pain", "1", True, False, 0.9, bad=True)
    assert _answer(Amount(0.12, 0.02, 0.22), wording=harm).verdict == "favours usual (lower is better)"
    died = Wording("new", "usual", "have had no relapse by day 9", "1", True, False, 0.9, 9.0, False, "relapse")
    assert _answer(Amount(0.12, 0.02, 0.22), wording=died).verdict == "favours new (relapse is bad)"
    healed = Wording("new", "usual", "have had no healing by day 9", "1", True, False, 0.9, 9.0, True, "healing")
    assert _answer(Amount(0.12, 0.02, 0.22), wording=healed).verdict == "favours usual (healing is good)"


def test_a_sure_harm_is_never_plainly_favoured() -> None:
    trial = Wording("new", "usual", "are alive", "1", True, False, 0.9)
    good, none, bad = Amount(0.12, 0.02, 0.22), Amount(0.1, -0.1, 0.3), Amount(-0.12, -0.22, -0.02)
    more, less = Amount(0.3, 0.1, 0.5), Amount(-0.3, -0.5, -0.1)

    def told(effect: Amount, *harms: tuple[str, Amount], wording: Wording = trial) -> str:
        return verdict_words(wording, effect, harms).removesuffix(f" ({wording.direction})")

    assert told(good, ("toxicity", more)) == "more are alive with new, but more toxicity"
    assert told(good, ("toxicity", more), ("pain", more)) == "more are alive with new, but more toxicity and more pain"
    assert told(good, ("toxicity", none)) == told(good, ("toxicity", less)) == "favours new"
    assert told(bad, ("toxicity", less)) == "more are alive with usual, but more toxicity"
    assert told(none, ("toxicity", more)) == "no sure difference, but more toxicity with new"
    lower = Wording("new", "usual", "mean pressure", "mm[Hg]", False, False, 0.9, bad=True)
    assert told(bad, ("falls", more), wording=lower) == "lower mean pressure with new, but more falls"


def test_words_are_for_features_of_0_and_1() -> None:
    """A sex coded 1 and 2 is told with its limit."""
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(5)
    for low, words in ((1.0, "sex above 1.5"), (0.0, "sex")):
        raw = np.stack([rng.integers(0, 2, 900) + low, rng.normal(size=900)], axis=1)
        treated = (rng.random(900) < 0.5) & (raw[:, 0] == low)
        cases = Cases(raw, treated, raw[:, 1])
        nuisance = cross_fit(cases, randomised=False, folds=3, learners=("line", "line"))
        made = fit_support(cases, nuisance, raw=raw, names=("sex", "age"))
        assert f"people with {words}, none got" in made.rules[0]


@pytest.mark.parametrize(
    ("refusal", "effect"),
    [
        (Refusal("group", "of 90 people with kidney above 150, none got new"), Amount(0.1, 0.0, 0.2)),
        (None, Amount(0.1, -0.3, 0.5)),
    ],
)
def test_a_refusal_says_why_and_nothing_else(refusal: Refusal | None, effect: Amount) -> None:
    found = _answer(effect, refusal)
    assert found.verdict == NO_RECOMMENDATION == "insufficient support for this person: no recommendation"
    assert found.effect is None and found.untreated is None and found.prediction.value is None
    assert found.prediction.abstained is not None and found.prediction.abstained.startswith(NO_RECOMMENDATION)
    assert ("none got new" if refusal else "wider than 0.5") in found.sentences[0]
    assert found.refusal is not None and found.refusal.kind == ("group" if refusal else "interval")


def test_numbers_are_told_in_their_unit_and_fewer_is_fewer() -> None:
    wording = Wording("new", "usual", "mean CD4", "/mm3", False, False, 0.95)
    told = frequency_words(wording, Amount(300.0, 280.0, 320.0), Amount(350.0, 330.0, 370.0), Amount(50.0, 30.0, 70.0))
    assert (
        told[0]
        == "For people like this, mean CD4: 300 (280 to 320) /mm3 with usual, and 350 (330 to 370) /mm3 with new."
    )
    assert "association" not in told[1]
    fewer = frequency_words(WORDING, Amount(0.5, 0.4, 0.6), Amount(0.38, 0.3, 0.5), Amount(-0.12, -0.22, 0.01))
    assert fewer[1].startswith("That is 12 fewer in 100 (−1 to 22) with new.")
