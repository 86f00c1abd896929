"""Pieces of surface between voxels: where a mask's outline runs within each cell of 2 x 2 x 2 voxel centres, how large.

A cell has a corner at each of eight voxel centres (four in a plane). Where some corners lie in the mask and others do
not, the outline crosses the cell, through the middle of every edge between a corner inside and one outside. Its area
depends on the 256 patterns of corners (16 in a plane) and on the spacing only, so it is worked out once per spacing.

Rules, for what marching cubes leaves open:

* The fewer corners are cut off from the others (of four and four, those inside): two of them that touch across a
  face's diagonal only are cut off one by one.
* An outline of more than three points does not always lie in a plane; its triangles are those, of all ways to cut it,
  with the greatest area in a cube. Ways that tie are mirror images, of the same area under any spacing.

With these the areas equal those of DeepMind's surface-distance for all patterns and spacings; tests hold that.

Source:
    Lorensen and Cline, SIGGRAPH 1987; Nikolov et al., JMIR 2021 (surface elements for the surface Dice).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from isocenter.core.errors import GeometryError

__all__ = ["element_codes", "element_sizes"]

Corner = tuple[int, ...]
Edge = tuple[Corner, Corner]
Triangle = tuple[int, int, int]


def element_codes(mask: Bool[np.ndarray, "*space"]) -> UInt8[np.ndarray, "*cells"]:
    """Return the pattern of corners of every cell, one more than voxels along each axis.

    The image's edge is outside. Corner 0 0 0 is the highest bit, as the digits of a number are written. A cell holds
    a piece of surface where its code is neither 0 nor that of all corners.

    Raises:
        GeometryError: Not two or three axes.

    Example:
        >>> element_codes(np.array([[True]])).tolist()
        [[1, 2], [4, 8]]
    """
    if mask.ndim not in (2, 3):
        raise GeometryError(f"surface elements are known for two or three axes, not {mask.ndim}")
    codes: UInt8[np.ndarray, "*cells"] = np.pad(mask, 1).view(np.uint8)
    for step in range(mask.ndim):
        axis = mask.ndim - 1 - step
        low = [slice(None)] * mask.ndim
        high = list(low)
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        codes = (codes[tuple(low)] << np.uint8(1 << step)) | codes[tuple(high)]
    return codes


@lru_cache(maxsize=32)
def element_sizes(spacing_mm: tuple[float, ...]) -> Float[np.ndarray, " codes"]:
    """Return the size of the piece of surface of each code: mm2 in a volume, mm in a plane.

    Args:
        spacing_mm: Distance between voxel centres along each axis.

    Raises:
        GeometryError: Not two or three axes.

    Example:
        >>> element_sizes((2.0, 3.0))[[0, 3, 5]].tolist()
        [0.0, 3.0, 2.0]
    """
    if len(spacing_mm) not in (2, 3):
        raise GeometryError(f"surface elements are known for two or three axes, not {len(spacing_mm)}")
    codes, pieces = _pieces(len(spacing_mm))
    scaled = pieces * np.asarray(spacing_mm, dtype=np.float64)
    along = scaled[:, 1] - scaled[:, 0]
    each = (
        np.linalg.norm(along, axis=1)
        if len(spacing_mm) == 2
        else np.linalg.norm(np.cross(along, scaled[:, 2] - scaled[:, 0]), axis=1) / 2
    )
    sizes: Float[np.ndarray, " codes"] = np.bincount(codes, each, minlength=1 << (1 << len(spacing_mm)))
    sizes.setflags(write=False)
    return sizes


def _corners(axes: int) -> list[Corner]:
    return list(product((0, 1), repeat=axes))


def _cut_off(code: int, axes: int) -> set[Corner]:
    """Return the corners that the outline cuts off: the fewer; of a tie those inside."""
    count = 1 << axes
    inside = {c for place, c in enumerate(_corners(axes)) if code >> (count - 1 - place) & 1}
    return inside if len(inside) <= count // 2 else set(_corners(axes)) - inside


def _middle(edge: Edge) -> Float[np.ndarray, " axes"]:
    return (np.asarray(edge[0], dtype=np.float64) + np.asarray(edge[1], dtype=np.float64)) / 2


def _faces(axes: int) -> Iterator[list[Corner]]:
    """Yield the corners of each face of a cell; of a plane's cell, which has none, the cell itself."""
    if axes == 2:
        yield _corners(2)
        return
    for axis, side in product(range(axes), (0, 1)):
        yield [c for c in _corners(axes) if c[axis] == side]


def _segments(code: int, axes: int) -> list[tuple[Edge, Edge]]:
    """Return the pieces of outline on the faces, each from the middle of one edge to that of another."""
    cut = _cut_off(code, axes)
    found: list[tuple[Edge, Edge]] = []
    for face in _faces(axes):
        edges = [
            (min(a, b), max(a, b))
            for a in face
            for b in face
            if a in cut and b not in cut and sum(x != y for x, y in zip(a, b, strict=True)) == 1
        ]
        if len(edges) == 2:
            found.append((edges[0], edges[1]))
        elif len(edges) == 4:  # two corners across the diagonal: each is cut off on its own
            for corner in face:
                if corner in cut:
                    first, second = (e for e in edges if corner in e)
                    found.append((first, second))
    return found


def _outlines(code: int) -> list[list[Edge]]:
    """Join the pieces on the faces to closed outlines."""
    beside: dict[Edge, list[Edge]] = {}
    for a, b in _segments(code, 3):
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    outlines = []
    while beside:
        outline = [min(beside)]
        while beside.get(outline[-1]):
            here = outline[-1]
            after = beside[here].pop()
            beside[after].remove(here)
            outline.append(after)
        outlines.append(outline[:-1])
        beside = {edge: others for edge, others in beside.items() if others}
    return outlines


def _ways(first: int, last: int) -> Iterator[list[Triangle]]:
    """Yield every way to cut the polygon of points first..last into triangles."""
    if last - first < 2:
        yield []
        return
    for middle in range(first + 1, last):
        for before in _ways(first, middle):
            for after in _ways(middle, last):
                yield [*before, *after, (first, middle, last)]


def _area(corners: Float[np.ndarray, "3 3"]) -> float:
    return float(np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0]))) / 2


def _triangles(code: int) -> list[Float[np.ndarray, "3 3"]]:
    """Return the triangles of a code in a cube of side one."""
    found: list[Float[np.ndarray, "3 3"]] = []
    for outline in _outlines(code):
        points = np.stack([_middle(edge) for edge in outline])
        # Rounded, so that a tie is one on every machine.
        best = max(_ways(0, len(points) - 1), key=lambda way: round(sum(_area(points[list(t)]) for t in way), 9))
        found += [points[list(t)] for t in best]
    return found


@lru_cache(maxsize=2)
def _pieces(axes: int) -> tuple[Int64[np.ndarray, " n"], Float[np.ndarray, "n corners axes"]]:
    """Return all pieces in a cell of side one, and the code that each belongs to."""
    codes: list[int] = []
    pieces: list[Float[np.ndarray, "corners axes"]] = []
    for code in range(1, (1 << (1 << axes)) - 1):
        found = _triangles(code) if axes == 3 else [np.stack([_middle(a), _middle(b)]) for a, b in _segments(code, 2)]
        codes += [code] * len(found)
        pieces += found
    return np.asarray(codes, dtype=np.int64), np.stack(pieces)
