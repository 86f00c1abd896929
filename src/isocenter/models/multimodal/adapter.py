"""What of a network learns: all of it, or low-rank changes of the language model (and the tower) with the projector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.lora import add_lora, merge_lora, merged_state
from isocenter.models.multimodal.whole import WholeNet

__all__ = ["Learning", "fill_learnt", "learnt_arrays", "set_learning", "take_in", "whole_arrays"]


@dataclass(frozen=True)
class Learning:
    """What learns.

    Args:
        rank: Of the changes of the language model; 0 lets it learn as a whole.
        scale: What changes are multiplied by.
        magnitude: Whether the length of each output's weights is learnt apart (DoRA).
        tower: "full", "lora" (with the same rank) or "locked".
        seed: Of the first values.

    Raises:
        ConfigError: A field is out of range.
    """

    rank: int = 0
    scale: float = 2.0
    magnitude: bool = False
    tower: str = "full"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank < 0 or self.scale <= 0 or self.tower not in ("full", "lora", "locked"):
            raise ConfigError(f"rank is 0 or more, scale positive, tower full, lora or locked; got {asdict(self)}")
        if self.tower == "lora" and not self.rank:
            raise ConfigError("a tower learns by low-rank changes only where the rank is 1 or more")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_card(cls, values: Mapping[str, Any]) -> Learning:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"this does not say what learns: {error}") from error


def set_learning(net: Any, learning: Learning) -> list[nn.Parameter]:
    """Freeze what keeps what it knows, and add low-rank changes, in place; answers stay as they are.

    With a rank, the embedding and the head of the language model stay, and what has one axis in its blocks learns.

    Args:
        net: A `MultimodalNetwork`.
        learning: What learns.

    Returns:
        What is to be trained, in a fixed order.
    """
    if learning.rank:
        # In a whole checkpoint the head lies beside the language model, not in it.
        beside: Any = [net.head] if isinstance(net, WholeNet) else []
        for parameter in (p for part in (net.language, *beside) for p in part.parameters()):
            parameter.requires_grad_(False)
        options: dict[str, Any] = {"rank": learning.rank, "scale": learning.scale, "magnitude": learning.magnitude}
        add_lora(net.adaptable, seed=learning.seed, **options)
        if learning.tower == "lora":
            add_lora(net.vision, seed=learning.seed + 1, **options)
    if learning.tower == "locked":
        for parameter in net.vision.parameters():
            parameter.requires_grad_(False)
    return [p for p in net.parameters() if p.requires_grad]


def _of_adapter(net: nn.Module) -> dict[str, torch.Tensor]:
    """Return what an adapter holds: all that is trained, and of a network of ours all that its folder does not give.

    The folder gives the language model alone: tower and projector are kept as a whole, statistics of normalisation too.
    """
    found = {name: p.detach() for name, p in net.named_parameters() if p.requires_grad}
    if not isinstance(net, WholeNet):
        state = net.state_dict()
        ours = (k for k in state if k.startswith(("vision.", "projector.")) and state[k].is_floating_point())
        found |= {name: state[name].detach() for name in ours}
    return found


def learnt_arrays(net: nn.Module) -> dict[str, np.ndarray]:
    """Return an adapter: what was trained, and what the folder that it changes does not give, by name."""
    return {name: tensor.to("cpu").float().numpy().copy() for name, tensor in _of_adapter(net).items()}


def fill_learnt(net: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Give a network what another one of its kind learnt, in place; `set_learning` was called before.

    Raises:
        WeightsError: Names or shapes are of another network, or a value is not finite.
    """
    mine = _of_adapter(net)
    if set(mine) != set(arrays) or any(tuple(mine[k].shape) != arrays[k].shape for k in mine):
        raise WeightsError("the adapter is of another network, or of another rank, than this one")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise WeightsError("the adapter holds values that are not finite")
    with torch.no_grad():
        for name, tensor in mine.items():
            tensor.copy_(torch.from_numpy(np.asarray(arrays[name], dtype=np.float32)))


def whole_arrays(net: nn.Module) -> dict[str, np.ndarray]:
    """Return all weights with the changes taken in, named as before them; the network stays as it is."""
    shared: dict[int, str] = {}
    found = {}
    for name, tensor in merged_state(net).items():
        first = shared.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if first == name and tensor.is_floating_point():  # the head and the embedding may be one
            found[name] = tensor.detach().to("cpu").float().numpy().copy()
    return found


def take_in(net: nn.Module) -> None:
    """Take the changes into the weights, in place: the network is then as if it had been trained as a whole."""
    merge_lora(net)
