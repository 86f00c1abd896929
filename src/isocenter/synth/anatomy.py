"""Random anatomy: things with implicit surfaces, painted one over the other, that share a camera.

A `Scene` is a list of things in scene coordinates ([-1, 1] on both axes). Each thing knows how far a point is from its
border (negative inside), so any camera, near or far, sees the same anatomy with exact borders and true partial volume.
Labels are the index of the thing on top; 0 is the background. The third axis has its place in `Sample`; depth comes
with the volume engine.

Source:
    Billot et al., SynthSeg, MedIA 2023; Dey et al., anatomix, ICLR 2025 (anatomy need not be realistic, only varied).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError
from isocenter.synth.fields import Field, random_field

__all__ = ["Camera", "Grid", "Scene", "Surface", "SynthSettings", "Thing", "random_scene"]

Plane = Float[np.ndarray, "h w"]


@dataclass(frozen=True)
class Camera:
    """A square window on the scene.

    Args:
        row: Scene row of its centre.
        column: Scene column of its centre.
        half: Half of its side.
        pixels: Pixels along each side.
    """

    row: float
    column: float
    half: float
    pixels: int

    def axes(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return scene rows and columns of the pixel centres."""
        offsets = ((np.arange(self.pixels, dtype=np.float32) + 0.5) / self.pixels * 2 - 1) * np.float32(self.half)
        return offsets + np.float32(self.row), offsets + np.float32(self.column)


@dataclass(frozen=True, eq=False)
class Grid:
    """Scene coordinates at the pixels of a camera: straight (for fields) and warped (for shapes)."""

    rows: Float[np.ndarray, " h"]
    columns: Float[np.ndarray, " w"]
    y: Plane
    x: Plane


Surface = Callable[[Grid], Plane]

FEW_ORGANS = ("pair", "layers", "tubes", "fundus")


@dataclass(frozen=True, eq=False)
class Thing:
    """One structure.

    Args:
        surface: Signed distance to its border in scene units, negative inside.
        parent: Label of the thing it lies in, 0 for none.
        group: Things of one group make one organ (a pair of lungs); 0 for none.
        kind: "blob", "region", "tube", "layer" or "rim".
        softness: Width of its border in scene units, 0 for sharp.
        overlay: Whether it only changes how what lies under it looks, as ribs do to a lung in a radiograph.
    """

    surface: Surface
    parent: int = 0
    group: int = 0
    kind: str = "blob"
    softness: float = 0.0
    overlay: bool = False


@dataclass(frozen=True)
class SynthSettings:
    """What the data engine is asked to vary.

    Args:
        amorphous: How often a target is a region without a shape of its own (a tissue, a body), relative to a blob.
        least_contrast: Least contrast of a target to what it lies in, as a share of the range, where it is drawn.
        overlays: Whether repeated bands lie over things as shadows, instead of cutting them.

    Raises:
        ConfigError: A number is out of range.
    """

    amorphous: float = 0.5
    least_contrast: float = 0.06
    overlays: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.amorphous <= 10 or not 0 < self.least_contrast < 0.6:
            raise ConfigError(f"amorphous must lie in 0..10 and least_contrast between 0 and 0.6, got {self}")


@dataclass(frozen=True, eq=False)
class Scene:
    """Things in painting order, and the warp they share."""

    things: tuple[Thing, ...]
    warp: tuple[Field, Field]
    family: str

    def grid(self, camera: Camera) -> Grid:
        """Return scene coordinates at the camera's pixels."""
        rows, columns = camera.axes()
        y = rows[:, None] + self.warp[0].evaluate(rows, columns)
        x = columns[None, :] + self.warp[1].evaluate(rows, columns)
        return Grid(rows, columns, y, x)

    def distances(self, camera: Camera) -> Float[np.ndarray, "things h w"]:
        """Return the signed distance to every thing."""
        grid = self.grid(camera)
        return np.stack([thing.surface(grid) for thing in self.things])

    def descendants(self, label: int) -> set[int]:
        """Return a label and the labels of everything that lies in it."""
        family = {label}
        for index, thing in enumerate(self.things, start=1):
            if thing.parent in family:
                family.add(index)
        return family


def blob(
    centre: tuple[float, float], radius: float, stretch: float, angle: float, waves: Float[np.ndarray, "k 2"]
) -> Surface:
    """Return a star-shaped blob whose radius is a Fourier series of the angle.

    Args:
        centre: Scene (row, column).
        radius: Mean radius.
        stretch: Ratio of its long to its short axis.
        angle: Of the long axis, in radians.
        waves: Cosine and sine amplitudes of harmonics 2, 3, ...
    """
    cos, sin, root = np.float32(np.cos(angle)), np.float32(np.sin(angle)), np.float32(np.sqrt(stretch))

    def surface(grid: Grid) -> Plane:
        dy, dx = grid.y - np.float32(centre[0]), grid.x - np.float32(centre[1])
        u, v = (cos * dx + sin * dy) / root, (cos * dy - sin * dx) * root
        rho = np.sqrt(u * u + v * v) + np.float32(1e-6)
        unit = (u + 1j * v) / rho
        power = unit
        edge: Plane = np.ones_like(rho)
        for cosine, sine in waves:
            power = power * unit
            edge = edge + np.float32(cosine) * power.real + np.float32(sine) * power.imag
        distance = rho - np.float32(radius) * np.clip(edge, 0.15, None)
        return np.asarray(distance, dtype=np.float32)

    return surface


def region(values: Field, threshold: float, scale: float) -> Surface:
    """Return where a smooth field exceeds a threshold."""
    return lambda grid: (np.float32(threshold) - values.evaluate(grid.rows, grid.columns)) * np.float32(scale)


def tubes(segments: Float[np.ndarray, "n 5"]) -> Surface:
    """Return the union of round-ended segments (row, column, row, column, radius)."""

    def surface(grid: Grid) -> Plane:
        best: Plane = np.full(grid.y.shape, 9.0, dtype=np.float32)
        for r0, c0, r1, c1, radius in segments.astype(np.float32):
            dy, dx = r1 - r0, c1 - c0
            length = dy * dy + dx * dx + np.float32(1e-9)
            t = np.clip(((grid.y - r0) * dy + (grid.x - c0) * dx) / length, 0, 1)
            gap = np.hypot(grid.y - r0 - t * dy, grid.x - c0 - t * dx) - radius
            np.minimum(best, gap, out=best)
        return best

    return surface


def layer(angle: float, offset: float, half_thickness: float, wave: Field) -> Surface:
    """Return a wavy band across the scene."""
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    def surface(grid: Grid) -> Plane:
        height = cos * grid.y + sin * grid.x + wave.evaluate(grid.rows, grid.columns) - np.float32(offset)
        return np.asarray(np.abs(height) - np.float32(half_thickness))

    return surface


def rim(of: Surface, half_thickness: float) -> Surface:
    """Return a shell along the border of another surface."""
    return lambda grid: np.abs(of(grid)) - np.float32(half_thickness)


def without(outer: Surface, inner: Surface) -> Surface:
    """Return a surface with a bite taken out (crescents, horseshoes)."""
    return lambda grid: np.maximum(outer(grid), -inner(grid))


def inside(one: Surface, other: Surface) -> Surface:
    """Return what lies in both."""
    return lambda grid: np.maximum(one(grid), other(grid))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _random_blob(rng: np.random.Generator, centre: tuple[float, float], radius: float) -> Surface:
    count = int(rng.integers(0, 8))
    rough = rng.choice([0.03, 0.1, 0.2, 0.3], p=[0.25, 0.35, 0.25, 0.15])
    decay = (np.arange(count) + 1.0) ** rng.uniform(0.3, 1.2)
    waves = rng.standard_normal((count, 2)) * rough / decay[:, None]
    stretch = _log_uniform(rng, 1.0, 1.5 if rng.random() < 0.5 else 4.0)
    surface = blob(centre, radius, stretch, rng.uniform(0, np.pi), waves)
    if rng.random() < 0.12:
        shift = rng.uniform(0, 2 * np.pi)
        bite = (centre[0] + np.sin(shift) * radius * 0.8, centre[1] + np.cos(shift) * radius * 0.8)
        surface = without(surface, blob(bite, radius * rng.uniform(0.5, 0.9), 1.2, 0.0, np.zeros((0, 2))))
    return surface


def _softness(rng: np.random.Generator, radius: float) -> float:
    return radius * rng.uniform(0.05, 0.35) if rng.random() < 0.35 else 0.0


def _tree(rng: np.random.Generator, root: tuple[float, float], radius: float) -> Float[np.ndarray, "n 5"]:
    """Return a branching vessel tree, or one winding tube, as segments."""
    segments: list[tuple[float, float, float, float, float]] = []
    wind, branch, taper = rng.uniform(0.1, 0.5), rng.uniform(0.0, 0.25), rng.uniform(0.9, 1.0)
    step = rng.uniform(0.07, 0.16)
    tips = [(root[0], root[1], rng.uniform(0, 2 * np.pi), radius)]
    while tips and len(segments) < 36:
        row, column, heading, thick = tips.pop(0)
        end = (row + step * np.sin(heading), column + step * np.cos(heading))
        segments.append((row, column, *end, thick))
        if max(abs(end[0]), abs(end[1])) > 1.1 or thick < radius * 0.25:
            continue
        if rng.random() < branch:
            fork = rng.uniform(0.3, 0.9)
            tips.append((*end, heading + fork, thick * 0.78))
            tips.append((*end, heading - fork, thick * 0.78))
        else:
            tips.append((*end, heading + rng.normal(0, wind), thick * taper))
    return np.array(segments)


def _add_inner(
    rng: np.random.Generator, things: list[Thing], outer: Surface, centre: tuple[float, float], r: float, group: int = 0
) -> None:
    """Add an organ with, at random, a wall, chambers and lesions inside it."""
    things.append(Thing(outer, 0, group, "blob", _softness(rng, r)))
    parent = len(things)
    if rng.random() < 0.15:
        things.append(Thing(rim(outer, r * rng.uniform(0.03, 0.12)), parent if rng.random() < 0.7 else 0, 0, "rim"))
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.5, 0.27, 0.13, 0.1]))):
        at = (centre[0] + rng.normal(0, r * 0.35), centre[1] + rng.normal(0, r * 0.35))
        small = r * _log_uniform(rng, 0.1, 0.6)
        inner = inside(_random_blob(rng, at, small), outer)
        things.append(Thing(inner, parent, 0, "blob", _softness(rng, small)))


def _organs(rng: np.random.Generator, things: list[Thing], count: int) -> None:
    for _ in range(count):
        centre = (float(rng.uniform(-0.85, 0.85)), float(rng.uniform(-0.85, 0.85)))
        radius = _log_uniform(rng, 0.05, 0.5)
        _add_inner(rng, things, _random_blob(rng, centre, radius), centre, radius)


def _body(rng: np.random.Generator, things: list[Thing]) -> None:
    centre = (float(rng.normal(0, 0.05)), float(rng.normal(0, 0.05)))
    body = blob(centre, rng.uniform(0.75, 1.0), _log_uniform(rng, 1.0, 1.6), 0.0, rng.standard_normal((2, 2)) * 0.05)
    things.append(Thing(body, 0, 0, "region"))
    if rng.random() < 0.5:
        things.append(Thing(rim(body, rng.uniform(0.01, 0.06)), 1, 0, "rim"))


def _regions(rng: np.random.Generator, things: list[Thing], count: int) -> None:
    for _ in range(count):
        cells = int(rng.integers(5, 14))
        values = random_field(rng, cells)
        things.append(
            Thing(
                region(values, rng.uniform(0.3, 1.3), 1.2 / cells),
                0,
                0,
                "region",
                0.1 / cells if rng.random() < 0.3 else 0.0,
            )
        )


def _layers(rng: np.random.Generator, things: list[Thing]) -> None:
    angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.2)
    wave = random_field(rng, int(rng.integers(5, 9)), rng.uniform(0.02, 0.12))
    offset = -1.0
    while offset < 1.0:
        half = _log_uniform(rng, 0.02, 0.2)
        things.append(Thing(layer(angle, offset + half, half, wave), 0, 0, "layer", _softness(rng, half)))
        offset += 2 * half + (rng.uniform(0, 0.2) if rng.random() < 0.4 else 0.0)


def _pair(rng: np.random.Generator, things: list[Thing], group: int) -> None:
    """Add two mirrored organs, alike but not the same: lungs, kidneys, hippocampi, ventricles."""
    row, gap, radius = rng.uniform(-0.3, 0.3), rng.uniform(0.15, 0.55), rng.uniform(0.12, 0.4)
    stretch, lean = _log_uniform(rng, 1.0, 2.6), rng.normal(0, 0.25)
    waves = rng.standard_normal((4, 2)) * 0.12 / (np.arange(4)[:, None] + 1)
    for side in (-1, 1):
        own = waves * np.array([1, side]) + rng.standard_normal((4, 2)) * 0.03
        centre = (row + rng.normal(0, 0.03), side * gap + rng.normal(0, 0.03))
        angle = np.pi / 2 + side * lean
        _add_inner(
            rng, things, blob(centre, radius * rng.uniform(0.85, 1.15), stretch, angle, own), centre, radius, group
        )


def _stripes(rng: np.random.Generator, things: list[Thing], *, overlay: bool) -> None:
    """Add repeated curved bands: ribs, folds, fingers."""
    wave, thick, pitch = random_field(rng, 6, 0.06), rng.uniform(0.015, 0.04), rng.uniform(0.12, 0.28)
    angle = rng.normal(0, 0.4)
    offsets = np.arange(-1.0, 1.0, pitch)
    things += [Thing(layer(angle, offset, thick, wave), 0, 99, "layer", thick * 0.3, overlay) for offset in offsets]


def _fundus(rng: np.random.Generator, things: list[Thing]) -> None:
    """Add a round field, a disc in it, and the trees of vessels that come out of the disc."""
    if rng.random() < 0.7:
        things.append(Thing(blob((0.0, 0.0), rng.uniform(0.85, 1.1), 1.0, 0.0, np.zeros((0, 2))), 0, 0, "region"))
    disc = (float(rng.normal(0, 0.2)), float(rng.uniform(-0.7, 0.7)))
    radius = rng.uniform(0.06, 0.16)
    _add_inner(rng, things, _random_blob(rng, disc, radius), disc, radius)
    thick = _log_uniform(rng, 0.008, 0.03)
    for _ in range(int(rng.integers(2, 5))):
        root = (disc[0] + rng.normal(0, 0.3 * radius), disc[1] + rng.normal(0, 0.3 * radius))
        things.append(Thing(tubes(_tree(rng, root, thick * rng.uniform(0.6, 1.2))), 0, 7, "tube"))


def random_scene(rng: np.random.Generator, settings: SynthSettings | None = None) -> Scene:
    """Return a random scene.

    Args:
        rng: Where randomness comes from; the scene depends on nothing else.
        settings: What to vary.
    """
    settings = settings or SynthSettings()
    family = str(
        rng.choice(
            ["organs", "body", "mosaic", "layers", "pair", "tubes", "fundus"],
            p=[0.26, 0.22, 0.14, 0.09, 0.16, 0.07, 0.06],
        )
    )
    things: list[Thing] = []
    if family in ("body", "pair") and rng.random() < 0.8:
        _body(rng, things)
    if family == "fundus":
        _fundus(rng, things)
    if family == "mosaic":
        _regions(rng, things, int(rng.integers(2, 6)))
    if family == "layers":
        _layers(rng, things)
    if family == "pair":
        _pair(rng, things, group=1)
        if rng.random() < (0.5 if settings.overlays else 0.3):
            _stripes(rng, things, overlay=settings.overlays)
    if family in ("tubes", "organs", "body") and rng.random() < (1.0 if family == "tubes" else 0.15):
        root = (float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1)))
        things.append(Thing(tubes(_tree(rng, root, _log_uniform(rng, 0.012, 0.09))), 0, 0, "tube"))
    _organs(rng, things, int(rng.integers(0 if family == "fundus" else 1, 4 if family in FEW_ORGANS else 8)))
    strength = _log_uniform(rng, 0.005, 0.08)
    cells = int(rng.integers(6, 16))
    warp = (random_field(rng, cells, strength), random_field(rng, cells, strength))
    return Scene(tuple(things[:40]), warp, family)
