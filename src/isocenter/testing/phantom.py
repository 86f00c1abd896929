"""The standard phantom: small, unequal axes, oblique, origin off zero, every voxel different."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from jaxtyping import Float

from isocenter.core import Geometry, Image, Quantity

__all__ = ["PHANTOM_SPACING_MM", "all_orientations", "phantom", "phantom_geometry"]

PHANTOM_SPACING_MM = (2.5, 0.8, 0.7)


def all_orientations() -> list[Float[np.ndarray, "3 3"]]:
    """Return the 48 signed permutations as matrices whose columns are the LPS directions of z, y and x.

    Half of them are mirrored (determinant with the opposite sign), as a grid read slice by slice from head to feet is.
    """
    out = []
    for axes, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        matrix = np.zeros((3, 3))
        for column, (axis, sign) in enumerate(zip(axes, signs, strict=True)):
            matrix[axis, column] = sign
        out.append(matrix)
    return out


def rotation(*, degrees: tuple[float, float, float]) -> Float[np.ndarray, "3 3"]:
    """Return the rotation about x, then y, then z of LPS, in degrees."""
    a, b, c = np.deg2rad(degrees)
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    turned: Float[np.ndarray, "3 3"] = rz @ ry @ rx
    return turned


def phantom_geometry(
    orientation: int = 0,
    *,
    degrees: tuple[float, float, float] = (8.0, -5.0, 11.0),
    shape: tuple[int, int, int] = (2, 3, 5),
) -> Geometry:
    """Return the phantom's grid.

    Args:
        orientation: 0 to 47, index into `all_orientations`.
        degrees: Obliqueness about x, y and z; zeros for a straight grid.
        shape: Voxels along (z, y, x).
    """
    directions = rotation(degrees=degrees) @ all_orientations()[orientation]
    return Geometry.from_directions(
        shape, directions, spacing_mm=PHANTOM_SPACING_MM, origin_mm=(-31.5, 47.25, 112.75), frame_uid="1.2.3.4"
    )


def phantom(
    orientation: int = 0,
    *,
    degrees: tuple[float, float, float] = (8.0, -5.0, 11.0),
    shape: tuple[int, int, int] = (2, 3, 5),
) -> Image:
    """Return the standard phantom as an int16 CT image; see `phantom_geometry` for the arguments."""
    size = int(np.prod(shape))
    array = (np.arange(size, dtype=np.int16) * 7 - 20).reshape((1, *shape))
    geometry = phantom_geometry(orientation, degrees=degrees, shape=shape)
    return Image(array, geometry, quantity=Quantity.HU, modality="CT")
