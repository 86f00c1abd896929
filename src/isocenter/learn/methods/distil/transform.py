"""What self-distillation is shown: two large crops of an image and several small ones."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Shaped

from isocenter.learn.methods.distil.args import DistilArgs
from isocenter.learn.pretraining.appearance import vary
from isocenter.learn.pretraining.crops import crop

__all__ = ["views"]


def views(
    args: DistilArgs, image: Shaped[np.ndarray, "channel *space"], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Return large crops (`large`: 2, channel, *pixels) and small ones (`small`), where there are any."""
    large = [vary(crop(image, rng, args.pixels, args.crop), rng, args.appearance) for _ in range(2)]
    found = {"large": torch.stack(large)}
    if args.small:
        small = [
            vary(crop(image, rng, args.small_size, args.small_crop), rng, args.appearance) for _ in range(args.small)
        ]
        found["small"] = torch.stack(small)
    return found
