"""Which way round a picture lies: anatomical planes cut from any grid, in radiological convention.

Where the place in the patient is known, the axes are permuted and flipped to the nearest anatomical ones: the patient's
left is on the right of axial and coronal pictures, anterior at the top of axial and on the left of sagittal ones, the
head at the top. Voxels are never interpolated across planes, so an oblique grid gives slightly oblique pictures, and
their letters say so ("LA"). Where the place is not known a picture lies as stored, and has no letters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from isocenter.core import Geometry, Image, Mask
from isocenter.core.errors import ConfigError, GeometryError

__all__ = ["Letters", "Oriented", "PlaneName", "Slice"]

PlaneName = Literal["axial", "coronal", "sagittal", "native"]

_AXIS: dict[str, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
_NAMES = ("axial", "coronal", "sagittal")
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
_TERMS = {"H": "S", "F": "I"}  # DICOM's head and foot, written as everywhere else on the page
# A direction more than 15 degrees off its main axis gets a second letter.
_SECOND_LETTER = float(np.sin(np.deg2rad(15.0)))


@dataclass(frozen=True)
class Letters:
    """Towards which side of the patient each edge of a picture lies; "" where not known."""

    left: str = ""
    right: str = ""
    top: str = ""
    bottom: str = ""

    @property
    def known(self) -> bool:
        """Whether left and right of the picture are known."""
        return bool(self.left and self.right)


@dataclass(frozen=True, eq=False)
class Slice:
    """One plane, ready to draw.

    Args:
        pixels: (C, h, w) values, as stored.
        labels: (S, h, w) segments in the mask's order.
        spacing_mm: (row, column) spacing in mm, or None where unknown.
        letters: Sides.
        index: Zero-based index along the image's own axis.
        count: Number of planes along it.
        place: Where the plane is, in words: patient mm along its normal, or the number of the slice or frame.
    """

    pixels: Shaped[np.ndarray, "c h w"]
    labels: Bool[np.ndarray, "s h w"]
    spacing_mm: tuple[float, float] | None
    letters: Letters
    index: int
    count: int
    place: str


class Oriented:
    """An image and its mask, turned to the nearest anatomical axes (views, no copies).

    Args:
        image: The image.
        mask: Its mask on the same grid, or None.

    Raises:
        GeometryError: Image and mask are on different grids.
    """

    def __init__(self, image: Image, mask: Mask | None) -> None:
        if mask is not None and not image.geometry.same_grid(mask.geometry):
            raise GeometryError("the mask is on another grid than the image; a picture of both would be wrong")
        self.image, self.mask = image, mask
        self.known = image.geometry.affine is not None
        self._axes, self._flips = (0, 1, 2), (False, False, False)
        self.geometry: Geometry = image.geometry
        if self.known:
            self._axes, self._flips = image.geometry.canonical_steps()
            self.geometry = image.geometry.reoriented(self._axes, self._flips)
        self._array = self._turn(image.array)
        self._mask_array = None if mask is None else self._turn(mask.array)
        self._areas: dict[int, Shaped[np.ndarray, "s n"]] = {}
        self._boxes: list[tuple[slice, ...] | None] | None = None

    def _turn(self, array: np.ndarray) -> np.ndarray:
        lead = array.ndim - 3
        turned = array.transpose((*range(lead), *(lead + a for a in self._axes)))
        return np.flip(turned, tuple(lead + i for i, flip in enumerate(self._flips) if flip))

    @property
    def names(self) -> tuple[PlaneName, ...]:
        """Planes worth showing: three of a volume, the native one of anything else."""
        return ("axial", "coronal", "sagittal") if self.image.is_volume else ("native",)

    def axis(self, plane: str) -> int:
        """Return the turned axis that a plane is cut across.

        Raises:
            ConfigError: There is no such plane.
            GeometryError: An anatomical plane was asked of an image whose place in the patient is not known.
        """
        if plane == "native":
            return self._axes.index(0)
        if plane not in _AXIS:
            raise ConfigError(f"plane must be axial, coronal, sagittal or native; got {plane!r}")
        if not self.known:
            raise GeometryError(f"there is no {plane} plane: the place in the patient is not known; ask for 'native'")
        return _AXIS[plane]

    def anatomical_name(self, plane: PlaneName) -> str:
        """Return "axial", "coronal" or "sagittal" for a plane, or "as stored" where that is not known."""
        return _NAMES[self.axis(plane)] if self.known else "as stored"

    def own_index(self, axis: int, index: int) -> int:
        """Turn an index along a turned axis into one along the image's own axis, or back (it is its own inverse)."""
        return self.geometry.shape[axis] - 1 - index if self._flips[axis] else index

    def turned_index(self, index_zyx: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return where a voxel of the image's own index (z, y, x) lies along the turned axes."""
        z, y, x = (self.own_index(new, index_zyx[old]) for new, old in enumerate(self._axes))
        return z, y, x

    def segment(self, position: int) -> Bool[np.ndarray, "z y x"]:
        """Return one segment, by its position in the mask, in turned axes.

        Raises:
            ConfigError: There is no mask.
        """
        if self.mask is None or self._mask_array is None:
            raise ConfigError("there is no mask to take a segment of")
        if self.mask.is_labelmap:
            return np.asarray(self._mask_array == self.mask.segments[position].number)
        return np.asarray(self._mask_array[position] >= 0.5)

    def areas(self, axis: int) -> Shaped[np.ndarray, "s n"]:
        """Return the number of voxels of each segment in each plane across a turned axis."""
        if axis not in self._areas:
            others = tuple(a for a in range(3) if a != axis)
            count = len(self.mask.segments) if self.mask is not None else 0
            found = np.zeros((count, self.geometry.shape[axis]), dtype=np.int64)
            for position in range(count):
                box, inside = self._boxed(position)
                if box is not None:
                    found[position, box[axis]] = inside.sum(axis=others)
            self._areas[axis] = found
        return self._areas[axis]

    def _boxed(self, position: int) -> tuple[tuple[slice, ...] | None, Bool[np.ndarray, "z y x"]]:
        """Return the box of a segment and its voxels in there; a labelmap's boxes are found in one pass."""
        if self.mask is None or not self.mask.is_labelmap:
            return (slice(None),) * 3, self.segment(position)
        if self._boxes is None:
            self._boxes = ndimage.find_objects(self._mask_array)
        number = self.mask.segments[position].number
        box = self._boxes[number - 1] if number <= len(self._boxes) else None
        if box is None or self._mask_array is None:
            return None, np.zeros((0, 0, 0), dtype=bool)
        return box, np.asarray(self._mask_array[box] == number)

    def cut(self, plane: PlaneName, index: int) -> Slice:
        """Cut one plane.

        Args:
            plane: Which.
            index: Zero-based, along the turned axis.

        Raises:
            ConfigError: The index lies outside the image.
        """
        axis = self.axis(plane)
        count = self.geometry.shape[axis]
        if not 0 <= index < count:
            raise ConfigError(f"the {plane} plane {index} lies outside the image's {count}")
        pixels = np.take(self._array, index, axis=axis + 1)
        labels = np.zeros((0, *pixels.shape[1:]), dtype=bool)
        if self.mask is not None and self._mask_array is not None:
            flat = np.take(self._mask_array, index, axis=self._mask_array.ndim - 3 + axis)
            if self.mask.is_labelmap:
                labels = np.stack([flat == s.number for s in self.mask.segments]) if self.mask.segments else labels
            else:
                labels = np.asarray(flat >= 0.5)
        if self.known and axis > 0:  # rows run along S; the head belongs at the top
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        own = self.own_index(axis, index)
        return Slice(
            pixels, labels, self._spacing(axis), self._letters(axis), own, count, self._place(axis, index, own)
        )

    def _spacing(self, axis: int) -> tuple[float, float] | None:
        spacing = self.geometry.spacing_mm
        if spacing is None:
            return self.geometry.pixel_spacing_mm
        row, column = (s for a, s in enumerate(spacing) if a != axis)
        return row, column

    def _letters(self, axis: int) -> Letters:
        directions = self.geometry.directions
        if directions is None:
            row, column = (_written(t) for t in self.geometry.patient_orientation)
            return Letters(_reverse(row), row, _reverse(column), column)
        right = directions[:, 2] if axis < 2 else directions[:, 1]
        down = directions[:, 1] if axis == 0 else -directions[:, 0]
        return Letters(_side(-right), _side(right), _side(-down), _side(down))

    def _place(self, axis: int, index: int, own: int) -> str:
        if self.geometry.stack == "time":
            return f"frame {own + 1} of {self.geometry.shape[axis]}"
        if self.geometry.shape[axis] == 1 and not self.known:
            return "the only plane"
        if not self.known:
            return f"plane {own + 1} of {self.geometry.shape[axis]}"
        middle = [(n - 1) / 2 for n in self.geometry.shape]
        middle[axis] = index
        lps = self.geometry.to_world([middle])[0][2 - axis]
        side = ("L", "P", "S")[2 - axis] if lps >= 0 else ("R", "A", "I")[2 - axis]
        return f"slice {own + 1} of {self.geometry.shape[axis]}, {side} {abs(lps):.1f} mm"


def _written(term: str) -> str:
    return "".join(_TERMS.get(letter, letter) for letter in term.upper() if letter in "LRAPHFSI")


def _reverse(letters: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in letters)


def _side(direction: Float[np.ndarray, "3"]) -> str:
    order = np.argsort(-np.abs(direction), kind="stable")
    kept = [a for rank, a in enumerate(order) if rank == 0 or abs(direction[a]) > _SECOND_LETTER]
    return "".join("LPS"[a] if direction[a] > 0 else "RAI"[a] for a in kept)
