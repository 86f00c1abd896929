"""Numbers of a prepared image that need no network: layout of light and dark, distribution of values, texture.

A network that was taught to ignore turns, inverted values and noise says the same of a picture that was turned or
inverted: its own features can't tell. These can, and they are the same whatever the network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

__all__ = ["block_means", "descriptors"]

_PLANE, _VOLUME = (8, 8), (4, 6, 6)
_QUANTILES = (2, 10, 25, 50, 75, 90, 98)
_BANDS, _ANGLES = 6, 8
_MOST_PLANES = 8
_FARTHEST = 6.0
"""Deviations beyond which a value counts as this far: one bright marker must not be all that is seen."""


def block_means(array: Float[np.ndarray, "*space"], blocks: Sequence[int]) -> Float[np.ndarray, "*blocks"]:
    """Return the means of equal blocks, whose edges may lie inside of voxels.

    Args:
        array: Values.
        blocks: How many along each axis.

    Example:
        >>> block_means(np.array([0.0, 1.0, 2.0]), (2,)).round(3).tolist()
        [0.333, 1.667]
    """
    out = array.astype(np.float64)
    for axis, count in enumerate(blocks):
        length = out.shape[axis]
        edges = np.linspace(0, length, count + 1)
        # Row i holds how much of each voxel lies before edge i; differences of rows are the blocks' shares.
        before = np.clip(edges[:, None] - np.arange(length)[None, :], 0, 1)
        shares = np.diff(before, axis=0) / np.diff(edges)[:, None]
        out = np.moveaxis(np.tensordot(shares, out, axes=(1, axis)), 0, axis)
    return np.asarray(out)


def descriptors(array: Float[np.ndarray, "channel *space"]) -> dict[str, Float[np.ndarray, " d"]]:
    """Describe a prepared image.

    Args:
        array: Finite values, mean about 0 and deviation about 1; 2 or 3 axes of space of any size.

    Returns:
        "layout": means of blocks. "values": quantiles, third and fourth moment, shares of the ends, roughness of the
        histogram, and how channels differ. "texture": logarithms of the spectrum's bands, and directions of edges.

    Example:
        >>> found = descriptors(np.random.default_rng(0).normal(size=(1, 20, 30)).astype(np.float32))
        >>> {name: len(values) for name, values in found.items()}
        {'layout': 64, 'values': 13, 'texture': 14}
    """
    grey = _standard(np.clip(_standard(array.mean(axis=0).astype(np.float64)), -_FARTHEST, _FARTHEST))
    return {
        "layout": block_means(grey, _PLANE if grey.ndim == 2 else _VOLUME).ravel(),
        "values": _values(grey, array),
        "texture": _texture(_planes(grey)),
    }


def _standard(values: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "*space"]:
    return np.asarray((values - values.mean()) / max(float(values.std()), 1e-6))


def _planes(grey: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "n y x"]:
    if grey.ndim == 2:
        return grey[None]
    count = min(len(grey), _MOST_PLANES)
    return np.asarray(grey[((np.arange(count) + 0.5) * len(grey) / count).astype(int)])


def _values(grey: Float[np.ndarray, "*space"], array: Float[np.ndarray, "channel *space"]) -> Float[np.ndarray, " d"]:
    flat = grey.ravel()
    counts, _ = np.histogram(flat, bins=32, range=(float(flat.min()), float(flat.max()) + 1e-6))
    share = counts / len(flat)
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    ends = [float((flat <= flat.min() + 1e-4).mean()), float((flat >= flat.max() - 1e-4).mean())]
    apart = float(np.abs(array - array.mean(axis=0)).mean()) if len(array) > 1 else 0.0
    third, fourth = float((flat**3).mean()), float((flat**4).mean())
    return np.array(
        [*np.percentile(flat, _QUANTILES), np.cbrt(third), np.log(fourth + 1e-6), *np.log(np.array(ends) + 1e-3),
         entropy, apart]
    )  # fmt: skip


def _texture(planes: Float[np.ndarray, "n y x"]) -> Float[np.ndarray, " d"]:
    bands, angles = np.zeros(_BANDS), np.zeros(_ANGLES)
    for plane in planes:
        height, width = plane.shape
        window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
        power = np.abs(np.fft.rfft2(plane * window)) ** 2
        y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
        place = np.minimum((np.hypot(y, x) / 0.5 * _BANDS).astype(int), _BANDS - 1)
        total = np.bincount(place.ravel(), power.ravel(), minlength=_BANDS)
        bands += total / max(float(total.sum()), 1e-12) / len(planes)
        dy, dx = (np.gradient(plane, axis=a) if plane.shape[a] > 1 else np.zeros_like(plane) for a in (0, 1))
        turn = np.minimum(((np.arctan2(dy, dx) / (2 * np.pi) + 0.5) * _ANGLES).astype(int), _ANGLES - 1)
        steep = np.bincount(turn.ravel(), np.hypot(dy, dx).ravel(), minlength=_ANGLES)
        angles += steep / max(float(steep.sum()), 1e-12) / len(planes)
    return np.concatenate([np.log(bands + 1e-6), angles])
