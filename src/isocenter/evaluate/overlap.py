"""How well two masks agree: overlap, surface distances, volume; in millimetres only where the spacing is given.

Surfaces are **border voxels**: voxels of a mask with at least one of the 6 (in 2D: 4) neighbours outside it, the
image's edge counting as outside; distances run between voxel centres. This is the definition of MONAI and MedPy, not
the sub-voxel surface elements of DeepMind's surface-distance, whose values differ by a fraction of a voxel.

What empty masks give is stated once, here:

| reference | prediction | Dice, IoU, NSD | HD95, ASSD | volume error |
| - | - | - | - | - |
| empty | empty | 1 | 0 | 0 |
| empty | not empty | 0 | infinity | absolute: its volume; relative: infinity |
| not empty | empty | 0 | infinity | absolute: minus the volume; relative: -1 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from scipy.spatial import cKDTree

from isocenter.core.errors import GeometryError, PixelError, UnitsError

__all__ = ["SurfaceDistances", "VolumeError", "border", "dice", "iou", "surface_distances", "volume_error"]


def _checked(
    reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."]
) -> tuple[Bool[np.ndarray, "*space"], Bool[np.ndarray, "*space"]]:
    """Refuse masks that can't be compared: another grid, or not bool."""
    if reference.shape != prediction.shape:
        raise GeometryError(
            f"masks lie on different grids, {reference.shape} and {prediction.shape}; bring both to one grid first"
        )
    if reference.dtype != np.bool_ or prediction.dtype != np.bool_:
        raise PixelError(f"masks must be bool, got {reference.dtype} and {prediction.dtype}; compare with a label")
    return reference, prediction


def dice(reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."]) -> float:
    """Twice the overlap over the sum of sizes; 1 when both are empty.

    Raises:
        GeometryError: The grids differ.
        PixelError: A mask is not bool.

    Source:
        Dice, Ecology 1945.

    Example:
        >>> dice(np.array([True, True, False]), np.array([True, False, False]))
        0.6666666666666666
    """
    a, b = _checked(reference, prediction)
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def iou(reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."]) -> float:
    """Overlap over union; 1 when both are empty.

    Raises:
        GeometryError: The grids differ.
        PixelError: A mask is not bool.

    Example:
        >>> iou(np.array([True, True, False]), np.array([True, False, False]))
        0.5
    """
    a, b = _checked(reference, prediction)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def border(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """Return the voxels of a mask that touch its outside by a face; the image's edge is outside."""
    cross = ndimage.generate_binary_structure(mask.ndim, 1)
    inner: Bool[np.ndarray, "*space"] = ndimage.binary_erosion(mask, cross, border_value=0)
    outline: Bool[np.ndarray, "*space"] = mask & ~inner
    return outline


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between the borders of two masks in mm.

    Args:
        to_prediction_mm: For each border voxel of the reference, the distance to the nearest of the prediction.
        to_reference_mm: For each border voxel of the prediction, the distance to the nearest of the reference.
    """

    to_prediction_mm: Float[np.ndarray, "n"]
    to_reference_mm: Float[np.ndarray, "m"]

    def _both_empty(self) -> bool:
        return not len(self.to_prediction_mm) and not len(self.to_reference_mm)

    def _one_empty(self) -> bool:
        return not len(self.to_prediction_mm) or not len(self.to_reference_mm)

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """Return the larger of the two directed percentiles; 100 is the Hausdorff distance, 95 is HD95."""
        if self._both_empty():
            return 0.0
        if self._one_empty():
            return float("inf")
        return float(max(np.percentile(d, percentile) for d in (self.to_prediction_mm, self.to_reference_mm)))

    def assd_mm(self) -> float:
        """Return the average symmetric surface distance: the mean over both borders together."""
        if self._both_empty():
            return 0.0
        if self._one_empty():
            return float("inf")
        return float(np.concatenate([self.to_prediction_mm, self.to_reference_mm]).mean())

    def nsd(self, tolerance_mm: float) -> float:
        """Return the normalised surface Dice: the share of both borders within a tolerance of the other.

        Raises:
            UnitsError: The tolerance is negative or not finite.

        Source:
            Nikolov et al., JMIR 2021, with border voxels in place of surface elements.
        """
        if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise UnitsError(f"tolerance_mm must be zero or more, got {tolerance_mm}")
        if self._both_empty():
            return 1.0
        if self._one_empty():
            return 0.0
        both = np.concatenate([self.to_prediction_mm, self.to_reference_mm])
        return float((both <= tolerance_mm).mean())


def surface_distances(
    reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."], *, spacing_mm: tuple[float, ...]
) -> SurfaceDistances:
    """Measure from every border voxel of each mask to the nearest border voxel of the other.

    Args:
        reference: The mask taken as true.
        prediction: The mask that is judged.
        spacing_mm: Distance between voxel centres along each axis; in pixels only where that is said beside it.

    Raises:
        GeometryError: The grids differ.
        PixelError: A mask is not bool.
        UnitsError: The spacing does not fit the axes, or is not positive.

    Example:
        >>> a, b = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
        >>> a[0, 2], b[0, 5] = True, True
        >>> surface_distances(a, b, spacing_mm=(2.5, 0.5)).hausdorff_mm()
        1.5
    """
    a, b = _checked(reference, prediction)
    if len(spacing_mm) != a.ndim or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise UnitsError(f"spacing_mm must give {a.ndim} positive distances, got {spacing_mm}")
    points = [np.argwhere(border(mask)) * np.asarray(spacing_mm, dtype=np.float64) for mask in (a, b)]
    if not len(points[0]) or not len(points[1]):
        nowhere = [np.full(len(p), np.inf) for p in points]
        return SurfaceDistances(nowhere[0], nowhere[1])
    trees = [cKDTree(p) for p in points]
    return SurfaceDistances(trees[1].query(points[0])[0], trees[0].query(points[1])[0])


@dataclass(frozen=True)
class VolumeError:
    """Volume of the prediction minus volume of the reference.

    Args:
        absolute_ml: In mL.
        relative: As a share of the reference.
    """

    absolute_ml: float
    relative: float


def volume_error(
    reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."], *, spacing_mm: tuple[float, ...]
) -> VolumeError:
    """Compare two volumes.

    Args:
        reference: The mask taken as true.
        prediction: The mask that is judged.
        spacing_mm: Distance between voxel centres along (z, y, x).

    Raises:
        GeometryError: The grids differ.
        PixelError: A mask is not bool.
        UnitsError: The spacing is not three positive distances.
    """
    a, b = _checked(reference, prediction)
    if len(spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise UnitsError(f"spacing_mm must give 3 positive distances, got {spacing_mm}")
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    before, after = int(a.sum()), int(b.sum())
    nothing_before = float("inf") if after else 0.0
    relative = (after - before) / before if before else nothing_before
    return VolumeError((after - before) * voxel_ml, relative)
