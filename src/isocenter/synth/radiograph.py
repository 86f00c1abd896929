"""Radiographs: a synthetic volume of attenuations, seen along parallel rays.

Every ray adds up what it passes through, so organs, ribs and spine lie over one another as on film, and a structure is
where its shadow is. What is asked for is where the shadow is deep enough to be seen: what a person would outline.

Source:
    Beer-Lambert law; Unberath et al., DeepDRR, MICCAI 2018 (projection of volumes for training).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.synth.appearance import scan
from isocenter.synth.sample import Sample
from isocenter.synth.volume import wanted_labels
from isocenter.synth.volume_anatomy import Plan, log_uniform, random_plan, turn_of
from isocenter.synth.volume_appearance import labels_of, look
from isocenter.synth.volume_grid import Grid, View

__all__ = ["FAMILIES", "synthesise_radiograph"]

FAMILIES = {"trunk": 0.5, "pair": 0.12, "body": 0.12, "repeated": 0.1, "nested": 0.06, "organs": 0.1}
"""How often each kind of anatomy is drawn."""

_DOMAIN = 271_828  # keeps this stream apart from the others with the same seed and index
_VOXELS = 80
_HALF = 1.1
_LEAST, _MOST = 0.002, 0.6

Plane = Float[np.ndarray, "h w"]


def _attenuation(rng: np.random.Generator, plan: Plan, wanted: frozenset[int]) -> Float[np.ndarray, " labels"]:
    """Draw how much every label weakens the beam: like what it lies in, a little or much more or less."""
    values = np.zeros(len(plan.things) + 1, dtype=np.float32)
    groups: dict[int, float] = {}
    for label, thing in enumerate(plan.things, start=1):
        around = float(values[thing.parent]) or 1.0
        spread = {"region": 0.25, "rim": 0.5, "layer": 0.5, "tube": 0.5}.get(thing.kind, 0.7)
        share = float(np.exp(rng.normal(0.4 if thing.kind == "rim" else 0.0, spread)))
        if thing.group:
            share = groups.setdefault(thing.group, share) * float(np.exp(rng.normal(0, 0.03)))
        values[label] = around * share
    contrast = float(np.exp(rng.choice([-1, 1], p=[0.65, 0.35]) * rng.uniform(0.25, 1.8)))
    first = min(wanted)
    around = float(values[plan.things[first - 1].parent]) or 1.0
    factor = around * contrast / max(float(values[first]), 1e-6)
    for label in wanted:
        values[label] *= factor
    return values


def _window(rng: np.random.Generator, mask: Bool[np.ndarray, "h w"]) -> tuple[float, float, float]:
    """Return corner and side of a square that holds a shadow, mostly with all that is round it; sides of the film."""
    n = len(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    extent = max(np.ptp(rows), np.ptp(columns)) + 1
    side = float(np.clip(extent * log_uniform(rng, 1.05, 2.2), 0.5 * n, n)) if rng.random() < 0.7 else float(n)
    corner = []
    for line in (rows, columns):
        middle = (line[0] + line[-1]) / 2 + rng.uniform(-0.3, 0.3) * max(side - extent, 0)
        corner.append(float(np.clip(middle - side / 2, 0, n - side)))
    return corner[0], corner[1], side


def _markers(rng: np.random.Generator, image: Plane) -> None:
    """Lay letters, wires or collimator edges over a radiograph, in place: bright bars."""
    n = len(image)
    bright = float(image.max())
    for _ in range(int(rng.integers(1, 4))):
        row, column = (int(v) for v in rng.integers(0, n, 2))
        tall, wide = (max(1, round(n * log_uniform(rng, 0.01, 0.08))) for _ in range(2))
        image[row : row + tall, column : column + wide] = bright * rng.uniform(0.8, 1.2)


def _draw(rng: np.random.Generator, pixels: int, amorphous: float) -> tuple[Plane, Bool[np.ndarray, "h w"], str] | None:
    """Draw one film and its target; None where the throw was unlucky."""
    plan = random_plan(rng, FAMILIES)
    warp = rng.standard_normal((3, 5, 5, 5), dtype=np.float32) * np.float32(log_uniform(rng, 0.02, 0.12))
    view = View(rng.normal(0, 0.05, 3), _HALF * rng.uniform(0.8, 1.05), turn_of(rng, 0.12), warp)
    labels = labels_of(look(Grid(view, _VOXELS), plan), _VOXELS)
    wanted = wanted_labels(rng, plan, labels, amorphous)
    if wanted is None:
        return None
    ray = 1 if rng.random() < 0.75 else int(rng.integers(0, 3))
    chosen = np.zeros(len(plan.things) + 1, dtype=np.float32)
    chosen[list(wanted)] = 1
    shadow = chosen[labels].sum(axis=ray)
    deep = shadow.max() * (rng.uniform(0.05, 0.35) if rng.random() < 0.7 else 0.0)
    if shadow.max() < 2:
        return None
    depth = _attenuation(rng, plan, wanted)[labels].sum(axis=ray) / _VOXELS
    row, column, side = _window(rng, shadow > max(deep, 0.5))
    step = side / pixels
    at = ((row + 0.5 * step - 0.5, column + 0.5 * step - 0.5), (step, step))
    film, shade = (
        ndimage.affine_transform(
            ndimage.gaussian_filter(p, 0.4), at[1], at[0], (pixels, pixels), order=1, mode="nearest"
        )
        for p in (depth.astype(np.float32), shadow)
    )
    target = shade > max(deep, 0.5)
    if not _LEAST <= target.mean() <= _MOST:
        return None
    if rng.random() < 0.5:
        film = 1 - np.exp(-film * np.float32(rng.uniform(0.5, 3.0)))
    if rng.random() < 0.5:
        film = film + np.float32(rng.uniform(0.1, 0.6)) * ndimage.gaussian_filter(film, pixels * rng.uniform(0.05, 0.2))
    film = film - film.min()
    film = (film / max(float(film.max()), 1e-6)).astype(np.float32)
    if rng.random() < 0.35:
        _markers(rng, film)
    return film, target, plan.family


def synthesise_radiograph(seed: int, index: int, *, pixels: int = 96, amorphous: float = 0.1) -> Sample:
    """Make one radiograph.

    Args:
        seed: Of the whole stream.
        index: Which sample of the stream.
        pixels: Side of the picture, at least 16.
        amorphous: How often a region without a shape of its own is asked for, relative to an organ.

    Raises:
        ConfigError: The picture would be too small, or seed or index is negative.

    Example:
        >>> one, same = synthesise_radiograph(1, 7, pixels=32), synthesise_radiograph(1, 7, pixels=32)
        >>> one.image.tobytes() == same.image.tobytes(), one.image.shape
        (True, (1, 32, 32))
    """
    if pixels < 16 or min(seed, index) < 0:
        raise ConfigError(f"a radiograph needs 16 pixels and seed, index of 0 or more; got {pixels}, {seed}, {index}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, index, _DOMAIN])))
    while True:
        drawn = _draw(rng, pixels, amorphous)
        if drawn is not None:
            break
    film, target, family = drawn
    image = scan(rng, film, noise=rng)
    turn, flip = int(rng.integers(0, 4)) if rng.random() < 0.3 else 0, rng.random() < 0.5
    image, target = (np.ascontiguousarray(np.rot90(p[:, ::-1] if flip else p, turn)[None]) for p in (image, target))
    return Sample(image, target.astype(np.int16), target, family)
