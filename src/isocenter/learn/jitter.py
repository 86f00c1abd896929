"""Small changes of an image that is learnt from beside words: moved, in contrast, noisy; never mirrored."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Jitter", "jittered"]


class Jitter(BaseModel):
    """How an image is altered before it is learnt from. Nothing mirrors: sides would be learnt away.

    Attributes:
        shift: Most that it moves, as a share of its side.
        contrast: Standard deviation of the logarithm of its contrast.
        noise: Standard deviation of noise, in standard deviations of the image.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shift: float = Field(default=0.06, ge=0, lt=0.5)
    contrast: float = Field(default=0.1, ge=0)
    noise: float = Field(default=0.05, ge=0)


def jittered(
    rng: np.random.Generator, image: Float[np.ndarray, "channel *space"], jitter: Jitter
) -> Float[np.ndarray, "channel *space"]:
    """Move an image along its last two axes, change its contrast, add noise; never mirror it.

    Args:
        rng: Decides by how much.
        image: Prepared: its mean is about 0.
        jitter: How much at most.
    """
    side = image.shape[-1]
    most = round(jitter.shift * side)
    down, across = (int(v) for v in rng.integers(-most, most + 1, 2))
    padded = np.pad(image, [(0, 0)] * (image.ndim - 2) + [(most, most)] * 2, mode="edge")
    rows = image.shape[-2]
    moved = padded[..., most + down : most + down + rows, most + across : most + across + side]
    changed = moved * np.float32(np.exp(rng.normal(0, jitter.contrast)))
    noise = rng.standard_normal(changed.shape, dtype=np.float32) * np.float32(jitter.noise)
    return np.asarray(changed + noise, dtype=np.float32)
