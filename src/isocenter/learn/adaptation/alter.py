"""Random change of an image and its label while a network learns: place, shape, contrast, sharpness, noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt16
from scipy import ndimage

__all__ = ["Alteration", "alter_values", "cut"]


@dataclass(frozen=True)
class Alteration:
    """How far an image may be changed.

    Args:
        turn_degrees: Largest turn; of volumes about each axis, of thick slices within the slice alone.
        zoom: Largest logarithm of the zoom.
        stretch: Largest logarithm of the difference of an axis's zoom from it.
        shift: Largest shift as a share of the window, where the window is not laid round a voxel.
        mirror: Which axes of the prepared image may be mirrored.
        moved: Chance that an image is turned and zoomed at all.
        contrast: Largest logarithm of the exponent of the contrast curve.
        shading: Largest slope of a shading across the image, as a logarithm over half of it.
        noise: Largest deviation of the noise, in deviations of the image.
        blur: Largest blur in voxels.
        coarse: Largest factor by which resolution is lost and interpolated back.
    """

    turn_degrees: float = 20.0
    zoom: float = 0.2
    stretch: float = 0.08
    shift: float = 0.05
    mirror: tuple[bool, ...] = (False, False, False)
    moved: float = 0.6
    contrast: float = 0.35
    shading: float = 0.25
    noise: float = 0.25
    blur: float = 1.0
    coarse: float = 1.8


def _matrix(rank: int, how: Alteration, thick: bool, rng: np.random.Generator) -> Float[np.ndarray, "rank rank"]:
    matrix = np.eye(rank)
    for a in range(rank):
        for b in range(a + 1, rank):
            if thick and a == 0 and rank == 3:
                continue
            angle, turn = np.deg2rad(rng.uniform(-how.turn_degrees, how.turn_degrees)), np.eye(rank)
            turn[a, a] = turn[b, b] = np.cos(angle)
            turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
    zoom = np.exp(rng.uniform(-how.zoom, how.zoom) + rng.uniform(-how.stretch, how.stretch, rank))
    return np.asarray(matrix / zoom)


def cut(
    image: Float[np.ndarray, "channel *space"],
    label: UInt16[np.ndarray, "*space"] | None,
    centre: Sequence[float] | None,
    window: Sequence[int],
    how: Alteration,
    rng: np.random.Generator,
    *,
    thick: bool = False,
) -> tuple[Float[np.ndarray, "channel *window"], UInt16[np.ndarray, "*window"] | None]:
    """Cut a window, mostly turned and zoomed, sometimes mirrored.

    Args:
        image: Prepared.
        label: Class numbers on its grid; None where there is no mask.
        centre: Voxel to lay the window round; None for the middle, shifted at random.
        window: Its shape.
        how: Ranges.
        rng: The only source of chance.
        thick: Whether slices are so thick that turning out of them would tear the image.

    Returns:
        The window of the image, 0 where it reaches outside, and of the label.
    """
    rank, space = image.ndim - 1, np.array(image.shape[1:])
    moved = rng.random() < how.moved
    matrix = _matrix(rank, how, thick, rng) if moved else np.eye(rank)
    mirrored = np.array([m and rng.random() < 0.5 for m in how.mirror[-rank:]])
    matrix = matrix * np.where(mirrored, -1.0, 1.0)[None, :]
    middle = (space - 1) / 2 + rng.uniform(-how.shift, how.shift, rank) * np.array(window)
    at = middle if centre is None else np.asarray(centre, dtype=np.float64)
    if not moved:  # whole voxels: nothing is interpolated
        parity = ((np.array(window) - 1) / 2) % 1
        at = np.round(at - parity) + parity
        return _whole(image, at, window, mirrored), None if label is None else _whole(
            label[None], at, window, mirrored
        )[0]
    offset = at - matrix @ ((np.array(window) - 1) / 2)
    shape = tuple(window)
    values = np.stack([ndimage.affine_transform(c, matrix, offset, shape, order=1, cval=0.0) for c in image])
    if label is None:
        return values, None
    return values, ndimage.affine_transform(label, matrix, offset, shape, order=0, cval=0)


def _whole(
    array: np.ndarray, at: Float[np.ndarray, " rank"], window: Sequence[int], mirrored: np.ndarray
) -> np.ndarray:
    """Cut a window on whole voxels, filled with 0 outside."""
    out = np.zeros((len(array), *window), dtype=array.dtype)
    source, target = [slice(None)], [slice(None)]
    for middle, length, size in zip(at, window, array.shape[1:], strict=True):
        first = round(middle - (length - 1) / 2)
        low, high = max(0, first), min(size, first + length)
        if low >= high:
            return out
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    out[tuple(target)] = array[tuple(source)]
    flips = tuple(1 + int(axis) for axis in np.flatnonzero(mirrored))
    return np.ascontiguousarray(np.flip(out, flips)) if flips else out


def alter_values(
    image: Float[np.ndarray, "channel *space"], how: Alteration, rng: np.random.Generator
) -> Float[np.ndarray, "channel *space"]:
    """Change contrast, shading, sharpness and noise of a prepared window.

    Args:
        image: The window.
        how: Ranges.
        rng: The only source of chance.
    """
    out = np.array(image, dtype=np.float32)
    space = out.shape[1:]
    if how.coarse > 1 and rng.random() < 0.2:
        few = [max(2, round(n / rng.uniform(1, how.coarse))) for n in space]
        places = [np.clip((np.arange(n) + 0.5) * f / n - 0.5, 0, f - 1) for n, f in zip(space, few, strict=True)]
        for number, channel in enumerate(out):
            for axis, (n, f, at) in enumerate(zip(space, few, places, strict=True)):
                pick = np.round(np.linspace(0, n - 1, f)).astype(int)
                low = np.floor(at).astype(int)
                share = (at - low).astype(np.float32)
                taken = np.take(channel, pick, axis=axis)
                share = np.expand_dims(share, tuple(a for a in range(len(space)) if a != axis))
                channel = (
                    np.take(taken, low, axis=axis) * (1 - share)
                    + np.take(taken, np.minimum(low + 1, f - 1), axis=axis) * share
                )
            out[number] = channel
    elif how.blur and rng.random() < 0.2:
        sigma = rng.uniform(0, how.blur)
        for number, channel in enumerate(out):
            out[number] = ndimage.gaussian_filter(channel, sigma)
    if how.contrast and rng.random() < 0.5:
        for number, channel in enumerate(out):
            low, high = float(channel.min()), float(channel.max())
            if high > low:
                unit = ((channel - low) / (high - low)) ** np.float32(np.exp(rng.uniform(-how.contrast, how.contrast)))
                out[number] = (unit - unit.mean()) * (
                    float(channel.std()) / max(float(unit.std()), 1e-6)
                ) + channel.mean()
    if how.shading and rng.random() < 0.3:
        slopes = rng.uniform(-how.shading, how.shading, len(space))
        shade = np.zeros((1,) * len(space), dtype=np.float32)
        for axis, (n, slope) in enumerate(zip(space, slopes, strict=True)):
            line = (np.linspace(-1, 1, n) * slope).astype(np.float32)
            shade = shade + np.expand_dims(line, tuple(a for a in range(len(space)) if a != axis))
        out = out * np.exp(shade) + (rng.normal(0, 0.1) if rng.random() < 0.5 else 0.0)
    if how.noise and rng.random() < 0.3:
        out = out + np.float32(rng.uniform(0, how.noise)) * rng.standard_normal(out.shape, dtype=np.float32)
    return np.asarray(out, dtype=np.float32)
