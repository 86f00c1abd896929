"""A field of numbers that are 0 outside a box: what is said about an organ does not cost what its whole scan would."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Shaped

__all__ = ["Box", "Part", "box_of", "box_sides", "join_boxes", "within"]

Box = tuple[slice, slice, slice]
"""Along z, y and x; all of them empty where there is nothing."""

_NOTHING: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True, eq=False)
class Part:
    """Numbers in a box of a grid.

    Args:
        shape: Of the grid.
        box: Inside the grid.
        values: The numbers in the box; they are 0 elsewhere.
    """

    shape: tuple[int, int, int]
    box: Box
    values: Float[np.ndarray, "bz by bx"]

    @classmethod
    def nothing(cls, shape: tuple[int, int, int]) -> Part:
        """Return a field that is 0 everywhere."""
        return cls(shape, _NOTHING, np.zeros((0, 0, 0), dtype=np.float32))

    @classmethod
    def of(cls, field: Float[np.ndarray, "z y x"] | Part) -> Part:
        """Return the part of a field that is not 0."""
        if isinstance(field, Part):
            return field
        box = box_of(field != 0)
        return cls((field.shape[0], field.shape[1], field.shape[2]), box, np.asarray(field[box], dtype=np.float32))

    def whole(self) -> Float[np.ndarray, "z y x"]:
        """Return the whole field."""
        field = np.zeros(self.shape, dtype=np.float32)
        field[self.box] = self.values
        return field

    def within(self, box: Box) -> Float[np.ndarray, "bz by bx"]:
        """Return the numbers in another box of the grid, as a copy."""
        return within(self.values, self.box, box)

    def grown(self, box: Box) -> Part:
        """Return the same field, kept in a box that holds another one too; its numbers are a copy."""
        both = join_boxes(self.box, box)
        return Part(self.shape, both, self.within(both))


def within(values: Shaped[np.ndarray, "az ay ax"], of: Box, box: Box) -> Shaped[np.ndarray, "bz by bx"]:
    """Return what numbers in one box are in another: 0 where the two do not meet."""
    found = np.zeros(box_sides(box), dtype=values.dtype)
    low = [max(a.start, b.start) for a, b in zip(of, box, strict=True)]
    high = [min(a.stop, b.stop) for a, b in zip(of, box, strict=True)]
    if all(start < stop for start, stop in zip(low, high, strict=True)):
        to = tuple(slice(s - b.start, e - b.start) for s, e, b in zip(low, high, box, strict=True))
        taken = tuple(slice(s - a.start, e - a.start) for s, e, a in zip(low, high, of, strict=True))
        found[to] = values[taken]
    return found


def box_of(where: Bool[np.ndarray, "z y x"]) -> Box:
    """Return the smallest box that holds all that is set; empty where nothing is.

    Example:
        >>> box_of(np.arange(8).reshape(2, 2, 2) == 5)
        (slice(1, 2, None), slice(0, 1, None), slice(1, 2, None))
    """
    if not where.size:
        return _NOTHING
    # Along z first: what follows looks at planes that hold something, which are few.
    planes = np.flatnonzero(where.reshape(len(where), -1).any(axis=1))
    if not len(planes):
        return _NOTHING
    some = where[planes[0] : planes[-1] + 1]
    rows = np.flatnonzero(some.any(axis=(0, 2)))
    columns = np.flatnonzero(some[:, rows[0] : rows[-1] + 1].any(axis=(0, 1)))
    return (
        slice(int(planes[0]), int(planes[-1]) + 1),
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
    )


def box_sides(box: Box) -> tuple[int, int, int]:
    """Return how many voxels a box has along z, y and x."""
    return (box[0].stop - box[0].start, box[1].stop - box[1].start, box[2].stop - box[2].start)


def join_boxes(one: Box, other: Box) -> Box:
    """Return the smallest box that holds two."""
    if not all(box_sides(one)):
        return other
    if not all(box_sides(other)):
        return one
    z, y, x = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return z, y, x
