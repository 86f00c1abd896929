"""What VICReg is shown: two crops of one image that look different."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped

from isocenter.learn.methods.vicreg.args import VicregArgs
from isocenter.learn.pretraining.appearance import vary
from isocenter.learn.pretraining.crops import crop

__all__ = ["views"]


def views(
    args: VicregArgs, image: Shaped[np.ndarray, "channel *space"], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Return two looks (`looks`: 2, channel, *pixels)."""
    looks = [vary(crop(image, rng, args.pixels, args.crop), rng, args.appearance) for _ in range(2)]
    return {"looks": torch.stack(looks)}
