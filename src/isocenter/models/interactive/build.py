"""From weights to the interactive models: planes, and volumes."""

from __future__ import annotations

import torch

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.interactive.calibration import Calibration
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings
from isocenter.models.interactive.plane import PlaneModel
from isocenter.models.interactive.volume import VolumeModel
from isocenter.models.weights import Weights

__all__ = ["build_network", "build_plane_model", "build_volume_model"]


def build_network(weights: Weights) -> InteractiveNet:
    """Build the network that a card describes and fill it; in evaluation mode.

    Raises:
        WeightsError: The card does not describe an interactive network, or the arrays are of another.
    """
    name = weights.card.name
    try:
        net = InteractiveNet(InteractiveSettings.from_card(weights.card.network))
        net.load_state_dict({key: torch.from_numpy(array) for key, array in weights.arrays.items()}, strict=False)
        missing = {k for k in net.state_dict() if not k.endswith("num_batches_tracked")} ^ set(weights.arrays)
    except (TypeError, ValueError, ConfigError, RuntimeError) as error:
        raise WeightsError(f"{name}: the weights are of another network than their card says") from error
    if missing:
        raise WeightsError(f"{name}: the weights are of another network than their card says")
    layout = torch.channels_last if net.settings.dims == 2 else torch.channels_last_3d
    return net.eval().to(memory_format=layout)  # type: ignore[call-overload,no-any-return]


def _pixels(weights: Weights, otherwise: int) -> int:
    return int(str(weights.card.preparation.get("pixels", otherwise)))


def _trust(weights: Weights) -> Calibration:
    return Calibration.from_card(weights.card.calibration)


def build_plane_model(weights: Weights) -> PlaneModel:
    """Build the model for planes.

    Raises:
        WeightsError: The weights are not those of an interactive network for planes.
    """
    try:
        return PlaneModel(build_network(weights), pixels=_pixels(weights, 128), calibration=_trust(weights))
    except ConfigError as error:
        raise WeightsError(f"{weights.card.name}: {error}") from error


def build_volume_model(weights: Weights) -> VolumeModel:
    """Build the model for volumes.

    Raises:
        WeightsError: The weights are not those of an interactive network for volumes.
    """
    try:
        return VolumeModel(build_network(weights), pixels=_pixels(weights, 64), calibration=_trust(weights))
    except ConfigError as error:
        raise WeightsError(f"{weights.card.name}: {error}") from error
