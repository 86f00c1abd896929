"""From acts in a volume to what a SAM takes in one slice: points, each with its sign, and at most one box.

| act | becomes |
| --- | --- |
| point | that point, in the slice next to it |
| scribble | at most 8 points in each slice, evenly spaced along it: one, and one more for each voxel of its length |
| lasso | at most 8 points evenly spread inside, where it is at least half as deep as at its deepest |
| box | a box in each slice from its first to its last; the last box said counts, as a SAM takes one |
| negative box | a negative point in its middle, in each slice: a SAM has no negative box |

What lies above or below the volume is left out; what lies beside it is moved to its border.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core.errors import CapabilityError

__all__ = ["MOST_POINTS", "PlanePrompts", "Pointing", "spread"]

MOST_POINTS = 8
"""Points that one scribble or lasso becomes in one slice."""

_STEP = 0.25


@runtime_checkable
class Pointing(Protocol):
    """An act of pointing, as `isocenter.evaluate.interactive_user.Act` is one."""

    @property
    def kind(self) -> str:
        """Return "point", "scribble", "box" or "lasso"."""
        ...

    @property
    def index_zyx(self) -> Float[np.ndarray, "n 3"]:
        """Voxel indices; whole numbers are voxel centres."""
        ...

    @property
    def positive(self) -> bool:
        """True for "this", False for "not this"."""
        ...


@dataclass(frozen=True, eq=False)
class PlanePrompts:
    """What was said about one slice.

    Args:
        points_yx: Row and column of each point.
        positive: Its sign.
        box_yx: Row and column of the least and the greatest voxel of the box; None where there is none.
    """

    points_yx: Float[np.ndarray, "n 2"] = field(default_factory=lambda: np.empty((0, 2)))
    positive: Bool[np.ndarray, "n"] = field(default_factory=lambda: np.empty(0, dtype=bool))
    box_yx: Float[np.ndarray, "2 2"] | None = None

    @property
    def carries(self) -> bool:
        """Whether anything positive was said."""
        return self.box_yx is not None or bool(self.positive.any())

    def then(self, later: PlanePrompts) -> PlanePrompts:
        """Return both; the later box counts."""
        return PlanePrompts(
            np.concatenate([self.points_yx, later.points_yx]),
            np.concatenate([self.positive, later.positive]),
            self.box_yx if later.box_yx is None else later.box_yx,
        )


def _dots(points_yx: Float[np.ndarray, "n 2"], positive: bool) -> PlanePrompts:
    return PlanePrompts(points_yx, np.full(len(points_yx), positive))


def _along(path: Float[np.ndarray, "n 3"]) -> dict[int, Float[np.ndarray, "m 2"]]:
    """Walk along a polyline and return evenly spaced stops in each slice."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    walked = np.linspace(0.0, length[-1], int(np.ceil(length[-1] / _STEP)) + 1)
    walk = np.stack([np.interp(walked, length, path[:, axis]) for axis in range(3)], axis=1)
    step = walked[1] if len(walked) > 1 else 0.0
    slices = np.rint(walk[:, 0]).astype(int)
    stops = {}
    for index in np.unique(slices):
        here = walk[slices == index, 1:]
        count = min(MOST_POINTS, 1 + int((len(here) - 1) * step + 1e-9))
        stops[int(index)] = here[((np.arange(count) + 0.5) / count * len(here)).astype(int)]
    return stops


def _inside(polygon: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "m 2"]:
    """Spread points over a polygon's inner half: the deepest first, then always the one farthest from all so far."""
    low = np.floor(polygon.min(axis=0)).astype(int)
    high = np.ceil(polygon.max(axis=0)).astype(int)
    rows, columns = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1]
    mask = np.zeros(rows.shape, dtype=bool)
    for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            crosses = (rows >= min(y0, y1)) & (rows < max(y0, y1))
            mask ^= crosses & (columns < x0 + (rows - y0) / (y1 - y0) * (x1 - x0))
    if not mask.any():
        return np.asarray(polygon.mean(axis=0, keepdims=True))
    depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    deep = np.argwhere(depth >= depth.max() / 2)
    chosen = [int(depth[tuple(deep.T)].argmax())]
    apart = np.full(len(deep), np.inf)
    for _ in range(min(MOST_POINTS, len(deep)) - 1):
        apart = np.minimum(apart, np.linalg.norm(deep - deep[chosen[-1]], axis=1))
        chosen.append(int(apart.argmax()))
    return np.asarray(deep[chosen] + low, dtype=np.float64)


def spread(act: Pointing, shape: tuple[int, int, int]) -> dict[int, PlanePrompts]:
    """Return what an act says in each slice of a volume that it touches.

    Args:
        act: What was done.
        shape: Of the volume, (z, y, x).

    Raises:
        CapabilityError: An act of another kind.
    """
    last = np.array(shape) - 1
    # Depth keeps one slice beyond either end, where nothing is answered.
    index = np.clip(np.asarray(act.index_zyx, dtype=np.float64), (-1, 0, 0), (last[0] + 1, last[1], last[2]))
    if act.kind == "box":
        low, high = index.min(axis=0), index.max(axis=0)
        middle, corners = (low + high)[None, 1:] / 2, np.stack([low, high])[:, 1:]
        one = PlanePrompts(box_yx=corners) if act.positive else _dots(middle, False)
        said = dict.fromkeys(range(round(float(low[0])), round(float(high[0])) + 1), one)
    elif act.kind in ("point", "scribble"):
        said = {z: _dots(stops, act.positive) for z, stops in _along(index).items()}
    elif act.kind == "lasso":
        said = {round(float(index[0, 0])): _dots(_inside(index[:, 1:]), act.positive)}
    else:
        raise CapabilityError(f"a SAM answers points, boxes, scribbles and lassos, not {act.kind!r}")
    return {z: one for z, one in said.items() if 0 <= z <= last[0]}
