"""The grid on which the frames of a SEG lie, from their own positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core.errors import GeometryError, PixelError
from isocenter.core.geometry import Geometry
from isocenter.data.images.seg.scan import Place

__all__ = ["align", "grid_of"]

_SAME_PLANE_MM = 0.01
_MAX_PLANES = 65536


def grid_of(places: Sequence[Place], shape: tuple[int, int], frame_uid: str) -> tuple[Geometry, list[int]]:
    """Find the regular grid that holds all frames; planes without a frame are part of it.

    The z axis grows along the normal of the planes (row direction x column direction), whatever the order of frames.

    Args:
        places: The different places of the frames.
        shape: Rows and columns.
        frame_uid: Frame of Reference UID, "" for none.

    Returns:
        The grid, and the z index of each place.

    Raises:
        GeometryError: Frames of two orientations or spacings, tilted, or at distances that no regular grid has.
    """
    placed = [p for p in places if p.position_lps_mm is not None]
    if not placed:
        return _without_place(places, shape, frame_uid)
    if len(placed) != len(places):
        raise GeometryError("some frames say where they are in the patient, others don't; the file is not valid")
    row, column = _directions(placed)
    spacing = _pixel_spacing(placed)
    positions = np.array([p.position_lps_mm for p in placed])
    normal = np.cross(row, column)
    distance = positions @ normal
    across = positions - distance[:, None] * normal
    drift = float(np.abs(across - across[int(distance.argmin())]).max())
    if drift > max(_SAME_PLANE_MM, 0.1 * min(spacing)):
        raise GeometryError(
            f"the planes are shifted against each other by up to {drift:.3f} mm across their normal (a tilted gantry "
            "or a mixed file); resample the segmentation onto a straight grid"
        )
    step, index = _regular(distance, placed)
    if step is None:
        # One plane of unknown thickness: nothing is invented, so it has a pixel spacing but no place in millimetres.
        return Geometry((1, *shape), None, frame_uid, pixel_spacing_mm=spacing), index
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = normal * step, column * spacing[0], row * spacing[1]
    affine[:3, 3] = positions[int(distance.argmin())]
    return Geometry((max(index) + 1, *shape), affine, frame_uid), index


def _directions(places: Sequence[Place]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    if any(p.orientation is None or len(p.orientation) != 6 for p in places):
        raise GeometryError("a frame has a position but no orientation; the file is not a valid segmentation")
    every = np.array([p.orientation for p in places])
    if np.abs(every - every[0]).max() > 1e-4:
        raise GeometryError("the frames have more than one orientation; split the segmentation by orientation")
    row, column = every[0][:3], every[0][3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.allclose(lengths, 1, atol=1e-3) or abs(float(row @ column)) > 1e-3:
        raise GeometryError("Image Orientation (Patient) is not two unit vectors at right angles")
    return row / lengths[0], column / lengths[1]


def _pixel_spacing(places: Sequence[Place]) -> tuple[float, float]:
    spacing = places[0].pixel_spacing_mm
    if spacing is None or min(spacing) <= 0:
        raise GeometryError("the frames have a position but no pixel spacing; the file is not a valid segmentation")
    if any(p.pixel_spacing_mm is None or not np.allclose(p.pixel_spacing_mm, spacing, rtol=1e-4) for p in places):
        raise GeometryError("the frames have more than one pixel spacing; split the segmentation by spacing")
    return spacing


def _regular(distance: Float[np.ndarray, " n"], places: Sequence[Place]) -> tuple[float | None, list[int]]:
    """Return the distance between planes, and each place's number of steps from the first; None for one plane alone."""
    start = float(distance.min())
    offset = distance - start
    gaps = np.diff(np.sort(offset))
    gaps = gaps[gaps > _SAME_PLANE_MM]
    stated = places[0].spacing_between_slices_mm
    if not gaps.size:
        return stated or places[0].slice_thickness_mm, [0] * len(places)
    for step in (stated, float(gaps.min())):
        if step is None:
            continue
        steps = np.rint(offset / step)
        if steps.max() == 0:
            continue
        fitted = float(offset @ steps / (steps @ steps))
        if np.abs(offset - steps * fitted).max() <= max(_SAME_PLANE_MM, 0.02 * step):
            if steps.max() >= _MAX_PLANES:
                raise GeometryError(f"the planes span {int(steps.max()) + 1} steps of {step:.4f} mm; refused as absurd")
            return fitted, [int(s) for s in steps]
    raise GeometryError(
        f"the planes are not evenly spaced (gaps from {gaps.min():.3f} to {gaps.max():.3f} mm) and no stated spacing "
        "explains them; resample the segmentation onto a regular grid"
    )


def _without_place(places: Sequence[Place], shape: tuple[int, int], frame_uid: str) -> tuple[Geometry, list[int]]:
    """Frames of pictures: ordered by their number in the stack, or by the source frame they were made from."""
    stack = [p.stack_position for p in places]
    if all(s is not None for s in stack):
        first = min(s for s in stack if s is not None)
        index = [s - first for s in stack if s is not None]
    elif len(places) == 1:
        index = [0]
    elif len({p.source[1] for p in places if p.source}) == 1 and all(p.source and p.source[2] for p in places):
        index = [int(p.source[2] or 1) - 1 for p in places if p.source]
    else:
        raise GeometryError(
            "the frames say neither where they are in the patient nor which frames of one source they belong to; "
            "their order cannot be known"
        )
    if max(index) >= _MAX_PLANES:
        raise PixelError(f"frame number {max(index) + 1} is refused as absurd")
    planes = max(index) + 1
    geometry = Geometry(
        (planes, *shape),
        None,
        frame_uid,
        pixel_spacing_mm=places[0].pixel_spacing_mm,
        stack="time" if planes > 1 else "space",
    )
    return geometry, index


def align(
    array: Shaped[np.ndarray, "*lead z y x"], own: Geometry, target: Geometry
) -> Shaped[np.ndarray, "*lead a b c"]:
    """Lay an array on a grid that holds the same voxel centres: axes reordered, reversed, cropped or padded with zeros.

    Args:
        array: Last three axes on the grid `own`.
        own: Grid of the array.
        target: Grid to lay it on.

    Raises:
        GeometryError: The grids don't share voxel centres within 0.02 voxel, lie in different frames of reference, or a
            voxel that is not zero would be lost.
    """
    if own.affine is None or target.affine is None:
        if own.shape != target.shape or own.affine is not target.affine:
            raise GeometryError(f"the segmentation {own.shape} and the image {target.shape} have no common grid")
        return array
    if own.frame_uid and target.frame_uid and own.frame_uid != target.frame_uid:
        raise GeometryError(
            f"the segmentation lies in frame of reference {own.frame_uid}, the image in {target.frame_uid}"
        )
    relation = np.linalg.inv(target.affine) @ own.affine
    turn = np.rint(relation[:3, :3])
    start = np.rint(relation[:3, 3])
    drift = np.abs(relation[:3, :3] - turn) @ (np.array(own.shape) - 1.0) + np.abs(relation[:3, 3] - start)
    if drift.max() > 0.02 or not np.array_equal(np.abs(turn).sum(axis=0), np.ones(3)):
        raise GeometryError("the segmentation does not lie on the voxels of the image; resample one of them")
    if not np.array_equal(np.abs(turn).sum(axis=1), np.ones(3)):
        raise GeometryError("the segmentation does not lie on the voxels of the image; resample one of them")
    axes = [int(np.flatnonzero(turn[i])[0]) for i in range(3)]
    lead = array.ndim - 3
    turned = array.transpose(*range(lead), *(lead + a for a in axes))
    first = []
    for i, axis in enumerate(axes):
        if turn[i, axis] < 0:
            turned = np.flip(turned, axis=lead + i)
            first.append(int(start[i]) - own.shape[axis] + 1)
        else:
            first.append(int(start[i]))
    if turned.shape[lead:] == target.shape and first == [0, 0, 0]:
        return turned
    out = np.zeros((*array.shape[:lead], *target.shape), dtype=array.dtype)
    inside = tuple(
        slice(max(0, f), max(0, f, min(n, f + size)))
        for f, n, size in zip(first, target.shape, turned.shape[lead:], strict=True)
    )
    taken = tuple(slice(s.start - f, s.stop - f) for s, f in zip(inside, first, strict=True))
    here: tuple[Any, ...] = (..., *inside)
    there: tuple[Any, ...] = (..., *taken)
    out[here] = turned[there]
    if np.count_nonzero(out) != np.count_nonzero(array):
        raise GeometryError("the segmentation reaches outside the image; give the grid that it was drawn on")
    return out
