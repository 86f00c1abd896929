"""The interactive network for planes, adapted to one structure: base weights and an adapter.

Training (`learn.from_session`) and the task (`tasks.segment.adapted`) build, look and tidy up with this very code.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from scipy import ndimage

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.interactive.build import build_network, build_plane_model
from isocenter.models.interactive.calibration import Calibration
from isocenter.models.interactive.plane import PlaneModel
from isocenter.models.lora import add_lora, fill_lora, merge_lora
from isocenter.models.weights import Weights

__all__ = [
    "adapted_model",
    "count_parts",
    "tidy",
]

_LEAST_SHARE = 0.05

Binary = Bool[np.ndarray, "z y x"]


def adapted_model(base: Weights, adapter: dict[str, np.ndarray] | None, *, rank: int, scale: float) -> PlaneModel:
    """Build the model for planes with an adapter taken into its weights.

    Args:
        base: Weights of the interactive network for planes.
        adapter: From `lora.lora_arrays`; None for the network as it is.
        rank: Of the adapter.
        scale: What its change is multiplied by.

    Raises:
        WeightsError: The weights are not of a network for planes, or the adapter is of another network.
    """
    if adapter is None:
        return build_plane_model(base)
    net = build_network(base)
    add_lora(net, rank=rank, scale=scale)
    fill_lora(net, adapter)
    merge_lora(net)
    layout = torch.channels_last if net.settings.dims == 2 else torch.channels_last_3d
    try:
        return PlaneModel(
            net.eval().to(memory_format=layout),  # type: ignore[call-overload]
            pixels=int(str(base.card.preparation.get("pixels", 128))),
            calibration=Calibration.from_card(base.card.calibration),
        )
    except ConfigError as error:
        raise WeightsError(f"{base.card.name}: {error}") from error


def count_parts(mask: Binary) -> int:
    """Return how many parts a mask has (corners touch), not counting specks under a twentieth of the largest."""
    sizes = _sizes(mask)[1]
    return int((sizes >= _LEAST_SHARE * sizes.max()).sum()) if len(sizes) else 0


def tidy(mask: Binary, parts: int) -> Binary:
    """Keep as many of the largest parts of a mask as the confirmed cases had at most, without specks."""
    labels, sizes = _sizes(mask)
    if not len(sizes):
        return mask
    order = np.argsort(-sizes, kind="stable")[:parts]
    return np.isin(labels, [int(i) + 1 for i in order if sizes[i] >= _LEAST_SHARE * sizes.max()])


def _sizes(mask: Binary) -> tuple[np.ndarray, np.ndarray]:
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3), dtype=bool))
    return labels, np.bincount(labels.ravel())[1:]
