"""Where voxels are in the patient: index (z, y, x) to DICOM LPS millimetres.

One convention, in one place. Arrays are ``(channel, z, y, x)``; the affine maps a zero-based index ``(z, y, x)`` of a
voxel *centre* to ``(x, y, z)`` in the DICOM patient system: x grows to the patient's **L**eft, y to the **P**osterior,
z to the **S**uperior (head). A geometry without an affine (a radiograph, an ultrasound frame, a PNG) has a shape and
perhaps a pixel spacing, and every question in patient millimetres is then refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations, product

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import GeometryError

__all__ = ["Geometry"]

ArrayLike = np.ndarray | Sequence[float] | Sequence[Sequence[float]]

_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))  # (towards +, towards -) for x, y, z of LPS


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of an image or a mask, and its place in the patient.

    Args:
        shape: Voxels along (z, y, x); each at least 1.
        affine: Maps the homogeneous index (z, y, x, 1) to LPS (x, y, z, 1) in mm; None where the place is not known.
        frame_uid: DICOM Frame of Reference UID, or "" where there is none.
        pixel_spacing_mm: Spacing (row, column) in mm of a picture without a place in the patient, such as a radiograph
            at its detector; None where unknown. With an affine it is derived, and must not be given.
        patient_orientation: DICOM Patient Orientation of a picture without an affine, e.g. ("L", "F"): where its
            rows point to (the direction of growing x) and its columns point to (of growing y); ("", "") if unknown.
        stack: What the z axis is: "space" (slices or one plane) or "time" (frames of a cine, never a distance).

    Raises:
        GeometryError: The shape is not three positive numbers; the affine is not a finite, invertible 4x4.

    Example:
        >>> g = Geometry.axial((5, 3, 2), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, 20, 30))
        >>> g.spacing_mm
        (2.5, 0.8, 0.7)
        >>> g.orientation
        'SPL'
    """

    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"] | None = None
    frame_uid: str = ""
    pixel_spacing_mm: tuple[float, float] | None = None
    patient_orientation: tuple[str, str] = ("", "")
    stack: str = "space"
    _inverse: Float[np.ndarray, "4 4"] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError(f"shape must be three positive numbers (z, y, x), got {tuple(self.shape)}")
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        if self.stack not in ("space", "time"):
            raise GeometryError(f"stack must be 'space' or 'time', got {self.stack!r}")
        if self.affine is None:
            self._check_pixel_spacing()
            return
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("affine must be a finite 4x4 matrix from index (z, y, x) to LPS mm")
        if not np.array_equal(affine[3], (0.0, 0.0, 0.0, 1.0)):
            raise GeometryError("the last row of the affine must be 0 0 0 1")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / np.where(spacing > 0, spacing, 1))) < 1e-6:
            raise GeometryError("the affine is singular: two axes coincide, or a spacing is zero")
        affine.setflags(write=False)
        inverse = np.linalg.inv(affine)
        inverse.setflags(write=False)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "_inverse", inverse)
        object.__setattr__(self, "pixel_spacing_mm", (float(spacing[1]), float(spacing[2])))

    def _check_pixel_spacing(self) -> None:
        if self.pixel_spacing_mm is None:
            return
        if len(self.pixel_spacing_mm) != 2 or not all(np.isfinite(s) and s > 0 for s in self.pixel_spacing_mm):
            raise GeometryError(f"pixel spacing must be two positive numbers in mm, got {self.pixel_spacing_mm}")
        object.__setattr__(self, "pixel_spacing_mm", tuple(float(s) for s in self.pixel_spacing_mm))

    @classmethod
    def axial(
        cls,
        shape: tuple[int, int, int],
        *,
        spacing_mm: tuple[float, float, float],
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        frame_uid: str = "",
    ) -> Geometry:
        """Make an axial grid: z to the head, y to the posterior, x to the left.

        Args:
            shape: Voxels along (z, y, x).
            spacing_mm: Distance between voxel centres along (z, y, x).
            origin_mm: LPS position (x, y, z) of the centre of voxel (0, 0, 0).
            frame_uid: DICOM Frame of Reference UID.
        """
        return cls.from_directions(
            shape, np.eye(3)[:, ::-1], spacing_mm=spacing_mm, origin_mm=origin_mm, frame_uid=frame_uid
        )

    @classmethod
    def from_directions(
        cls,
        shape: tuple[int, int, int],
        directions: ArrayLike,
        *,
        spacing_mm: tuple[float, float, float],
        origin_mm: ArrayLike,
        frame_uid: str = "",
    ) -> Geometry:
        """Make a grid from unit vectors.

        Args:
            shape: Voxels along (z, y, x).
            directions: 3x3, its columns the LPS unit vectors of the z, y and x axes, in this order.
            spacing_mm: Distance between voxel centres along (z, y, x).
            origin_mm: LPS position (x, y, z) of the centre of voxel (0, 0, 0).
            frame_uid: DICOM Frame of Reference UID.
        """
        affine = np.eye(4)
        affine[:3, :3] = np.asarray(directions, dtype=np.float64) * np.asarray(spacing_mm, dtype=np.float64)
        affine[:3, 3] = np.asarray(origin_mm, dtype=np.float64)
        return cls(shape, affine, frame_uid)

    @property
    def spacing_mm(self) -> tuple[float, float, float] | None:
        """Distance between voxel centres along (z, y, x) in mm, or None where the place is not known."""
        if self.affine is None:
            return None
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        # Norms of a product of unit vectors and spacings carry the last bits of noise; 1e-9 mm is below any scanner.
        return (round(z, 9), round(y, 9), round(x, 9))

    @property
    def directions(self) -> Float[np.ndarray, "3 3"] | None:
        """LPS unit vectors of the z, y and x axes as columns, or None where the place is not known."""
        if self.affine is None:
            return None
        matrix: Float[np.ndarray, "3 3"] = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return matrix

    @property
    def orientation(self) -> str | None:
        """Three letters: towards which side the index grows along z, y and x; None where the place is not known.

        An axial series sorted from feet to head is "SPL". For an oblique grid each letter is the nearest one, and no
        letter pair is used twice.
        """
        axes = self.closest_axes()
        if axes is None:
            return None
        return "".join(_LETTERS[axis][0 if sign > 0 else 1] for axis, sign in axes)

    def closest_axes(self) -> tuple[tuple[int, int], ...] | None:
        """For z, y and x: the LPS axis (0 L, 1 P, 2 S) it is nearest to, and the sign; each LPS axis used once."""
        directions = self.directions
        if directions is None:
            return None
        # Ties (a grid turned half-way) are broken by the patient's axes, S first, so that the choice does not depend
        # on the order of the array's axes.
        fit = np.abs(directions).round(9)
        best = max(
            permutations(range(3)),
            key=lambda p: (round(sum(fit[p[i], i] for i in range(3)), 6), fit[2, p.index(2)], fit[1, p.index(1)]),
        )
        return tuple((best[i], 1 if directions[best[i], i] > 0 else -1) for i in range(3))

    @property
    def voxel_volume_mm3(self) -> float | None:
        """Volume of one voxel in mm3, or None where the place is not known."""
        return None if self.affine is None else float(abs(np.linalg.det(self.affine[:3, :3])))

    def require_affine(self, what: str = "this") -> Float[np.ndarray, "4 4"]:
        """Return the affine, or refuse.

        Raises:
            GeometryError: The place in the patient is not known.
        """
        if self.affine is None:
            raise GeometryError(
                f"{what} needs a place in patient millimetres, and this image has none (no position or spacing in its "
                "header); give the spacing, or work in pixels"
            )
        return self.affine

    def to_world(self, index_zyx: ArrayLike) -> Float[np.ndarray, "n 3"]:
        """Map voxel indices to patient coordinates.

        Args:
            index_zyx: Zero-based indices (z, y, x), shape (n, 3); fractions allowed.

        Returns:
            Points (x, y, z) in mm, LPS; voxel centres, not corners.

        Raises:
            GeometryError: Last axis is not 3, or the place is not known.

        Source:
            DICOM PS3.3 C.7.6.2.1.1 (axis order permuted).

        Example:
            >>> g = Geometry.axial((5, 3, 2), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, 20, 30))
            >>> g.to_world([[1, 2, 1]]).round(9).tolist()
            [[10.7, 21.6, 32.5]]
        """
        affine = self.require_affine("to_world")
        points = _points(index_zyx)
        world: Float[np.ndarray, "n 3"] = points @ affine[:3, :3].T + affine[:3, 3]
        return world

    def to_index(self, point_lps_mm: ArrayLike) -> Float[np.ndarray, "n 3"]:
        """Map patient coordinates to voxel indices (fractions kept; the inverse of `to_world`).

        Args:
            point_lps_mm: Points (x, y, z) in mm, LPS, shape (n, 3).

        Returns:
            Indices (z, y, x); a whole number is a voxel centre.

        Raises:
            GeometryError: Last axis is not 3, or the place is not known.
        """
        self.require_affine("to_index")
        inverse = np.asarray(self._inverse)
        index: Float[np.ndarray, "n 3"] = _points(point_lps_mm) @ inverse[:3, :3].T + inverse[:3, 3]
        return index

    def contains_index(self, index_zyx: ArrayLike) -> np.ndarray:
        """Tell for each index (n, 3) whether it lies inside the grid (voxel edges included)."""
        points = _points(index_zyx)
        inside = (points >= -0.5) & (points <= np.asarray(self.shape) - 0.5)
        return np.asarray(inside.all(axis=1))

    def same_grid(self, other: Geometry, *, tolerance_mm: float = 1e-3) -> bool:
        """Tell whether two grids have the same shape, and corners within a tolerance in mm.

        Two grids without a place are the same when their shapes are; one with and one without never are.
        """
        if self.shape != other.shape or (self.affine is None) != (other.affine is None):
            return False
        if self.affine is None:
            return True
        corners = np.array(list(product(*[(0, n - 1) for n in self.shape])), dtype=np.float64)
        return bool(np.abs(self.to_world(corners) - other.to_world(corners)).max() <= tolerance_mm)

    def cropped(self, start_zyx: tuple[int, int, int], shape: tuple[int, int, int]) -> Geometry:
        """Return the geometry of the box that starts at an index and has a shape (may reach outside)."""
        if self.affine is None:
            return replace(self, shape=shape)
        affine = self.affine.copy()
        affine[:3, 3] = self.to_world([start_zyx])[0]
        return Geometry(shape, affine, self.frame_uid, stack=self.stack)

    def reoriented(self, axes: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> Geometry:
        """Return the geometry after ``array.transpose(axes)`` and then a flip of the new axes where told.

        Args:
            axes: For each new axis (z, y, x), the old axis it comes from.
            flips: For each new axis, whether it is reversed after the transpose.
        """
        affine = self.require_affine("reoriented")
        shape = tuple(self.shape[a] for a in axes)
        columns = affine[:3, :3][:, list(axes)].copy()
        origin = affine[:3, 3].copy()
        for new, flip in enumerate(flips):
            if flip:
                origin += columns[:, new] * (shape[new] - 1)
                columns[:, new] *= -1
        out = np.eye(4)
        out[:3, :3], out[:3, 3] = columns, origin
        return Geometry((shape[0], shape[1], shape[2]), out, self.frame_uid, stack=self.stack)

    def canonical_steps(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """Return (axes, flips) for `reoriented` that bring the grid nearest to axial "SPL".

        Raises:
            GeometryError: The place is not known.
        """
        self.require_affine("canonical_steps")
        closest = self.closest_axes() or ()
        old_of = {axis: (old, sign) for old, (axis, sign) in enumerate(closest)}
        picked = [old_of[axis] for axis in (2, 1, 0)]  # z from S, y from P, x from L
        axes = (picked[0][0], picked[1][0], picked[2][0])
        return axes, (picked[0][1] < 0, picked[1][1] < 0, picked[2][1] < 0)

    def __eq__(self, other: object) -> bool:
        """Exact equality of every field, the affine bit for bit."""
        if not isinstance(other, Geometry):
            return NotImplemented
        mine, theirs = self.affine, other.affine
        same_affine = mine is theirs or (mine is not None and theirs is not None and np.array_equal(mine, theirs))
        return same_affine and (
            self.shape,
            self.frame_uid,
            self.pixel_spacing_mm,
            self.patient_orientation,
            self.stack,
        ) == (other.shape, other.frame_uid, other.pixel_spacing_mm, other.patient_orientation, other.stack)

    def __hash__(self) -> int:
        return hash((self.shape, self.frame_uid, None if self.affine is None else self.affine.tobytes()))


def _points(values: ArrayLike) -> Float[np.ndarray, "n 3"]:
    points = np.asarray(values, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3:
        raise GeometryError(f"points must have shape (n, 3), got {points.shape}")
    return points
