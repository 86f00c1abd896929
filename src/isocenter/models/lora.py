"""LoRA: a network learns a new task through small low-rank changes of its weights, and can take them in again.

Of every convolution and linear layer the weight W stays as it is and becomes W + scale * up @ down, where `up` and
`down` have few columns and rows; what has one axis (biases, the scales and shifts of normalisation) is learnt as it is.
After `merge_lora` the network has the shape and the speed that it had before.

It is written here and not taken from PEFT because what is adapted is answered with `isocenter read`: PEFT brings
transformers and accelerate along, for two products of matrices. Its place is kept: whoever adapts a transformer takes
PEFT in a method of his own.

Source:
    Hu et al., LoRA, ICLR 2022; for convolutions, the weight is seen as a matrix (out, in * kernel). Liu et al., DoRA,
    ICML 2024 (the length of each output's weights apart, no gradient through the norm).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn.utils import parametrize

from isocenter.core.errors import ConfigError, WeightsError

__all__ = ["add_lora", "fill_lora", "lora_arrays", "merge_lora", "merged_state"]

_LAYERS = (nn.Conv2d, nn.Conv3d, nn.Linear)


class _LowRank(nn.Module):
    """What is added to one weight; nothing at first."""

    def __init__(
        self, weight: torch.Tensor, rank: int, scale: float, generator: torch.Generator, *, magnitude: bool = False
    ) -> None:
        super().__init__()
        rows, columns = weight.shape[0], weight[0].numel()
        rank = min(rank, rows, columns)
        self.down = nn.Parameter(torch.randn(rank, columns, generator=generator) / math.sqrt(columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.scale = scale
        self.size = nn.Parameter(weight.flatten(1).norm(dim=1)) if magnitude else None

    def forward(self, weight: Float[torch.Tensor, "rows *rest"]) -> Float[torch.Tensor, "rows *rest"]:
        """Return the changed weight."""
        changed: torch.Tensor = weight + (self.scale * (self.up @ self.down)).view(weight.shape)
        if self.size is None:
            return changed
        # The length of each row is learnt apart from its direction; the gradient does not go through the length.
        length = changed.detach().flatten(1).norm(dim=1).clamp(min=1e-12)
        scaled: torch.Tensor = changed * (self.size / length).view(-1, *(1,) * (weight.ndim - 1))
        return scaled


def add_lora(
    net: nn.Module, *, rank: int, scale: float = 1.0, seed: int = 0, magnitude: bool = False
) -> list[nn.Parameter]:
    """Freeze a network and add low-rank changes to it, in place; its answers stay the same until they are trained.

    Args:
        net: The network.
        rank: Of the change of each weight; less where a weight is smaller.
        scale: What the change is multiplied by.
        seed: Of the first values.
        magnitude: Whether the length of each output's weights is learnt apart from their direction (DoRA).

    Returns:
        What is to be trained, in a fixed order.

    Raises:
        ConfigError: The rank is not positive, or the network has LoRA already.
    """
    if rank < 1:
        raise ConfigError(f"the rank of LoRA must be 1 or more, got {rank}")
    if any(parametrize.is_parametrized(module) for module in net.modules()):
        raise ConfigError("the network has LoRA already; merge it first")
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    for module in [m for m in net.modules() if isinstance(m, _LAYERS)]:
        low = _LowRank(module.weight.detach(), rank, scale, generator, magnitude=magnitude)
        parametrize.register_parametrization(module, "weight", low)
    return list(_trained(net).values())


def lora_arrays(net: nn.Module) -> dict[str, np.ndarray]:
    """Return what was trained, by name: ``NAME.lora_up``, ``NAME.lora_down`` and whatever has one axis."""
    return {name: value.detach().numpy().copy() for name, value in _trained(net).items()}


def fill_lora(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a network with LoRA the values that another one of its shape learnt, in place.

    Raises:
        WeightsError: Names or shapes are of another network, or a value is not finite.
    """
    mine = _trained(net)
    if set(mine) != set(arrays) or any(mine[k].shape != arrays[k].shape for k in mine):
        raise WeightsError("the adapter is of another network, or of another rank, than this one")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise WeightsError("the adapter holds values that are not finite")
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(torch.from_numpy(np.asarray(arrays[name], dtype=np.float32)))


def merged_state(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of a network with the changes taken in, named as before LoRA; the network stays as it is."""
    state = {k: v.detach() for k, v in net.state_dict().items() if ".parametrizations." not in k}
    for name, module in net.named_modules():
        if isinstance(module, _LAYERS) and parametrize.is_parametrized(module):
            state[f"{name}.weight"] = module.weight.detach()
    return state


def merge_lora(net: nn.Module) -> None:
    """Take the changes into the weights, in place; the network is then as if it had been trained as a whole."""
    for module in [m for m in net.modules() if parametrize.is_parametrized(m)]:
        if isinstance(module, _LAYERS):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
    for parameter in net.parameters():
        parameter.requires_grad_(False)


def _trained(net: nn.Module) -> dict[str, nn.Parameter]:
    return {
        name.replace(".parametrizations.weight.0.", ".lora_"): parameter
        for name, parameter in net.named_parameters()
        if parameter.ndim == 1 or name.rpartition(".parametrizations.weight.0.")[2] in ("up", "down", "size")
    }
