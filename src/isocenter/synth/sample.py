"""A sample: one picture and one thing in it to be found, as a pure function of (seed, index).

Any worker in any order makes the same bytes. The anatomy is looked at twice: from afar, to choose what will be asked
for (a whole organ with what it holds, its visible part, a lesion, a pair, two neighbours as one), then with a camera
placed so that the choice fills a random share of the picture, whole or cut by its border.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.synth.anatomy import Camera, Scene, Surface, SynthSettings, random_scene
from isocenter.synth.appearance import paint, random_look, scan

__all__ = ["Sample", "choose", "frame", "synthesise", "visible"]

SCOUT_PIXELS = 56


@dataclass(frozen=True, eq=False)
class Sample:
    """A synthetic picture with its truth.

    Args:
        image: Intensities in arbitrary units, (z, y, x); z is 1 in 2D.
        labels: What lies where, 0 is background.
        target: What is asked for.
        family: Kind of anatomy.
        neighbour: Where the target lies one slice further, or None where it was not asked for; the target itself may
            then be empty, because the slice is just beyond its end.
    """

    image: Float[np.ndarray, "z y x"]
    labels: Int[np.ndarray, "z y x"]
    target: Bool[np.ndarray, "z y x"]
    family: str
    neighbour: Bool[np.ndarray, "z y x"] | None = None


@dataclass(frozen=True)
class Choice:
    """What will be asked for: its labels, a point in the one piece that is meant (None for all), and its box."""

    labels: frozenset[int]
    seed: tuple[float, float] | None
    box: tuple[float, float, float, float]


def _top_labels(scene: Scene, camera: Camera) -> Int[np.ndarray, "h w"]:
    labels = np.zeros((camera.pixels, camera.pixels), dtype=np.int16)
    for label, distance in enumerate(scene.distances(camera), start=1):
        if not scene.things[label - 1].overlay:
            labels[distance < 0] = label
    return labels


def _wanted(
    rng: np.random.Generator, scene: Scene, labels: Int[np.ndarray, "h w"], amorphous: float
) -> frozenset[int] | None:
    """Choose the labels that will be asked for."""
    areas = np.bincount(labels.ravel(), minlength=len(scene.things) + 1)
    usable = [i for i in range(1, len(areas)) if areas[i] >= 10 and scene.things[i - 1].group != 99]
    if not usable:
        return None
    weights = np.array(
        [
            {"blob": 1.0, "region": amorphous, "tube": 0.7, "layer": 0.35, "rim": 0.15}[scene.things[i - 1].kind]
            for i in usable
        ]
    )
    label = int(rng.choice(usable, p=weights / weights.sum()))
    group = scene.things[label - 1].group
    roll = rng.random()
    chosen = scene.descendants(label) if roll < 0.7 else {label}
    together = 0.5 if scene.things[label - 1].kind != "tube" else 0.85
    if group and rng.random() < together:
        for other, thing in enumerate(scene.things, start=1):
            if thing.group == group:
                chosen |= scene.descendants(other)
    elif rng.random() < 0.07:
        near = ndimage.binary_dilation(np.isin(labels, list(chosen)), iterations=2)
        beside = [i for i in np.unique(labels[near]).tolist() if i and i not in chosen]
        if beside:
            chosen |= scene.descendants(int(rng.choice(beside)))
    return frozenset(chosen)


def choose(rng: np.random.Generator, scene: Scene, amorphous: float) -> Choice | None:
    """Look at a scene from afar and choose a thing to ask for; None where the throw was unlucky."""
    camera = Camera(0.0, 0.0, 1.0, SCOUT_PIXELS)
    labels = _top_labels(scene, camera)
    wanted = _wanted(rng, scene, labels, amorphous)
    if wanted is None:
        return None
    mask = np.isin(labels, list(wanted))
    rows, columns = camera.axes()
    seed = None
    pieces, count = ndimage.label(mask)
    grouped = any(label and scene.things[label - 1].group for label in wanted)
    if count > 1 and not grouped and rng.random() < 0.85:
        sizes = np.bincount(pieces.ravel())[1:].astype(float)
        mask = pieces == 1 + int(rng.choice(count, p=sizes / sizes.sum()))
        if mask.sum() < 6:
            return None
        y, x = (int(v) for v in np.unravel_index(int(ndimage.distance_transform_edt(mask).argmax()), mask.shape))
        seed = (float(rows[y]), float(columns[x]))
    if not 6 <= mask.sum() <= 0.9 * mask.size:
        return None
    ys, xs = np.nonzero(mask)
    return Choice(
        wanted, seed, (float(rows[ys.min()]), float(columns[xs.min()]), float(rows[ys.max()]), float(columns[xs.max()]))
    )


def frame(rng: np.random.Generator, choice: Choice, pixels: int) -> Camera:
    """Place a camera so that the choice fills a random share of the picture, whole or cut."""
    top, left, bottom, right = choice.box
    extent = max(bottom - top, right - left) + 2 / SCOUT_PIXELS
    share = np.exp(rng.uniform(np.log(0.12), np.log(1.15)))
    half = float(np.clip(extent / share / 2, 0.06, 1.0))
    free = max(half - extent / 2, 0.0)
    row = (top + bottom) / 2 + rng.uniform(-1, 1) * free * 0.8
    column = (left + right) / 2 + rng.uniform(-1, 1) * free * 0.8
    bound = max(1.05 - half, 0.0)
    return Camera(float(np.clip(row, -bound, bound)), float(np.clip(column, -bound, bound)), half, pixels)


def visible(labels: Int[np.ndarray, "h w"], choice: Choice, camera: Camera) -> Bool[np.ndarray, "h w"]:
    """Return where the choice is seen."""
    mask = np.isin(labels, list(choice.labels))
    if choice.seed is None or not mask.any():
        return mask
    rows, columns = camera.axes()
    y, x = int(np.abs(rows - choice.seed[0]).argmin()), int(np.abs(columns - choice.seed[1]).argmin())
    pieces, count = ndimage.label(mask)
    if count > 1:
        piece = pieces[y, x] or int(np.bincount(pieces.ravel())[1:].argmax()) + 1
        mask = pieces == piece
    return mask


def _shifted(surface: Surface, by: float) -> Surface:
    return lambda grid: surface(grid) + np.float32(by)


def _next_slice(rng: np.random.Generator, scene: Scene, camera: Camera, choice: Choice) -> tuple[Scene, Scene, Camera]:
    """Return the scene of this slice, that of the next, and the next one's camera.

    Going one slice further, every thing grows or shrinks by a share of its own inner radius and all move a little.
    Near the end of a thing the change is large; just beyond it, the thing is gone from this slice.
    """
    depth = np.clip(-scene.distances(replace(camera, pixels=32)).min(axis=(1, 2)), 0.01, None)
    change = np.clip(rng.normal(0, 0.18, len(depth)), -0.6, 0.6)
    roll = rng.random()
    here = list(scene.things)
    beyond = roll < 0.12
    for label in choice.labels:
        if roll < 0.3:
            change[label - 1] = -rng.uniform(0.1, 0.9)
        if beyond:
            here[label - 1] = replace(here[label - 1], surface=_shifted(here[label - 1].surface, 9.0))
    there = [
        replace(t, surface=_shifted(t.surface, float(c * d)))
        for t, c, d in zip(scene.things, change, depth, strict=True)
    ]
    drift = rng.normal(0, 0.04, 2) * camera.half
    moved = replace(camera, row=camera.row + float(drift[0]), column=camera.column + float(drift[1]))
    return replace(scene, things=tuple(here)), replace(scene, things=tuple(there)), moved


def synthesise(
    seed: int, index: int, *, pixels: int = 96, neighbour: bool = False, settings: SynthSettings | None = None
) -> Sample:
    """Make one sample.

    Args:
        seed: Of the whole stream.
        index: Which sample of the stream.
        pixels: Side of the picture, at least 16.
        neighbour: Also say where the target lies one slice further; the target of this slice may then be empty.
        settings: What to vary.

    Raises:
        ConfigError: The picture would be too small, or seed or index is negative.

    Example:
        >>> one, same = synthesise(1, 7, pixels=32), synthesise(1, 7, pixels=32)
        >>> one.image.tobytes() == same.image.tobytes(), one.image.shape
        (True, (1, 32, 32))
    """
    if pixels < 16 or min(seed, index) < 0:
        raise ConfigError(
            f"a sample needs at least 16 pixels and seed, index of 0 or more; got {pixels}, {seed}, {index}"
        )
    settings = settings or SynthSettings()
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index])))
    while True:
        scene = random_scene(rng, settings)
        choice = choose(rng, scene, settings.amorphous)
        if choice is None:
            continue
        camera = frame(rng, choice, pixels)
        beside = np.zeros((pixels, pixels), dtype=bool)
        here = scene
        if neighbour:
            here, there, moved = _next_slice(rng, scene, camera, choice)
            beside = visible(_top_labels(there, moved), choice, moved)
        look = random_look(rng, here, choice.labels, least_contrast=settings.least_contrast)
        painted, labels = paint(rng, here, camera, look)
        target = visible(labels, choice, camera)
        asked = beside if neighbour else target
        if not max(8, 0.0008 * asked.size) <= asked.sum() <= 0.85 * asked.size or target.mean() > 0.85:
            continue
        image = scan(rng, painted, noise=rng)
        turn, flip = int(rng.integers(0, 4)) if rng.random() < 0.5 else 0, rng.random() < 0.5
        planes = [np.rot90(p[:, ::-1] if flip else p, turn) for p in (image, labels, target, beside)]
        image, labels, target, beside = (np.ascontiguousarray(p[None]) for p in planes)
        return Sample(image, labels, target, scene.family, beside if neighbour else None)
