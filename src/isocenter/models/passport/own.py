"""Isocenter's own weights, behind the same door: their card is their passport."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.backbones import build_backbone, settings_from_card
from isocenter.models.interactive.build import build_network
from isocenter.models.interactive.inputs import PICTURE_CHANNELS
from isocenter.models.learnt import LearntSettings, backbone_settings, build_learnt
from isocenter.models.passport.document import Expectation, Passport, Role
from isocenter.models.passport.files import Progress, describe_files
from isocenter.models.passport.tensors import dtypes, read_header
from isocenter.models.segmentation import build_unet
from isocenter.models.weights import WeightsCard, load_weights, read_card

__all__ = ["build", "describe"]


def _network(card: WeightsCard) -> tuple[str, Role, int]:
    """Return the network's name, what it does and its spatial axes."""
    if "rank" in card.network:
        return "UNet", "segmenter", _number(card.network, "rank")
    if "backbone" in card.network:
        learnt = LearntSettings.from_card(card.network)
        kind = backbone_settings(learnt.backbone)
        return f"{kind.kind} with a head", "segmenter" if learnt.mask else "classifier", kind.dims
    if "kind" in card.network:
        kind = settings_from_card(card.network)
        return f"{kind.kind} backbone", "encoder", kind.dims
    if {"dims", "prompt_widths"} <= set(card.network) and "base" not in card.network:
        return "InteractiveNet", "promptable", _number(card.network, "dims")
    raise WeightsError(
        f"{card.name}: its card describes no whole network (an adapter?); give the folder of the adapted task to --task"
    )


def _number(fields: Mapping[str, object], key: str, otherwise: int = 0) -> int:
    value = fields.get(key, otherwise)
    return value if isinstance(value, int) else otherwise


def _channels(card: WeightsCard) -> int:
    backbone = card.network.get("backbone")
    return _number(backbone if isinstance(backbone, Mapping) else card.network, "channels_in", 1)


def _size(card: WeightsCard, axes: int) -> tuple[int, ...]:
    """Return the sides of an input; of a network that takes any, four times what they must be a multiple of."""
    side = _number(card.preparation, "side_pixels") or _number(card.preparation, "pixels")
    if side:
        return (side,) * axes
    stated = card.preparation.get("size")
    if isinstance(stated, list | tuple) and stated:
        return tuple(int(str(n)) for n in stated)
    backbone = card.network.get("backbone", card.network)
    if isinstance(backbone, Mapping) and "kind" in backbone:
        return tuple(4 * m for m in backbone_settings(backbone).multiple)
    return ()


def describe(path: Path, progress: Progress | None = None) -> Passport:
    """Return the passport of Isocenter's own weights.

    Args:
        path: The safetensors file, its card beside it.
        progress: Called while files are hashed.

    Raises:
        WeightsError: As `isocenter.models.weights.read_card`; or the file is not the one that its card vouches for.
    """
    card = read_card(path)
    name, role, axes = _network(card)
    entries = read_header(path)
    files = describe_files(path.parent, (path.name, path.with_suffix(".json").name), progress)
    if files[0].sha256 != card.sha256:
        raise WeightsError(
            f"{path.name}: the weights are not the ones their card vouches for (sha256 {files[0].sha256[:12]}..., card "
            f"{card.sha256[:12]}...); get both again from one source"
        )
    size = _size(card, axes)
    return Passport(
        name=card.name,
        kind="isocenter",
        architecture=f"{name} of Isocenter ({card.title})",
        role=role,
        files=files,
        source_format="safetensors",
        parameters=card.parameters,
        dtype=dtypes(entries.values()),
        licence=card.licence,
        licence_from="its card",
        intended_use=card.intended_use,
        not_for=card.not_for,
        inputs=Expectation(
            channels=PICTURE_CHANNELS if role == "promptable" else _channels(card),
            size=size,
            axes="zyx"[-axes:],
        ),
        notes=card.limitations,
    )


def build(path: Path, passport: Passport) -> nn.Module:
    """Build and fill the network.

    Raises:
        WeightsError: The weights are altered, or of another network than their card says.
    """
    weights = load_weights(path)
    network = weights.card.network
    if "backbone" not in network and "kind" not in network:
        return build_unet(weights) if passport.role == "segmenter" else build_network(weights)
    try:
        net = build_learnt(LearntSettings.from_card(network)) if "backbone" in network else build_backbone(network)
        given = {k: torch.from_numpy(v) for k, v in weights.arrays.items()}
        lost = sorted(set(dict(net.named_parameters())) - set(given))
        net.load_state_dict(given, strict=False)
    except (ConfigError, RuntimeError) as error:
        raise WeightsError(f"{path.name}: the weights are of another network than their card says") from error
    if lost:
        raise WeightsError(f"{path.name}: the weights lack {lost[0]!r}")
    return net.eval()
