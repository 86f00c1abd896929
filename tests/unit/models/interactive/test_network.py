"""The interactive network: shapes, planes and volumes, examples as memory."""

from __future__ import annotations

import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.models.interactive.inputs import PICTURE_CHANNELS, PROMPT_CHANNELS
from isocenter.models.interactive.network import (
    ALTERNATIVES,
    InteractiveNet,
    InteractiveSettings,
    _unfold,
    fold,
)

SMALL = {"widths": (4, 8, 8), "prompt_widths": (4, 4, 6), "fine": 2, "blocks": 1, "memory": 6}


def small(dims):
    torch.manual_seed(0)
    return InteractiveNet(InteractiveSettings(dims=dims, **SMALL)).eval()


def inputs(dims, count=2, side=16, seed=1):
    torch.manual_seed(seed)
    return torch.rand(count, PICTURE_CHANNELS + PROMPT_CHANNELS, *(side,) * dims)


@pytest.mark.parametrize("shape", [(2, 3, 8, 16), (2, 3, 8, 4, 12)])
def test_fold_and_back(shape):
    x = torch.rand(shape)
    assert torch.equal(_unfold(fold(x, 2), 2), x)
    assert torch.equal(_unfold(fold(x, 4), 4), x)


def test_fold_is_pixel_unshuffle():
    x = torch.rand(2, 3, 8, 6)
    assert torch.equal(fold(x, 2), torch.nn.functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_answers_have_the_grid_of_the_input(dims):
    x = inputs(dims)
    answer = small(dims)(x)
    assert answer.logits.shape == (2, 1 + ALTERNATIVES, *x.shape[2:])
    assert answer.quality.shape == (2, 1 + ALTERNATIVES)
    assert torch.isfinite(answer.logits).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_a_sample_without_examples_is_not_touched_by_those_of_another(dims):
    net, x = small(dims), inputs(dims)
    masks = (torch.rand(3, *x.shape[2:]) > 0.5).float()
    with torch.inference_mode():
        features = net.encode(x[:, :PICTURE_CHANNELS])
        others = net.encode(torch.rand(3, PICTURE_CHANNELS, *x.shape[2:]))
        memory = net.remember(others, masks, torch.tensor([1, 1, 1]), 2)
        plain, told = net.answer(features, x), net.answer(features, x, memory)
    torch.testing.assert_close(plain.logits[0], told.logits[0])
    assert not torch.allclose(plain.logits[1], told.logits[1])
    assert not told.recalled[0].any() and told.recalled[1].any()


def test_examples_are_a_set():
    net, x = small(2), inputs(2, count=1)
    masks, pictures = (torch.rand(3, 16, 16) > 0.5).float(), torch.rand(3, PICTURE_CHANNELS, 16, 16)
    with torch.inference_mode():
        features = net.encode(x[:, :PICTURE_CHANNELS])
        answers = []
        for order in ([0, 1, 2], [2, 0, 1]):
            memory = net.remember(net.encode(pictures[order]), masks[order], torch.zeros(3, dtype=torch.long), 1)
            answers.append(net.answer(features, x, memory).logits)
    torch.testing.assert_close(answers[0], answers[1], atol=1e-4, rtol=1e-4)


def test_memory_recalls_the_picture_itself():
    """Shown the very picture as example, even an untrained memory draws its mask, coarsely."""
    net = InteractiveNet(InteractiveSettings(dims=2, widths=(8, 16, 16), prompt_widths=(4, 4, 4), memory=32)).eval()
    picture = torch.rand(1, PICTURE_CHANNELS, 64, 64)
    mask = torch.zeros(1, 64, 64)
    mask[0, 8:40, 16:48] = 1
    x = torch.cat([picture, torch.zeros(1, PROMPT_CHANNELS, 64, 64)], dim=1)
    with torch.inference_mode():
        features = net.encode(picture)
        memory = net.remember(features, mask, torch.tensor([0]), 1)
        recalled = net.answer(features, x, memory).recalled[0, 0]
    half = mask[0, ::2, ::2] > 0
    assert recalled[half].mean() > recalled[~half].mean() + 0.4


def test_settings_travel_with_the_card():
    settings = InteractiveSettings(dims=3, **SMALL)
    assert InteractiveSettings.from_card(settings.as_card()) == settings
    for wrong in ({}, {**settings.as_card(), "dims": 4}, {**settings.as_card(), "more": 1}):
        with pytest.raises(ConfigError):
            InteractiveSettings.from_card(wrong)


def test_gradients_reach_every_parameter():
    net, x = small(2).train(), inputs(2)
    memory = net.remember(net.encode(x[:, :PICTURE_CHANNELS]), (torch.rand(2, 16, 16) > 0.5).float(), torch.tensor([0, 1]), 2)  # fmt: skip  # noqa: E501
    answer = net.answer(net.encode(x[:, :PICTURE_CHANNELS]), x, memory)
    (answer.logits.square().mean() + answer.quality.square().mean() + answer.recalled.square().mean()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
