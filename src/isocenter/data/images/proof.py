"""Geometry proof: what was written lies where it was meant to lie, in patient millimetres.

Every writer reads its own file back and hands both masks to `prove`. Four things must hold:

1. **The grids coincide.** The grid that was read back must be the original one, voxel centre on voxel centre in LPS mm;
   its axes may be stored in another order or direction, and empty slices may have been left out. A wrong spacing,
   origin, direction or handedness has no such correspondence and fails here, whatever the mask looks like.
2. **The voxels coincide** after that correspondence, segment by segment. This catches a mirrored or transposed array
   even where the centroid happens to stay in place. A lossy format (RTSTRUCT contours) may move a boundary by one
   voxel, no more.
3. **Centroid and volume** of each segment, in mm and mm3, within the stated tolerances.
4. **Laterality**: each centroid stays on its side of the grid's sagittal mid-plane.

Two masks that pass are the same set of points of the patient; a mirrored writer can only pass where the mirror image
*is* the original. The figures go into `result.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped

from isocenter.core.errors import PixelError, ProofError
from isocenter.core.geometry import Geometry
from isocenter.core.image import Image
from isocenter.core.mask import Mask

__all__ = ["Proof", "SegmentProof", "prove", "prove_image"]

Box = tuple[slice, slice, slice]
_RUN_VOXELS = 2_000_000


@dataclass(frozen=True)
class SegmentProof:
    """What was proven of one segment.

    Args:
        number: Segment number.
        voxels: Voxels of the segment in the original (probabilities: at or above 0.5).
        centroid_lps_mm: Centroid (x, y, z) in patient mm; None for an empty segment or a grid without a place.
        volume_mm3: Volume; None where the spacing is not known.
        centroid_error_mm: Distance between the centroids written and read back; None where there is none.
        volume_error: Relative difference of the volumes, (read back - original) / original; 0 for an empty segment.
        side: "L" or "R" of the grid's sagittal mid-plane, "M" within half a voxel of it, "" where not known.
    """

    number: int
    voxels: int
    centroid_lps_mm: tuple[float, float, float] | None
    volume_mm3: float | None
    centroid_error_mm: float | None
    volume_error: float
    side: str


@dataclass(frozen=True)
class Proof:
    """The result of a proof that held.

    Args:
        segments: One entry per segment, in the order of the original; empty for an image.
        grid: "identical", "reordered" (axes in another order or direction), "cropped" (empty slices left out), or
            "index" for a grid without a place in the patient, compared index by index.
        grid_error_mm: Largest distance between corresponding corners of the grids; None without a place.
        exact: Whether every voxel is equal (True), or equal within the tolerance of a lossy format (False).
    """

    segments: tuple[SegmentProof, ...]
    grid: Literal["identical", "reordered", "cropped", "index"]
    grid_error_mm: float | None
    exact: bool


@dataclass(frozen=True)
class _Match:
    """How the read-back index maps onto the original one: transpose by axes, flip, shift by offset."""

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    offset: tuple[int, int, int]
    error_mm: float | None
    grid: Literal["identical", "reordered", "cropped", "index"]

    def onto_original(self, array: Shaped[np.ndarray, "*lead a b c"]) -> Shaped[np.ndarray, "*lead z y x"]:
        """Return a view whose last three axes run as those of the original."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + a for a in self.axes))
        return np.flip(turned, axis=tuple(lead + i for i, flip in enumerate(self.flips) if flip))


@dataclass(frozen=True)
class _Moments:
    """Voxel count and mean index (z, y, x) of one segment, and its box; None for an empty one."""

    voxels: int
    mean_zyx: Float[np.ndarray, "3"] | None
    box: Box | None


def prove(
    original: Mask,
    read_back: Mask,
    *,
    centroid_mm: float = 0.01,
    volume_rtol: float = 0.0,
    probability_atol: float = 0.0,
    boundary_voxels: int = 1,
) -> Proof:
    """Prove that a mask read back from a file is the mask that was written.

    A labelmap, a stack of planes, or one of each may be compared; segments are matched by number.

    Args:
        original: The mask that was to be written.
        read_back: The mask read from the file that was written.
        centroid_mm: Largest distance allowed between centroids, and between corresponding grid corners.
        volume_rtol: Largest relative difference of volumes allowed. At 0 every voxel must be equal; above 0 the format
            is lossy, and boundaries may move by `boundary_voxels`.
        probability_atol: Largest difference of a probability allowed (half a step of a quantised format). Above 0,
            centroid and volume follow from this bound and are reported without a limit of their own.
        boundary_voxels: How far a boundary may move in a lossy format, in voxels.

    Returns:
        The figures of the proof.

    Raises:
        ProofError: The grids, voxels, centroids, volumes, sides, segments or labels differ.
    """
    _prove_segments(original, read_back)
    match = _match(original.geometry, read_back.geometry, tolerance_mm=centroid_mm)
    back = match.onto_original(read_back.array)
    probabilities = original.array.dtype == np.float32 or read_back.array.dtype == np.float32
    before = _moments(original)
    if volume_rtol == 0:
        _prove_voxels(original, read_back, back, match.offset, before, probability_atol)
    if volume_rtol == 0 and not (probabilities and probability_atol > 0):
        after = [_shift(m, match.offset, -1) for m in before]
    else:
        seen = Mask(back, Geometry(_zyx(back.shape[-3:])), read_back.segments, read_back.source)
        by_number = {s.number: m for s, m in zip(read_back.segments, _moments(seen), strict=True)}
        after = [by_number[s.number] for s in original.segments]
    if volume_rtol > 0:
        _prove_boundaries(original, read_back, back, match.offset, boundary_voxels)
    bounded = probabilities and probability_atol > 0
    rows = []
    for segment, one, two in zip(original.segments, before, after, strict=True):
        row = _segment_proof(segment.number, original.geometry, read_back.geometry, match, (one, two))
        if not bounded:
            _prove_segment(row, one, two, centroid_mm, volume_rtol)
        rows.append(row)
    exact = volume_rtol == 0 and not bounded
    return Proof(tuple(rows), match.grid, match.error_mm, exact)


def prove_image(original: Image, read_back: Image, *, value_atol: float = 0.0, corner_mm: float = 0.01) -> Proof:
    """Prove that an image read back from a file is the image that was written.

    Args:
        original: The image that was to be written.
        read_back: The image read from the file that was written.
        value_atol: Largest difference of a value allowed (half a step of a quantised format). NaN equals NaN.
        corner_mm: Largest distance allowed between corresponding grid corners.

    Raises:
        ProofError: The grids differ, or the voxels are a mirror image of the original.
        PixelError: Values differ.
    """
    match = _match(original.geometry, read_back.geometry, tolerance_mm=corner_mm)
    back = match.onto_original(read_back.array)
    if back.shape != original.array.shape or any(match.offset):
        raise ProofError(
            f"the image read back has shape {back.shape}, the one written has {original.array.shape}; nothing was kept"
        )
    if not _close(original.array, back, value_atol):
        axis = _mirror_axis(original.array, back, original.geometry)
        if axis:
            raise ProofError(f"the image was written mirrored along {axis}; nothing was kept")
        raise PixelError("values read back differ from those written; nothing was kept")
    return Proof((), match.grid, match.error_mm, value_atol == 0)


def _prove_segments(original: Mask, read_back: Mask) -> None:
    wanted = {s.number: s.label.strip() for s in original.segments}
    found = {s.number: s.label.strip() for s in read_back.segments}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        raise ProofError(
            f"segments read back differ from those written: missing {missing}, not asked for {extra}; nothing was kept"
        )
    renamed = sorted(n for n in wanted if wanted[n] != found[n])
    if renamed:
        raise ProofError(f"segments {renamed} carry another label than the one written; nothing was kept")


def _match(original: Geometry, back: Geometry, *, tolerance_mm: float) -> _Match:
    """Find how the read-back grid lies on the original one, or refuse."""
    if (original.affine is None) != (back.affine is None):
        have, lack = ("read back", "written") if original.affine is None else ("written", "read back")
        raise ProofError(f"the grid {have} has a place in the patient and the one {lack} has none; nothing was kept")
    if original.affine is None:
        _prove_plain(original, back, tolerance_mm)
        return _Match((0, 1, 2), (False, False, False), (0, 0, 0), None, "index")
    relation = np.linalg.solve(original.affine, back.require_affine("the proof"))[:3, :3]
    whole = np.rint(relation)
    permutation = np.abs(whole)
    if not (np.array_equal(permutation.sum(axis=0), [1, 1, 1]) and np.array_equal(permutation.sum(axis=1), [1, 1, 1])):
        raise ProofError(
            f"the grid read back (orientation {back.orientation}, spacing {back.spacing_mm} mm) is not the one written "
            f"(orientation {original.orientation}, spacing {original.spacing_mm} mm); nothing was kept"
        )
    old = np.argmax(permutation, axis=1)  # row: axis of the original; column: axis of the read-back grid
    axes = (int(old[0]), int(old[1]), int(old[2]))
    flips = tuple(bool(whole[i, a] < 0) for i, a in enumerate(axes))
    turned = back.reoriented(axes, (flips[0], flips[1], flips[2]))
    offset = np.rint(original.to_index(turned.to_world([[0, 0, 0]]))[0]).astype(int)
    corners = np.array(list(product(*[(0, n - 1) for n in turned.shape])), dtype=np.float64)
    error = float(np.linalg.norm(turned.to_world(corners) - original.to_world(corners + offset), axis=1).max())
    if error > tolerance_mm:
        raise ProofError(
            f"the grid read back is off by up to {error:.4g} mm (origin, spacing or direction was written wrongly); "
            "nothing was kept"
        )
    shift = (int(offset[0]), int(offset[1]), int(offset[2]))
    reordered = axes != (0, 1, 2) or any(flips)
    cropped = turned.shape != original.shape or any(shift)
    grid: Literal["identical", "reordered", "cropped"] = (
        "cropped" if cropped else "reordered" if reordered else "identical"
    )
    return _Match(axes, (flips[0], flips[1], flips[2]), shift, error, grid)


def _prove_plain(original: Geometry, back: Geometry, tolerance_mm: float) -> None:
    if original.shape != back.shape:
        raise ProofError(f"the grid read back has shape {back.shape}, written was {original.shape}; nothing was kept")
    mine, theirs = original.pixel_spacing_mm, back.pixel_spacing_mm
    if theirs is not None and (mine is None or not np.allclose(mine, theirs, rtol=1e-6, atol=tolerance_mm * 1e-3)):
        raise ProofError(f"pixel spacing {theirs} mm read back, {mine} mm was written; nothing was kept")
    if ("", "") not in (original.patient_orientation, back.patient_orientation) and (
        original.patient_orientation != back.patient_orientation
    ):
        raise ProofError("the patient orientation read back is another than the one written; nothing was kept")


def _zyx(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def _overlap(original: tuple[int, ...], back: tuple[int, ...], offset: tuple[int, int, int]) -> tuple[Box, Box]:
    """Return the box both grids share, as slices of the original and of the turned read-back array."""
    mine, theirs = [], []
    for n, m, o in zip(original[-3:], back[-3:], offset, strict=True):
        start, stop = max(0, o), min(n, o + m)
        stop = max(start, stop)
        mine.append(slice(start, stop))
        theirs.append(slice(start - o, stop - o))
    return (mine[0], mine[1], mine[2]), (theirs[0], theirs[1], theirs[2])


def _prove_voxels(
    original: Mask,
    read_back: Mask,
    back: Shaped[np.ndarray, "..."],
    offset: tuple[int, int, int],
    before: list[_Moments],
    atol: float,
) -> None:
    """Compare every voxel; what lies outside the shared box must be background on both sides."""
    mine, theirs = _overlap(original.array.shape, back.shape, offset)
    whole_both = _covers(mine, original.array.shape) and _covers(theirs, back.shape)
    if original.is_labelmap and read_back.is_labelmap:
        planes = zip(
            original.array[mine], back[theirs], strict=True
        )  # plane by plane: no temporary as large as the mask
        same = all(np.array_equal(a, b) for a, b in planes)
        if same and not whole_both:
            same = np.count_nonzero(original.array) == np.count_nonzero(original.array[mine]) and (
                np.count_nonzero(back) == np.count_nonzero(back[theirs])
            )
        if not same:
            raise _voxel_error(original, read_back, back, None)
        return
    position = {s.number: i for i, s in enumerate(read_back.segments)}
    for index, (segment, moments) in enumerate(zip(original.segments, before, strict=True)):
        a = original.array if original.is_labelmap else original.array[index]
        b = back if read_back.is_labelmap else back[position[segment.number]]
        if a.dtype == np.float32 or b.dtype == np.float32:
            same = _same_probabilities(
                _plane(original, a, segment.number), _plane(read_back, b, segment.number), (mine, theirs), atol
            )
        else:
            same = _same_plane((original, a), (read_back, b), segment.number, moments, offset)
        if not same:
            raise _voxel_error(original, read_back, back, segment.number)


def _covers(box: Box, shape: tuple[int, ...]) -> bool:
    return all(s.start == 0 and s.stop == n for s, n in zip(box, shape[-3:], strict=True))


def _plane(mask: Mask, array: Shaped[np.ndarray, "z y x"], number: int) -> Shaped[np.ndarray, "z y x"]:
    return array == number if mask.is_labelmap else array


def _same_plane(
    one: tuple[Mask, Shaped[np.ndarray, "z y x"]],
    two: tuple[Mask, Shaped[np.ndarray, "a b c"]],
    number: int,
    moments: _Moments,
    offset: tuple[int, int, int],
) -> bool:
    """Same voxels inside the segment's box, and as many voxels in all: hence the same everywhere."""
    (mask_a, a), (mask_b, b) = one, two
    count = int(np.count_nonzero(_plane(mask_b, b, number)))
    if count != moments.voxels:
        return False
    if moments.box is None:
        return True
    moved = tuple(slice(s.start - o, s.stop - o) for s, o in zip(moments.box, offset, strict=True))
    if any(s.start < 0 or s.stop > n for s, n in zip(moved, b.shape, strict=True)):
        return False
    return np.array_equal(_plane(mask_a, a[moments.box], number), _plane(mask_b, b[moved], number))


def _same_probabilities(
    a: Shaped[np.ndarray, "z y x"], b: Shaped[np.ndarray, "a b c"], boxes: tuple[Box, Box], atol: float
) -> bool:
    mine, theirs = boxes
    if not _close(a[mine], b[theirs], atol):
        return False
    outside_a = _covers(mine, a.shape) or _largest_outside(a, mine) <= atol
    return outside_a and (_covers(theirs, b.shape) or _largest_outside(b, theirs) <= atol)


def _largest_outside(array: Shaped[np.ndarray, "z y x"], box: Box) -> float:
    rest = array.astype(np.float32)
    rest[box] = 0
    return float(rest.max(initial=0))


def _close(a: Shaped[np.ndarray, "..."], b: Shaped[np.ndarray, "..."], atol: float) -> bool:
    if a.shape != b.shape:
        return False
    nan = a.dtype.kind == "f" and b.dtype.kind == "f"
    if atol == 0:
        return bool(np.array_equal(a, b, equal_nan=nan))
    slack = atol + 1e-6 * max(1.0, atol)
    return all(
        np.allclose(p.astype(np.float64), q.astype(np.float64), rtol=0, atol=slack, equal_nan=nan)
        for p, q in zip(a, b, strict=True)
    )


def _voxel_error(original: Mask, read_back: Mask, back: Shaped[np.ndarray, "..."], number: int | None) -> ProofError:
    """Say as precisely as possible what went wrong."""
    which = "the mask" if number is None else f"segment {number}"
    if original.array.shape == back.shape and original.array.dtype == back.dtype:
        axis = _mirror_axis(original.array, back, original.geometry)
        if axis:
            return ProofError(f"{which} was written mirrored along {axis}; nothing was kept")
    counts = {s.number: int(np.count_nonzero(original.segment_array(s.number))) for s in original.segments}
    found = {s.number: int(np.count_nonzero(read_back.segment_array(s.number))) for s in read_back.segments}
    if counts == found:
        return ProofError(
            f"{which} has its volume, but in another place (shifted, turned or swapped); nothing was kept"
        )
    wrong = [n for n in counts if counts[n] != found.get(n)]
    if sorted(counts.values()) == sorted(found.values()):
        return ProofError(f"segments {wrong[:5]} were swapped; nothing was kept")
    n = wrong[0]
    return ProofError(
        f"segment {n} has {counts[n]} voxels, read back were {found.get(n, 0)} (and {len(wrong) - 1} more segments "
        "differ); nothing was kept"
    )


_WORLD_AXES = ("left-right", "front-back", "head-feet")


def _mirror_axis(a: Shaped[np.ndarray, "..."], b: Shaped[np.ndarray, "..."], geometry: Geometry) -> str:
    """Name the axis along which b is the mirror image of a, or return ""."""
    if a.shape != b.shape:
        return ""
    closest = geometry.closest_axes()
    for axis in range(3):
        if np.array_equal(a, np.flip(b, axis=b.ndim - 3 + axis), equal_nan=a.dtype.kind == "f"):
            index = "zyx"[axis]
            return f"{index} (patient {_WORLD_AXES[closest[axis][0]]})" if closest else index
    return ""


def _prove_boundaries(
    original: Mask, read_back: Mask, back: Shaped[np.ndarray, "..."], offset: tuple[int, int, int], voxels: int
) -> None:
    """Lossy formats: no point of either mask may lie farther than some voxels from the other one."""
    mine, theirs = _overlap(original.array.shape, back.shape, offset)
    turned = Mask(back, Geometry(_zyx(back.shape[-3:])), read_back.segments)
    for segment in original.segments:
        a = original.segment_array(segment.number)
        b = np.zeros_like(a)
        plane = turned.segment_array(segment.number)
        b[mine] = plane[theirs]
        if np.count_nonzero(plane) != np.count_nonzero(b):
            raise ProofError(f"segment {segment.number} was read back outside the image; nothing was kept")
        box = _box_of(a | b, margin=voxels)
        if box is None:
            continue
        near_a, near_b = _dilate(a[box], voxels), _dilate(b[box], voxels)
        far = int(np.count_nonzero(b[box] & ~near_a) + np.count_nonzero(a[box] & ~near_b))
        if far:
            axis = _mirror_axis(a, b, original.geometry)
            why = f"was written mirrored along {axis}" if axis else f"lies more than {voxels} voxel off at {far} voxels"
            raise ProofError(f"segment {segment.number} {why}; nothing was kept")


def _box_of(plane: Bool[np.ndarray, "z y x"], *, margin: int = 0) -> Box | None:
    out = []
    for axis in range(3):
        hit = np.flatnonzero(plane.any(axis=tuple(a for a in range(3) if a != axis)))
        if not hit.size:
            return None
        out.append(slice(max(0, int(hit[0]) - margin), min(plane.shape[axis], int(hit[-1]) + 1 + margin)))
    return (out[0], out[1], out[2])


def _dilate(plane: Bool[np.ndarray, "z y x"], voxels: int) -> Bool[np.ndarray, "z y x"]:
    """Grow by a cube of that many voxels in every direction; axis by axis, because a cube is separable."""
    grown = plane
    for axis in range(3):
        source = np.moveaxis(grown, axis, 0)
        wider = source.copy()
        for step in range(1, min(voxels, len(source) - 1) + 1):
            wider[step:] |= source[:-step]
            wider[:-step] |= source[step:]
        grown = np.moveaxis(wider, 0, axis)
    return grown


def _moments(mask: Mask) -> list[_Moments]:
    """Count, mean index and box of every segment, in the order of `mask.segments`."""
    if mask.is_labelmap:
        return _labelmap_moments(mask.array, [s.number for s in mask.segments])
    return [_plane_moments(mask.segment_array(s.number)) for s in mask.segments]


def _labelmap_moments(array: Shaped[np.ndarray, "z y x"], numbers: list[int]) -> list[_Moments]:
    """One pass over the voxels for all labels, by runs of equal voxels along x.

    Memory is a few slices, not the volume. Sums of indices are whole numbers below 2**53, hence exact as float64.
    """
    depth, height, width = array.shape
    n = len(numbers) + 1
    row_of = np.zeros(65536, dtype=np.int64)
    row_of[numbers] = np.arange(1, n)
    count, total = np.zeros(n), np.zeros((n, 3))
    low, high = np.full((n, 3), max(array.shape)), np.full((n, 3), -1)
    slices = max(1, _RUN_VOXELS // (height * width))
    for z0 in range(0, depth, slices):
        slab = array[z0 : z0 + slices].reshape(-1, width)
        edge = np.ones(slab.shape, dtype=bool)
        np.not_equal(slab[:, 1:], slab[:, :-1], out=edge[:, 1:])
        start = np.flatnonzero(edge)
        label = slab.reshape(-1)[start]
        inside = np.flatnonzero(label)
        if not inside.size:
            continue
        length = np.diff(start, append=slab.size)[inside]
        line, x = np.divmod(start[inside], width)
        z, y = np.divmod(line, height)
        z += z0
        row = row_of[label[inside]]
        count += np.bincount(row, length, minlength=n)
        for axis, value in enumerate((z, y, x + (length - 1) / 2)):
            total[:, axis] += np.bincount(row, length * value, minlength=n)
        for axis, (first, last) in enumerate(((z, z), (y, y), (x, x + length - 1))):
            np.minimum.at(low[:, axis], row, first)
            np.maximum.at(high[:, axis], row, last)
    out = [_Moments(0, None, None)] * len(numbers)
    for i in np.flatnonzero(count[1:] > 0):
        box = [slice(int(a), int(b) + 1) for a, b in zip(low[i + 1], high[i + 1], strict=True)]
        out[i] = _Moments(int(count[i + 1]), total[i + 1] / count[i + 1], (box[0], box[1], box[2]))
    return out


def _plane_moments(plane: Bool[np.ndarray, "z y x"]) -> _Moments:
    box = _box_of(plane)
    if box is None:
        return _Moments(0, None, None)
    inner = plane[box]
    count = int(np.count_nonzero(inner))
    mean = []
    for axis, edge in enumerate(box):
        profile = np.count_nonzero(inner, axis=tuple(a for a in range(3) if a != axis))
        mean.append(edge.start + float(np.arange(len(profile)) @ profile) / count)
    return _Moments(count, np.array(mean), box)


def _shift(moments: _Moments, offset: tuple[int, int, int], sign: int) -> _Moments:
    if moments.mean_zyx is None or moments.box is None:
        return moments
    steps = [sign * o for o in offset]
    box = tuple(slice(s.start + o, s.stop + o) for s, o in zip(moments.box, steps, strict=True))
    return _Moments(moments.voxels, moments.mean_zyx + np.array(steps), (box[0], box[1], box[2]))


def _segment_proof(
    number: int, original: Geometry, back: Geometry, match: _Match, pair: tuple[_Moments, _Moments]
) -> SegmentProof:
    before, after = pair
    volume_error = (after.voxels - before.voxels) / before.voxels if before.voxels else float(after.voxels > 0)
    if original.affine is None:
        return SegmentProof(number, before.voxels, None, None, None, volume_error, "")
    voxel_mm3 = float(abs(np.linalg.det(original.affine[:3, :3])))
    back_mm3 = float(abs(np.linalg.det(back.require_affine("the proof")[:3, :3])))
    if before.voxels:
        volume_error = after.voxels * back_mm3 / (before.voxels * voxel_mm3) - 1
        volume_error = 0.0 if abs(volume_error) < 1e-6 and after.voxels == before.voxels else volume_error
    if before.mean_zyx is None or after.mean_zyx is None:
        return SegmentProof(number, before.voxels, None, before.voxels * voxel_mm3, None, volume_error, "")
    turned = back.reoriented(match.axes, match.flips)
    here, there = original.to_world(before.mean_zyx[None])[0], turned.to_world(after.mean_zyx[None])[0]
    side, side_back = _side(here, original), _side(there, original)
    error = float(np.linalg.norm(here - there))
    if {side, side_back} == {"L", "R"}:
        raise ProofError(f"segment {number} changed sides: written {side}, read back {side_back}; nothing was kept")
    centroid = (float(here[0]), float(here[1]), float(here[2]))
    return SegmentProof(number, before.voxels, centroid, before.voxels * voxel_mm3, error, volume_error, side)


def _side(point_lps_mm: Float[np.ndarray, "3"], geometry: Geometry) -> str:
    centre = geometry.to_world([[(n - 1) / 2 for n in geometry.shape]])[0]
    affine = geometry.require_affine("laterality")
    half_voxel = float(np.abs(affine[0, :3]).max()) / 2
    distance = float(point_lps_mm[0] - centre[0])
    return "M" if abs(distance) <= half_voxel else "L" if distance > 0 else "R"


def _prove_segment(
    row: SegmentProof, before: _Moments, after: _Moments, centroid_mm: float, volume_rtol: float
) -> None:
    if (before.voxels == 0) != (after.voxels == 0):
        which = "empty" if after.voxels == 0 else "not empty"
        raise ProofError(f"segment {row.number} was read back {which}; nothing was kept")
    if abs(row.volume_error) > volume_rtol:
        raise ProofError(
            f"segment {row.number}: volume read back differs by {row.volume_error:+.2%}, allowed is {volume_rtol:.2%}; "
            "nothing was kept"
        )
    if row.centroid_error_mm is not None and row.centroid_error_mm > centroid_mm:
        raise ProofError(
            f"segment {row.number}: centroid read back lies {row.centroid_error_mm:.3f} mm off, allowed is "
            f"{centroid_mm} mm; nothing was kept"
        )
