"""Perturbations of an image and its mask: what a feature does under them says how far it can be trusted.

As if the patient had been scanned and outlined again: moved by parts of a voxel, turned, noisier, with an outline that
wanders or a region that is larger or smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core import Image, Mask
from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.tasks.phenotype.features import RegionFeatures, cut_out, radiomic_features
from isocenter.tasks.phenotype.settings import FeatureSettings

__all__ = ["Perturbation", "draw_perturbations", "noise_deviation", "perturbed", "perturbed_features"]

_NORMAL = 0.6745  # median of the absolute value of a standard normal variable
_SMOOTH_MM = 6.0


@dataclass(frozen=True)
class Perturbation:
    """One perturbation; 0 leaves a thing as it is.

    Args:
        shift_voxels: Along z, y and x.
        turn_degrees: About the axis across slices, through the middle of the mask.
        noise: Deviation of noise that is added, in multiples of the image's own.
        outline_mm: Deviation of a smooth random field that the outline wanders by.
        growth: Share by which each region's volume changes, e.g. -0.1.
        seed: Of noise and outline.

    Raises:
        ConfigError: A number is not in range.
    """

    shift_voxels: tuple[float, float, float] = (0.0, 0.0, 0.0)
    turn_degrees: float = 0.0
    noise: float = 0.0
    outline_mm: float = 0.0
    growth: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise < 0 or self.outline_mm < 0 or self.growth <= -1:
            raise ConfigError("noise and outline of a perturbation can't be negative, nor a region lose all it has")


def draw_perturbations(count: int, *, seed: int = 0) -> tuple[Perturbation, ...]:
    """Draw perturbations of the sizes that a second scan and a second outline have.

    Shifts up to half a voxel, turns up to 6 degrees, noise as much again, outlines that wander by 0.5 mm, volumes that
    differ by up to 15 %.

    Args:
        count: How many.
        seed: Of all of them.

    Raises:
        ConfigError: Fewer than one.

    Source:
        Zwanenburg 2019 (Assessing robustness of radiomic features by image perturbation), which these ranges follow
        in kind.
    """
    if count < 1:
        raise ConfigError(f"draw one perturbation or more, not {count}")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        z, y, x = rng.uniform(-0.5, 0.5, 3).tolist()
        found.append(
            Perturbation(
                (z, y, x),
                float(rng.uniform(-6, 6)),
                1.0,
                0.5,
                float(rng.uniform(-0.15, 0.15)),
                int(rng.integers(1 << 31)),
            )
        )
    return tuple(found)


def noise_deviation(image: Image) -> float:
    """Estimate the deviation of an image's noise, from its finest diagonal details within slices.

    Source:
        Donoho 1994; Chang 2000, with the Haar wavelet.

    Example:
        >>> from isocenter.core import Geometry
        >>> noise = np.random.default_rng(0).normal(0, 5, (1, 4, 64, 64))
        >>> round(noise_deviation(Image(noise, Geometry((4, 64, 64)))))
        5
    """
    values = image.array[0].astype(np.float64)
    if values.shape[1] < 2 or values.shape[2] < 2:
        raise PixelError("noise can't be estimated in an image of one row or column")
    details = (values[:, 1:, 1:] - values[:, 1:, :-1] - values[:, :-1, 1:] + values[:, :-1, :-1]) / 2
    finite = details[np.isfinite(details)]
    return float(np.median(np.abs(finite)) / _NORMAL) if len(finite) else 0.0


def perturbed(image: Image, mask: Mask, how: Perturbation) -> tuple[Image, Mask]:
    """Return an image and its mask, perturbed, on the same grid.

    Args:
        image: Of one channel.
        mask: On its grid.
        how: The perturbation.

    Raises:
        GeometryError: Image and mask are on different grids, or the place is not known where an outline wanders.
        PixelError: The image holds values that are not finite.
    """
    if not image.geometry.same_grid(mask.geometry):
        raise GeometryError("image and mask are on different grids; resample the mask first")
    values = image.array[0].astype(np.float64)
    if not np.isfinite(values).all():
        raise PixelError("an image that is perturbed can't hold values that are not finite numbers")
    rng = np.random.default_rng(how.seed)
    if how.noise > 0:
        values = values + rng.normal(0, how.noise * noise_deviation(image), values.shape)
    planes = np.stack([mask.segment_array(s.number) for s in mask.segments])
    if any(how.shift_voxels) or how.turn_degrees:
        matrix, offset = _moving(image, np.asarray(planes.any(axis=0)), how)
        values = ndimage.affine_transform(values, matrix, offset, order=3, mode="nearest")
        planes = np.stack(
            [ndimage.affine_transform(p.astype(np.float32), matrix, offset, order=1) >= 0.5 for p in planes]
        )
    if how.outline_mm > 0 or how.growth:
        planes = np.stack([_reshaped(p, image, how, rng) for p in planes])
    return (
        replace(image, array=values[None], notes=(*image.notes, "perturbed")),
        Mask(planes, mask.geometry, mask.segments, mask.source),
    )


def _moving(
    image: Image, inside: Bool[np.ndarray, "z y x"], how: Perturbation
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Return the map from new indices to old ones: about the middle of the mask, true in millimetres."""
    spacing = np.array(image.geometry.spacing_mm or (1.0, 1.0, 1.0))
    angle = np.radians(how.turn_degrees)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    matrix = turn * spacing[None, :] / spacing[:, None]
    middle = np.argwhere(inside).mean(axis=0) if inside.any() else (np.array(inside.shape) - 1) / 2
    return matrix, middle - matrix @ middle - np.array(how.shift_voxels)


def _reshaped(
    inside: Bool[np.ndarray, "z y x"], image: Image, how: Perturbation, rng: np.random.Generator
) -> Bool[np.ndarray, "z y x"]:
    """Move an outline by a smooth random field, then in or out until the volume is as wanted."""
    spacing = image.geometry.spacing_mm
    if spacing is None:
        raise GeometryError("an outline wanders by millimetres, and the spacing of this image is not known")
    count = int(inside.sum())
    if not count:
        return inside
    # Distance to the outline in mm, negative inside; half a voxel is not told apart, which ties below are broken by.
    outside = ndimage.distance_transform_edt(~inside, sampling=spacing)
    within = ndimage.distance_transform_edt(inside, sampling=spacing)
    distance = outside - within
    field = ndimage.gaussian_filter(rng.normal(size=inside.shape), [_SMOOTH_MM / s for s in spacing], mode="nearest")
    field *= how.outline_mm / max(float(field.std()), 1e-12)
    wanted = max(1, round(count * (1 + how.growth)))
    moved = (distance + field).ravel()
    order = np.argpartition(moved, min(wanted, moved.size) - 1)[:wanted]
    found = np.zeros(moved.size, np.bool_)
    found[order] = True
    return found.reshape(inside.shape)


def perturbed_features(
    image: Image, mask: Mask, perturbations: Sequence[Perturbation], settings: FeatureSettings | None = None
) -> tuple[tuple[RegionFeatures, ...], ...]:
    """Compute features under each perturbation, on a part of the image around the mask.

    Args:
        image: Of one channel.
        mask: On its grid.
        perturbations: Which.
        settings: As `radiomic_features`.

    Returns:
        For each perturbation the features of every segment.

    Raises:
        GeometryError: As `perturbed`.
        PixelError: As `perturbed`.
    """
    boxes = [box for _, box, _ in cut_out(mask) if box is not None]
    if boxes:
        image, mask = _around(image, mask, boxes)
    return tuple(radiomic_features(*perturbed(image, mask, how), settings) for how in perturbations)


def _around(image: Image, mask: Mask, boxes: Sequence[tuple[slice, slice, slice]]) -> tuple[Image, Mask]:
    """Cut image and mask to the boxes with a margin that outlines, turns and spheres of 1 cm3 stay within."""
    spacing = image.geometry.spacing_mm or (1.0, 1.0, 1.0)
    low = [min(b[a].start for b in boxes) for a in range(3)]
    high = [max(b[a].stop for b in boxes) for a in range(3)]
    start, stop = [], []
    for axis, step in enumerate(spacing):
        margin = int(np.ceil(10.0 / step + 0.15 * (high[axis] - low[axis]))) + 2
        start.append(max(0, low[axis] - margin))
        stop.append(min(image.geometry.shape[axis], high[axis] + margin))
    part = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
    geometry = image.geometry.cropped((start[0], start[1], start[2]), shape)
    cut = replace(image, array=image.array[:, part[0], part[1], part[2]], geometry=geometry)
    return cut, Mask(mask.array[..., part[0], part[1], part[2]], geometry, mask.segments, mask.source)
