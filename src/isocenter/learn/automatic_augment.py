"""Random change of a labelled image: place, contrast, noise, sharpness, markers.

A crop of a hippocampus mirrored left to right is a crop of the other hippocampus, and a mirrored chest is a chest with
its heart on the other side, whose lungs are still lungs: both flips are legitimate here, because neither network is
ever asked for a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64
from scipy import ndimage

__all__ = ["Augmentation", "augment"]


@dataclass(frozen=True)
class Augmentation:
    """How far an image may be changed.

    Args:
        rotation_degree: Largest turn about each axis.
        scale: Smallest and largest zoom.
        stretch: Largest relative difference between the axes' zooms.
        shift: Largest shift as a share of the window's side.
        flip: Chance of a left-right flip.
        invert: Chance that dark and bright are exchanged.
        gamma: Largest absolute logarithm of the exponent of the contrast curve.
        noise: Largest standard deviation of the noise, in standard deviations of the image.
        blur_voxel: Largest standard deviation of the blur.
        markers: Largest number of bright or dark bars (wires, letters) painted over; pictures only.
    """

    rotation_degree: float
    scale: tuple[float, float]
    stretch: float
    shift: float
    flip: float
    invert: float
    gamma: float
    noise: float
    blur_voxel: float
    markers: int


def augment(
    image: Float[np.ndarray, "*space"],
    label: Int64[np.ndarray, "*space"],
    window: tuple[int, ...],
    how: Augmentation,
    rng: np.random.Generator,
) -> tuple[Float[np.ndarray, "*window"], Int64[np.ndarray, "*window"]]:
    """Cut a randomly moved, turned and scaled window and change its intensities.

    Args:
        image: Normalised intensities (mean 0, deviation 1).
        label: Class numbers on the same grid.
        window: Shape of the result, centred on the image before the shift.
        how: Ranges.
        rng: The only source of chance.
    """
    rank = image.ndim
    matrix = _rotation(rank, np.deg2rad(how.rotation_degree), rng)
    zoom = np.exp(rng.uniform(*np.log(how.scale)) + rng.uniform(-how.stretch, how.stretch, rank))
    matrix = matrix / zoom
    if rng.random() < how.flip:
        matrix[:, -1] *= -1
    centre_in = (np.array(image.shape) - 1) / 2 + rng.uniform(-how.shift, how.shift, rank) * np.array(window)
    offset = centre_in - matrix @ ((np.array(window) - 1) / 2)
    moved = ndimage.affine_transform(image, matrix, offset, window, order=1, mode="constant", cval=0.0)
    target = ndimage.affine_transform(label, matrix, offset, window, order=0, mode="constant", cval=0)
    return _intensities(moved, how, rng), target


def _rotation(rank: int, limit: float, rng: np.random.Generator) -> Float[np.ndarray, "rank rank"]:
    matrix = np.eye(rank)
    for a in range(rank):
        for b in range(a + 1, rank):
            angle, turn = rng.uniform(-limit, limit), np.eye(rank)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
    return matrix


def _intensities(
    image: Float[np.ndarray, "*window"], how: Augmentation, rng: np.random.Generator
) -> Float[np.ndarray, "*window"]:
    for _ in range(rng.integers(0, how.markers + 1) if how.markers else 0):
        _paint_bar(image, rng)
    if how.blur_voxel and rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0, how.blur_voxel))
    low, high = float(image.min()), float(image.max())
    unit = (image - low) / max(high - low, 1e-6)
    unit = unit ** np.exp(rng.uniform(-how.gamma, how.gamma))
    if rng.random() < how.invert:
        unit = 1 - unit
    if rng.random() < 0.5:  # a slow shading across the image: coil sensitivity, scatter, heel effect
        slope = rng.uniform(-0.4, 0.4, image.ndim)
        axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in image.shape], indexing="ij", sparse=True)
        unit = unit * np.exp(sum(s * axis for s, axis in zip(slope, axes, strict=True)))
    out = (unit - unit.mean()) / max(float(unit.std()), 1e-6)
    if rng.random() < 0.5:
        out = out + rng.uniform(0, how.noise) * rng.standard_normal(out.shape)
    return np.asarray(out, dtype=np.float32)


def _paint_bar(image: Float[np.ndarray, "rows columns"], rng: np.random.Generator) -> None:
    longest = max(7, min(60, min(image.shape) // 3))
    height, width = rng.integers(2, 4), rng.integers(6, longest)
    if rng.random() < 0.5:
        height, width = width, height
    top, left = rng.integers(0, image.shape[0] - height), rng.integers(0, image.shape[1] - width)
    image[top : top + height, left : left + width] = rng.choice((-2.5, 2.5)) * rng.uniform(0.5, 1)
