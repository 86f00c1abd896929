"""Networks before they learn: begun anew or from a backbone's weights, and which of their weights learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.learn.methods.masked import RECIPE as MASKED
from isocenter.models.backbones import settings_from_card
from isocenter.models.backbones.residual_unet import UNetDecoder
from isocenter.models.interactive.backbone import InteractiveEncoderSettings
from isocenter.models.learnt import LearntSettings, build_learnt
from isocenter.models.lora import add_lora
from isocenter.models.weights import Weights

__all__ = ["backbone_card", "begin_network", "choose_learning"]

Method = Literal["full", "probe", "lora", "dora", "linear"]


def backbone_card(start: Weights) -> dict[str, object]:
    """Return the card of the backbone that weights hold: of pretraining, alone or whole, or of the interactive network.

    Raises:
        WeightsError: They hold none.
    """
    network = start.card.network
    if "kind" not in network and {"dims", "widths", "prompt_widths", "blocks"} <= set(network):
        values = {key: network[key] for key in ("dims", "widths", "blocks")}
        return InteractiveEncoderSettings.from_card({"kind": InteractiveEncoderSettings.kind, **values}).as_card()
    if network.get("kind") == MASKED.whole:
        return MASKED.args.model_validate(network["args"]).shape.as_card()
    try:
        return settings_from_card(network).as_card()
    except ConfigError as error:
        raise WeightsError(f"{start.card.name}: these weights hold no backbone to begin with ({error})") from error


def begin_network(settings: LearntSettings, start: Weights | None) -> nn.Module:
    """Return a network: random, or with the encoder of weights, and with the decoder that learnt to fill in beside it.

    Raises:
        WeightsError: The weights are of another encoder than the settings say.
    """
    net = build_learnt(settings)
    if start is None:
        return net
    encoder: nn.Module = net.encoder  # type: ignore[assignment]
    wanted = {k: v for k, v in encoder.state_dict().items() if v.is_floating_point()}
    given = _encoder_arrays(start.arrays, wanted)
    lost = sorted(set(wanted) - set(given))
    wrong = sorted(k for k in given if tuple(given[k].shape) != tuple(wanted[k].shape))
    if lost or wrong:
        name = (lost or wrong)[0]
        raise WeightsError(
            f"{start.card.name}: the weights are of another encoder than this plan's: {name!r} is "
            f"{'missing' if lost else 'of another shape'}"
        )
    encoder.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in given.items()}, strict=False)
    if isinstance(net, UNetDecoder) and start.card.network.get("kind") == MASKED.whole:
        _fill_decoder(net, start)
    return net


def _fill_decoder(net: UNetDecoder, start: Weights) -> None:
    mine = {k: v for k, v in net.state_dict().items() if k.startswith(("up.", "join."))}
    given = {k: start.arrays.get(f"decoder.{k}") for k in mine}
    wrong = sorted(k for k, v in given.items() if v is None or tuple(v.shape) != tuple(mine[k].shape))
    if wrong:
        raise WeightsError(
            f"{start.card.name}: its decoder is of another form ({wrong[0]!r}); pretrain again, or begin with the "
            "encoder alone (the file without -whole)"
        )
    net.load_state_dict({k: torch.from_numpy(np.asarray(v)) for k, v in given.items()}, strict=False)


def _encoder_arrays(arrays: Mapping[str, np.ndarray], wanted: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return the arrays of the encoder, whatever they were named after."""
    for prefix in ("", "encoder.", "backbone."):
        found = {k: arrays[prefix + k] for k in wanted if prefix + k in arrays}
        if found:
            return found
    return {}


def choose_learning(net: nn.Module, method: Method, *, rank: int, seed: int) -> None:
    """Say which weights of a network learn, in place.

    Args:
        net: With an `encoder`.
        method: "full": all; "probe" and "linear": all but the encoder; "lora", "dora": all but the encoder, and
            low-rank changes of it.
        rank: Of the changes.
        seed: Of their first values.
    """
    encoder: nn.Module = net.encoder  # type: ignore[assignment]
    if method in ("probe", "linear"):
        for parameter in encoder.parameters():
            parameter.requires_grad_(False)
    elif method in ("lora", "dora"):
        add_lora(encoder, rank=rank, seed=seed, magnitude=method == "dora")
