"""Filters that are a product of kernels along the axes: mean, Laws and separable wavelets, and their rotations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import permutations, product

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from isocenter.tasks.phenotype.filters.kernels import wavelet_pair

__all__ = ["convolved", "pooled", "rotations", "separable", "wavelet_response"]

Kernel = Float[np.ndarray, "_"]
Image3 = Float[np.ndarray, "z y x"]


def convolved(image: Image3, kernel: Kernel, axis: int, mode: str) -> Image3:
    """Convolve along an axis; an even kernel is centred on its element after the middle."""
    return np.asarray(ndimage.convolve1d(image, kernel, axis=axis, mode=mode, origin=0))


def separable(image: Image3, kernels: Sequence[Kernel | None], mode: str) -> Image3:
    """Convolve along x, y and z in turn; None leaves an axis alone."""
    found = image
    for axis, kernel in zip((2, 1, 0), kernels, strict=False):
        if kernel is not None:
            found = convolved(found, kernel, axis, mode)
    return found


def rotations(axes: int) -> Iterator[tuple[tuple[int, ...], tuple[bool, ...]]]:
    """Yield the right-angled rotations of a grid: which axis each comes from, and whether it is turned round.

    Args:
        axes: 2 (4 rotations within a slice) or 3 (24 rotations).
    """
    for order in permutations(range(axes)):
        even = float(np.linalg.det(np.eye(axes)[list(order)]))
        for flips in product((False, True), repeat=axes):
            if even * (-1) ** sum(flips) > 0:
                yield order, flips


def pooled(image: Image3, axes: int, respond: Callable[[Image3, tuple[int, ...]], Image3], pooling: str) -> Image3:
    """Return the response to all right-angled rotations of a filter, pooled.

    The image is turned round instead of the filter, so that even kernels stay centred on the same side.

    Args:
        image: The image.
        axes: 2 (within slices) or 3.
        respond: From an image, and which of the filter's axes goes along x, y (and z), to a response.
        pooling: "max" or "mean".
    """
    total: Image3 | None = None
    count = 0
    for order, flips in rotations(axes):
        turned = tuple(2 - k for k, flip in enumerate(flips) if flip)
        found = np.flip(respond(np.flip(image, turned), order), turned)
        if total is None:
            total = found.copy()
        elif pooling == "max":
            np.maximum(total, found, out=total)
        else:
            total += found
        count += 1
    if total is None:
        raise ValueError("a filter has at least one rotation")
    return total if pooling == "max" else total / count


def wavelet_response(image: Image3, name: str, bands: str, level: int, mode: str) -> Image3:
    """Return the undecimated response to a separable wavelet.

    Args:
        image: The image.
        name: As in `wavelet_pair`.
        bands: "L" and "H" for x, y and z, e.g. "LHL"; two letters for slices.
        level: 1 or more; earlier levels are low-pass along all axes, and kernels of level j have 2^(j-1) - 1 zeros
            after each of their elements.
        mode: Of the boundary.
    """
    low, high = wavelet_pair(name)
    found = image
    for step in range(1, level + 1):
        chosen = [low if b == "L" or step < level else high for b in bands]
        found = separable(found, [_spread(k, step) for k in chosen], mode)
    return found


def _spread(kernel: Kernel, level: int) -> Kernel:
    gap = 2 ** (level - 1)
    found = np.zeros(len(kernel) * gap)
    found[::gap] = kernel
    return found
