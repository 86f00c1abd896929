"""Irregular stacks onto a uniform, straight grid: linear, on request only, and said in the notes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core import Geometry
from isocenter.core.errors import GeometryError
from isocenter.data.images.dicom.stack import Layout

__all__ = ["straighten"]

_MAX_PLANES = 4096
_MAX_GROWTH = 4.0


def straighten(
    array: Shaped[np.ndarray, "c z y x"], layout: Layout
) -> tuple[Float[np.ndarray, "c k j i"], Geometry, str]:
    """Interpolate irregular, gapped or sheared planes onto a uniform grid.

    Planes are first moved within their plane (shear), then interpolated along the normal. Voxels that no plane covers
    get the smallest value of the image.

    Args:
        array: Planes in order.
        layout: Where they are; `distances_mm` and `shifts_mm` are used.

    Returns:
        float32 array, its geometry, and a note that says what was done.

    Raises:
        GeometryError: The uniform grid would be unreasonably large: the positions are wrong rather than irregular.
    """
    spacing = layout.geometry.spacing_mm
    affine = layout.geometry.affine
    shifts = layout.shifts_mm
    if spacing is None or affine is None or shifts is None:
        raise GeometryError("planes without a place cannot be resampled")
    distances = np.array(layout.distances_mm)
    count = int(np.floor(distances[-1] / spacing[0] + 1e-6)) + 1
    low, pad = _padding(shifts / np.array(spacing[1:]))
    size = (array.shape[2] + pad[0], array.shape[3] + pad[1])
    if count > _MAX_PLANES or count * size[0] * size[1] > _MAX_GROWTH * max(array[0].size, 1):
        raise GeometryError(
            "a uniform grid over these positions would be more than four times as large as the data; the positions are "
            "wrong or the slices do not belong together"
        )
    background = float(array.min())
    out = np.empty((array.shape[0], count, *size), dtype=np.float32)
    for channel in range(array.shape[0]):
        straight = np.stack(
            [
                _shifted(array[channel, n], shifts[n] / np.array(spacing[1:]) - low, size, background)
                for n in range(len(distances))
            ]
        )
        for k in range(count):
            at = k * spacing[0]
            right = int(np.clip(np.searchsorted(distances, at), 1, len(distances) - 1))
            weight = np.clip((at - distances[right - 1]) / (distances[right] - distances[right - 1]), 0.0, 1.0)
            out[channel, k] = (1 - weight) * straight[right - 1] + weight * straight[right]
    moved = affine.copy()
    moved[:3, 3] += affine[:3, 1] * low[0] + affine[:3, 2] * low[1]
    geometry = Geometry(out.shape[1:], moved, layout.geometry.frame_uid)
    what = layout.problem.split(". ")[0]
    note = f"resampled (linear) to {count} slices at {spacing[0]:g} mm: {what}"
    return out, geometry, note


def _padding(shifts: Float[np.ndarray, "z 2"]) -> tuple[Float[np.ndarray, "2"], tuple[int, int]]:
    """Whole-pixel offset of the new origin, and extra rows and columns, so that no plane is cut."""
    low = np.floor(np.minimum(shifts.min(axis=0), 0) - 1e-6 * 0)
    high = np.ceil(np.maximum(shifts.max(axis=0), 0))
    extra = (high - low).astype(int)
    return low, (int(extra[0]), int(extra[1]))


def _shifted(
    plane: Shaped[np.ndarray, "y x"], shift: Float[np.ndarray, "2"], size: tuple[int, int], background: float
) -> Float[np.ndarray, "j i"]:
    """Place a plane on a larger grid, its first pixel at a fractional offset (bilinear)."""
    out = plane.astype(np.float64)
    for axis in (0, 1):
        whole = int(np.floor(shift[axis] + 1e-9))
        part = max(float(shift[axis]) - whole, 0.0)
        wide = np.full([size[axis] if a == axis else n for a, n in enumerate(out.shape)], background)
        wide2 = wide.copy()
        length = out.shape[axis]
        wide[_range(axis, whole, whole + length)] = out
        if part > 1e-9:
            wide2[_range(axis, whole + 1, whole + 1 + length)] = out
            wide = (1 - part) * wide + part * wide2
        out = wide
    return out


def _range(axis: int, start: int, stop: int) -> tuple[slice, slice]:
    chosen = slice(start, stop)
    return (chosen, slice(None)) if axis == 0 else (slice(None), chosen)
