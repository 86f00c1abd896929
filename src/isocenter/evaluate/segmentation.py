"""All that is measured on one case's masks, label by label, in one call.

Each label is cut to the box that holds it in both label maps, so that neither time nor memory grow with what lies
around it. What empty masks give stands in `isocenter.evaluate.overlap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Integer, Shaped
from scipy import ndimage

from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.evaluate.mask_pairs import check_spacing, check_tolerance
from isocenter.evaluate.surfaces import Surface, SurfaceDistances, distances_in_box

__all__ = ["SegmentationScores", "segmentation_scores"]

_MOST_LABELS = 65535


@dataclass(frozen=True)
class SegmentationScores:
    """How well one label of one case agrees. What needs millimetres is None where the spacing is not known.

    Args:
        label: Its number.
        dice: Dice, 0 to 1.
        iou: Intersection over union, 0 to 1.
        reference_voxels: Voxels of the reference.
        prediction_voxels: Voxels of the prediction.
        relative_error: Volume (in a plane, area) of the prediction minus the reference's, as a share of the latter.
        volume_error_ml: In mL; None for a plane.
        nsd: Normalised surface Dice, 0 to 1; None without a tolerance.
        hd_mm: Hausdorff distance.
        hd95_mm: Its 95th percentile.
        assd_mm: Average symmetric surface distance.
        masd_mm: Mean average surface distance.
        tolerance_mm: That of the NSD.
        surface: Which definition of a surface.
    """

    label: int
    dice: float
    iou: float
    reference_voxels: int
    prediction_voxels: int
    relative_error: float
    volume_error_ml: float | None
    nsd: float | None
    hd_mm: float | None
    hd95_mm: float | None
    assd_mm: float | None
    masd_mm: float | None
    tolerance_mm: float | None
    surface: Surface


def segmentation_scores(
    reference: Shaped[np.ndarray, "..."],
    prediction: Shaped[np.ndarray, "..."],
    *,
    spacing_mm: tuple[float, ...] | None,
    labels: Sequence[int] | None = None,
    tolerance_mm: float | Mapping[int, float] | None = None,
    surface: Surface = "border",
) -> tuple[SegmentationScores, ...]:
    """Measure every label of two label maps.

    Args:
        reference: Whole numbers, or bool for label 1; 0 is nothing. Two or three axes.
        prediction: The same, on the same grid.
        spacing_mm: Distance between voxel centres along each axis; None where it is not known.
        labels: Which, in this order; None for all that are in either.
        tolerance_mm: Of the NSD, for all labels or by label; None for no NSD.
        surface: "border" voxels (MONAI's definition) or surface "elements" (surface-distance's).

    Raises:
        GeometryError: The grids differ, or have neither two nor three axes.
        PixelError: A map is neither bool nor whole numbers of 0 to 65535.
        UnitsError: The spacing does not fit the axes, or a tolerance is negative.
        ConfigError: A label below 1 or twice, a label without a tolerance where others have one, or no such surface.

    Example:
        >>> a, b = np.zeros((2, 3, 9), np.uint8), np.zeros((2, 3, 9), np.uint8)
        >>> a[:, :, 1:4], b[:, :, 1:5] = 3, 3
        >>> scores = segmentation_scores(a, b, spacing_mm=(2.5, 0.8, 0.7), tolerance_mm=0.5)
        >>> [(s.label, round(s.dice, 4), s.hd_mm, s.nsd) for s in scores]
        [(3, 0.8571, 0.7, 0.8571428571428571)]
    """
    maps = [_label_map(m) for m in (reference, prediction)]
    if maps[0].shape != maps[1].shape:
        raise GeometryError(
            f"label maps lie on different grids, {maps[0].shape} and {maps[1].shape}; bring both to one grid first"
        )
    if spacing_mm is not None:
        check_spacing(spacing_mm, maps[0].ndim)
    if surface not in ("border", "elements"):
        raise ConfigError(f'surface must be "border" or "elements", got {surface!r}')
    boxes = [dict(enumerate(ndimage.find_objects(m), start=1)) for m in maps]
    found = sorted({n for box in boxes for n, where in box.items() if where is not None})
    wanted = found if labels is None else [int(n) for n in labels]
    if len(set(wanted)) < len(wanted) or any(n < 1 for n in wanted):
        raise ConfigError(f"labels must be different numbers of 1 or more, got {wanted}")
    rows = []
    for label in wanted:
        where = _union(boxes[0].get(label), boxes[1].get(label)) or (slice(0, 0),) * maps[0].ndim
        a, b = (m[where] == label for m in maps)
        rows.append(_one(label, (a, b), spacing_mm, _tolerance(tolerance_mm, label), surface))
    return tuple(rows)


def _label_map(labels: Shaped[np.ndarray, "..."]) -> Integer[np.ndarray, "*space"]:
    if labels.ndim not in (2, 3):
        raise GeometryError(f"a label map has two or three axes, not {labels.ndim}")
    if labels.dtype == np.bool_:
        return labels.view(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise PixelError(f"a label map holds whole numbers, not {labels.dtype}; probabilities are thresholded first")
    if labels.dtype.itemsize > 2 or np.issubdtype(labels.dtype, np.signedinteger):
        if labels.size and not (labels.min() >= 0 and labels.max() <= _MOST_LABELS):
            raise PixelError(f"labels must lie in 0..{_MOST_LABELS}, got {labels.min()}..{labels.max()}")
        return labels.astype(np.uint16)
    return labels


def _union(first: tuple[slice, ...] | None, second: tuple[slice, ...] | None) -> tuple[slice, ...] | None:
    if first is None or second is None:
        return first or second
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))


def _tolerance(tolerance_mm: float | Mapping[int, float] | None, label: int) -> float | None:
    if isinstance(tolerance_mm, Mapping):
        if label not in tolerance_mm:
            raise ConfigError(f"label {label} has no tolerance_mm; those of {sorted(tolerance_mm)} are given")
        tolerance_mm = tolerance_mm[label]
    if tolerance_mm is not None:
        check_tolerance(tolerance_mm)
    return tolerance_mm


def _one(
    label: int,
    masks: tuple[Bool[np.ndarray, "*space"], Bool[np.ndarray, "*space"]],
    spacing_mm: tuple[float, ...] | None,
    tolerance_mm: float | None,
    surface: Surface,
) -> SegmentationScores:
    a, b = masks
    before, after, shared = (int(np.count_nonzero(m)) for m in (a, b, a & b))
    total = before + after
    both_empty = total == 0
    distances = None
    if spacing_mm is not None:
        nothing = np.zeros(0)
        sizes = nothing if surface == "elements" else None
        empty = SurfaceDistances(nothing, nothing, sizes, sizes)
        distances = empty if both_empty else distances_in_box(a, b, spacing_mm, surface)
    volume = None if spacing_mm is None or a.ndim != 3 else (after - before) * float(np.prod(spacing_mm)) / 1000
    return SegmentationScores(
        label=label,
        dice=1.0 if both_empty else 2 * shared / total,
        iou=1.0 if both_empty else shared / (total - shared),
        reference_voxels=before,
        prediction_voxels=after,
        relative_error=(after - before) / before if before else (float("inf") if after else 0.0),
        volume_error_ml=volume,
        nsd=None if distances is None or tolerance_mm is None else distances.nsd(tolerance_mm),
        hd_mm=None if distances is None else distances.hausdorff_mm(100),
        hd95_mm=None if distances is None else distances.hausdorff_mm(95),
        assd_mm=None if distances is None else distances.assd_mm(),
        masd_mm=None if distances is None else distances.masd_mm(),
        tolerance_mm=tolerance_mm,
        surface=surface,
    )
