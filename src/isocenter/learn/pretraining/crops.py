"""A part of an image as a pure function of a generator: which plane, which part, mirrored or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch.nn import functional

from isocenter.learn.pretraining.args import CropArgs

__all__ = ["crop", "cut", "generator"]

_MODE = {2: "bilinear", 3: "trilinear"}
_POOL = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


def generator(*key: int) -> np.random.Generator:
    """Return the generator of a key: (seed, what for, step, place)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))


def crop(
    image: Shaped[np.ndarray, "channel *space"], rng: np.random.Generator, size: Sequence[int], args: CropArgs
) -> Float[torch.Tensor, "channel *size"]:
    """Draw a part of an image and bring it to a size.

    Args:
        image: Prepared intensities; 0 is their mean.
        rng: Decides which part.
        size: Of the result.
        args: How large the part may be.
    """
    space = image.shape[1:]
    dims = len(space)
    if args.share is None:
        zoom = float(np.exp(rng.uniform(np.log(args.zoom[0]), np.log(args.zoom[1]))))
        sides = [zoom * n for n in size]
    else:
        largest = min(have / want for have, want in zip(space, size, strict=True))
        side = largest * float(rng.uniform(*args.share)) ** (1 / dims)
        sides = [side * n for n in size]
    half = np.log(args.aspect) / 2
    jitter = rng.uniform(-half, half, dims)
    lengths = [max(1, round(side * float(np.exp(j)))) for side, j in zip(sides, jitter - jitter.mean(), strict=True)]
    if args.share is not None:
        lengths = [min(length, n) for length, n in zip(lengths, space, strict=True)]
    at = rng.random(dims)
    # A part larger than the image is centred on it, the rest is 0.
    starts = [
        int(a * (n - length + 1)) if n >= length else (n - length) // 2
        for a, n, length in zip(at, space, lengths, strict=True)
    ]
    mirrored = args.flip and rng.random() < 0.5
    found = cut(image, starts, lengths, size)
    return found.flip(-1) if mirrored else found


def cut(
    image: Shaped[np.ndarray, "channel *space"], starts: Sequence[int], lengths: Sequence[int], size: Sequence[int]
) -> Float[torch.Tensor, "channel *size"]:
    """Cut a part out of an image, with 0 outside of it, and bring it to a size: by means, then linearly.

    Example:
        >>> cut(np.arange(6.0).reshape(1, 2, 3), [0, 1], [2, 4], [2, 4]).tolist()
        [[[1.0, 2.0, 0.0, 0.0], [4.0, 5.0, 0.0, 0.0]]]
    """
    space, dims = image.shape[1:], len(size)
    inner = tuple(slice(max(0, s), min(n, s + k)) for s, k, n in zip(starts, lengths, space, strict=True))
    part = torch.from_numpy(np.ascontiguousarray(image[(slice(None), *inner)], dtype=np.float32))
    pad = [(i.start - s, s + k - i.stop) for i, s, k in zip(inner, starts, lengths, strict=True)]
    if any(before or after for before, after in pad):
        part = functional.pad(part, [n for pair in reversed(pad) for n in pair])
    factor = tuple(max(1, length // n) for length, n in zip(lengths, size, strict=True))
    if max(factor) > 1:
        part = _POOL[dims](part[None], factor)[0]
    if tuple(part.shape[1:]) != tuple(size):
        part = functional.interpolate(part[None], tuple(size), mode=_MODE[dims], align_corners=False)[0]
    return part
