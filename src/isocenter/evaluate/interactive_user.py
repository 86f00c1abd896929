"""Simulated people who point at what is wrong, in two or three dimensions, by a fixed rule or a seeded one.

A promptable segmenter is measured by what it does with acts, so the acts must be the same for all of them: a user here
sees the target and the present answer, never the model. Everything is in voxels; a plane is a volume of one slice, and
an axis of length one is left out of every distance, so that a rule says the same in 2D and in a volume of one slice.

Source:
    Sofiiuk et al., ICIP 2022 (iterative clicks); Wong et al., ECCV 2024 (scribbles, boxes).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from isocenter.core.errors import ConfigError

__all__ = [
    "Act",
    "BoxUser",
    "CentreClicks",
    "RandomClicks",
    "Scribbler",
    "User",
    "centre_of_largest_error",
    "largest_error",
    "strokes",
    "thin",
]

Volume = Bool[np.ndarray, "z y x"]
Plane = Bool[np.ndarray, "h w"]

_LEAST_POINTS = {"point": 1, "scribble": 1, "box": 2, "lasso": 3}
_ALL_AROUND = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True, eq=False)
class Act:
    """One act of pointing at a volume.

    Args:
        kind: "point"; "scribble", a polyline; "box", two opposite corners, voxel centres that still belong to it;
            "lasso", a closed polygon in one slice.
        index_zyx: (n, 3) voxel indices (z, y, x), fractions allowed, whole numbers are voxel centres. They may lie
            outside the volume.
        positive: True for "this", False for "not this".

    Raises:
        ConfigError: Another kind, points that are not finite, too few or too many, or a lasso across slices.
    """

    kind: Literal["point", "scribble", "box", "lasso"]
    index_zyx: Float[np.ndarray, "n 3"]
    positive: bool = True

    def __post_init__(self) -> None:
        if self.kind not in _LEAST_POINTS:
            raise ConfigError(f"an act's kind must be one of {', '.join(_LEAST_POINTS)}; got {self.kind!r}")
        points = np.array(self.index_zyx, dtype=np.float64)
        least = _LEAST_POINTS[self.kind]
        if points.ndim != 2 or points.shape[1] != 3 or len(points) < least:
            raise ConfigError(f"a {self.kind} needs (n, 3) indices (z, y, x) with n at least {least}")
        if self.kind in ("point", "box") and len(points) != least:
            raise ConfigError(f"a {self.kind} has {least} point(s), not {len(points)}")
        if not np.isfinite(points).all():
            raise ConfigError(f"the indices of a {self.kind} must be finite")
        if self.kind == "lasso" and len(np.unique(np.rint(points[:, 0]))) > 1:
            raise ConfigError("a lasso lies in one slice; give one for each slice")
        points.setflags(write=False)
        object.__setattr__(self, "index_zyx", points)


@runtime_checkable
class User(Protocol):
    """Who points. Holds no state: what comes next follows from the target, the answer and the number of the act."""

    @property
    def name(self) -> str:
        """Name of the rule, for tables."""
        ...

    def act(self, target: Volume, answer: Volume, number: int) -> Act | None:
        """Return the next act, or None when there is nothing more to say.

        Args:
            target: What is right.
            answer: What the segmenter says now; all False before the first act.
            number: How many acts came before.
        """
        ...


def largest_error(target: Volume, answer: Volume) -> tuple[Volume, bool] | None:
    """Return the largest piece (joined by faces) of what is missing or too much, and whether it is missing.

    A missing piece comes before an equally large one that is too much. None where nothing is wrong.
    """
    best: tuple[int, Volume, bool] | None = None
    for wrong, positive in ((target & ~answer, True), (answer & ~target, False)):
        pieces, count = ndimage.label(wrong)
        if count:
            sizes = np.bincount(pieces.ravel())[1:]
            if best is None or sizes.max() > best[0]:
                best = (int(sizes.max()), pieces == int(sizes.argmax()) + 1, positive)
    return None if best is None else (best[1], best[2])


def _innermost(mask: Volume) -> tuple[int, int, int]:
    """Return the voxel farthest from the outside, the array's border counting as outside; the first of equals."""
    places = np.argwhere(mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    window = mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    # An axis of length one says nothing about depth: padding it would make every depth one.
    inset = [int(n > 1) for n in mask.shape]
    padded = np.pad(window, [(i, i) for i in inset])
    depth = ndimage.distance_transform_edt(
        padded.reshape([n for n, i in zip(padded.shape, inset, strict=True) if i] or 1)
    )
    place = np.array(np.unravel_index(int(np.argmax(depth)), padded.shape)) - inset + low
    return int(place[0]), int(place[1]), int(place[2])


def _point(index: tuple[int, int, int], positive: bool) -> Act:
    return Act("point", np.array([index], dtype=np.float64), positive)


def centre_of_largest_error(target: Volume, answer: Volume) -> Act | None:
    """Return a click at the innermost voxel of the largest error, or None where nothing is wrong.

    Example:
        >>> target = np.zeros((1, 7, 7), bool); target[0, 1:6, 1:6] = True
        >>> centre_of_largest_error(target, np.zeros_like(target)).index_zyx.tolist()
        [[0.0, 3.0, 3.0]]
    """
    found = largest_error(target, answer)
    return None if found is None else _point(_innermost(found[0]), found[1])


def _random(seed: int, target: Volume, number: int) -> np.random.Generator:
    """Return randomness that depends on the seed, the target and the act: the same in any order of cases."""
    return np.random.default_rng([seed, zlib.crc32(np.packbits(target).tobytes()), number])


@dataclass(frozen=True)
class CentreClicks:
    """Clicks at the centre of the largest error, again and again."""

    name: str = "centre clicks"

    def act(self, target: Volume, answer: Volume, number: int) -> Act | None:
        """Return the next click."""
        return centre_of_largest_error(target, answer)


@dataclass(frozen=True)
class RandomClicks:
    """Clicks at a wrong voxel, every one of them equally likely.

    Args:
        seed: Decides which.
        name: For tables.
    """

    seed: int = 0
    name: str = "random clicks"

    def act(self, target: Volume, answer: Volume, number: int) -> Act | None:
        """Return the next click."""
        wrong = np.argwhere(target ^ answer)
        if not len(wrong):
            return None
        z, y, x = (int(v) for v in wrong[int(_random(self.seed, target, number).integers(len(wrong)))])
        return _point((z, y, x), bool(target[z, y, x]))


@dataclass(frozen=True)
class Scribbler:
    """Draws the centre line of the largest error in the slice where it is largest, as far as the error is thick.

    Args:
        thick: The line is kept where the error's depth is at least this share of its greatest depth in the slice.
        name: For tables.
    """

    thick: float = 0.5
    name: str = "scribbles"

    def act(self, target: Volume, answer: Volume, number: int) -> Act | None:
        """Return the next scribble."""
        found = largest_error(target, answer)
        if found is None:
            return None
        z = int(found[0].sum(axis=(1, 2)).argmax())
        pieces, _ = ndimage.label(found[0][z])
        piece = pieces == int(np.bincount(pieces.ravel())[1:].argmax()) + 1
        depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
        line = _centre_line(piece) & (depth >= self.thick * depth.max())
        if not line.any():
            line = depth == depth.max()
        parts, _ = ndimage.label(line, _ALL_AROUND)
        path = _trace(parts == int(np.bincount(parts.ravel())[1:].argmax()) + 1)
        return Act("scribble", np.insert(path, 0, z, axis=1), found[1])


@dataclass(frozen=True)
class BoxUser:
    """Draws a box round the target first; then is silent, or goes on as another user does.

    Args:
        jitter: Standard deviation of each face's slip, as a share of the box's length on that axis; 0 is the exact box.
        seed: Decides the slips.
        then: Who goes on after the box; None for nobody.
    """

    jitter: float = 0.0
    seed: int = 0
    then: User | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.jitter) and self.jitter >= 0):
            raise ConfigError(f"jitter must be zero or more, got {self.jitter}")

    @property
    def name(self) -> str:
        """Name of the rule."""
        box = f"box with jitter {self.jitter:g}" if self.jitter else "exact box"
        return box if self.then is None else f"{box}, then {self.then.name}"

    def act(self, target: Volume, answer: Volume, number: int) -> Act | None:
        """Return the box, or what the other user does."""
        if number:
            return None if self.then is None else self.then.act(target, answer, number)
        places = np.argwhere(target)
        if not len(places):
            return None
        low, high = places.min(axis=0), places.max(axis=0)
        if self.jitter:
            slip = _random(self.seed, target, number).normal(0.0, self.jitter, (2, 3)) * (high - low + 1)
            last = np.array(target.shape) - 1
            faces = np.sort(np.stack([low - np.rint(slip[0]), high + np.rint(slip[1])]), axis=0)
            low, high = np.clip(faces[0], 0, last), np.clip(faces[1], 0, last)
        return Act("box", np.stack([low, high]).astype(np.float64))


def thin(mask: Plane) -> Plane:
    """Thin a plane mask to lines one or two pixels wide, with the connection kept; a 2 x 2 square may vanish.

    Source:
        Zhang and Suen, Communications of the ACM 1984.
    """
    held = np.pad(mask, 1)
    while True:
        before = int(held.sum())
        for first in (True, False):
            core = held[1:-1, 1:-1]
            n, e, s, w = held[:-2, 1:-1], held[1:-1, 2:], held[2:, 1:-1], held[1:-1, :-2]
            ring = [n, held[:-2, 2:], e, held[2:, 2:], s, held[2:, :-2], w, held[:-2, :-2]]
            count = np.sum(ring, axis=0)
            rises = np.sum([~a & b for a, b in zip(ring, ring[1:] + ring[:1], strict=True)], axis=0)
            kept = (e & s & (n | w)) if first else (n & w & (e | s))
            held[1:-1, 1:-1] = core & ~((count >= 2) & (count <= 6) & (rises == 1) & ~kept)
        if int(held.sum()) == before:
            return np.ascontiguousarray(held[1:-1, 1:-1])


def _centre_line(piece: Plane) -> Plane:
    """Thin a piece within its box; its innermost pixel where thinning leaves nothing."""
    rows, columns = np.flatnonzero(piece.any(axis=1)), np.flatnonzero(piece.any(axis=0))
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    line = np.zeros_like(piece)
    line[window] = thin(piece[window])
    if not line.any():
        _, row, column = _innermost(piece[None])
        line[row, column] = True
    return line


def _spread(cells: set[tuple[int, int]], start: tuple[int, int]) -> dict[tuple[int, int], tuple[int, int]]:
    """Return each cell's predecessor, in the order in which a wave from the start reaches the cells."""
    parent = {start: start}
    queue = [start]
    for row, column in queue:
        for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1)):
            cell = (row + dr, column + dc)
            if cell in cells and cell not in parent:
                parent[cell] = (row, column)
                queue.append(cell)
    return parent


def _trace(line: Plane) -> Float[np.ndarray, "n 2"]:
    """Walk along a connected line from one end to the other, every pixel touched; side branches there and back."""
    cells = {(int(r), int(c)) for r, c in np.argwhere(line)}
    start = list(_spread(cells, min(cells)))[-1]
    parent = _spread(cells, start)
    height = dict.fromkeys(parent, 0)
    branches: dict[tuple[int, int], list[tuple[int, int]]] = {cell: [] for cell in parent}
    for cell in reversed(parent):
        if cell != start:
            height[parent[cell]] = max(height[parent[cell]], height[cell] + 1)
            branches[parent[cell]].append(cell)
    for ways in branches.values():
        ways.sort(key=lambda c: (-height[c], c))  # popped from the end: the longest way is walked last
    path, here, left = [start], start, len(cells) - 1
    while left:
        if branches[here]:
            here = branches[here].pop()
            left -= 1
        else:
            here = parent[here]
        path.append(here)
    return np.array(path, dtype=np.float64)


def strokes(drawn: Volume, *, positive: bool) -> list[Act]:
    """Turn a mask that a person drew into scribbles: one centre line for each connected piece of each slice.

    Args:
        drawn: Where the brush went.
        positive: What it says.

    Example:
        >>> drawn = np.zeros((1, 5, 9), bool); drawn[0, 1:4, 1:8] = True
        >>> [a.index_zyx[:, 1].tolist() for a in strokes(drawn, positive=True)]
        [[2.0, 2.0, 2.0, 2.0]]
    """
    acts = []
    for z in np.flatnonzero(drawn.any(axis=(1, 2))):
        pieces: Int[np.ndarray, "h w"]
        pieces, count = ndimage.label(drawn[z], _ALL_AROUND)
        for number in range(1, count + 1):
            line = _centre_line(pieces == number)
            acts.append(Act("scribble", np.insert(_trace(line), 0, float(z), axis=1), positive))
    return acts
