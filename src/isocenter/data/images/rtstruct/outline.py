"""Outlines of a plane of voxels along the voxels' edges, so that they hold exactly these voxels and nearly this area.

Corners lie half-way between voxel centres, as far from any centre as a corner can be, drawn in by `INSET` of a voxel.
So every program that asks whether a centre lies inside fills the same voxels, and so does one that first rounds
corners to whole voxels and counts the line in; and the area is that of the voxels, 0.4 % less for a single one.
Voxels that touch only at a corner become separate outlines. A hole is either its own outline or joined to the outer
one by a keyhole: a channel of two insets' width along voxel edges inside the object.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

__all__ = ["trace_outlines"]

Vertex = tuple[int, int]

INSET = 1e-3
"""How far outlines are drawn in from the voxels' edges, in voxels."""

_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))  # east, south, west, north as (row, column); a right turn is +1


def trace_outlines(plane: Bool[np.ndarray, "y x"], *, keyholes: bool = True) -> list[Float[np.ndarray, "_ 2"]]:
    """Return closed outlines of the voxels of a plane.

    Args:
        plane: Which voxels belong to the object.
        keyholes: True joins each hole to its outer outline; False returns holes as outlines of their own, to be
            combined with the others by exclusive or.

    Returns:
        Polygons of corners (row, column) in index units, without a repeated last corner.

    Example:
        >>> trace_outlines(np.array([[False, True]]))[0].tolist()
        [[-0.499, 0.501], [-0.499, 1.499], [0.499, 1.499], [0.499, 0.501]]
    """
    if not plane.any():
        return []
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    loops = _loops(plane[top : rows[-1] + 1, left : columns[-1] + 1])
    if keyholes:
        loops = _join_holes(loops)
    first = np.array([top - 0.5, left - 0.5])
    return [np.array(_corners(loop), dtype=np.float64) + first for loop in loops]


def _loops(plane: Bool[np.ndarray, "y x"]) -> list[list[Vertex]]:
    """Return loops of unit steps along voxel edges, with the object on the right hand: holes run the other way."""
    padded = np.pad(plane, 1)
    height, width = plane.shape[0] + 1, plane.shape[1] + 1  # of the lattice of corners
    above_left, above = padded[:-1, :-1], padded[:-1, 1:]
    left, here = padded[1:, :-1], padded[1:, 1:]
    # Whether a step leaves each corner to the east, south, west, north: object on its right, none on its left.
    leaves = np.stack([here & ~above, left & ~here, above_left & ~left, above & ~above_left])
    index = np.arange(height * width).reshape(height, width)
    edges = np.flatnonzero(leaves)
    rank = np.zeros(leaves.size, dtype=np.int64)
    rank[edges] = np.arange(len(edges))
    following = np.zeros(leaves.shape, dtype=np.int64)
    for way, (dy, dx) in enumerate(_STEPS):
        reached = np.roll(leaves, (-dy, -dx), axis=(1, 2))
        target = np.roll(index, (-dy, -dx), axis=(0, 1))
        # Turning right first keeps voxels that touch at a corner apart.
        for turn in ((way + 3) % 4, way, (way + 1) % 4):
            following[way][reached[turn]] = (target + turn * index.size)[reached[turn]]
    after = rank[following.ravel()[edges]].tolist()
    corner = list(zip(*(part.tolist() for part in divmod(edges % index.size, width)), strict=True))
    seen = bytearray(len(after))
    loops = []
    for first in range(len(after)):
        if seen[first]:
            continue
        loop = []
        step = first
        while not seen[step]:
            seen[step] = 1
            loop.append(corner[step])
            step = after[step]
        loops.append(loop)
    return loops


def _twice_area(loop: list[Vertex]) -> int:
    """Return twice the signed area: positive for an outer outline, negative for a hole."""
    return sum(x0 * y1 - x1 * y0 for (y0, x0), (y1, x1) in pairwise([*loop, loop[0]]))


def _join_holes(loops: list[list[Vertex]]) -> list[list[Vertex]]:
    """Join each hole to the outline that lies west of it, by a channel along the lattice."""
    holes = [loop for loop in loops if _twice_area(loop) < 0]
    if not holes:
        return loops
    outer = [loop for loop in loops if _twice_area(loop) > 0]
    # Holes that begin further west are joined first, so what a channel reaches always hangs together with an outline.
    holes.sort(key=lambda loop: min((x, y) for y, x in loop))
    owner = {vertex: number for number, loop in enumerate(outer) for vertex in loop}
    for hole in holes:
        west, row = min((x, y) for y, x in hole)
        column = west - 1
        # West of the hole's first corner both rows are object up to the next outline, so the channel stays inside.
        while (row, column) not in owner:
            column -= 1
        number = owner[row, column]
        loop = outer[number]
        at, begin = loop.index((row, column)), hole.index((row, west))
        channel = [(row, x) for x in range(column + 1, west)]
        around = [*hole[begin:], *hole[:begin], (row, west)]
        outer[number] = [*loop[: at + 1], *channel, *around, *channel[::-1], *loop[at:]]
        owner.update(dict.fromkeys(hole, number))
    return outer


def _corners(loop: list[Vertex]) -> list[tuple[float, float]]:
    """Keep the corners at which a loop turns, each moved to the right of both its edges, where the object is."""
    before, after = [loop[-1], *loop[:-1]], [*loop[1:], loop[0]]
    out = []
    for (y0, x0), (y, x), (y1, x1) in zip(before, loop, after, strict=True):
        arriving, leaving = (y - y0, x - x0), (y1 - y, x1 - x)
        if arriving != leaving:
            out.append((y + INSET * (arriving[1] + leaving[1]), x - INSET * (arriving[0] + leaving[0])))
    return out
