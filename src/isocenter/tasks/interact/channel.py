"""From an image of any number of channels and any type to the one channel that the networks read."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Real, Shaped

from isocenter.core import Image, Quantity

__all__ = ["one_channel", "stored_channel"]

_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_LEAST = 1e-30  # values beyond this and its inverse lose their digits, or overflow, in single precision


def one_channel(image: Image) -> tuple[Float[np.ndarray, "z y x"], tuple[str, ...]]:
    """Return one channel as 32-bit numbers, and notes on what was done to get it."""
    array, notes = _as_float32(image.array)
    if len(array) == 1:
        return array[0], notes
    if image.quantity is Quantity.RGB and len(array) == 3:
        grey = np.tensordot(_LUMINANCE, array, 1)
        return np.asarray(grey, dtype=np.float32), (*notes, "colour was read as luminance (BT.601)")
    return array[0], (*notes, f"only the first of {len(array)} channels was read")


def stored_channel(image: Image) -> Real[np.ndarray, "z y x"]:
    """Return the same channel as it is stored where it can be read so: whole numbers cost half of what floats do."""
    if len(image.array) == 1 and image.array.dtype.kind in "iu":
        return np.asarray(image.array[0])
    return one_channel(image)[0]


def _as_float32(array: Shaped[np.ndarray, "c z y x"]) -> tuple[Float[np.ndarray, "c z y x"], tuple[str, ...]]:
    """Return values as the network takes them; those too large or too small for it are scaled, not lost."""
    if array.dtype.kind != "f" or array.dtype.itemsize < 4:
        return array.astype(np.float32), ()
    peak = float(np.abs(array, where=np.isfinite(array), out=np.zeros(array.shape)).max())
    if peak == 0 or _LEAST < peak < 1 / _LEAST:
        return array.astype(np.float32), ()
    scaled = np.asarray(array.astype(np.float64) / peak, dtype=np.float32)
    return scaled, (f"values were divided by {peak:.3g} to fit single precision",)
