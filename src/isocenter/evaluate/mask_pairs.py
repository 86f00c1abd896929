"""Two masks that are compared: refused where they can't be, and cut to the box that holds both."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Shaped

from isocenter.core.errors import GeometryError, PixelError, UnitsError

__all__ = ["check_spacing", "check_tolerance", "checked_pair", "common_box"]


def checked_pair(
    reference: Shaped[np.ndarray, "..."], prediction: Shaped[np.ndarray, "..."]
) -> tuple[Bool[np.ndarray, "*space"], Bool[np.ndarray, "*space"]]:
    """Return both masks.

    Raises:
        GeometryError: They lie on different grids.
        PixelError: One is not bool.
    """
    if reference.shape != prediction.shape:
        raise GeometryError(
            f"masks lie on different grids, {reference.shape} and {prediction.shape}; bring both to one grid first"
        )
    if reference.dtype != np.bool_ or prediction.dtype != np.bool_:
        raise PixelError(f"masks must be bool, got {reference.dtype} and {prediction.dtype}; compare with a label")
    return reference, prediction


def check_spacing(spacing_mm: tuple[float, ...], axes: int) -> None:
    """Refuse a spacing that does not fit the axes.

    Raises:
        UnitsError: Not as many distances as axes, or one is not positive.
    """
    if len(spacing_mm) != axes or not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise UnitsError(f"spacing_mm must give {axes} positive distances, got {spacing_mm}")


def check_tolerance(tolerance_mm: float) -> None:
    """Refuse a tolerance that is none.

    Raises:
        UnitsError: It is negative or not finite.
    """
    if not (np.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise UnitsError(f"tolerance_mm must be zero or more, got {tolerance_mm}")


def common_box(*masks: Bool[np.ndarray, "*space"]) -> tuple[slice, ...] | None:
    """Return the smallest box that holds all masks, or None where all are empty.

    Example:
        >>> a = np.zeros((4, 9), bool); a[1, 2:5] = True
        >>> common_box(a, np.zeros((4, 9), bool))
        (slice(1, 2, None), slice(2, 5, None))
    """
    axes = masks[0].ndim
    box = []
    for axis in range(axes):
        others = tuple(a for a in range(axes) if a != axis)
        used = np.zeros(masks[0].shape[axis], dtype=bool)
        for mask in masks:
            used |= mask.any(axis=others)
        places = np.flatnonzero(used)
        if not len(places):
            return None
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)
