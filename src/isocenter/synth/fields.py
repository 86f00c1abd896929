"""Smooth random fields that can be looked at from any camera.

A field is a small grid of coefficients under a cubic B-spline basis. It is evaluated along any rows and columns by two
small matrix products, so a zoom costs nothing and no interpolation of pixels is ever needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["Field", "random_field"]

EXTENT = 1.6  # the grid covers scene coordinates from -EXTENT to EXTENT; the scene itself is [-1, 1]


def _basis(positions: Float[np.ndarray, " n"], cells: int) -> Float[np.ndarray, "n cells"]:
    """Return the cubic B-spline basis at scene coordinates, one row per position."""
    grid = (np.clip(positions, -EXTENT, EXTENT) + EXTENT) / (2 * EXTENT) * (cells - 3) + 1
    t = np.abs(grid[:, None] - np.arange(cells)[None, :])
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = np.clip(2 - t, 0, None) ** 3 / 6
    basis: Float[np.ndarray, "n cells"] = np.where(t < 1, inner, outer).astype(np.float32)
    return basis


@dataclass(frozen=True, eq=False)
class Field:
    """A smooth scalar field over the scene.

    Args:
        coefficients: Values on a square grid that covers a little more than the scene.
    """

    coefficients: Float[np.ndarray, "cells cells"]

    def evaluate(self, rows: Float[np.ndarray, " h"], columns: Float[np.ndarray, " w"]) -> Float[np.ndarray, "h w"]:
        """Return the field at every crossing of scene rows and columns.

        Example:
            >>> flat = Field(np.ones((6, 6), np.float32))
            >>> flat.evaluate(np.array([0.0, 0.5]), np.array([-0.2])).round(5).tolist()
            [[1.0], [1.0]]
        """
        cells = self.coefficients.shape[0]
        values: Float[np.ndarray, "h w"] = _basis(rows, cells) @ self.coefficients @ _basis(columns, cells).T
        return values


def random_field(rng: np.random.Generator, cells: int, amplitude: float = 1.0) -> Field:
    """Return a field whose details are about 3.2 / cells of the scene wide.

    Args:
        rng: Where randomness comes from.
        cells: Coefficients along each axis, at least 5.
        amplitude: Standard deviation, roughly.
    """
    grid = rng.standard_normal((max(cells, 5), max(cells, 5))).astype(np.float32)
    return Field(grid * np.float32(amplitude * 1.6))
