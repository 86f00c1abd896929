"""How far the surfaces of two masks lie apart, under both definitions of a surface that are in use.

* `"border"`: voxels of the mask that touch its outside by a face (in a plane, by an edge). Distances run between voxel
  centres, each counts once, percentiles are linear between ranks. Equal to MONAI and MedPy.
* `"elements"`: pieces of surface in cells of 2 x 2 x 2 voxel centres. Distances run between cell centres, each counts
  by its area in mm2 (in a plane, its length in mm), a percentile is the first distance whose share of the area reaches
  it. Equal to DeepMind's surface-distance.

The image's edge counts as outside. The values of the two differ by a fraction of a voxel; say which one is meant.
What empty masks give stands in `isocenter.evaluate.overlap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped
from scipy.spatial import cKDTree

from isocenter.core.errors import ConfigError
from isocenter.evaluate.mask_pairs import check_spacing, check_tolerance, checked_pair, common_box
from isocenter.evaluate.surface_elements import element_codes, element_sizes

__all__ = ["Surface", "SurfaceDistances", "assd", "border", "hausdorff", "hd95", "masd", "nsd", "surface_distances"]

Surface = Literal["border", "elements"]
"""Which definition of a surface."""

_NEAR = 240
"""So many neighbours are looked at one by one before a tree is asked: about what one question to the tree costs."""
_STEP = 24


def border(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "*space"]:
    """Return the voxels of a mask that touch its outside by a face; the image's edge is outside."""
    padded = np.pad(mask, 1)
    inner = np.ones(mask.shape, dtype=bool)
    middle = (slice(1, -1),) * mask.ndim
    for axis in range(mask.ndim):
        for side in (slice(None, -2), slice(2, None)):
            inner &= padded[(*middle[:axis], side, *middle[axis + 1 :])]
    outline: Bool[np.ndarray, "*space"] = mask & ~inner
    return outline


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """Distances between the surfaces of two masks in mm.

    Args:
        to_prediction_mm: For each piece of the reference's surface, the distance to the nearest of the prediction's.
        to_reference_mm: For each piece of the prediction's surface, the distance to the nearest of the reference's.
        reference_sizes: Size of each piece of the reference's surface in mm2, in a plane in mm; None for border
            voxels, which count once each.
        prediction_sizes: Of the prediction's; None with the other.
    """

    to_prediction_mm: Float[np.ndarray, "n"]
    to_reference_mm: Float[np.ndarray, "m"]
    reference_sizes: Float[np.ndarray, "n"] | None = None
    prediction_sizes: Float[np.ndarray, "m"] | None = None

    def _both_empty(self) -> bool:
        return not len(self.to_prediction_mm) and not len(self.to_reference_mm)

    def _one_empty(self) -> bool:
        return not len(self.to_prediction_mm) or not len(self.to_reference_mm)

    def _when_empty(self) -> float | None:
        if self._both_empty():
            return 0.0
        return float("inf") if self._one_empty() else None

    def _sides(self) -> tuple[tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"] | None], ...]:
        return (self.to_prediction_mm, self.reference_sizes), (self.to_reference_mm, self.prediction_sizes)

    def hausdorff_mm(self, percentile: float = 95.0) -> float:
        """Return the larger of the two directed percentiles; 100 is the Hausdorff distance, 95 is HD95.

        Raises:
            ConfigError: The percentile is not from 0 to 100.
        """
        if not 0 <= percentile <= 100:
            raise ConfigError(f"percentile must lie in 0..100, got {percentile}")
        empty = self._when_empty()
        if empty is not None:
            return empty
        return max(_percentile(distances, sizes, percentile) for distances, sizes in self._sides())

    def directed_means_mm(self) -> tuple[float, float]:
        """Return the mean distance from the reference's surface to the prediction's, and back."""
        empty = self._when_empty()
        if empty is not None:
            return empty, empty
        there, back = (float(np.average(distances, weights=sizes)) for distances, sizes in self._sides())
        return there, back

    def assd_mm(self) -> float:
        """Return the average symmetric surface distance: the mean over both surfaces together.

        Source:
            Heimann et al., IEEE TMI 2009.
        """
        empty = self._when_empty()
        if empty is not None:
            return empty
        both = np.concatenate([self.to_prediction_mm, self.to_reference_mm])
        return float(np.average(both, weights=self._both_sizes()))

    def masd_mm(self) -> float:
        """Return the mean average surface distance: the mean of the two directed means, however large each surface.

        Source:
            Maier-Hein et al., Nature Methods 2024 (Metrics Reloaded).
        """
        there, back = self.directed_means_mm()
        return (there + back) / 2

    def nsd(self, tolerance_mm: float) -> float:
        """Return the normalised surface Dice: the share of both surfaces within a tolerance of the other.

        Raises:
            UnitsError: The tolerance is negative or not finite.

        Source:
            Nikolov et al., JMIR 2021; with border voxels in place of surface elements unless those were asked for.
        """
        check_tolerance(tolerance_mm)
        if self._both_empty():
            return 1.0
        if self._one_empty():
            return 0.0
        near = np.concatenate([self.to_prediction_mm, self.to_reference_mm]) <= tolerance_mm
        return float(np.average(near, weights=self._both_sizes()))

    def _both_sizes(self) -> Float[np.ndarray, " n"] | None:
        if self.reference_sizes is None or self.prediction_sizes is None:
            return None
        return np.concatenate([self.reference_sizes, self.prediction_sizes])


def _percentile(
    distances_mm: Float[np.ndarray, " n"], sizes: Float[np.ndarray, " n"] | None, percentile: float
) -> float:
    if sizes is None:
        return float(np.percentile(distances_mm, percentile))
    if percentile == 100:
        return float(distances_mm.max())
    # Equal distances in order of size, so that where a piece lies in the array can't tip a share that falls on the
    # percentile itself; sums as surface-distance takes them, for the same reason.
    order = np.lexsort((sizes, distances_mm))
    share = np.cumsum(sizes[order]) / np.sum(sizes[order])
    place = int(np.searchsorted(share, percentile / 100))
    return float(distances_mm[order[min(place, len(order) - 1)]])


def surface_distances(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...],
    surface: Surface = "border",
) -> SurfaceDistances:
    """Measure from every piece of the surface of each mask to the nearest piece of the other's.

    Args:
        reference: The mask taken as true.
        prediction: The mask that is judged.
        spacing_mm: Distance between voxel centres along each axis; in pixels only where that is said beside it.
        surface: "border" voxels (MONAI's definition) or surface "elements" (surface-distance's).

    Raises:
        GeometryError: The grids differ, or surface elements of other than two or three axes.
        PixelError: A mask is not bool.
        UnitsError: The spacing does not fit the axes, or is not positive.
        ConfigError: No such surface.

    Example:
        >>> a, b = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
        >>> a[0, 2], b[0, 5] = True, True
        >>> surface_distances(a, b, spacing_mm=(2.5, 0.5)).hausdorff_mm()
        1.5
    """
    a, b = checked_pair(reference, prediction)
    check_spacing(spacing_mm, a.ndim)
    if surface not in ("border", "elements"):
        raise ConfigError(f'surface must be "border" or "elements", got {surface!r}')
    box = common_box(a, b)
    if box is None:
        nothing = np.zeros(0)
        sizes = nothing if surface == "elements" else None
        return SurfaceDistances(nothing, nothing, sizes, sizes)
    return distances_in_box(a[box], b[box], spacing_mm, surface)


def distances_in_box(
    reference: Bool[np.ndarray, "*space"],
    prediction: Bool[np.ndarray, "*space"],
    spacing_mm: tuple[float, ...],
    surface: Surface,
) -> SurfaceDistances:
    """Measure as `surface_distances`, of masks that were checked and cut to their box."""
    if surface == "border":
        to_prediction, to_reference = _nearest_both(border(reference), border(prediction), spacing_mm)
        return SurfaceDistances(to_prediction, to_reference)
    codes = [element_codes(mask) for mask in (reference, prediction)]
    table = element_sizes(tuple(float(s) for s in spacing_mm))
    crossed = [(code != 0) & (code != len(table) - 1) for code in codes]
    to_prediction, to_reference = _nearest_both(crossed[0], crossed[1], spacing_mm)
    sizes = [table[code[there]] for code, there in zip(codes, crossed, strict=True)]
    return SurfaceDistances(to_prediction, to_reference, sizes[0], sizes[1])


def _nearest_both(
    first: Bool[np.ndarray, "*space"], second: Bool[np.ndarray, "*space"], spacing_mm: tuple[float, ...]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " m"]]:
    """Return, for the places set in each of two grids, the distance to the nearest place set in the other."""
    steps, distances_mm = _neighbours(spacing_mm)
    margin = np.abs(steps).max(axis=0)
    # A margin all around, so that a step from any place stays within the grid.
    grids = [np.pad(grid, [(int(m), int(m)) for m in margin]) for grid in (first, second)]
    shape = grids[0].shape
    strides = np.cumprod([1, *shape[:0:-1]])[::-1]
    offsets = (steps @ strides).astype(np.int64)
    flat = [grid.reshape(-1) for grid in grids]
    places = [np.flatnonzero(f) for f in flat]
    if not len(places[0]) or not len(places[1]):
        there, back = (np.full(len(p), np.inf) for p in places)
        return there, back
    there, back = (
        _nearest(places[i], flat[1 - i], places[1 - i], (offsets, distances_mm), (shape, spacing_mm)) for i in (0, 1)
    )
    return there, back


def _nearest(
    places: Int64[np.ndarray, " n"],
    target: Bool[np.ndarray, " voxels"],
    target_places: Int64[np.ndarray, " m"],
    near: tuple[Int64[np.ndarray, " k"], Float[np.ndarray, " k"]],
    grid: tuple[tuple[int, ...], tuple[float, ...]],
) -> Float[np.ndarray, " n"]:
    """Look at the neighbours of each place, the nearest first; ask a tree for those that have none near by."""
    found = np.full(len(places), np.inf)
    left = np.flatnonzero(~target[places])
    found[target[places]] = 0.0
    before = len(left)
    for number, (offset, distance) in enumerate(zip(*near, strict=True), start=1):
        if not len(left):
            return found
        hit = target[places[left] + offset]
        found[left[hit]] = distance
        left = left[~hit]
        if number % _STEP == 0:
            if len(left) > 0.9 * before:  # the surfaces lie far apart: stop looking close by
                break
            before = len(left)
    if len(left):
        points, others = (_points(p, *grid) for p in (places[left], target_places))
        tree = cKDTree(others, balanced_tree=False, compact_nodes=False)
        found[left] = tree.query(points)[0]
    return found


def _points(
    places: Int64[np.ndarray, " n"], shape: tuple[int, ...], spacing_mm: tuple[float, ...]
) -> Float[np.ndarray, "n axes"]:
    return np.stack(np.unravel_index(places, shape), axis=1) * np.asarray(spacing_mm, dtype=np.float64)


def _neighbours(spacing_mm: tuple[float, ...]) -> tuple[Int64[np.ndarray, "k axes"], Float[np.ndarray, " k"]]:
    """Return the nearest steps on the grid but the one to itself, and their lengths, sorted by length."""
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    axes = len(spacing)
    ball = {1: 2.0, 2: np.pi, 3: 4 * np.pi / 3}.get(axes, 4.0)
    radius = (_NEAR * float(spacing.prod()) / ball) ** (1 / axes)
    reach = np.minimum(np.floor(radius / spacing), 32).astype(np.int64)
    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, axes)
    lengths = np.sqrt(((steps * spacing) ** 2).sum(axis=1))
    # Whole balls only: a step that was left out must not be shorter than one that was kept.
    kept = np.flatnonzero((lengths > 0) & (lengths < ((reach + 1) * spacing).min()))
    order = kept[np.argsort(lengths[kept], kind="stable")]
    return steps[order], lengths[order]


def nsd(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
    surface: Surface = "border",
) -> float:
    """Return the normalised surface Dice; for several figures of one pair call `surface_distances` once.

    Raises:
        GeometryError: As `surface_distances`.
        PixelError: As `surface_distances`.
        UnitsError: As `surface_distances`, or a negative tolerance.

    Example:
        >>> a, b = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
        >>> a[0, 2:4], b[0, 2:5] = True, True
        >>> nsd(a, b, spacing_mm=(2.5, 0.5), tolerance_mm=0.2)
        0.8
    """
    return surface_distances(reference, prediction, spacing_mm=spacing_mm, surface=surface).nsd(tolerance_mm)


def hausdorff(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...],
    percentile: float = 100.0,
    surface: Surface = "border",
) -> float:
    """Return the Hausdorff distance in mm, or a percentile of it.

    Raises:
        GeometryError: As `surface_distances`.
        PixelError: As `surface_distances`.
        UnitsError: As `surface_distances`.
        ConfigError: The percentile is not from 0 to 100.
    """
    return surface_distances(reference, prediction, spacing_mm=spacing_mm, surface=surface).hausdorff_mm(percentile)


def hd95(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...],
    surface: Surface = "border",
) -> float:
    """Return the 95th percentile of the Hausdorff distance in mm.

    Raises:
        GeometryError: As `surface_distances`.
        PixelError: As `surface_distances`.
        UnitsError: As `surface_distances`.
    """
    return hausdorff(reference, prediction, spacing_mm=spacing_mm, percentile=95, surface=surface)


def assd(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...],
    surface: Surface = "border",
) -> float:
    """Return the average symmetric surface distance in mm.

    Raises:
        GeometryError: As `surface_distances`.
        PixelError: As `surface_distances`.
        UnitsError: As `surface_distances`.
    """
    return surface_distances(reference, prediction, spacing_mm=spacing_mm, surface=surface).assd_mm()


def masd(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...],
    surface: Surface = "border",
) -> float:
    """Return the mean average surface distance in mm.

    Raises:
        GeometryError: As `surface_distances`.
        PixelError: As `surface_distances`.
        UnitsError: As `surface_distances`.
    """
    return surface_distances(reference, prediction, spacing_mm=spacing_mm, surface=surface).masd_mm()
