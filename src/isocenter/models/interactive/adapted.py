"""The interactive network for planes, adapted to one structure: base weights, an adapter, and what it was shown.

Training (`learn.from_session`) and the task (`tasks.segment.adapted`) build, look and tidy up with this very code.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.interactive.build import build_network, build_plane_model
from isocenter.models.interactive.plane import PlaneModel
from isocenter.models.lora import add_lora, fill_lora, merge_lora
from isocenter.models.weights import Weights

__all__ = [
    "FAMILIAR",
    "adapted_model",
    "adapter_arrays",
    "count_parts",
    "describe",
    "strangeness",
    "tidy",
]

FAMILIAR = "familiar"
"""Name, among an adapter's arrays, of the descriptions of the confirmed images, (n, d)."""

_LEAST_SHARE = 0.05
_MOST_PLANES = 9

Volume = Float[np.ndarray, "z y x"]
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
        )
    except ConfigError as error:
        raise WeightsError(f"{base.card.name}: {error}") from error


def adapter_arrays(weights: Weights) -> tuple[dict[str, np.ndarray], Float[np.ndarray, "n d"]]:
    """Return what an adapter's file holds: the changes of the network, and the descriptions of the confirmed images.

    Raises:
        WeightsError: There are no descriptions.
    """
    arrays = dict(weights.arrays)
    familiar = arrays.pop(FAMILIAR, None)
    if familiar is None or familiar.ndim != 2 or len(familiar) < 2:
        raise WeightsError(f"{weights.card.name}: not an adapter that isocenter adapt wrote")
    return arrays, familiar


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


def describe(model: PlaneModel, volume: Volume) -> Float[np.ndarray, " d"]:
    """Describe an image by what the encoder says of it, averaged over space and over a few of its planes.

    Args:
        model: The model as it was before adaptation, so that descriptions can be compared.
        volume: Intensities.
    """
    chosen = np.unique(np.linspace(0, len(volume) - 1, min(len(volume), _MOST_PLANES) + 2).round().astype(int)[1:-1])
    rows = []
    for index in chosen if len(chosen) else [0]:
        plane = model.open(volume[index])
        levels = plane.looked(model.whole(plane.shape)).features.levels
        rows.append(np.concatenate([_unit(level[0].flatten(1).mean(1).numpy()) for level in levels]))
    return np.asarray(_unit(np.mean(rows, axis=0)), dtype=np.float32)


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))


def strangeness(familiar: Float[np.ndarray, "n d"], description: Float[np.ndarray, " d"]) -> float:
    """Return how far an image is from the nearest confirmed one, in units of how far these are from each other.

    The unit is the largest distance from a confirmed image to its nearest neighbour among the others (at least 0.02, or
    near copies would make everything else strange).
    """
    between = np.linalg.norm(familiar[:, None] - familiar[None], axis=2)
    np.fill_diagonal(between, np.inf)
    unit = max(float(between.min(axis=1).max()), 0.02)
    return float(np.linalg.norm(familiar - description, axis=1).min()) / unit
