"""Whether a map of where a model looked is worth anything: against a known place, and against the model itself.

Two questions. *Is the finding there?* The pointing game and the energy inside need a mask (a box is a mask too) that
somebody drew or planted. *Does the model need what the map shows?* Deletion takes the strongest voxels away first,
insertion puts them in first; no mask is needed, and a wrong place on which a model wrongly relies scores well.

A map that has one value everywhere says nothing, and scores what chance does: the share of the image that the mask
covers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from isocenter.core.errors import ConfigError, GeometryError, PixelError

__all__ = ["Curve", "box_mask", "deletion_curve", "energy_inside", "insertion_curve", "pointing_game"]

Score = Callable[[Float[np.ndarray, "n channel *space"]], Float[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Curve:
    """What becomes of a score as voxels go or come.

    Args:
        share: Of the voxels that are replaced (deletion) or given (insertion), 0 to 1.
        score: At each.
    """

    share: Float[np.ndarray, " steps"]
    score: Float[np.ndarray, " steps"]

    @property
    def area(self) -> float:
        """Area under the curve by trapezoids: the mean score on the way."""
        return float(np.trapezoid(self.score, self.share))


def _checked(values: Shaped[np.ndarray, "..."], truth: Shaped[np.ndarray, "..."]) -> None:
    if values.shape != truth.shape:
        raise GeometryError(f"the map has shape {values.shape}, the mask {truth.shape}")
    if truth.dtype != bool:
        raise PixelError(f"the mask must be bool, got {truth.dtype}")
    if not truth.any():
        raise PixelError("the mask is empty: there is no place to point at")
    _checked_map(values)


def _checked_map(values: Shaped[np.ndarray, "..."]) -> None:
    if not np.isfinite(values).all() or values.min() < 0:
        raise PixelError("a map must hold finite values that are not negative")


def box_mask(shape: tuple[int, ...], low: tuple[float, ...], high: tuple[float, ...]) -> Bool[np.ndarray, "..."]:
    """Return a box as a mask: voxels whose centre lies in it, and at least one.

    Args:
        shape: Of the image.
        low: First corner, in voxels from the outer edge of the first one.
        high: Opposite corner.

    Raises:
        GeometryError: Lengths differ, or the box lies outside of the image.

    Example:
        >>> box_mask((3, 4), (0, 1), (1, 3)).astype(int).tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    if not len(shape) == len(low) == len(high):
        raise GeometryError(f"a box of {len(low)} and {len(high)} axes in an image of {len(shape)}")
    found = np.ones(shape, dtype=bool)
    for axis, (n, a, b) in enumerate(zip(shape, low, high, strict=True)):
        if not (0 <= a <= b <= n):
            raise GeometryError(f"the box reaches from {a} to {b} along an axis of {n} voxels")
        centres = np.arange(n) + 0.5
        inside = (centres >= a) & (centres <= b)
        if not inside.any():
            inside[min(n - 1, int((a + b) / 2))] = True
        found &= inside.reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return found


def pointing_game(
    values: Shaped[np.ndarray, "..."], truth: Shaped[np.ndarray, "..."], *, tolerance_voxels: float = 0.0
) -> float:
    """Return 1 where the strongest voxel of a map lies in a mask, or near enough; else 0.

    Args:
        values: A map; not negative.
        truth: Where the finding is.
        tolerance_voxels: Distance from the mask, centre to centre, that still counts.

    Returns:
        Of several voxels that are equally the strongest, the share that hits.

    Raises:
        GeometryError: Shapes differ.
        PixelError: The map is negative or not finite, the mask not bool, or empty.
        ConfigError: The tolerance is negative.

    Source:
        Zhang et al., IJCV 2018 (the pointing game; 15 pixels there).

    Example:
        >>> truth = np.array([False, True, True, False])
        >>> pointing_game(np.array([0.1, 0.9, 0.2, 0.0]), truth), pointing_game(np.ones(4), truth)
        (1.0, 0.5)
    """
    _checked(values, truth)
    if tolerance_voxels < 0:
        raise ConfigError(f"the tolerance must not be negative, got {tolerance_voxels}")
    near = truth if tolerance_voxels == 0 else ndimage.distance_transform_edt(~truth) <= tolerance_voxels
    return float(near[values == values.max()].mean())


def energy_inside(values: Shaped[np.ndarray, "..."], truth: Shaped[np.ndarray, "..."]) -> float:
    """Return the share of a map's sum that lies in a mask; of a map of zeros, the share of the image.

    Raises:
        GeometryError: Shapes differ.
        PixelError: The map is negative or not finite, the mask not bool, or empty.

    Source:
        Wang et al., CVPR workshops 2020 (energy-based pointing game).

    Example:
        >>> energy_inside(np.array([1.0, 3.0, 0.0, 0.0]), np.array([False, True, False, False]))
        0.75
    """
    _checked(values, truth)
    total = float(values.sum(dtype=np.float64))
    return float(values[truth].sum(dtype=np.float64)) / total if total > 0 else float(truth.mean())


def deletion_curve(
    score: Score,
    image: Float[np.ndarray, "channel *space"],
    instead: Float[np.ndarray, "channel *other"],
    values: Shaped[np.ndarray, "..."],
    *,
    steps: int = 20,
    seed: int = 0,
) -> Curve:
    """Return what becomes of a score as the strongest voxels of a map are replaced first; a low area is good.

    Args:
        score: From images to their scores.
        image: As it is.
        instead: What voxels are replaced by (a blurred copy, the mean): the baseline, which decides the figures.
        values: The map.
        steps: Equal parts in which all voxels go.
        seed: Decides the order of voxels of equal value.

    Raises:
        GeometryError: Shapes differ.
        PixelError: The map is negative or not finite, or a score is not finite.
        ConfigError: Fewer than one step.

    Source:
        Petsiuk et al., BMVC 2018 (RISE).

    Example:
        >>> image, nothing = np.ones((1, 4)), np.zeros((1, 4))
        >>> first = lambda x: x[:, 0, 0]
        >>> curve = deletion_curve(first, image, nothing, np.array([9.0, 3.0, 2.0, 1.0]), steps=4)
        >>> curve.score.tolist(), curve.area
        ([1.0, 0.0, 0.0, 0.0, 0.0], 0.125)
    """
    return _curve(score, (image, instead), values, steps, seed)


def insertion_curve(
    score: Score,
    image: Float[np.ndarray, "channel *space"],
    instead: Float[np.ndarray, "channel *other"],
    values: Shaped[np.ndarray, "..."],
    *,
    steps: int = 20,
    seed: int = 0,
) -> Curve:
    """Return what becomes of a score as the strongest voxels of a map are given back first; a high area is good.

    See `deletion_curve`.

    Example:
        >>> image, nothing = np.ones((1, 4)), np.zeros((1, 4))
        >>> first = lambda x: x[:, 0, 0]
        >>> insertion_curve(first, image, nothing, np.array([9.0, 3.0, 2.0, 1.0]), steps=4).area
        0.875
    """
    return _curve(score, (instead, image), values, steps, seed)


def _curve(
    score: Score, ends: tuple[np.ndarray, np.ndarray], values: Shaped[np.ndarray, "..."], steps: int, seed: int
) -> Curve:
    before, after = ends
    if before.shape != after.shape or before.shape[1:] != values.shape:
        raise GeometryError(f"images of shape {before.shape} and {after.shape}, a map of {values.shape}")
    if steps < 1:
        raise ConfigError(f"steps must be one or more, got {steps}")
    _checked_map(values)
    flat = values.ravel()
    shuffled = np.random.default_rng(seed).permutation(flat.size)  # equal voxels go in no order of the grid
    order = shuffled[np.argsort(-flat[shuffled], kind="stable")]
    rank = np.empty(flat.size, dtype=np.int64)
    rank[order] = np.arange(flat.size)
    cuts = np.round(np.linspace(0, flat.size, steps + 1)).astype(int)
    batch = np.stack([np.where((rank < cut).reshape(values.shape)[None], after, before) for cut in cuts])
    found = np.asarray(score(batch), dtype=np.float64)
    if found.shape != (len(cuts),) or not np.isfinite(found).all():
        raise PixelError("the score must be one finite number an image")
    return Curve(cuts / flat.size, found)
