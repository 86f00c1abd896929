"""From anatomy in three dimensions to a volume: random contrast, texture and the physics of several modalities.

Two generators are asked: `style` for what a scanner and its protocol decide (patients of one task often share it),
`rng` for what differs in every acquisition (noise, texture, bias). As in two dimensions, nothing here knows any real
organ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isocenter.synth.volume_anatomy import Plan, log_uniform
from isocenter.synth.volume_grid import Cube, Grid, gaussian, resampled, separable, smooth_field
from isocenter.synth.volume_shapes import Joined, Shape

__all__ = ["Seen", "field_of_view", "labels_of", "look", "paint", "scan", "tissue_means", "visible"]

Labels = Int[np.ndarray, "z y x"]
Place = tuple[slice, slice, slice]
SOFTEST = 1.5  # largest factor on the softness of a border


@dataclass(frozen=True, eq=False)
class Seen:
    """A thing as a grid sees it.

    Args:
        label: Of the thing.
        place: Its box among the voxels.
        distance: Signed distance to its border in that box, scene units.
        softness: Width of its border, scene units.
    """

    label: int
    place: Place
    distance: Cube
    softness: float = 0.0


def _held(shape: Shape, clip: Shape | None) -> Shape:
    return clip if clip is not None and clip.reach < shape.reach else shape


def _evaluate(grid: Grid, shape: Shape, at: Float[np.ndarray, "3"], clip: Shape | None, margin: float) -> Seen | None:
    fine = shape.detail if clip is None else min(shape.detail, 2 * clip.detail)
    voxels = fine / grid.voxel
    stride = 4 if voxels > 20 and grid.voxels >= 32 else 2 if voxels > 5 else 1
    box = grid.box(at, _held(shape, clip).reach + margin, stride)
    if box is None:
        return None
    (z0, z1), (y0, y1), (x0, x1) = box
    points = grid.lattice(stride)[:, z0:z1, y0:y1, x0:x1]
    flat = np.ascontiguousarray(points).reshape(3, -1)
    values = shape.distance(flat)
    if clip is not None:
        values = np.maximum(values, clip.distance(flat))
    if values.min() > margin + (0.9 * stride * grid.voxel if stride > 1 else 0.0):
        return None
    cube, place = grid.refine(values.reshape(points.shape[1:]), box, stride)
    return Seen(0, place, cube)


def _union(seen: list[Seen]) -> Seen:
    low = [min(s.place[d].start for s in seen) for d in range(3)]
    high = [max(s.place[d].stop for s in seen) for d in range(3)]
    cube = np.full([h - b for h, b in zip(high, low, strict=True)], 9.0, dtype=np.float32)
    for one in seen:
        z, y, x = (slice(s.start - b, s.stop - b) for s, b in zip(one.place, low, strict=True))
        np.minimum(cube[z, y, x], one.distance, out=cube[z, y, x])
    return Seen(0, (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])), cube)


def look(grid: Grid, plan: Plan) -> tuple[Seen, ...]:
    """Return every thing in view in its box, in painting order."""
    parts: list[tuple[int, Shape, Shape | None]] = []
    for label, thing in enumerate(plan.things, start=1):
        clip = plan.things[thing.parent - 1].shape if thing.clipped and thing.parent else None
        pieces = thing.shape.parts if isinstance(thing.shape, Joined) else (thing.shape,)
        parts += [(label, piece, clip) for piece in pieces]
    located = grid.locate(np.array([_held(shape, clip).centre for _, shape, clip in parts]).reshape(-1, 3))
    found: list[list[Seen]] = [[] for _ in plan.things]
    for order, (label, shape, clip) in enumerate(parts):
        margin = max(grid.voxel, SOFTEST * plan.things[label - 1].softness)
        seen = _evaluate(grid, shape, located[order], clip, margin)
        if seen is not None:
            found[label - 1].append(seen)
    wholes = []
    for label, pieces_seen in enumerate(found, start=1):
        if pieces_seen:
            whole = pieces_seen[0] if len(pieces_seen) == 1 else _union(pieces_seen)
            wholes.append(Seen(label, whole.place, whole.distance, plan.things[label - 1].softness))
    return tuple(wholes)


def labels_of(scene: tuple[Seen, ...], n: int) -> Labels:
    """Return which thing is on top at every voxel of a cube of side n."""
    labels = np.zeros((n, n, n), dtype=np.int16)
    for seen in scene:
        labels[seen.place][seen.distance < 0] = seen.label
    return labels


def tissue_means(rng: np.random.Generator, plan: Plan, target: frozenset[int]) -> Float[np.ndarray, " labels"]:
    """Draw the mean intensity of every label, 0 to 1 with outliers; often few tissues are shared by many things."""
    count = len(plan.things) + 1
    if rng.random() < 0.5:
        palette = rng.uniform(0, 1, int(rng.integers(2, 6)))
        means = palette[rng.integers(0, len(palette), count)] + rng.normal(0, 0.02, count)
    else:
        means = rng.uniform(0, 1, count)
    if rng.random() < 0.4:
        means[1:] = 0.5 + (means[1:] - 0.5) * rng.uniform(0.25, 0.7)
    groups: dict[int, float] = {}
    for label, thing in enumerate(plan.things, start=1):
        if thing.group:
            means[label] = groups.setdefault(thing.group, float(means[label])) + rng.normal(0, 0.015)
    if rng.random() < 0.5:
        means[0] = means[0] * 0.1
    if rng.random() < 0.85:
        label = min(target)
        parent = plan.things[label - 1].parent
        contrast = log_uniform(rng, 0.03, 0.6) * rng.choice([-1, 1])
        shift = means[parent] + contrast - means[label]
        for each in target:
            means[each] += shift
    roll = rng.random()
    if roll < 0.25:
        _add_extremes(rng, means, plan, target)
    elif roll < 0.32:
        _add_hot_spots(rng, means, target)
    return np.asarray(means, dtype=np.float32)


def _add_extremes(
    rng: np.random.Generator, means: Float[np.ndarray, " labels"], plan: Plan, target: frozenset[int]
) -> None:
    """Push some things far out, in place: air, bone, metal, bladder in PET; the rest shares a sliver of the range."""
    if rng.random() < 0.6:
        means[0] -= rng.uniform(0.5, 4) * rng.choice([1, -1], p=[0.9, 0.1])
    others = [i for i in range(1, len(means)) if i not in target and plan.things[i - 1].kind != "region"]
    if others:
        for label in rng.choice(others, size=int(rng.integers(1, min(3, len(others)) + 1)), replace=False):
            means[label] += rng.uniform(0.7, 4) * rng.choice([1, -1], p=[0.7, 0.3])


def _add_hot_spots(rng: np.random.Generator, means: Float[np.ndarray, " labels"], target: frozenset[int]) -> None:
    """Dim everything, in place, and light the target (mostly) and a few others up, as a tracer does."""
    means *= 0.2
    lit = np.flatnonzero(rng.random(len(means)) < 0.2)
    means[lit[lit > 0]] += log_uniform(rng, 0.3, 1.5)
    if rng.random() < 0.8:
        means[sorted(target)] += log_uniform(rng, 0.15, 1.2)


def _texture(rng: np.random.Generator, n: int, grain: float) -> Cube:
    """Return noise of unit deviation with grains of about `grain` voxels."""
    cells = max(4, round(n / grain))
    noise = rng.standard_normal((cells, cells, cells), dtype=np.float32)
    if cells < n:
        matrix = resampled((np.arange(n) + 0.5) * cells / n - 0.5, cells)
        noise = separable(noise, (matrix, matrix, matrix))
    return np.asarray(noise * np.float32(1.7 if cells < n else 1.0), dtype=np.float32)


def paint(
    style: np.random.Generator,
    rng: np.random.Generator,
    grid: Grid,
    scene: tuple[Seen, ...],
    labels: Labels,
    means: Float[np.ndarray, " labels"],
) -> Cube:
    """Paint what a grid sees.

    Args:
        style: Decides textures and the softness of borders.
        rng: Fills the textures.
        grid: Voxels.
        scene: Things in view.
        labels: What is on top at every voxel.
        means: Mean intensity of every label.

    Returns:
        Intensities, about 0 to 1.
    """
    n = grid.voxels
    softness, edge = style.uniform(0.3, SOFTEST), style.uniform(0.5, 1.3) * grid.voxel
    loud = log_uniform(style, 0.004, 0.07)
    amplitudes = loud * np.exp(style.normal(0, 0.6, (3, len(means)))) * (style.random((3, 1)) < 0.5)
    grains = (style.uniform(1.2, 2.2), style.uniform(2.5, 5.0), style.uniform(6.0, 14.0))
    image = np.full((n, n, n), means[0], dtype=np.float32)
    for seen in scene:
        width = max(edge, 2 * seen.softness * softness)
        cover = seen.distance * np.float32(-1 / width)
        cover += np.float32(0.5)
        np.clip(cover, 0, 1, out=cover)
        part = image[seen.place]
        cover *= means[seen.label] - part
        part += cover
    for amplitude, grain in zip(amplitudes, grains, strict=True):
        if amplitude.any():
            image += amplitude.astype(np.float32)[labels] * _texture(rng, n, grain)
    return image


def _grown(mask: Bool[np.ndarray, "z y x"]) -> Bool[np.ndarray, "z y x"]:
    out = mask.copy()
    out[1:] |= mask[:-1]
    out[:-1] |= mask[1:]
    out[:, 1:] |= mask[:, :-1]
    out[:, :-1] |= mask[:, 1:]
    out[:, :, 1:] |= mask[:, :, :-1]
    out[:, :, :-1] |= mask[:, :, 1:]
    return out


def visible(image: Cube, target: Bool[np.ndarray, "z y x"]) -> bool:
    """Say whether the border of a target could be seen by someone who is told where it is.

    The voxels within two voxels of the border are compared, inside with outside, in the eight octants about the
    middle of the target; in most of those with enough voxels the difference must stand out of the noise, and must be
    a few hundredths of the range of greys.

    Args:
        image: Any units.
        target: Where the target is.
    """
    outer = _grown(_grown(target))
    inner = target & _grown(_grown(~target))
    spots = np.nonzero(outer & (inner | ~target))
    values, within = image[spots].astype(np.float64), target[spots]
    octant = sum(((c > c[within].mean()) * 2**d for d, c in enumerate(spots)), np.zeros(len(values), dtype=int))
    cell = octant * 2 + within
    counts = np.bincount(cell, minlength=16) + 1e-9
    means = np.bincount(cell, values, minlength=16) / counts
    spread = np.sqrt(np.clip(np.bincount(cell, values**2, minlength=16) / counts - means**2, 0, None))
    counts, means, spread = (v.reshape(8, 2) for v in (counts, means, spread))
    used = counts.min(axis=1) >= 4
    if not used.any():
        return False
    low, high = np.percentile(image[::2, ::2, ::2], [1, 99])
    gap, noise = np.abs(means[:, 1] - means[:, 0]), spread.mean(axis=1)
    error = 3.0 * noise * np.sqrt((1 / counts).sum(axis=1))
    clear = (gap > 0.9 * noise) & (gap > error) & (gap > 0.06 * (high - low))
    return bool((clear & used).sum() >= 0.6 * used.sum())


def field_of_view(rng: np.random.Generator, n: int) -> Bool[np.ndarray, "z y x"] | None:
    """Return what a scanner's tube, a probe's sector or a slab of slices covers, or None where it covers all."""
    roll = rng.random()
    if roll > 0.2:
        return None
    along = np.linspace(-1, 1, n, dtype=np.float32)
    z, y, x = along[:, None, None], along[None, :, None], along[None, None, :]
    if roll < 0.06:
        covered = np.hypot(y - rng.normal(0, 0.1), x - rng.normal(0, 0.1)) < rng.uniform(0.85, 1.25)
    elif roll < 0.1:
        apex, slope = -1 - rng.uniform(0.0, 0.8), rng.uniform(0.5, 1.2)
        covered = np.hypot(x, z * rng.uniform(0.7, 1.3)) < slope * (y - apex)
    else:
        low, high = -1 + rng.uniform(0, 0.7) * (rng.random() < 0.7), 1 - rng.uniform(0, 0.7) * (rng.random() < 0.7)
        covered = (z >= low) & (z <= high)
    return np.ascontiguousarray(np.broadcast_to(covered, (n, n, n)))


def _speckle(style: np.random.Generator, rng: np.random.Generator, image: Cube) -> Cube:
    """Multiply by speckle whose grains are longer across the beam (axis 1), and weaken it with depth."""
    n = image.shape[0]
    long, short, power = style.uniform(0.6, 1.6), style.uniform(0.3, 0.7), style.uniform(0.25, 0.9)
    matrices = (gaussian(n, long), gaussian(n, short), gaussian(n, long))
    square = np.zeros_like(image)
    for _ in range(2):
        grains = separable(rng.standard_normal(image.shape, dtype=np.float32), matrices)
        square += grains * grains
    square /= square.mean() + np.float32(1e-9)
    square += np.float32(0.01)
    out = np.clip(image, 0.0, None) * np.power(square, np.float32(power / 2))
    if style.random() < 0.5:
        out = np.log1p(out * np.float32(style.uniform(2, 12)))
    if style.random() < 0.5:
        shade = smooth_field(rng, n, 8, style.uniform(0.1, 0.5))[:, :1, :]
        out *= np.exp(shade * np.linspace(0, 2, n, dtype=np.float32)[None, :, None])
    if style.random() < 0.5:
        out *= np.linspace(1, style.uniform(0.35, 1.4), n, dtype=np.float32)[None, :, None]
    return np.asarray(out, dtype=np.float32)


def _slices(
    style: np.random.Generator, n: int
) -> tuple[list[Float[np.ndarray, "_ n"]], list[Float[np.ndarray, "n _"]]]:
    """Return what averages voxels into coarser ones along each axis, and what brings them back."""
    down, up = [], []
    thick = 0 if style.random() < 0.7 else int(style.integers(0, 3))
    nearest = style.random() < 0.25
    plane = log_uniform(style, 1.0, 2.2) if style.random() < 0.4 else 1.0
    ratio = log_uniform(style, 1.2, 6.0)
    for axis in range(3):
        factor = max(ratio, plane) if axis == thick else plane
        count = max(6, round(n / factor))
        centres = (np.arange(count) + 0.5) * n / count - 0.5
        gaps = np.abs(centres[:, None] - np.arange(n)[None, :])
        weights = np.clip(0.5 * n / count + 0.5 - gaps, 0, 1)
        down.append(np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32))
        back = (np.arange(n) + 0.5) * count / n - 0.5
        up.append(resampled(np.round(back) if nearest else back, count))
    return down, up


def _lose_resolution(style: np.random.Generator, rng: np.random.Generator, image: Cube, noise: float) -> Cube:
    """Sample coarsely, mostly with thick slices, add noise there, and interpolate back."""
    down, up = _slices(style, image.shape[0])
    coarse = separable(image, (down[0], down[1], down[2]))
    coarse += rng.standard_normal(coarse.shape, dtype=np.float32) * np.float32(noise)
    return separable(coarse, (up[0], up[1], up[2]))


def _add_noise(style: np.random.Generator, rng: np.random.Generator, image: Cube, noise: float) -> Cube:
    """Add magnitude noise, grainy noise, noise that grows with the signal, or none."""
    n, kind = image.shape[0], style.integers(0, 4)
    if kind == 3:
        return image
    white = rng.standard_normal(image.shape, dtype=np.float32)
    white *= np.float32(noise)
    if kind == 0:
        other = rng.standard_normal(image.shape, dtype=np.float32)
        other *= np.float32(noise)
        return np.asarray(np.hypot(image + white, other), dtype=np.float32)
    if kind == 1:
        sigma = style.uniform(0.4, 1.1)
        blur = gaussian(n, sigma)
        gain = np.float32(1 / np.linalg.norm(blur[n // 2]) ** 3)
        return image + separable(white, (blur, blur, blur)) * gain
    white *= np.sqrt(np.clip(image, 0.02, 2.0))
    return image + white


def scan(
    style: np.random.Generator,
    rng: np.random.Generator,
    image: Cube,
    target: Bool[np.ndarray, "z y x"],
    contrast: float,
) -> Cube:
    """Pass a painted volume through a random scanner.

    Args:
        style: Decides what kind of scanner and how it is set.
        rng: Makes noise and bias.
        image: Intensities, about 0 to 1.
        target: What is asked for; a display window is sometimes set around its intensity.
        contrast: Of the target to what it lies in.

    Returns:
        A volume of the same size in arbitrary units, finite.
    """
    n = image.shape[0]
    noise = min(log_uniform(style, 0.003, 0.1), 1.2 * contrast + 0.01)
    if style.random() < 0.45:
        image = image * np.exp(smooth_field(rng, n, int(style.integers(4, 6)), style.uniform(0.05, 0.3)))
    if style.random() < 0.1:
        image = image + smooth_field(rng, n, int(style.integers(5, 8)), style.uniform(0.02, 0.1))
    blurry = style.random()
    if blurry < 0.3:
        blur = gaussian(n, log_uniform(style, 0.4, 1.0 if blurry < 0.22 else 2.2))
        image = separable(image, (blur, blur, blur))
    if style.random() < 0.12:
        image = _speckle(style, rng, image)
    image = _add_noise(style, rng, image, noise)
    if style.random() < 0.45:
        image = _lose_resolution(style, rng, image, noise * style.uniform(0, 0.7))
    few = image[::3, ::3, ::3]
    low, high = np.percentile(few, [style.uniform(0, 4), 100 - style.uniform(0, 4)])
    if style.random() < 0.3:
        inside = image[target]
        middle, span = float(inside.mean()), (contrast + float(inside.std())) * style.uniform(1.2, 5) + 0.02
        low, high = max(float(low), middle - span), min(float(high), middle + span)
    if style.random() < 0.6 and high > low + 1e-3:
        image = np.clip(image, np.float32(low), np.float32(high))
    image = image - image.min()
    top = float(image.max())
    image *= np.float32(1 / top if top > 0 else 1.0)
    if style.random() < 0.35:
        np.power(image, np.float32(np.exp(style.normal(0, 0.4))), out=image)
    if style.random() < 0.25:
        image = 1 - image
    return np.asarray(image, dtype=np.float32)
