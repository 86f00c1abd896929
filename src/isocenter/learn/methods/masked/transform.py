"""What masked autoencoding is shown: a crop, and which of its patches are hidden."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped

from isocenter.learn.methods.masked.args import MaskedArgs
from isocenter.learn.pretraining.crops import crop

__all__ = ["patches_of", "pick", "views"]


def views(
    args: MaskedArgs, image: Shaped[np.ndarray, "channel *space"], rng: np.random.Generator
) -> dict[str, torch.Tensor]:
    """Return a crop (`image`), and the patches that are shown (`kept`) and to be filled in (`missing`), in order."""
    order = rng.permutation(math.prod(args.grid))
    kept, missing = np.sort(order[: args.kept]), np.sort(order[args.kept : args.kept + args.predicted])
    return {
        "image": crop(image, rng, args.pixels, args.crop),
        "kept": torch.from_numpy(kept.astype(np.int64)),
        "missing": torch.from_numpy(missing.astype(np.int64)),
    }


def patches_of(
    x: Float[torch.Tensor, "n channel *space"], patch: Sequence[int]
) -> Float[torch.Tensor, "n tokens block"]:
    """Cut images into patches, in the order of `ViT.patches`: channel first, then pixels, last axis fastest."""
    n, channels, dims = x.shape[0], x.shape[1], len(patch)
    grid = [side // p for side, p in zip(x.shape[2:], patch, strict=True)]
    x = x.reshape(n, channels, *(part for g, p in zip(grid, patch, strict=True) for part in (g, p)))
    order = [0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2)]
    return x.permute(order).reshape(n, math.prod(grid), channels * math.prod(patch))


def pick(
    rows: Float[torch.Tensor, "n tokens width"], places: Int64[torch.Tensor, "n some"]
) -> Float[torch.Tensor, "n some width"]:
    """Return the rows at places."""
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))
