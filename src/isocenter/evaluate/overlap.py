"""How well two masks agree: overlap, surface distances, volume; in millimetres only where the spacing is given.

Surfaces are **border voxels** unless surface **elements** are asked for: `isocenter.evaluate.surfaces` has both
definitions, and says which library each is equal to.

What empty masks give is stated once, here:

| reference | prediction | Dice, IoU, NSD | HD, HD95, ASSD, MASD | volume error | F1 and PQ of pieces |
| - | - | - | - | - | - |
| empty | empty | 1 | 0 | 0 | 1 |
| empty | not empty | 0 | infinity | absolute: its volume; relative: infinity | 0 |
| not empty | empty | 0 | infinity | absolute: minus the volume; relative: -1 | 0 |

Centreline Dice follows Dice. Peers differ: surface-distance gives NaN for the NSD of two empty masks and infinity for
their distances, MONAI NaN for all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from isocenter.evaluate.mask_pairs import check_spacing, checked_pair
from isocenter.evaluate.surfaces import SurfaceDistances, border, surface_distances

__all__ = ["SurfaceDistances", "VolumeError", "border", "dice", "iou", "surface_distances", "volume_error"]


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
    a, b = checked_pair(reference, prediction)
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
    a, b = checked_pair(reference, prediction)
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


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
    a, b = checked_pair(reference, prediction)
    check_spacing(spacing_mm, 3)
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    before, after = int(a.sum()), int(b.sum())
    nothing_before = float("inf") if after else 0.0
    relative = (after - before) / before if before else nothing_before
    return VolumeError((after - before) * voxel_ml, relative)
