"""Another look of the same place: contrast, brightness, noise and sharpness change, anatomy does not."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

__all__ = ["vary"]

_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def vary(
    x: Float[torch.Tensor, "channel *space"], rng: np.random.Generator, strength: float
) -> Float[torch.Tensor, "channel *space"]:
    """Change how a crop looks.

    Args:
        x: Prepared intensities.
        rng: Decides how.
        strength: 0 leaves all as it is; 1 is as much as two scanners differ.
    """
    if strength <= 0:
        return x
    contrast, brightness, bend = rng.uniform(-1, 1, 3)
    # tanh bends the scale of grey values at one end or the other, as a gamma does.
    bent = x + 0.5 * strength * bend * torch.tanh(x).square()
    y: torch.Tensor = bent * float(np.exp(0.4 * strength * contrast)) + 0.4 * strength * brightness
    if rng.random() < 0.5 * strength and min(x.shape[1:]) > 2:
        share = float(rng.uniform(0.2, 1.0))
        dims = x.ndim - 1
        smooth: torch.Tensor = _POOL[dims](y[None], 3, 1, 1, count_include_pad=False)[0]
        y = torch.lerp(y, smooth, share)
    if rng.random() < 0.5 * strength:
        noise = rng.standard_normal(tuple(x.shape), dtype=np.float32)
        y = y + 0.15 * strength * float(rng.random()) * torch.from_numpy(noise)
    return y
