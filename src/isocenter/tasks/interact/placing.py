"""From prompts in patient millimetres to marks on the planes of one image, or the reason why that can't be.

A volume is read plane by plane along one axis. The first prompt that lies in a plane of the grid (a scribble, a lasso,
a flat box) says which axis; points say nothing, and then it is the axis of the slices.

A box in patient millimetres lies along the patient's axes. On a grid that is oblique to them it becomes the smallest
box along the grid's axes that holds all its eight corners: two corners alone would name another box on every grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from jaxtyping import Float

from isocenter.core import Geometry, Prompt
from isocenter.core.errors import DataError
from isocenter.models.interactive.plane import Mark

__all__ = ["Placed", "Pointed", "place"]

_FLAT = 0.75  # a prompt is flat along an axis when it spans less than this many voxels
_KINDS = ("point", "box", "scribble", "lasso")

Points = Float[np.ndarray, "_ 3"]


@dataclass(frozen=True, eq=False)
class Pointed:
    """One prompt on the grid of an image.

    Args:
        kind: As of the prompt.
        points: (n, 3) voxel indices; of a box, its two corners on the grid.
        positive: As of the prompt.
        flat: Whether it lies in one plane and says all of that plane (a lasso, a box without depth).
        marks: What it leaves on planes.
    """

    kind: str
    points: Points
    positive: bool
    flat: bool
    marks: tuple[tuple[int, Mark], ...]


@dataclass(frozen=True, eq=False)
class Placed:
    """Prompts of one label on the planes of an image.

    Args:
        axis: The array axis (0 z, 1 y, 2 x) along which planes are stacked.
        marks: Marks of each marked plane, in the order they were made; rows and columns are the other two axes.
        first: First plane the thing may reach.
        last: Last plane the thing may reach.
        pointed: Every prompt in the order they were made.
    """

    axis: int
    marks: dict[int, list[Mark]]
    first: int
    last: int
    pointed: tuple[Pointed, ...]


class _Refusal(Exception):
    """Carries the reason for abstaining up to `place`."""


def place(
    prompts: Sequence[Prompt], geometry: Geometry, *, begun: bool = False, axis: int | None = None
) -> Placed | str:
    """Put the prompts of one label on planes.

    Args:
        prompts: In the order they were made.
        geometry: The image's grid.
        begun: Whether there is an outline already, so that all may say what it is not, or nothing is said.
        axis: Along which to stack planes; None for what the prompts say.

    Returns:
        Marks by plane, or the reason why the prompts can't be followed, in words a person can act on.
    """
    try:
        return _place(prompts, geometry, begun=begun, axis=axis)
    except (_Refusal, DataError) as reason:
        return str(reason)


def _place(prompts: Sequence[Prompt], geometry: Geometry, *, begun: bool, axis: int | None) -> Placed:
    located: list[tuple[Prompt, Points]] = []
    for number, prompt in enumerate(prompts, start=1):
        if prompt.kind not in _KINDS:
            raise _Refusal(f"prompt {number} is {prompt.kind!r}; this task takes {', '.join(_KINDS)}")
        points = _grid_box(number, prompt, geometry) if prompt.kind == "box" else prompt.index_zyx(geometry)
        _check_inside(number, prompt, points, geometry)
        located.append((prompt, points))
    if not begun and not any(prompt.positive for prompt, _ in located):
        raise _Refusal("every prompt says what it is not; add one that says what it is")
    _check_consistent(located)
    axis = _axis(located, geometry) if axis is None else axis
    across = [a for a in range(3) if a != axis]
    first, last = 0, geometry.shape[axis] - 1
    marks: dict[int, list[Mark]] = {}
    pointed: list[Pointed] = []
    for number, (prompt, points) in enumerate(located, start=1):
        made = _marks(number, prompt, points, axis, across, geometry.shape)
        for plane, mark in made:
            marks.setdefault(plane, []).append(mark)
        flat = prompt.kind == "lasso" or (prompt.kind == "box" and bool(np.ptp(points[:, axis]) < _FLAT))
        pointed.append(Pointed(prompt.kind, points, prompt.positive, flat, tuple(made)))
        if prompt.kind == "box" and prompt.positive and np.ptp(points[:, axis]) >= _FLAT:
            first = max(first, int(np.ceil(points[:, axis].min() - 0.25)))
            last = min(last, int(np.floor(points[:, axis].max() + 0.25)))
    return Placed(axis, marks, first, last, tuple(pointed))


def _grid_box(number: int, prompt: Prompt, geometry: Geometry) -> Points:
    """Return the two opposite corners, on the grid, of the box along its axes that holds a box."""
    two = prompt.index_zyx(geometry)
    if prompt.frame == "index_zyx":
        return two
    every = geometry.to_index(np.array(list(product(*prompt.coordinates.T)), dtype=np.float64))
    whole = np.stack([every.min(axis=0), every.max(axis=0)])
    flat, thin = (np.ptp(points, axis=0) < _FLAT for points in (two, whole))
    if (flat & ~thin).any():
        raise _Refusal(
            f"prompt {number} (box) has both corners on one slice of a grid that is oblique to the patient's axes: it "
            "may mean a rectangle on that slice or a box along the patient's axes; give the rectangle as a lasso of "
            "four corners, or the box in frame 'index_zyx'"
        )
    return whole


def _check_inside(number: int, prompt: Prompt, points: Points, geometry: Geometry) -> None:
    if prompt.kind in ("point", "scribble"):
        outside = int((~geometry.contains_index(points)).sum())
        if outside:
            raise _Refusal(
                f"prompt {number} ({prompt.kind}) has {outside} of {len(points)} points outside the image; "
                "check its frame (lps_mm or index_zyx) and that it belongs to this image"
            )
        return
    low, high = points.min(axis=0), points.max(axis=0)
    if (high < -0.5).any() or (low > np.array(geometry.shape) - 0.5).any():
        raise _Refusal(
            f"prompt {number} ({prompt.kind}) lies outside the image; check its frame (lps_mm or index_zyx) "
            "and that it belongs to this image"
        )


def _check_consistent(located: Sequence[tuple[Prompt, Points]]) -> None:
    said: dict[tuple[int, ...], bool] = {}
    for prompt, points in located:
        if prompt.kind != "point":
            continue
        voxel = tuple(int(v) for v in np.rint(points[0]))
        if said.setdefault(voxel, prompt.positive) != prompt.positive:
            raise _Refusal(
                "one voxel is said to belong and not to belong: a positive and a negative point are on it; "
                "remove one of them"
            )


def _axis(located: Sequence[tuple[Prompt, Points]], geometry: Geometry) -> int:
    for prompt, points in located:
        spans = np.ptp(points, axis=0)
        if prompt.kind == "point" or len(points) < 2:
            continue
        if prompt.kind == "box":
            flat = [a for a in range(3) if spans[a] < _FLAT and geometry.shape[a] > 1]
            if len(flat) == 1:
                return flat[0]
            continue
        axis = min(range(3), key=lambda a: (spans[a] >= _FLAT, spans[a] if spans[a] >= _FLAT else 0, a))
        if spans[axis] < _FLAT and geometry.shape[axis] > 1:
            return axis
        if prompt.kind == "lasso" and spans[axis] >= _FLAT:
            raise _Refusal("a lasso must lie in one plane of the image's grid; draw it on a slice")
    return 0


def _marks(
    number: int, prompt: Prompt, points: Points, axis: int, across: list[int], shape: tuple[int, int, int]
) -> list[tuple[int, Mark]]:
    """Return the marks that one prompt makes, with their planes."""
    plane = int(np.clip(np.rint(points[:, axis].mean().round(6)), 0, shape[axis] - 1))
    flat = points[:, across]
    if prompt.kind == "point":
        return [(plane, Mark("point", flat, prompt.positive))]
    if prompt.kind == "scribble":
        return _strokes(points, axis, across, prompt.positive, shape[axis])
    if prompt.kind == "lasso":
        if np.ptp(points[:, axis]) >= _FLAT:
            raise _Refusal(f"prompt {number} (lasso) lies in another plane than the prompts before; draw it on theirs")
        return [(plane, Mark("region", flat, prompt.positive))]
    low, high = flat.min(axis=0), flat.max(axis=0)
    if (high - low).max() <= 0 or ((high - low) * np.array([shape[a] > 1 for a in across])).max() < 0.5:
        raise _Refusal(f"prompt {number} (box) is empty; give two opposite corners")
    # Corners are voxel centres: the box holds them.
    low, high = low - 0.5, high + 0.5
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], high[1]], [high[0], low[1]]])
    return [(plane, Mark("region", corners, prompt.positive))]


def _strokes(points: Points, axis: int, across: list[int], positive: bool, planes: int) -> list[tuple[int, Mark]]:
    """Cut a polyline in space into the strokes that it leaves on each plane."""
    dense = [points[:1]]
    for start, end in pairwise(points):
        count = int(min(4096, max(1, np.ceil(np.abs(end - start).max() * 2))))
        dense.append(start + (end - start) * np.arange(1, count + 1)[:, None] / count)
    whole = np.concatenate(dense)
    on = np.clip(np.rint(whole[:, axis]), 0, planes - 1).astype(int)
    cuts = np.flatnonzero(np.diff(on)) + 1
    pieces = zip(np.split(whole, cuts), np.split(on, cuts), strict=True)
    return [(int(where[0]), Mark("stroke", piece[:, across], positive)) for piece, where in pieces]
