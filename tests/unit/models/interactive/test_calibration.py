"""Corrections of what the interactive network says of itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.learn.interactive_calibration import fit_calibration
from isocenter.models.interactive.calibration import Calibration
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings
from isocenter.models.interactive.plane import Mark, PlaneModel

SMALL = InteractiveSettings(widths=(4, 4, 4), prompt_widths=(4, 4, 4), fine=2, blocks=1, memory=4)


def test_a_temperature_moves_probabilities_and_leaves_masks():
    logits = torch.linspace(-6, 6, 40)
    plain, soft = Calibration(), Calibration(temperature=2.5)
    assert torch.equal(plain.probability(logits) >= 0.5, soft.probability(logits) >= 0.5)
    assert (soft.probability(logits) - 0.5).abs().sum() < (plain.probability(logits) - 0.5).abs().sum()


def test_models_use_what_the_card_says():
    torch.manual_seed(0)
    net = InteractiveNet(SMALL).eval()
    picture = np.random.default_rng(0).normal(0, 1, (40, 40)).astype(np.float32)
    marks = [Mark("point", np.array([[20.0, 20.0]]))]
    plain = PlaneModel(net, pixels=32).answer(picture, marks)
    trust = Calibration.from_card({"temperature": 3.0, "overlap_slope": 0.5, "overlap_offset": 1.0})
    soft = PlaneModel(net, pixels=32, calibration=trust).answer(picture, marks)
    assert not np.array_equal(plain.probability, soft.probability)
    assert soft.quality > plain.quality


def test_a_broken_card_is_refused():
    with pytest.raises(ConfigError):
        Calibration.from_card({"temperature": "warm"})
    with pytest.raises(ConfigError):
        Calibration(temperature=0.0)


def test_fitting_is_repeatable_and_positive():
    torch.manual_seed(0)
    net = InteractiveNet(SMALL).eval()
    one, two = fit_calibration(net, 3, samples=2), fit_calibration(net, 3, samples=2)
    assert one == two
    Calibration.from_card(one)
