"""LoRA: nothing changes at first, little is trained, what is learnt is carried over, and merging changes no answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.interactive.inputs import PICTURE_CHANNELS, PROMPT_CHANNELS
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings
from isocenter.models.lora import add_lora, fill_lora, lora_arrays, merge_lora


def network(dims: int = 2) -> InteractiveNet:
    torch.manual_seed(0)
    shape = InteractiveSettings(dims=dims, widths=(4, 8, 8), prompt_widths=(4, 4, 4), fine=4, blocks=1, memory=4)
    return InteractiveNet(shape).eval()


def inputs(dims: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, PICTURE_CHANNELS + PROMPT_CHANNELS, *(16,) * dims, generator=generator)


def trained(net: nn.Module, x: torch.Tensor) -> None:
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.5)
    for _ in range(3):
        loss = (net(x).logits - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_changes_until_it_is_trained_and_nothing_by_merging(dims: int) -> None:
    net, x = network(dims), inputs(dims)
    frozen = {k: v.clone() for k, v in net.state_dict().items() if v.ndim > 1}
    before = net(x).logits
    count = sum(p.numel() for p in net.parameters())
    parameters = add_lora(net, rank=1, scale=2.0)
    assert torch.equal(net(x).logits, before)
    assert sum(p.numel() for p in parameters) < 0.5 * count
    trained(net, x)
    after = net(x).logits
    assert not torch.allclose(after, before)
    for name, value in net.state_dict().items():
        plain = name.replace("parametrizations.weight.original", "weight")
        if plain in frozen and plain != name:
            assert torch.equal(value, frozen[plain]), "the base weight stays"
    merge_lora(net)
    torch.testing.assert_close(net(x).logits, after, rtol=1e-5, atol=1e-5)
    assert set(net.state_dict()) == set(network(dims).state_dict())
    assert not any(p.requires_grad for p in net.parameters())


def test_what_was_learnt_is_carried_over() -> None:
    net, other, x = network(), network(), inputs()
    add_lora(net, rank=2, seed=3)
    trained(net, x)
    arrays = lora_arrays(net)
    assert {k.rpartition(".")[2] for k in arrays} == {"lora_up", "lora_down", "weight", "bias", "sharpness"}
    assert all(a.ndim == 1 for k, a in arrays.items() if not k.endswith(("lora_up", "lora_down")))
    add_lora(other, rank=2, seed=4)
    fill_lora(other, arrays)
    merge_lora(other)
    torch.testing.assert_close(other(x).logits, net(x).logits, rtol=1e-5, atol=1e-5)


def test_a_step_is_that_of_the_full_product() -> None:
    """The change is scale * up @ down, by hand."""
    layer = nn.Sequential(nn.Linear(3, 2, bias=False))
    weight = layer[0].weight.detach().clone()
    add_lora(layer, rank=1, scale=0.5)
    up, down = np.array([[2.0], [4.0]], np.float32), np.array([[1.0, 0.0, -1.0]], np.float32)
    fill_lora(layer, {"0.lora_up": up, "0.lora_down": down})
    expected = weight + torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0]])
    torch.testing.assert_close(layer(torch.eye(3)).T.detach(), expected)


def test_what_does_not_fit_is_refused() -> None:
    net = network()
    with pytest.raises(ConfigError, match="rank of LoRA must be 1 or more"):
        add_lora(net, rank=0)
    add_lora(net, rank=2)
    with pytest.raises(ConfigError, match="has LoRA already"):
        add_lora(net, rank=2)
    arrays = lora_arrays(net)
    with pytest.raises(WeightsError, match="another network"):
        fill_lora(net, {k: a for k, a in arrays.items() if not k.startswith("border")})
    wide = network()
    add_lora(wide, rank=3)
    with pytest.raises(WeightsError, match="another rank"):
        fill_lora(wide, arrays)
    arrays["border.0.bias"][0] = np.nan
    with pytest.raises(WeightsError, match="not finite"):
        fill_lora(net, arrays)
