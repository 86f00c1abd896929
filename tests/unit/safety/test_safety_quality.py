"""The expected Dice: tells poor answers, keeps its interval on patients left out, survives JSON, refuses bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.models.learnt.agreement import answer_numbers
from isocenter.safety.quality import QualityRule, fit_quality

NAMES = ("sharp", "doubt", "size")


def answers(seed: int, patients: int, copies: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Numbers of answers whose Dice falls off a cliff where the image is too poor."""
    rng = np.random.default_rng(seed)
    whose = np.repeat(np.arange(patients), copies)
    harm = np.tile(np.linspace(0, 1, copies), patients) * rng.uniform(0.5, 1.5, len(whose))
    dice = np.clip(0.9 / (1 + np.exp(8 * (harm - 0.8))) + rng.normal(0, 0.03, len(whose)), 0, 1)
    sharp = 0.97 - 0.3 * harm**2 + rng.normal(0, 0.01, len(whose)) + 0.01 * rng.normal(size=patients)[whose]
    doubt = 0.1 + 0.4 * harm + rng.normal(0, 0.05, len(whose))
    return np.stack([sharp, doubt, rng.normal(size=len(whose))], axis=1), dice, [f"p{w}" for w in whose]


def test_it_follows_the_true_dice_and_keeps_its_interval() -> None:
    rule = fit_quality(*answers(1, 60), NAMES)
    table, dice, _ = answers(2, 200)
    found = [rule.expect(dict(zip(NAMES, row.tolist(), strict=True))) for row in table]
    value = np.array([f.value for f in found])
    assert np.corrcoef(value, dice)[0, 1] > 0.93 and rule.correlation > 0.9
    inside = np.mean([f.low <= d <= f.high for f, d in zip(found, dice, strict=True)])
    assert 0.86 <= inside <= 0.97
    assert all(0 <= f.low <= f.value <= f.high <= 1 for f in found)
    assert abs(rule.error - np.abs(value - dice).mean()) < 0.03, "told from patients left out"


def test_without_spoilt_copies_it_would_not_hold_on_poor_images() -> None:
    """Why the rule is fitted on spoilt copies too: on clean images alone there are no failures to learn from."""
    table, dice, patients = answers(3, 80)
    clean = np.arange(len(dice)) % 4 == 0
    only = fit_quality(table[clean], dice[clean], [p for p, c in zip(patients, clean, strict=True) if c], NAMES)
    both = fit_quality(table, dice, patients, NAMES)
    new, truth, _ = answers(4, 200)
    worst = np.arange(len(truth)) % 4 == 3
    gap = [np.abs(rule.dice_of(new[worst]) - truth[worst]).mean() for rule in (only, both)]
    assert gap[1] < 0.1 < gap[0]


def test_it_never_says_that_a_line_higher_is_worth_less() -> None:
    rule = fit_quality(*answers(5, 40), NAMES)
    assert (np.diff(rule.index) > 0).all() and (np.diff(rule.dice) >= 0).all()
    assert QualityRule.from_card(json.loads(json.dumps(rule.as_card()))) == rule


def test_bad_input() -> None:
    table, dice, patients = answers(6, 30)
    with pytest.raises(DataError, match="of 10 patients are too few"):
        fit_quality(table[:40], dice[:40], patients[:40], NAMES)
    with pytest.raises(DataError, match="finite"):
        fit_quality(np.where(table == table.max(), np.nan, table), dice, patients, NAMES)
    with pytest.raises(DataError, match=r"lies in 0\.\.1"):
        fit_quality(table, dice + 1, patients, NAMES)
    with pytest.raises(DataError, match="1 patients and 3 names"):
        fit_quality(table, dice, ["a"], NAMES)
    rule = fit_quality(table, dice, patients, NAMES)
    with pytest.raises(DataError, match="finite number of 'doubt'"):
        rule.expect({"sharp": 1.0, "size": 0.0})
    with pytest.raises(ConfigError, match="do not belong together"):
        QualityRule.from_card({**rule.as_card(), "weights": [1.0]})
    with pytest.raises(ConfigError, match="not a rule of expected quality"):
        QualityRule.from_card({"names": []})
    alike = fit_quality(table, np.full(len(dice), 0.5), patients, NAMES)
    assert alike.expect(dict.fromkeys(NAMES, 0.0)).value == pytest.approx(0.5) and alike.correlation == 0


def test_numbers_of_an_answer() -> None:
    sure = np.zeros((2, 1, 6, 6))
    sure[1, :, 2:4, 2:4] = 1
    sure[0] = 1 - sure[1]
    found = answer_numbers([sure, sure])
    assert found["sharp"] == found["views"] == found["whole"] == 1 and found["doubt"] < 1e-4 and found["absent"] == 0
    split = sure.copy()
    split[1, :, 0, 0] = 1
    split[0] = 1 - split[1]
    assert answer_numbers([split])["whole"] == pytest.approx(4 / 5) and "views" not in answer_numbers([split])
    assert 0 < answer_numbers([sure, np.roll(sure, 1, axis=2)])["views"] < 1
    vague = np.full((2, 1, 6, 6), 0.5)
    assert answer_numbers([vague])["doubt"] == pytest.approx(1)
    empty = np.stack([np.ones((1, 6, 6)), np.zeros((1, 6, 6))])
    assert answer_numbers([empty])["absent"] == 1 and answer_numbers([empty])["whole"] == 0
