"""One name for the same numbers in the same place, whatever file they came in."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Shaped

from isocenter.core.geometry import Geometry

__all__ = ["fingerprint"]


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
