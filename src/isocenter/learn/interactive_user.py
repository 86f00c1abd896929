"""A simulated person who points, in planes and in volumes: the first prompt at a target, and corrections after it.

Used in training, where the acts are varied at random. The fixed rule of evaluation (click at the centre of the largest
error) is `isocenter.evaluate.interactive_user`.

Source:
    Sofiiuk et al., ICIP 2022 (iterative clicks); Wong et al., ECCV 2024 (scribbles, boxes).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from isocenter.models.interactive.inputs import Canvas, draw_ball

__all__ = ["beside_prompt", "correct", "first_prompt", "is_ambiguous"]

Binary = Bool[np.ndarray, "*space"]


def _depth(mask: Binary) -> tuple[Float[np.ndarray, "*box"], tuple[int, ...]]:
    """Return the distance to the outside within the mask's box (the picture's border counts), and the box's corner."""
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1))[(slice(1, -1),) * mask.ndim]
    return depth, tuple(int(s.start) for s in box)


def _point_within(rng: np.random.Generator, mask: Binary, *, central: float) -> tuple[int, ...]:
    """Return the innermost point with probability `central`, else a random one not too near the border."""
    depth, corner = _depth(mask)
    if rng.random() < central:
        found = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        places = np.argwhere(depth >= rng.uniform(0.1, 0.6) * depth.max())
        found = tuple(places[int(rng.integers(len(places)))])
    return tuple(c + int(i) for c, i in zip(corner, found, strict=True))


def _slice_through(rng: np.random.Generator, mask: Binary) -> tuple[slice | int, ...]:
    """Return the index of a slice of a volume through a mask, mostly where it is large; along z most of the time."""
    axis = int(rng.choice([0, 1, 2], p=[0.7, 0.15, 0.15]))
    others = tuple(a for a in range(3) if a != axis)
    areas = mask.sum(axis=others).astype(float)
    at = int(areas.argmax()) if rng.random() < 0.5 else int(rng.choice(len(areas), p=areas / areas.sum()))
    return tuple(at if a == axis else slice(None) for a in range(3))


def _stroke(rng: np.random.Generator, mask: Binary) -> Binary:
    """Return a wandering stroke that stays within a mask; in a volume, within one slice of it."""
    drawn = np.zeros_like(mask)
    if mask.ndim == 3:
        where = _slice_through(rng, mask)
        drawn[where] = _stroke(rng, mask[where])
        return drawn
    row, column = (float(v) for v in _point_within(rng, mask, central=0.2))
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(4, max(6, mask.shape[0] // 3)))):
        draw_ball(drawn, (row, column), 1.5)
        for _ in range(6):
            turn = heading + rng.normal(0, 0.5)
            next_row, next_column = row + 1.5 * np.sin(turn), column + 1.5 * np.cos(turn)
            r, c = round(next_row), round(next_column)
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and mask[r, c]:
                row, column, heading = next_row, next_column, turn
                break
            heading += rng.uniform(-1.5, 1.5)
    return drawn


def _box(rng: np.random.Generator, target: Binary) -> Binary:
    """Return a filled box round the target, drawn a little carelessly."""
    box = ndimage.find_objects(target.astype(np.int8))[0]
    region = np.zeros_like(target)
    cut = []
    for side, size in zip(box, target.shape, strict=True):
        slips = rng.normal(0.03, 0.05, 2) * (side.stop - side.start)
        low, high = max(0, round(side.start - slips[0])), min(size, round(side.stop + slips[1]))
        cut.append(slice(low, max(high, low + 1)))
    region[tuple(cut)] = True
    return region


def _grow(mask: Binary, voxels: float) -> Binary:
    """Dilate (or erode, when negative) by a distance."""
    if voxels >= 0:
        return np.asarray(ndimage.distance_transform_edt(~mask) <= voxels) if mask.any() else mask
    return np.asarray(ndimage.distance_transform_edt(mask) > -voxels)


def _lasso(rng: np.random.Generator, target: Binary) -> Binary:
    """Return the inside of a loose line round the target."""
    loose = _grow(target, rng.uniform(1.0, 6.0))
    smooth = ndimage.gaussian_filter(loose.astype(np.float32), rng.uniform(1.0, 3.0)) > 0.4
    return np.asarray(ndimage.binary_fill_holes(smooth))


def _nearly(rng: np.random.Generator, mask: Binary) -> Binary:
    """Return a mask as a model or a person would have drawn it: with a border that errs a little."""
    size = float(np.sqrt(mask.sum()))
    soft = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.3, 0.5 + 0.06 * size))
    noise = ndimage.gaussian_filter(rng.standard_normal(mask.shape), rng.uniform(2, 6))
    level = np.clip(0.5 + noise / (noise.std() + 1e-6) * rng.uniform(0, 0.15) + rng.normal(0, 0.06), 0.15, 0.85)
    drawn = soft > level
    return np.asarray(drawn if drawn.any() else mask)


def _with_known_slice(rng: np.random.Generator, canvas: Canvas, target: Binary, wrong: Binary) -> Canvas:
    """Outline one whole slice through the error: inside and outside are known there from now on."""
    where = _slice_through(rng, wrong)
    mask = target[where]
    hint = canvas.hint.copy()
    hint[where] = np.where(_nearly(rng, mask) if mask.any() else mask, np.float32(1), np.float32(-1))
    return replace(canvas, hint=hint)


def beside_prompt(rng: np.random.Generator, target: Bool[np.ndarray, "h w"], neighbour: Binary) -> Canvas:
    """Draw the neighbouring slice's mask, as propagation hands it on: an answer, so with a border that errs a little.

    Args:
        rng: Where randomness comes from.
        target: What is in this slice; may be empty.
        neighbour: What is in the next.
    """
    canvas = replace(Canvas.empty(*target.shape), hint=_nearly(rng, neighbour).astype(np.float32))
    if target.any() and rng.random() < 0.2:
        canvas = canvas.with_ball(_point_within(rng, target, central=0.6), positive=True)
    return canvas


def is_ambiguous(canvas: Canvas) -> bool:
    """Tell whether all that is known is one click: then several things may be meant."""
    if canvas.region.any() or canvas.negative.any() or canvas.hint.any() or canvas.previous.any():
        return False
    return bool(canvas.positive.any()) and int(ndimage.label(canvas.positive)[1]) == 1


def first_prompt(rng: np.random.Generator, target: Binary) -> Canvas:
    """Draw what a person might begin with.

    Args:
        rng: Where randomness comes from.
        target: What the person means, a plane or a volume; not empty.
    """
    canvas = Canvas.empty(*target.shape)
    flat = target.ndim == 2
    kinds = ["click", "clicks", "box", "lasso" if flat else "slice", "scribble"]
    kind = rng.choice(kinds, p=[0.56, 0.13, 0.15, 0.06, 0.1] if flat else [0.44, 0.12, 0.14, 0.2, 0.1])
    click = kind in ("click", "clicks") or (kind in ("box", "lasso") and rng.random() < 0.35)
    if kind == "box":
        canvas = replace(canvas, region=_box(rng, target))
    elif kind == "lasso":
        canvas = replace(canvas, region=_lasso(rng, target))
    elif kind == "slice":
        for _ in range(int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))):
            canvas = _with_known_slice(rng, canvas, target, target)
    elif kind == "scribble":
        canvas = replace(canvas, positive=_stroke(rng, target))
        near = _grow(target, rng.uniform(4, 14)) & ~_grow(target, 2)
        if rng.random() < 0.5 and near.any():
            canvas = replace(canvas, negative=_stroke(rng, near))
    if click:
        canvas = canvas.with_ball(_point_within(rng, target, central=0.6), positive=True)
    if kind == "clicks":
        for _ in range(int(rng.integers(1, 6))):
            side = target if rng.random() < 0.5 or target.all() else ~target
            if side is not target and rng.random() < 0.7:
                near = _grow(target, rng.uniform(3, 12)) & ~target
                side = near if near.any() else side
            canvas = canvas.with_ball(_point_within(rng, side, central=0.1), positive=side is target)
    return canvas


def correct(
    rng: np.random.Generator, canvas: Canvas, probability: Float[np.ndarray, "*space"], target: Binary
) -> Canvas | None:
    """Add one correction where the answer is wrong, and remember the answer; None when nothing is wrong.

    Args:
        rng: Where randomness comes from.
        canvas: Prompts so far.
        probability: The model's answer to them.
        target: What the person means.
    """
    answer = probability >= 0.5
    wrongs = [(wrong, says) for wrong, says in ((target & ~answer, True), (answer & ~target, False)) if wrong.any()]
    if not wrongs:
        return None
    if len(wrongs) > 1:
        deepest = [_depth(wrong)[0].max() for wrong, _ in wrongs]
        wrongs = [wrongs[int(np.argmax(deepest))]] if rng.random() < 0.85 else [wrongs[int(np.argmin(deepest))]]
    wrong, positive = wrongs[0]
    canvas = replace(canvas, previous=probability.astype(np.float32))
    roll = rng.random()
    if roll < 0.12:
        name = "positive" if positive else "negative"
        return replace(canvas, **{name: getattr(canvas, name) | _stroke(rng, wrong)})
    if roll < 0.24 and target.ndim == 3:
        return _with_known_slice(rng, canvas, target, wrong)
    return canvas.with_ball(_point_within(rng, wrong, central=0.6), positive=positive)
