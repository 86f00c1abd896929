"""Regions of discretised grey levels, laid one after another so that texture matrices of all are counted at once.

Each region is cut to its bounding box and put into one tall stack with a margin of background. An offset to a neighbour
is then one number for every voxel of every region, and counting is a gather and a `bincount`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, UInt16

__all__ = ["DIRECTIONS", "IN_PLANE", "LevelStack", "Levels", "tally"]

IN_PLANE = ((0, 0, 1), (0, 1, -1), (0, 1, 0), (0, 1, 1))
"""Half of the eight directions (z, y, x) within a slice; the other half are their opposites."""
_ACROSS = tuple((1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
DIRECTIONS = (*IN_PLANE, *_ACROSS)
"""Half of the 26 directions; those within a slice come first."""

# Above this many possible keys they are sorted instead of counted in place.
_DENSE = 1 << 22


@dataclass(frozen=True)
class Levels:
    """Grey levels of one region in its bounding box.

    Args:
        array: Levels from 1; 0 outside of the region's intensity mask.
        shape_mask: The region before intensities were left out, in the same box: borders are its.
        count: How many levels the discretisation has, N_g.
    """

    array: UInt16[np.ndarray, "z y x"]
    shape_mask: Bool[np.ndarray, "z y x"]
    count: int


def tally(
    keys: Int[np.ndarray, "n"], weights: np.ndarray | None = None, *, size: int
) -> tuple[Int[np.ndarray, "m"], np.ndarray]:
    """Return the keys that occur, sorted, and how often each does (or the sum of its weights).

    Args:
        keys: From 0 to below `size`.
        weights: Of each key; None for 1.
        size: How many keys there could be.

    Example:
        >>> [a.tolist() for a in tally(np.array([4, 1, 4]), size=9)]
        [[1, 4], [1.0, 2.0]]
    """
    if size <= max(_DENSE, 4 * len(keys)):
        counts = np.bincount(keys, weights, minlength=0)
        found = np.flatnonzero(counts)
        return found, counts[found].astype(np.float64, copy=False)
    found, places = np.unique(keys, return_inverse=True)
    return found, np.bincount(places, weights, minlength=len(found)).astype(np.float64, copy=False)


class LevelStack:
    """Regions in one tall array with a margin.

    Args:
        regions: At least one; none empty.

    Attributes:
        n_regions: How many regions.
        n_slices: How many slices that hold a voxel, over all regions.
        n_levels: Largest N_g.
        level: Level of each voxel.
        region: Region of each voxel, from 0.
        plane: Slice of each voxel, from 0 over all regions, in their order.
        plane_region: Region of each slice.
        level_counts: N_g of each region.
    """

    def __init__(self, regions: Sequence[Levels]) -> None:
        height = max(r.array.shape[1] for r in regions) + 2
        width = max(r.array.shape[2] for r in regions) + 2
        depth = sum(r.array.shape[0] + 1 for r in regions) + 1
        self.shape = (depth, height, width)
        stack = np.zeros(self.shape, np.uint16)
        shapes = np.zeros(self.shape, np.bool_)
        starts, z = [], 1
        for r in regions:
            d, h, w = r.array.shape
            stack[z : z + d, 1 : h + 1, 1 : w + 1] = r.array
            shapes[z : z + d, 1 : h + 1, 1 : w + 1] = r.shape_mask
            starts.append(z)
            z += d + 1
        self._flat = stack.ravel()
        self.shape_mask = shapes
        self.index = np.flatnonzero(self._flat)
        self.level: np.ndarray = self._flat[self.index]
        layer = self.index // (height * width)
        used = np.bincount(layer, minlength=depth) > 0
        region_of_layer = np.searchsorted(starts, np.arange(depth), side="right") - 1
        self.plane: np.ndarray = (np.cumsum(used) - 1)[layer]
        self.region: np.ndarray = region_of_layer[layer]
        self.plane_region: np.ndarray = region_of_layer[used]
        self.n_regions, self.n_slices = len(regions), int(used.sum())
        self.level_counts: np.ndarray = np.array([r.count for r in regions])
        self.n_levels = int(max(self.level_counts.max(), self.level.max()))

    def offset(self, direction: tuple[int, int, int]) -> int:
        """Return how far a neighbour is in the flat array."""
        z, y, x = direction
        return int((z * self.shape[1] + y) * self.shape[2] + x)

    @cached_property
    def ahead(self) -> tuple[np.ndarray, ...]:
        """Level of the neighbour in each of `DIRECTIONS`, 0 where there is none."""
        return tuple(self._flat[self.index + self.offset(d)] for d in DIRECTIONS)

    @cached_property
    def behind(self) -> tuple[np.ndarray, ...]:
        """Level of the neighbour opposite to each of `DIRECTIONS`, 0 where there is none."""
        return tuple(self._flat[self.index - self.offset(d)] for d in DIRECTIONS)

    @cached_property
    def position(self) -> np.ndarray:
        """Place of a flat index in the list of voxels."""
        place = np.zeros(len(self._flat), np.int32)
        place[self.index] = np.arange(len(self.index), dtype=np.int32)
        return place

    def groups(self, planes: bool) -> tuple[np.ndarray, int]:
        """Return the group of each voxel (its slice, or its region) and how many groups there are."""
        return (self.plane, self.n_slices) if planes else (self.region, self.n_regions)
