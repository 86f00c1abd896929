"""The picture turned or cut: the mask goes with it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from isocenter.evaluate.corruption.kind import Box, Corruption, Scene

__all__ = ["PLACING", "turned"]

_LEAST_SLICES = 8
"""A stack of fewer slices is cut in its plane alone."""


def turned(
    array: Shaped[np.ndarray, "z y x"], degrees: float, spacing: tuple[float, float, float], *, order: int, fill: float
) -> Float[np.ndarray, "z y x"]:
    """Turn every plane about its middle, on the same grid.

    Args:
        array: Values (z, y, x).
        degrees: From y towards x.
        spacing: Along (z, y, x): a turn of the patient, not of the pixels.
        order: 1 for images, 0 for masks.
        fill: What comes in from outside.
    """
    a = np.deg2rad(degrees)
    scale = np.diag(spacing[1:])
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    plane = np.linalg.inv(scale) @ turn @ scale
    matrix = np.eye(3)
    matrix[1:, 1:] = plane
    middle = (np.array(array.shape) - 1) / 2
    made: Float[np.ndarray, "z y x"] = ndimage.affine_transform(
        array.astype(np.float64), matrix, middle - matrix @ middle, order=order, mode="constant", cval=fill
    )
    return made


def _degrees(scene: Scene) -> float:
    return float(scene.of((3.0, 6.0, 10.0, 16.0, 25.0)) * scene.rng.choice((-1, 1)))


def _kept(shape: tuple[int, int, int], scene: Scene) -> Box:
    share, sides = scene.of((0.05, 0.1, 0.17, 0.25, 0.35)), scene.rng.random(3)
    box = []
    for axis, count in enumerate(shape):
        if axis == 0 and count < _LEAST_SLICES:
            box.append(slice(0, count))
            continue
        lost = min(count - 1, max(scene.grade, round(share * count)))
        before = round(sides[axis] * lost)
        box.append(slice(before, count - (lost - before)))
    return box[0], box[1], box[2]


PLACING = (
    Corruption("rotation", "turned in its plane by 3 to 25 degrees", turn=_degrees),
    Corruption("crop", "5 to 35 % of each side cut off", cut=_kept),
)
"""All that moves the picture."""
