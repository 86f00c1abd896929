"""Names for the same numbers: in the same place, whatever file they came in, or in any place at all."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Shaped

from isocenter.core.geometry import Geometry

__all__ = ["fingerprint", "values_fingerprint"]


def fingerprint(array: Shaped[np.ndarray, "..."], geometry: Geometry) -> str:
    """Hash voxels and their place: shape, type and bytes in C order, and the affine.

    Args:
        array: Any axes; native byte order.
        geometry: Its grid.

    Returns:
        SHA-256 in hexadecimal; equal for equal voxels at an equal place, and independent of file name and compression.

    Example:
        >>> g = Geometry((1, 1, 2))
        >>> zeros = np.zeros((1, 1, 1, 2), np.int16)
        >>> fingerprint(zeros, g) == fingerprint(zeros + 1, g)
        False
    """
    digest = hashlib.sha256(f"{array.dtype.name}{array.shape}".encode())
    for part in array if array.ndim > 2 else (array,):
        digest.update(np.ascontiguousarray(part).data)
    if geometry.affine is not None:
        digest.update(np.ascontiguousarray(geometry.affine + 0.0).data)  # + 0.0 turns -0.0 into 0.0
    return digest.hexdigest()


def values_fingerprint(array: Shaped[np.ndarray, "channel *space"]) -> str:
    """Hash an image's values in the order of their size, so that it is found again however it is stored.

    The same picture turned, mirrored, as another type of number or with its grey repeated in three channels has the
    same hash; one whose values differ anywhere (resampled, windowed, compressed with loss) has another. Two different
    images share one only where they hold the very same values in the same numbers.

    Args:
        array: Channels first.

    Returns:
        SHA-256 in hexadecimal.

    Example:
        >>> picture = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
        >>> values_fingerprint(picture) == values_fingerprint(np.flip(picture, 2).astype(np.float32))
        True
    """
    grey = array[:1] if all(np.array_equal(array[0], channel) for channel in array[1:]) else array
    values = np.sort(np.asarray(grey, dtype=np.float32), axis=None) + np.float32(0)  # + 0 turns -0.0 into 0.0
    return hashlib.sha256(f"{values.size}".encode() + values.astype("<f4").tobytes()).hexdigest()
