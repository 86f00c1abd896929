"""Images and masks on another grid, through patient millimetres.

The one map used is index of the target -> LPS mm -> index of the source, so a resampled image can't drift: what was at
a point of the patient stays there, and a prompt in patient mm means the same place before and after.
"""

from __future__ import annotations

from dataclasses import replace
from typing import overload

import numpy as np
from jaxtyping import Float, Shaped
from scipy import ndimage

from isocenter.core import Geometry, Image, Mask, Source
from isocenter.core.errors import ConfigError, GeometryError
from isocenter.data.images.fingerprint import fingerprint

__all__ = ["index_map", "resample_to"]


def index_map(source: Geometry, target: Geometry) -> Float[np.ndarray, "4 4"]:
    """Return the matrix that maps an index (z, y, x, 1) of the target grid to one of the source grid.

    Raises:
        GeometryError: One of the grids has no place in the patient.

    Example:
        >>> coarse = Geometry.axial((4, 4, 4), spacing_mm=(2, 2, 2))
        >>> fine = Geometry.axial((8, 8, 8), spacing_mm=(1, 1, 1))
        >>> (index_map(coarse, fine) @ [6, 4, 2, 1])[:3].tolist()
        [3.0, 2.0, 1.0]
    """
    from_affine, to_affine = source.require_affine("resampling"), target.require_affine("resampling")
    mapped: Float[np.ndarray, "4 4"] = np.linalg.solve(from_affine, to_affine)
    # Whole numbers come out of the solution with noise in the last bits, which decides ties of the nearest voxel.
    near = np.rint(mapped)
    return np.where(np.abs(mapped - near) < 1e-9, near, mapped)


@overload
def resample_to(item: Image, geometry: Geometry, *, order: int = 1, outside: float | None = None) -> Image: ...
@overload
def resample_to(item: Mask, geometry: Geometry, *, order: int = 1, outside: float | None = None) -> Mask: ...
def resample_to(
    item: Image | Mask, geometry: Geometry, *, order: int = 1, outside: float | None = None
) -> Image | Mask:
    """Return an image or mask on another grid.

    Args:
        item: What to resample.
        geometry: The new grid.
        order: Spline order for images: 0 nearest, 1 linear, 3 cubic. Labelmaps and bool stacks are always nearest,
            probabilities at most linear, so that nothing leaves [0, 1].
        outside: Value beyond the old grid, for images; None for the image's own minimum. Masks get background.

    Returns:
        The same kind of thing on the new grid. Order 0 keeps the voxel type; otherwise values are float32 (float64 for
        an image of float64).

    Raises:
        GeometryError: One of the grids has no place in the patient, or is a cine.
        ConfigError: The order is not in 0..5.
    """
    if order not in range(6):
        raise ConfigError(f"the spline order must be 0 to 5, got {order}")
    for grid in (item.geometry, geometry):
        if grid.stack != "space":
            raise GeometryError("the frames of a cine have no distance between them and can't be resampled in space")
    mapped = index_map(item.geometry, geometry)
    if isinstance(item, Mask):
        order = min(order, 1) if item.array.dtype == np.float32 else 0
        planes = item.array if item.array.ndim == 4 else item.array[None]
        array = _resampled(planes, mapped, geometry, order, 0.0)
        array = np.clip(array, 0, 1) if item.array.dtype == np.float32 else array
        values = array if item.array.ndim == 4 else array[0]
        return Mask(values, geometry, item.segments, _renamed(item.source, values, geometry))
    fill = float(np.nanmin(item.array)) if outside is None else outside
    array = _resampled(item.array, mapped, geometry, order, fill)
    spacing = geometry.spacing_mm
    note = f"resampled to {geometry.shape} voxels of {spacing} mm (order {order})"
    return replace(
        item,
        array=array,
        geometry=geometry,
        source=_renamed(item.source, array, geometry),
        notes=(*item.notes, note),
    )


def _renamed(source: Source, array: Shaped[np.ndarray, "..."], geometry: Geometry) -> Source:
    return replace(source, sha256=fingerprint(array, geometry))


def _resampled(
    planes: Shaped[np.ndarray, "c z y x"],
    mapped: Float[np.ndarray, "4 4"],
    geometry: Geometry,
    order: int,
    fill: float,
) -> Shaped[np.ndarray, "c z2 y2 x2"]:
    smooth = np.dtype(np.float64 if planes.dtype == np.float64 else np.float32)
    kind = planes.dtype if order == 0 else smooth
    out = np.empty((planes.shape[0], *geometry.shape), dtype=kind)
    for plane, target in zip(planes, out, strict=True):
        source = plane.view(np.uint8) if plane.dtype == np.bool_ else plane
        sink = target.view(np.uint8) if target.dtype == np.bool_ else target
        if order > 0 and source.dtype.kind in "iu":
            source = source.astype(kind)
        # Voxels cover half a step beyond their centres; "nearest" keeps that rim, and what lies farther is filled.
        ndimage.affine_transform(
            source, mapped[:3, :3], mapped[:3, 3], geometry.shape, sink, order, mode="nearest", prefilter=order > 1
        )
        _fill_outside(sink, mapped, source.shape, fill)
    return out


def _fill_outside(
    sink: Shaped[np.ndarray, "z y x"], mapped: Float[np.ndarray, "4 4"], shape: tuple[int, ...], fill: float
) -> None:
    """Overwrite what lies more than half a voxel outside the source grid, slice by slice to spare memory."""
    depth, height, width = sink.shape
    y, x = np.mgrid[:height, :width]
    in_plane = mapped[:3, 1, None, None] * y + mapped[:3, 2, None, None] * x
    limits = np.array(shape)[:, None, None] - 0.5 + 1e-6
    for z in range(depth):
        index = in_plane + (mapped[:3, 0] * z + mapped[:3, 3])[:, None, None]
        outside = ((index < -0.5 - 1e-6) | (index > limits)).any(axis=0)
        sink[z][outside] = fill
