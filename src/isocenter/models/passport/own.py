"""Isocenter's own weights, behind the same door: their card is their passport."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from isocenter.core.errors import WeightsError
from isocenter.models.interactive.build import build_network
from isocenter.models.interactive.inputs import PICTURE_CHANNELS
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
    if "dims" in card.network and "base" not in card.network:
        return "InteractiveNet", "promptable", _number(card.network, "dims")
    raise WeightsError(
        f"{card.name}: its card describes no whole network (an adapter?); give the folder of the adapted task to --task"
    )


def _number(fields: Mapping[str, object], key: str, otherwise: int = 0) -> int:
    value = fields.get(key, otherwise)
    return value if isinstance(value, int) else otherwise


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
    side = _number(card.preparation, "side_pixels") or _number(card.preparation, "pixels")
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
            channels=_number(card.network, "channels_in", 1) if role == "segmenter" else PICTURE_CHANNELS,
            size=(side,) * axes if side else (),
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
    return build_unet(weights) if passport.role == "segmenter" else build_network(weights)
