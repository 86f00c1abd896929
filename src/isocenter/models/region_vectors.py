"""What an encoder sees of a region: its features of the part of the image around it, pooled over the region's voxels.

The part is the bounding box with a margin. A network for planes sees the planes that the region lies in, one by one.
The mean is weighted by how much of each place of the network's map the region covers.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import CapabilityError, PixelError
from isocenter.models.passport.document import Scaling
from isocenter.models.passport.door import Opened
from isocenter.models.passport.feeding import size_for
from isocenter.models.preparation import normalise

__all__ = ["region_vector"]

_MARGIN = 0.25
_MOST_PLANES = 32


def region_vector(
    opened: Opened, image: Float[np.ndarray, "z y x"], inside: Bool[np.ndarray, "z y x"]
) -> Float[np.ndarray, "width"]:
    """Return an encoder's features of a region.

    Args:
        opened: An encoder: a backbone of Isocenter's own, or a folder of Hugging Face whose network makes tokens.
        image: The whole image.
        inside: The region, on the same grid; not empty.

    Raises:
        CapabilityError: The weights are no encoder whose map of features can be pooled.
        PixelError: The image is flat or not finite, or the region is empty.
    """
    if not inside.any():
        raise PixelError("an empty region has no features")
    axes = len(opened.passport.inputs.axes) or 2
    scaled = _scaled(image, opened.passport.inputs.scaling)
    box = _around(inside)
    part, mask = scaled[box], inside[box]
    if axes == 3:
        return _pooled(opened, part[None], mask[None])
    used = np.flatnonzero(mask.any(axis=(1, 2)))
    chosen = used[np.unique(np.linspace(0, len(used) - 1, min(len(used), _MOST_PLANES)).round().astype(int))]
    vectors = [_pooled(opened, part[z][None], mask[z][None]) for z in chosen]
    areas = mask[chosen].sum(axis=(1, 2)).astype(np.float64)
    return np.asarray(np.average(vectors, axis=0, weights=areas))


def _scaled(image: Float[np.ndarray, "z y x"], scaling: Scaling | None) -> Float[np.ndarray, "z y x"]:
    """Return intensities as the network takes them; of pictures of 8 bits after a window of percentiles."""
    whole = normalise(image.astype(np.float32))
    if scaling is None or scaling.unit != "8-bit":
        return whole
    low, high = float(whole.min()), float(whole.max())
    return np.asarray((whole - low) / (high - low) * 255)


def _around(inside: Bool[np.ndarray, "z y x"]) -> tuple[slice, slice, slice]:
    found = []
    for axis in range(3):
        where = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        margin = max(2, round(_MARGIN * (int(where[-1]) + 1 - int(where[0])))) if inside.shape[axis] > 1 else 0
        found.append(slice(max(0, int(where[0]) - margin), min(inside.shape[axis], int(where[-1]) + 1 + margin)))
    return found[0], found[1], found[2]


def _pooled(
    opened: Opened, part: Float[np.ndarray, "1 *space"], mask: Bool[np.ndarray, "1 *space"]
) -> Float[np.ndarray, "width"]:
    inputs, network = opened.passport.inputs, opened.network
    size = size_for(opened.passport)
    mode = "trilinear" if len(size) == 3 else "bilinear"
    x = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))[None]
    x = functional.interpolate(x, size=size, mode=mode, align_corners=False)
    if inputs.scaling is not None and inputs.scaling.unit == "8-bit":
        x = x * inputs.scaling.factor
    x = x.expand(-1, inputs.channels or 1, *size)
    if inputs.scaling is not None and inputs.scaling.unit == "8-bit" and inputs.scaling.mean:
        shape = (1, -1, *([1] * len(size)))
        mean = torch.tensor(inputs.scaling.mean).reshape(shape)
        x = (x - mean) / torch.tensor(inputs.scaling.std or (1.0,) * len(inputs.scaling.mean)).reshape(shape)
    with torch.inference_mode():
        features = _map(network, opened, x)
    cover = torch.from_numpy(mask.astype(np.float32))[None]
    cover = functional.interpolate(cover, size=size, mode=mode, align_corners=False)
    cover = functional.interpolate(cover, size=features.shape[2:], mode="area")
    if float(cover.sum()) <= 0:
        cover = torch.ones_like(cover)
    vector = (features * cover).flatten(2).sum(2) / cover.flatten(2).sum(2)
    return vector[0].double().numpy()


def _map(network: nn.Module, opened: Opened, x: torch.Tensor) -> torch.Tensor:
    """Return the coarsest map of features, (1, width, *grid)."""
    passport = opened.passport
    for owner in (network, getattr(network, "encoder", None)):
        if passport.kind == "isocenter" and owner is not None and hasattr(owner, "maps"):
            return owner.maps(x)[-1].float()  # type: ignore[no-any-return,operator]
    if (
        passport.kind == "huggingface"
        and passport.role == "encoder"
        and not passport.architecture.startswith("vit_mae")
    ):
        tokens = network(pixel_values=x).last_hidden_state
        side = int(np.sqrt(tokens.shape[1]))
        # Tokens of the whole picture and registers come first; the patches, a square of them, last.
        patches = tokens[:, tokens.shape[1] - side * side :]
        return patches.transpose(1, 2).reshape(1, -1, side, side).float()  # type: ignore[no-any-return]
    raise CapabilityError(
        f"{passport.name} is a {passport.role} whose features of a region can't be pooled; give an encoder (see: "
        "isocenter models list)"
    )
