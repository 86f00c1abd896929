"""RT Structure Set to mask: contours in patient millimetres onto the voxels of a grid."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from pydicom import Dataset

from isocenter.core.errors import GeometryError
from isocenter.core.geometry import Geometry
from isocenter.core.mask import Mask
from isocenter.data.images.rtstruct.fill import fill_polygon
from isocenter.data.images.rtstruct.structure_set import Contour, Region, StructureSet, open_rtstruct

__all__ = ["rasterise", "read_rtstruct"]

_CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
_PLANAR_VOXELS = 0.5
"""How far, in voxels, the points of a contour may spread across its plane and still be one plane of the grid."""
_SAME_PLANE_VOXELS = 0.05
_NOISE_VOXELS = 0.01

Polygon = Float[np.ndarray, "_ 2"]


def read_rtstruct(file: Path | Dataset, geometry: Geometry) -> Mask:
    """Read an RT Structure Set onto a grid.

    Args:
        file: Path or dataset.
        geometry: The grid, usually that of the image the structures were drawn on.

    Returns:
        One bool plane per region; regions may overlap. See `rasterise` for the rules and for what was left out.

    Raises:
        DataError: Not readable, or not an RT Structure Set.
        GeometryError: See `rasterise`.
    """
    return rasterise(open_rtstruct(file), geometry)[0]


def rasterise(structures: StructureSet, geometry: Geometry) -> tuple[Mask, tuple[str, ...]]:
    """Put the closed planar contours of a structure set onto a grid.

    A voxel belongs to a region when its centre lies inside the contour or on its line. A contour in any plane of the
    grid (axial, coronal or sagittal of an oblique grid) is filled in that plane; one between two slices goes to the
    nearer slice, and where several planes fall on one slice the nearest of them counts. Contours of the exclusive-or
    kind are combined by it; of plain closed ones, a contour that lies inside an earlier, larger one is a hole, any
    other is added.

    Args:
        structures: What `open_rtstruct` returned.
        geometry: The grid.

    Returns:
        The mask (bool stack, one plane per region, empty where a region has no closed contour), and notes on points,
        open contours and contours outside the grid that were left out.

    Raises:
        GeometryError: The grid has no place in the patient or lies in another frame of reference, or a region's
            contours lie in no plane of it.

    Source:
        DICOM PS3.3 C.8.8.6.
    """
    geometry.require_affine("reading an RT Structure Set")
    array = np.zeros((len(structures.regions), *geometry.shape), dtype=np.bool_)
    notes = list(structures.notes)
    for plane, region in zip(array, structures.regions, strict=True):
        if region.frame_uid and geometry.frame_uid and region.frame_uid != geometry.frame_uid:
            raise GeometryError(
                f"region {region.segment.number} lies in frame of reference {region.frame_uid}, the image in "
                f"{geometry.frame_uid}; give the image that the structures were drawn on"
            )
        notes.extend(f"region {region.segment.number}: {note}" for note in _fill_region(region, geometry, plane))
    mask = Mask(array, geometry, tuple(r.segment for r in structures.regions), structures.source)
    return mask, tuple(notes)


def _fill_region(region: Region, geometry: Geometry, out: Bool[np.ndarray, "z y x"]) -> list[str]:
    """Fill one region in place; return notes."""
    closed = [c for c in region.contours if c.kind in _CLOSED and len(c.points_lps_mm)]
    notes = [
        f"{count} contour(s) of kind {kind or 'unknown'} left out: only closed planar ones have a volume"
        for kind, count in Counter(c.kind for c in region.contours if c.kind not in _CLOSED).items()
    ]
    if not closed:
        return notes
    indices = [geometry.to_index(c.points_lps_mm) for c in closed]
    axis = _plane_axis(indices, region.segment.number)
    places = np.array([i[:, axis].mean() for i in indices])
    slices = np.floor(places + 0.5 - _NOISE_VOXELS).astype(np.int64)
    outside = (slices < 0) | (slices >= geometry.shape[axis])
    if outside.any():
        notes.append(f"{int(outside.sum())} contour(s) lie outside the image and were left out")
    across = [a for a in range(3) if a != axis]
    shape = (geometry.shape[across[0]], geometry.shape[across[1]])
    for k in np.unique(slices[~outside]).tolist():
        here = np.flatnonzero(slices == k)
        off = places[here] - k
        nearest = off[np.argmin(np.abs(off))]
        chosen = here[np.abs(off - nearest) <= _SAME_PLANE_VOXELS]
        polygons = [indices[i][:, across] for i in chosen]
        kinds = [closed[i] for i in chosen]
        np.moveaxis(out, axis, 0)[k] = _fill_plane(polygons, kinds, shape)
    step = np.diff(np.unique(slices))
    if step.size and step.max() > 1:
        notes.append(f"has gaps of up to {int(step.max()) - 1} slice(s) without a contour, left empty")
    return notes


def _plane_axis(indices: list[Float[np.ndarray, "_ 3"]], number: int) -> int:
    """Return the index axis that is constant on every contour."""
    spread = np.array([np.ptp(i, axis=0) for i in indices])
    worst = spread.max(axis=0)
    flat = [axis for axis in range(3) if worst[axis] <= _PLANAR_VOXELS]
    if not flat:
        raise GeometryError(
            f"region {number}: its contours lie in no plane of this grid (they are tilted against it, or in several "
            "directions); read it on the grid of the image it was drawn on"
        )
    total = np.where(worst <= _NOISE_VOXELS, 0.0, spread.sum(axis=0))
    return min(flat, key=lambda axis: (total[axis], axis))


def _fill_plane(polygons: list[Polygon], contours: list[Contour], shape: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Combine the contours of one plane."""
    out = np.zeros(shape, dtype=np.bool_)
    on_lines = np.zeros(shape, dtype=np.bool_)
    seen: set[bytes] = set()
    order = sorted(range(len(polygons)), key=lambda i: -_area(polygons[i]))
    for i in order:
        inside, on_line = fill_polygon(polygons[i], shape)
        if contours[i].kind == "CLOSEDPLANAR_XOR":
            out ^= inside
            on_lines |= on_line
            continue
        # The same contour stored twice is one contour, not a region and its hole.
        key = np.sort(polygons[i].round(4) @ (1, 1j)).tobytes()
        if key in seen:
            continue
        seen.add(key)
        within = inside & ~on_line
        if within.any() and not (within & ~out).any():
            out &= ~within
        else:
            out |= inside | on_line
    return out | on_lines


def _area(polygon: Polygon) -> float:
    y, x = polygon[:, 0], polygon[:, 1]
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
