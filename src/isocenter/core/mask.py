"""A mask: which voxels belong to which coded segment."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped

from isocenter.core.errors import GeometryError, PixelError
from isocenter.core.geometry import Geometry
from isocenter.core.image import Source
from isocenter.core.units import Code

__all__ = ["Mask", "Segment"]

TISSUE = Code("85756007", "SCT", "Tissue")
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically Abnormal Structure")


@dataclass(frozen=True)
class Segment:
    """One segment of a mask.

    Args:
        number: 1 or more; the value of its voxels in a labelmap.
        label: Short name for people, at most 64 characters.
        category: Segmented property category (DICOM PS3.16 CID 7150).
        type: Segmented property type.
        laterality: Code of Right, Left or both (SCT 24028007, 7771000, 51440002), or None where not stated.
        tracking_id: Text that follows the same thing over time, "" for none.
        tracking_uid: UID of the same.
        algorithm_type: "AUTOMATIC", "SEMIAUTOMATIC" or "MANUAL".
        algorithm_name: Name of the algorithm, "" for manual.
        colour: sRGB 0-255 to show it in.

    Raises:
        PixelError: The number is not in 1..65535, or the algorithm type is not one of the three.
    """

    number: int
    label: str
    category: Code = TISSUE
    type: Code = TISSUE
    laterality: Code | None = None
    tracking_id: str = ""
    tracking_uid: str = ""
    algorithm_type: str = "AUTOMATIC"
    algorithm_name: str = ""
    colour: tuple[int, int, int] = (230, 80, 60)

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 65535:
            raise PixelError(f"a segment number must be 1 to 65535, got {self.number}")
        if not 1 <= len(self.label) <= 64:
            raise PixelError("a segment label must have 1 to 64 characters")
        if self.algorithm_type not in ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"):
            raise PixelError(f"algorithm type must be AUTOMATIC, SEMIAUTOMATIC or MANUAL, got {self.algorithm_type!r}")


@dataclass(frozen=True, eq=False)
class Mask:
    """Segments on a grid.

    Args:
        array: uint16 labelmap (Z, Y, X), 0 is background; or a stack (S, Z, Y, X), one plane per segment in the order
            of `segments`: bool for segments that may overlap, float32 in [0, 1] for probabilities.
        geometry: The grid; its shape equals (Z, Y, X).
        segments: One entry per segment, numbers unique; every non-zero label of a labelmap has one.
        source: UIDs and hash of the image it was drawn on.

    Raises:
        PixelError: Wrong dtype or axes, values outside [0, 1], repeated numbers, or a label without a segment.
        GeometryError: Array and geometry disagree.
    """

    array: Shaped[np.ndarray, "..."]
    geometry: Geometry
    segments: tuple[Segment, ...]
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        numbers = [s.number for s in self.segments]
        if len(set(numbers)) != len(numbers):
            raise PixelError(f"segment numbers must be unique, got {numbers}")
        if self.array.shape[-3:] != self.geometry.shape:
            raise GeometryError(f"mask (z, y, x) {self.array.shape[-3:]} and geometry {self.geometry.shape} disagree")
        if self.array.ndim == 3:
            if self.array.dtype != np.uint16:
                raise PixelError(f"a labelmap must be uint16, got {self.array.dtype}")
            seen = np.zeros(65536, dtype=np.bool_)
            for plane in self.array:  # the ends of runs only: a count of every voxel costs seconds on a CT
                flat = plane.ravel()
                seen[flat[np.flatnonzero(flat[1:] != flat[:-1])]] = True
                seen[flat[-1]] = True
            missing = set(np.flatnonzero(seen).tolist()) - {0, *numbers}
            if missing:
                raise PixelError(f"labels {sorted(missing)[:5]} have no segment")
        elif self.array.ndim == 4:
            self._check_stack()
        else:
            raise PixelError(f"a mask array must have 3 or 4 axes, got shape {self.array.shape}")

    def _check_stack(self) -> None:
        if self.array.shape[0] != len(self.segments):
            raise PixelError(f"{self.array.shape[0]} planes for {len(self.segments)} segments")
        if self.array.dtype == np.bool_:
            return
        if self.array.dtype != np.float32:
            raise PixelError(f"a stack must be bool or float32 probabilities, got {self.array.dtype}")
        if self.array.size and not (self.array.min() >= 0 and self.array.max() <= 1):
            raise PixelError("probabilities must lie in [0, 1] and not be NaN")

    @property
    def is_labelmap(self) -> bool:
        """True for a labelmap, False for a stack of planes."""
        return self.array.ndim == 3

    def segment_array(self, number: int, *, threshold: float = 0.5) -> np.ndarray:
        """Return one segment as a bool array (Z, Y, X).

        Args:
            number: Segment number.
            threshold: A probability at or above it is inside; no effect on labelmaps and bool stacks.

        Raises:
            PixelError: There is no such segment.
        """
        index = next((i for i, s in enumerate(self.segments) if s.number == number), None)
        if index is None:
            raise PixelError(f"no segment {number}; there are {[s.number for s in self.segments]}")
        if self.is_labelmap:
            return np.asarray(self.array == number)
        plane = self.array[index]
        return plane if plane.dtype == np.bool_ else np.asarray(plane >= threshold)
