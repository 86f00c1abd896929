"""Random anatomy in three dimensions: a plan of things, from which patients who differ are made.

A plan is to a patient what a textbook is: which things there are, what lies in what, and about how large and where.
`vary` makes one patient of it. Labels are the place of a thing in the plan, from 1; 0 is the background, and a thing is
painted over those before it.

Source:
    Billot et al., SynthSeg, MedIA 2023; Dey et al., anatomix, ICLR 2025 (anatomy need not be realistic, only varied).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from isocenter.synth.volume_shapes import (
    Blob,
    Cell,
    Joined,
    Layer,
    Limited,
    Moved,
    Region,
    Segment,
    Shape,
    Shell,
    Waves,
)

__all__ = ["FAMILIES", "Plan", "Thing3", "random_plan", "vary"]

FAMILIES = {
    "organs": 0.17,
    "body": 0.19,
    "pair": 0.12,
    "mosaic": 0.06,
    "layers": 0.05,
    "tubes": 0.09,
    "nested": 0.1,
    "repeated": 0.1,
    "trunk": 0.12,
}

Vector = Float[np.ndarray, "3"]


@dataclass(frozen=True, eq=False)
class Thing3:
    """One structure of a plan.

    Args:
        shape: Where it is.
        parent: Label of the thing it lies in, 0 for none.
        group: Things of one group make one organ (a pair of lungs); 0 for none.
        kind: "blob", "region", "tube", "layer", "rim" or "lobe".
        softness: Width of its border in scene units, 0 for sharp.
        clipped: Whether it ends where its parent ends.
        fixed: Whether it moves only as its parent moves, because its shape is made of its parent's.
    """

    shape: Shape
    parent: int = 0
    group: int = 0
    kind: str = "blob"
    softness: float = 0.0
    clipped: bool = False
    fixed: bool = False


@dataclass(frozen=True, eq=False)
class Plan:
    """Things in painting order."""

    things: tuple[Thing3, ...]
    family: str

    def descendants(self, label: int) -> set[int]:
        """Return a label and the labels of everything that lies in it."""
        held = {label}
        for index, thing in enumerate(self.things, start=1):
            if thing.parent in held:
                held.add(index)
        return held


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Return a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def turn_of(rng: np.random.Generator, angle: float | None = None) -> Float[np.ndarray, "3 3"]:
    """Return a random rotation, or one by at most about `angle` radians."""
    q = rng.standard_normal(4)
    if angle is not None:
        q = np.concatenate([[1.0], q[1:] * angle / 2])
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def random_waves(rng: np.random.Generator, count: int, slow: float, fast: float, amplitude: float) -> Waves:
    """Return plane waves of random direction; the faster, the smaller."""
    directions = rng.standard_normal((count, 3))
    speeds = np.exp(rng.uniform(np.log(slow), np.log(fast), count))
    directions *= (speeds / (np.linalg.norm(directions, axis=1) + 1e-9))[:, None]
    sizes = amplitude * np.abs(rng.normal(1, 0.3, count)) * (slow / speeds) ** 0.5
    return Waves(directions, rng.uniform(0, 2 * np.pi, count), sizes / max(1.0, np.sqrt(count / 2)))


NO_WAVES = Waves(np.zeros((0, 3)), np.zeros(0), np.zeros(0))


def _bumps(rng: np.random.Generator) -> Waves:
    roll = rng.random()
    if roll < 0.15:
        return NO_WAVES
    if roll < 0.22:
        return random_waves(rng, 8, 5.0, 9.0, 0.08)
    rough = float(rng.choice([0.04, 0.09, 0.16], p=[0.3, 0.45, 0.25]))
    return random_waves(rng, int(rng.integers(3, 8)), 1.2, 5.0, rough)


def _blob(rng: np.random.Generator, centre: Vector, radius: float, longest: float | None = None) -> Blob:
    if longest is None:
        longest = float(rng.choice([1.3, 2.0, 3.2], p=[0.4, 0.4, 0.2]))
    radii = np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(longest))
    radii *= radius / np.prod(radii) ** (1 / 3)
    exponent = 2.0 if rng.random() < 0.75 else float(rng.uniform(1.4, 5.0))
    frame = turn_of(rng) if rng.random() < 0.7 else np.eye(3)
    return Blob(centre, frame, radii, exponent, _bumps(rng))


def _bent(rng: np.random.Generator, centre: Vector, radius: float) -> Joined:
    """Return something long and bent whose thickness changes along it: hippocampus, pancreas, femur, gut."""
    count = int(rng.integers(3, 8))
    curl, plane = rng.uniform(0.0, 0.55), rng.standard_normal(3)
    heading = np.linalg.qr(rng.standard_normal((3, 3)))[0][0]
    step = radius * rng.uniform(0.5, 1.3)
    spots = [np.zeros(3)]
    for _ in range(count):
        spots.append(spots[-1] + step * heading)
        heading = heading + curl * np.cross(plane, heading) / np.linalg.norm(plane) + rng.normal(0, 0.12, 3)
        heading /= np.linalg.norm(heading)
    line = np.array(spots) - np.mean(spots, axis=0) + centre
    place = np.linspace(-1, 1, count + 1)
    wide = (
        radius
        * 0.5
        * np.exp(rng.normal(0, 0.45) * place + rng.normal(0, 0.3) * place**2 + rng.normal(0, 0.12, count + 1))
    )
    wide = np.clip(wide, 0.15 * radius, radius)
    waves = NO_WAVES if rng.random() < 0.5 else random_waves(rng, 4, 1.0, 3.0, rng.uniform(0.03, 0.12))
    return Joined(
        tuple(Segment(line[i], line[i + 1], (float(wide[i]), float(wide[i + 1])), waves) for i in range(count))
    )


def _clump(rng: np.random.Generator, centre: Vector, radius: float) -> Joined:
    """Return several blobs grown together."""
    count = int(rng.integers(2, 5))
    spots = centre + rng.normal(0, radius * 0.45, (count, 3))
    return Joined(tuple(_blob(rng, spot, radius * log_uniform(rng, 0.45, 0.9), 1.8) for spot in spots))


def _organ(rng: np.random.Generator, centre: Vector, radius: float) -> Shape:
    roll = rng.random()
    if roll < 0.6:
        return _blob(rng, centre, radius)
    if roll < 0.8:
        return _bent(rng, centre, radius)
    if roll < 0.9:
        return _clump(rng, centre, radius)
    bite = centre + radius * rng.uniform(0.5, 1.0) * turn_of(rng)[0]
    return Limited(_blob(rng, centre, radius, 1.6), _blob(rng, bite, radius * rng.uniform(0.5, 0.95), 1.4), out=True)


def _tree(rng: np.random.Generator, root: Vector, radius: float, limit: int = 34) -> Joined:
    """Return a branching tree of vessels, or one winding tube."""
    wind, branch = rng.uniform(0.08, 0.45), rng.choice([0.0, 0.15, 0.3])
    step, taper = max(rng.uniform(0.1, 0.2), 1.2 * radius), rng.uniform(0.92, 1.0)
    tips = [(root, turn_of(rng)[0], radius)]
    parts: list[Segment] = []
    while tips and len(parts) < limit:
        start, heading, thick = tips.pop(0)
        end = start + step * heading
        parts.append(Segment(start, end, (thick, thick * taper), NO_WAVES))
        if np.abs(end).max() > 1.2 or thick < 0.3 * radius:
            continue
        if rng.random() < branch:
            aside = np.cross(heading, rng.standard_normal(3))
            aside *= rng.uniform(0.35, 0.9) / (np.linalg.norm(aside) + 1e-9)
            ways, thick = [heading + aside, heading - aside * rng.uniform(0.4, 1.0)], thick * 0.8
        else:
            ways = [heading + rng.normal(0, wind, 3)]
        tips += [(end, way / np.linalg.norm(way), thick * taper) for way in ways]
    return Joined(tuple(parts))


def _softness(rng: np.random.Generator, radius: float) -> float:
    return radius * rng.uniform(0.05, 0.35) if rng.random() < 0.3 else 0.0


def _lobes(rng: np.random.Generator, things: list[Thing3], outer: Shape, parent: int, radius: float) -> None:
    """Divide a thing into lobes that share borders."""
    count = int(rng.integers(2, 5))
    sites = outer.centre + rng.normal(0, radius * 0.5, (count, 3))
    waves = random_waves(rng, 3, 1.5 / radius, 5.0 / radius, radius * 0.06)
    first = int(rng.integers(0, 2))
    things += [Thing3(Cell(sites, own, waves), parent, 0, "lobe", 0.0, True, True) for own in range(first, count)]


def _add_organ(
    rng: np.random.Generator, things: list[Thing3], shape: Shape, radius: float, parent: int, group: int = 0
) -> None:
    """Add an organ with, at random, a wall, lobes, vessels, chambers and lesions inside it."""
    things.append(Thing3(shape, parent, group, "blob", _softness(rng, radius)))
    own, roll = len(things), rng.random()
    if roll < 0.12:
        thick = radius * rng.uniform(0.08, 0.35)
        things.append(Thing3(Shell(shape, thick, 0.0, True), own, 0, "blob", 0.0, True, True))
    elif roll < 0.18:
        things.append(Thing3(Shell(shape, 0.0, radius * rng.uniform(0.06, 0.15)), own, 0, "rim", 0.0, True, True))
    elif roll < 0.28:
        _lobes(rng, things, shape, own, radius)
    elif roll < 0.34:
        tree = _tree(rng, shape.centre + rng.normal(0, radius * 0.3, 3), radius * rng.uniform(0.06, 0.14), 14)
        things.append(Thing3(tree, own, 0, "tube", 0.0, True))
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.56, 0.26, 0.1, 0.08]))):
        small = radius * log_uniform(rng, 0.15, 0.6)
        at = shape.centre + rng.normal(0, radius * 0.35, 3)
        inner = _blob(rng, at, small, 1.6) if rng.random() < 0.75 else _organ(rng, at, small)
        things.append(Thing3(inner, own, 0, "blob", _softness(rng, small), True))


def _organs(rng: np.random.Generator, things: list[Thing3], count: int, parent: int, room: float) -> None:
    for _ in range(count):
        centre, radius = rng.uniform(-room, room, 3), log_uniform(rng, 0.08, 0.5)
        _add_organ(rng, things, _organ(rng, centre, radius), radius, parent)


def _body(rng: np.random.Generator, things: list[Thing3]) -> int:
    """Add a trunk, head or limb with fat under its skin and perhaps ribs or a skull; return what the organs lie in."""
    radii = rng.uniform(0.65, 1.0, 3)
    if rng.random() < 0.55:
        radii[int(rng.integers(0, 3))] = rng.uniform(1.5, 3.0)
    skin = Blob(rng.normal(0, 0.05, 3), np.eye(3), radii, 2.0, random_waves(rng, 4, 1.0, 3.0, 0.04))
    things.append(Thing3(skin, 0, 0, "region"))
    inner = len(things)
    fat = rng.uniform(0.02, 0.14) if rng.random() < 0.7 else 0.0
    if fat:
        things.append(Thing3(Shell(skin, fat, 0.0, True), inner, 0, "region", 0.0, True, True))
        inner = len(things)
    roll = rng.random()
    if roll < 0.2:
        bone = Shell(skin, fat + rng.uniform(0.01, 0.05), rng.uniform(0.03, 0.09))
        things.append(Thing3(bone, inner, 0, "rim", 0.0, True, True))
    elif roll < 0.42:
        slant = np.array([1.0, 0, 0]) + rng.normal(0, 0.25, 3)
        pitch = rng.uniform(0.2, 0.4)
        waves = random_waves(rng, 2, 1.0, 2.0, 0.05)
        stack = Layer(slant / np.linalg.norm(slant), 0.0, pitch * rng.uniform(0.12, 0.25), waves, pitch)
        wall = Shell(skin, fat + rng.uniform(0.01, 0.05), rng.uniform(0.06, 0.1))
        things.append(Thing3(Limited(stack, wall), inner, 0, "rim", 0.0, True, True))
    return inner


def _pair(rng: np.random.Generator, things: list[Thing3], parent: int) -> None:
    """Add two mirrored organs, alike but not the same: lungs, kidneys, hippocampi, eyes."""
    radius = log_uniform(rng, 0.12, 0.45)
    centre = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0.6, 1.3) * radius + 0.08])
    model = _blob(rng, centre, radius) if rng.random() < 0.65 else _bent(rng, centre, radius)
    mirror = np.array([1.0, 1.0, -1.0])
    for side in (1, -1):
        shape: Shape = model
        if side == -1 and isinstance(model, Blob):
            shape = replace(model, centre=model.centre * mirror, frame=model.frame * mirror)
        elif side == -1 and isinstance(model, Joined):
            shape = Joined(
                tuple(
                    replace(p, start=p.start * mirror, end=p.end * mirror)
                    for p in model.parts
                    if isinstance(p, Segment)
                )
            )
        shape = moved(shape, shape.centre, rng.uniform(0.9, 1.1), rng.normal(0, 0.02, 3))
        _add_organ(rng, things, shape, radius, parent, group=1)


def _mosaic(rng: np.random.Generator, things: list[Thing3]) -> None:
    for _ in range(int(rng.integers(2, 5))):
        slow = log_uniform(rng, 1.5, 5.0)
        shape: Shape = Region(random_waves(rng, 12, slow, slow * 2.0, 1.0), rng.uniform(0.2, 1.0), np.zeros(3))
        if rng.random() < 0.6:
            ball = _blob(rng, rng.uniform(-0.5, 0.5, 3), rng.uniform(0.3, 0.7), 1.5)
            shape = Limited(shape, ball)
        things.append(Thing3(shape, 0, 0, "region", 0.03 if rng.random() < 0.3 else 0.0))


def _layers(rng: np.random.Generator, things: list[Thing3]) -> None:
    normal = np.eye(3)[int(rng.integers(0, 3))] + rng.normal(0, 0.15, 3)
    normal /= np.linalg.norm(normal)
    waves = random_waves(rng, 4, 1.5, 4.0, log_uniform(rng, 0.02, 0.12))
    offset = -1.0
    while offset < 1.0:
        half = log_uniform(rng, 0.03, 0.25)
        things.append(
            Thing3(Layer(normal, offset + half, half, waves), 0, 0, "layer", _softness(rng, half), False, True)
        )
        offset += 2 * half + (rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0)


def _nested(rng: np.random.Generator, things: list[Thing3], parent: int) -> None:
    """Add shells in shells, as in a head: skull, fluid, folded cortex, white matter, nuclei."""
    radius = rng.uniform(0.35, 0.75)
    folds = random_waves(rng, 8, 4.0, 8.0, rng.uniform(0.03, 0.09)) if rng.random() < 0.6 else _bumps(rng)
    core = Blob(rng.normal(0, 0.1, 3), np.eye(3), radius * rng.uniform(0.8, 1.2, 3), 2.0, folds)
    depth = -radius * rng.uniform(0.1, 0.3)
    while depth < 0.5 * radius and len(things) < 12:
        first = len(things)
        kind = "blob" if depth < 0.2 * radius else "region"
        things.append(Thing3(Shell(core, depth, 0.0, True), parent, 0, kind, 0.0, False, True))
        parent = first + 1
        depth += radius * log_uniform(rng, 0.06, 0.3)
    for _ in range(int(rng.integers(1, 4))):
        small = radius * log_uniform(rng, 0.15, 0.35)
        spot = core.centre + rng.normal(0, radius * 0.25, 3)
        _add_organ(rng, things, _organ(rng, spot, small), small, parent)


def _repeated(rng: np.random.Generator, things: list[Thing3], parent: int) -> None:
    """Add a row of alike things: vertebrae, teeth, fingers, follicles."""
    count, radius = int(rng.integers(4, 9)), rng.uniform(0.09, 0.2)
    model = _blob(rng, np.zeros(3), radius, 1.8) if rng.random() < 0.75 else _clump(rng, np.zeros(3), radius)
    heading, bend = turn_of(rng)[0], turn_of(rng)[0] * rng.uniform(0, 0.25)
    pitch = radius * rng.uniform(1.7, 2.5)
    for step in range(count):
        t = step - (count - 1) / 2
        spot = heading * pitch * t + bend * pitch * t * t * 0.25 + rng.normal(0, 0.01, 3)
        shape = moved(model, np.zeros(3), 1 + 0.03 * t * rng.choice([0, 1]), spot)
        things.append(Thing3(shape, parent, 1, "blob"))


def _trunk(rng: np.random.Generator, things: list[Thing3]) -> int:
    """Add a trunk along z: ribs, two large organs side by side, domes below them, one between, a spine, a vessel."""
    wide = rng.uniform(0.75, 1.0)
    skin = Blob(
        rng.normal(0, 0.04, 3),
        np.eye(3),
        np.array([rng.uniform(1.6, 3.0), wide * rng.uniform(0.6, 0.8), wide]),
        float(rng.choice([2.0, 2.6])),
        random_waves(rng, 4, 1.0, 3.0, 0.03),
    )
    things.append(Thing3(skin, 0, 0, "region"))
    inner = len(things)
    fat = rng.uniform(0.02, 0.12) * wide
    things.append(Thing3(Shell(skin, fat, 0.0, True), inner, 0, "region", 0.0, True, True))
    inner = len(things)
    top, gap = rng.uniform(-0.35, 0.0), rng.uniform(0.33, 0.45) * wide
    radii = np.array([rng.uniform(0.45, 0.8), rng.uniform(0.34, 0.5) * wide, rng.uniform(0.24, 0.33) * wide])
    for side in (1, -1):
        own = radii * np.exp(rng.normal(0, 0.06, 3))
        lean = turn_of(rng, 0.12)
        lung = Blob(
            np.array([top, rng.normal(0, 0.03), side * gap]), lean, own, 2.4, random_waves(rng, 5, 1.2, 3.5, 0.06)
        )
        _add_organ(rng, things, lung, float(own.min()), inner, group=1)
    for side in (1, -1):
        height = top + radii[0] * rng.uniform(0.85, 1.25) + 0.3
        dome = np.array([rng.uniform(0.4, 0.55), radii[1] * 1.3, rng.uniform(0.35, 0.5) * wide])
        below = Blob(np.array([height, rng.normal(0, 0.03), side * gap * 0.9]), np.eye(3), dome, 2.0, _bumps(rng))
        things.append(Thing3(below, inner, 0, "blob", 0.0, True))
    aside = float(rng.choice([-1, 1])) * rng.uniform(0.02, 0.16)
    heart = np.array([top + 0.25 + rng.normal(0, 0.08), -rng.uniform(0.0, 0.25), aside])
    _add_organ(rng, things, _blob(rng, heart, rng.uniform(0.18, 0.3), 1.5), 0.25, inner)
    strip = Blob(
        np.array([top - 0.1, rng.uniform(-0.1, 0.2), 0.0]), np.eye(3), np.array([0.9, 0.25, 0.12]), 2.0, _bumps(rng)
    )
    things.append(Thing3(strip, inner, 0, "blob", 0.0, True))
    bone, pitch = rng.uniform(0.08, 0.13), rng.uniform(0.2, 0.3)
    back = radii[1] + rng.uniform(0.0, 0.1)
    model = _blob(rng, np.zeros(3), bone, 1.5)
    for step in range(-4, 5):
        spot = np.array([step * pitch, back, 0.0]) + rng.normal(0, 0.006, 3)
        things.append(Thing3(moved(model, np.zeros(3), 1.0, spot), inner, 2, "blob"))
    if rng.random() < 0.85:
        slant = np.array([1.0, rng.uniform(-0.45, 0.45), 0.0])
        every = rng.uniform(0.16, 0.28)
        waves = random_waves(rng, 2, 1.0, 2.0, 0.04)
        bands = Layer(slant / np.linalg.norm(slant), 0.0, every * rng.uniform(0.14, 0.24), waves, every)
        wall = Shell(skin, fat + rng.uniform(0.0, 0.03), rng.uniform(0.04, 0.07))
        things.append(Thing3(Limited(bands, wall), inner, 0, "rim", 0.0, True, True))
    if rng.random() < 0.5:
        tube = _tree(rng, np.array([top - 0.3, 0.15, 0.0]), rng.uniform(0.05, 0.09), 12)
        things.append(Thing3(tube, inner, 0, "tube"))
    return inner


def random_plan(rng: np.random.Generator, families: Mapping[str, float] | None = None) -> Plan:
    """Return a random plan.

    Args:
        rng: Where randomness comes from; the plan depends on nothing else.
        families: How often each kind of anatomy is drawn; `FAMILIES` when left out.
    """
    chances = FAMILIES if families is None else families
    family = str(rng.choice(list(chances), p=list(chances.values())))
    things: list[Thing3] = []
    parent = 0
    if family == "body" or (family in ("pair", "repeated", "nested", "tubes") and rng.random() < 0.65):
        parent = _body(rng, things)
    few = 3
    if family == "mosaic":
        _mosaic(rng, things)
    elif family == "layers":
        _layers(rng, things)
    elif family == "pair":
        _pair(rng, things, parent)
    elif family == "nested":
        _nested(rng, things, parent)
    elif family == "repeated":
        _repeated(rng, things, parent)
    elif family == "trunk":
        parent = _trunk(rng, things)
    else:
        few = 7
    if family == "tubes" or (family in ("organs", "body") and rng.random() < 0.15):
        wide = log_uniform(rng, 0.025, 0.12)
        things.append(Thing3(_tree(rng, rng.uniform(-0.8, 0.8, 3), wide), parent, 0, "tube"))
        few = min(few, 4)
    least = 0 if family in ("nested", "mosaic", "layers", "repeated", "trunk") else 1
    _organs(rng, things, int(rng.integers(least, few + 1)), parent, 0.6 if parent else 0.85)
    return Plan(tuple(things[:40]), family)


def moved(shape: Shape, about: Vector, size: float, shift: Vector) -> Shape:
    """Return a shape made larger about a point and shifted; a union stays a union."""
    if isinstance(shape, Joined):
        return Joined(tuple(moved(part, about, size, shift) for part in shape.parts))
    return Moved(shape, about, size, shift)


def vary(rng: np.random.Generator, plan: Plan, strength: float) -> Plan:
    """Return one patient of a plan: everything with its own size and place, what it holds moving along.

    Args:
        rng: Where randomness comes from.
        plan: The textbook.
        strength: 1 for sizes that differ by up to 15 %, 0 for none.
    """
    moves: list[list[tuple[Vector, float, Vector]]] = [[]]
    group_size = float(np.exp(rng.uniform(-0.15, 0.15) * strength))
    things = []
    for thing in plan.things:
        size = float(np.exp(rng.uniform(-0.15, 0.15) * strength))
        if thing.group:
            size = group_size * size**0.3
        shift = rng.normal(0, 0.04 * strength, 3) * min(thing.shape.reach, 0.5)
        own = [] if thing.fixed or not np.isfinite(thing.shape.reach) else [(thing.shape.centre, size, shift)]
        chain = own + moves[thing.parent]
        moves.append(chain)
        shape = thing.shape
        for about, factor, by in chain:
            shape = moved(shape, about, factor, by)
        things.append(replace(thing, shape=shape))
    return replace(plan, things=tuple(things))
