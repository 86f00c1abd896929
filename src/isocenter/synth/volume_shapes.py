"""Shapes of the volume engine: implicit surfaces that say how far a point is from their border.

A shape is asked about points, never about voxels, so that the same shape can be seen from any camera, warped, scaled
and moved, and so that the grid may ask on a coarse lattice wherever the shape is smooth enough.

Source:
    Inigo Quilez, "Distance functions", iquilezles.org (ellipsoid bound, round cone, smooth unions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from isocenter.synth.volume_grid import Points, product

__all__ = ["Blob", "Cell", "Joined", "Layer", "Limited", "Moved", "Region", "Segment", "Shape", "Shell", "Waves"]

Distance = Float[np.ndarray, " n"]


@runtime_checkable
class Shape(Protocol):
    """What every shape can say."""

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return the middle of a ball that holds the shape."""

    @property
    def reach(self) -> float:
        """Return the radius of that ball in scene units, inf where there is none."""

    @property
    def detail(self) -> float:
        """Return the radius of its tightest curve in scene units."""

    def distance(self, points: Points) -> Distance:
        """Return about the signed distance to the border in scene units, negative inside."""


ORIGIN = np.zeros(3)


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random function of place: a sum of plane waves.

    Args:
        vectors: Wave vectors, radians per unit.
        phases: In radians.
        amplitudes: One per wave.
    """

    vectors: Float[np.ndarray, "k 3"]
    phases: Float[np.ndarray, " k"]
    amplitudes: Float[np.ndarray, " k"]

    def __call__(self, points: Points) -> Distance:
        """Return the sum at every point."""
        angle = product(self.vectors, points)
        angle += self.phases.astype(np.float32)[:, None]
        np.cos(angle, out=angle)
        return np.asarray(np.einsum("k,kn->n", self.amplitudes.astype(np.float32), angle))

    @property
    def swing(self) -> float:
        """Return the largest value it could take."""
        return float(np.abs(self.amplitudes).sum())


@dataclass(frozen=True, eq=False)
class Blob:
    """A bumpy ellipsoid or superquadric.

    Args:
        centre: Scene point.
        frame: Rotation (perhaps a mirror) from the scene to the blob's own axes.
        radii: Along its own axes.
        exponent: 2 for an ellipsoid, more for a box with round corners, less for a diamond.
        waves: Bumps, as a share of the radius, over coordinates in which the blob is a unit ball.
    """

    centre: Float[np.ndarray, "3"]
    frame: Float[np.ndarray, "3 3"]
    radii: Float[np.ndarray, "3"]
    exponent: float
    waves: Waves

    @property
    def reach(self) -> float:
        """Return the radius of a ball that holds it."""
        corner = 1.0 if self.exponent <= 2 else 3 ** (0.5 - 1 / self.exponent)
        return float(self.radii.max() * (1 + self.waves.swing) * corner)

    @property
    def detail(self) -> float:
        """Return the radius of its tightest curve."""
        quick = np.linalg.norm(self.waves.vectors, axis=1).max(initial=1.0)
        sharp = 0.5 if self.exponent != 2 else 1.0
        return float(self.radii.min() ** 2 / self.radii.max() ** 1 * sharp / max(1.0, quick * 0.7)) + 0.2 * float(
            self.radii.min() / max(1.0, quick * 0.7)
        )

    def distance(self, points: Points) -> Distance:
        """Return the first-order distance to the border."""
        to_unit = (self.frame / self.radii[:, None]).astype(np.float32)
        unit = product(to_unit, points)
        unit -= (to_unit @ self.centre.astype(np.float32))[:, None]
        bump = self.waves(unit) if len(self.waves.phases) else np.float32(0.0)
        square = unit * unit
        slope = np.sqrt(np.einsum("d,dn->n", (1 / self.radii**2).astype(np.float32), square))
        plain = np.sqrt(square.sum(axis=0))
        if self.exponent == 2:
            rho = plain
        else:
            rho = np.power(np.power(square, np.float32(self.exponent / 2)).sum(axis=0), np.float32(1 / self.exponent))
        out = rho - 1 - bump
        out *= plain + np.float32(1e-3)
        out /= slope + np.float32(1e-3 / self.radii.min())
        return np.asarray(out, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Segment:
    """A piece of a tube with round ends, wider at one end than at the other.

    Args:
        start: Scene point.
        end: Scene point.
        wide: Radius at the start and at the end.
        waves: Bumps, as a share of the radius, over scene coordinates divided by the wider radius.
    """

    start: Float[np.ndarray, "3"]
    end: Float[np.ndarray, "3"]
    wide: tuple[float, float]
    waves: Waves

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return its middle."""
        return np.asarray((self.start + self.end) / 2)

    @property
    def reach(self) -> float:
        """Return the radius of a ball that holds it."""
        return float(np.linalg.norm(self.end - self.start) / 2 + max(self.wide) * (1 + self.waves.swing))

    @property
    def detail(self) -> float:
        """Return its smaller radius, less where it is bumpy."""
        return min(self.wide) / (1.0 + 2.0 * bool(len(self.waves.phases)))

    def distance(self, points: Points) -> Distance:
        """Return the distance to the axis less the radius there."""
        along = (self.end - self.start).astype(np.float32)
        gap = points - self.start.astype(np.float32)[:, None]
        t = np.einsum("d,dn->n", along, gap) / np.float32(max(float(along @ along), 1e-9))
        np.clip(t, 0, 1, out=t)
        gap -= along[:, None] * t
        radius = np.float32(self.wide[0]) + t * np.float32(self.wide[1] - self.wide[0])
        if len(self.waves.phases):
            radius = radius * (1 + self.waves(points / np.float32(max(self.wide))))
        return np.asarray(np.sqrt(np.einsum("dn,dn->n", gap, gap)) - radius, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Region:
    """Where a smooth random function exceeds a threshold.

    Args:
        waves: The function, over scene coordinates.
        threshold: In the function's units.
    """

    waves: Waves
    threshold: float
    centre: Float[np.ndarray, "3"]
    reach: float = float("inf")

    @property
    def detail(self) -> float:
        """Return about a quarter of its waves' length."""
        return 0.7 / float(np.linalg.norm(self.waves.vectors, axis=1).max())

    def distance(self, points: Points) -> Distance:
        """Return the difference to the threshold over a typical slope."""
        slope = float(np.linalg.norm(self.waves.vectors * self.waves.amplitudes[:, None])) * 0.6
        return np.asarray((np.float32(self.threshold) - self.waves(points)) / np.float32(slope), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Layer:
    """A wavy sheet, or a stack of them.

    Args:
        normal: Across the sheet, unit length.
        offset: Of its middle along the normal.
        half: Half of its thickness.
        waves: How far it bends, over scene coordinates.
        pitch: Distance between the sheets of a stack; 0 for one sheet.
    """

    normal: Float[np.ndarray, "3"]
    offset: float
    half: float
    waves: Waves
    pitch: float = 0.0
    reach: float = float("inf")

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return any point of it."""
        return self.normal * self.offset

    @property
    def detail(self) -> float:
        """Return about half of its thickness."""
        return max(self.half, 0.001)

    def distance(self, points: Points) -> Distance:
        """Return the distance to the middle less half of the thickness."""
        height = (
            np.einsum("d,dn->n", self.normal.astype(np.float32), points) + self.waves(points) - np.float32(self.offset)
        )
        if self.pitch:
            height = height - np.float32(self.pitch) * np.round(height / np.float32(self.pitch))
        return np.asarray(np.abs(height) - np.float32(self.half), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Cell:
    """What lies nearer to one of several points than to the others: a lobe.

    Args:
        sites: The points.
        own: Which of them.
        waves: How the borders between lobes bend.
    """

    sites: Float[np.ndarray, "m 3"]
    own: int
    waves: Waves
    reach: float = float("inf")

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return its own point."""
        return np.asarray(self.sites[self.own])

    @property
    def detail(self) -> float:
        """Return a share of the distance between the points."""
        return 0.25 * float(np.linalg.norm(self.sites - self.sites.mean(axis=0), axis=1).max())

    def distance(self, points: Points) -> Distance:
        """Return about the distance to the border with the nearest other lobe."""
        gaps = [np.linalg.norm(points - site.astype(np.float32)[:, None], axis=0) for site in self.sites]
        mine = gaps.pop(self.own)
        others = np.minimum.reduce(gaps)
        return np.asarray((mine - others) * np.float32(0.5) + self.waves(points), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Shell:
    """What lies about a given depth below the border of another shape; everything deeper where `filled`.

    Args:
        of: The other shape.
        depth: Of the shell's outer side.
        thickness: Of the shell.
        filled: Whether it holds everything deeper too.
    """

    of: Shape
    depth: float
    thickness: float
    filled: bool = False

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return the middle of the other shape."""
        return self.of.centre

    @property
    def reach(self) -> float:
        """Return the reach of the other shape, and what sticks out."""
        return self.of.reach + max(0.0, -self.depth)

    @property
    def detail(self) -> float:
        """Return the detail of the other shape, for the shell is its own distance to it."""
        return self.of.detail if self.filled else min(self.of.detail, self.thickness)

    def distance(self, points: Points) -> Distance:
        """Return the distance to the nearer side of the shell."""
        deep = self.of.distance(points) + np.float32(self.depth)
        if self.filled:
            return deep
        return np.asarray(np.abs(deep + np.float32(self.thickness / 2)) - np.float32(self.thickness / 2))


@dataclass(frozen=True, eq=False)
class Limited:
    """What lies in one shape, and in (or, where `out`, outside) another.

    Args:
        one: The shape.
        by: What limits it.
        out: Whether the other is a bite taken out.
    """

    one: Shape
    by: Shape
    out: bool = False

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return the middle of the shape that reaches less far."""
        return self._small.centre

    @property
    def reach(self) -> float:
        """Return the smaller reach."""
        return self._small.reach

    @property
    def _small(self) -> Shape:
        return self.by if not self.out and self.by.reach < self.one.reach else self.one

    @property
    def detail(self) -> float:
        """Return the smaller detail."""
        return min(self.one.detail, self.by.detail)

    def distance(self, points: Points) -> Distance:
        """Return the distance to the border of what is left."""
        other = self.by.distance(points)
        return np.asarray(np.maximum(self.one.distance(points), -other if self.out else other))


@dataclass(frozen=True, eq=False)
class Joined:
    """The union of several shapes, each evaluated in its own box.

    Args:
        parts: The shapes.
    """

    parts: tuple[Shape, ...]

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return the mean of the parts' middles."""
        return np.asarray(np.mean([part.centre for part in self.parts], axis=0))

    @property
    def reach(self) -> float:
        """Return the radius of a ball about that mean that holds all."""
        return max(float(np.linalg.norm(part.centre - self.centre)) + part.reach for part in self.parts)

    @property
    def detail(self) -> float:
        """Return the smallest detail."""
        return min(part.detail for part in self.parts)

    def distance(self, points: Points) -> Distance:
        """Return the distance to the nearest part."""
        best = self.parts[0].distance(points)
        for part in self.parts[1:]:
            np.minimum(best, part.distance(points), out=best)
        return best


@dataclass(frozen=True, eq=False)
class Moved:
    """A shape made larger about a point, then shifted.

    Args:
        shape: The shape.
        about: Scene point that keeps its place under the change of size.
        size: Factor.
        shift: Scene units.
    """

    shape: Shape
    about: Float[np.ndarray, "3"]
    size: float
    shift: Float[np.ndarray, "3"]

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """Return where the middle goes."""
        return np.asarray(self.about + (self.shape.centre - self.about) * self.size + self.shift)

    @property
    def reach(self) -> float:
        """Return the reach, scaled."""
        return self.shape.reach * self.size

    @property
    def detail(self) -> float:
        """Return the detail, scaled."""
        return self.shape.detail * self.size

    def distance(self, points: Points) -> Distance:
        """Return the distance to the moved border."""
        still = self.about - (self.about + self.shift) / self.size
        back = points * np.float32(1 / self.size) + still.astype(np.float32)[:, None]
        return np.asarray(self.shape.distance(back) * np.float32(self.size), dtype=np.float32)
