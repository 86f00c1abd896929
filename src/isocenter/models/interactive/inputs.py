"""What the interactive network sees: the picture, the prompts drawn on it, and cheap cues computed from both.

A small network is strong when it need not learn what can be computed. Beside the picture and the drawn prompts it is
given, per voxel, how alike the intensity is to what was pointed at, and how far it is from there along a path that
avoids edges (geodesic distance). Planes and volumes are treated alike; training and inference prepare inputs with this
very code. Numpy only, deterministic, finite for every finite or non-finite picture.

Source:
    Xu et al., CVPR 2016 (click maps); Criminisi et al., ECCV 2008 (geodesic distance by raster scans);
    Sofiiuk et al., ICIP 2022 (previous mask as input).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

__all__ = [
    "PICTURE_CHANNELS",
    "PROMPT_CHANNELS",
    "Canvas",
    "Picture",
    "draw_ball",
    "encode_prompts",
    "normalise_window",
]

PICTURE_CHANNELS = 2
PROMPT_CHANNELS = 10
BALL_RADIUS = {2: 2.5, 3: 1.8}  # voxels of the network's picture
_NEIGHBOURHOOD = 0.3  # of the side: how wide round the seeds the local contrast is measured
_GEODESIC_SCALE = 0.3
_GEODESIC_CONTRAST = 1.2
_GEODESIC_LOCAL_CONTRAST = 0.12
_FAR = np.float32(1e3)

Array = Float[np.ndarray, "*space"]
Binary = Bool[np.ndarray, "*space"]


@dataclass(frozen=True, eq=False)
class Canvas:
    """Prompts drawn on the network's picture.

    Args:
        positive: Balls and strokes that say "this".
        negative: Balls and strokes that say "not this".
        region: Filled boxes and lassos that hold the whole of it.
        previous: The model's own last probability, 0 where none.
        hint: A mask that is known in part: 1 inside, -1 outside where that is known, 0 where nothing is known. In a
            plane, the mask of the slice beside it (1 or 0).
    """

    positive: Binary
    negative: Binary
    region: Binary
    previous: Array
    hint: Array

    @classmethod
    def empty(cls, *shape: int) -> Canvas:
        """Return a canvas without prompts."""
        blank, zeros = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=np.float32)
        return cls(blank, blank, blank, zeros, zeros)

    def with_ball(self, centre: tuple[float, ...], *, positive: bool) -> Canvas:
        """Return a canvas with one more click."""
        name = "positive" if positive else "negative"
        drawn = getattr(self, name).copy()
        draw_ball(drawn, centre)
        return replace(self, **{name: drawn})


def draw_ball(space: Binary, centre: tuple[float, ...], radius: float | None = None) -> None:
    """Set a ball of voxels to True, in place; what falls outside is cut off, the nearest voxel is always set.

    Args:
        space: What to draw on.
        centre: Fractional index.
        radius: In voxels; None for that of a click.
    """
    reach = BALL_RADIUS[space.ndim] if radius is None else radius
    low = [max(0, int(np.floor(c - reach))) for c in centre]
    high = [min(n, int(np.ceil(c + reach)) + 1) for c, n in zip(centre, space.shape, strict=True)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        axes = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
        gap = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True))
        space[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] |= np.asarray(gap <= reach**2)
    space[tuple(int(np.clip(round(c), 0, n - 1)) for c, n in zip(centre, space.shape, strict=True))] = True


def normalise_window(image: Array, *, low_percent: float = 1.0, high_percent: float = 99.0) -> Array:
    """Map two percentiles of a picture to 0 and 1 and clip to [-0.3, 1.3]; a flat picture becomes 0.5.

    Args:
        image: Intensities in any unit; what is not finite takes the median.
        low_percent: Percentile that becomes 0.
        high_percent: Percentile that becomes 1.

    Example:
        >>> normalise_window(np.full((2, 2), 7.0, np.float32)).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    finite = np.isfinite(image)
    if not finite.all():
        middle = float(np.median(image[finite])) if finite.any() else 0.0
        image = np.where(finite, image, np.float32(middle))
    values = image.astype(np.float64)
    low, high = np.percentile(values, (low_percent, high_percent))
    if not high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        low, high = float(values.min()), float(values.max())
    if not high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        return np.full(image.shape, 0.5, dtype=np.float32)
    return np.asarray(np.clip((values - low) / (high - low), -0.3, 1.3).astype(np.float32))


@dataclass(frozen=True, eq=False)
class Picture:
    """A normalised picture and what is computed from it once, whatever is pointed at.

    Args:
        values: From `normalise_window`; even sides.
        smooth: The same, smoothed a little.
        deviation: Standard deviation round each voxel.
    """

    values: Array
    smooth: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array) -> Picture:
        """Prepare a normalised picture."""
        size = 5 if values.ndim == 2 else 3
        mean, square = ndimage.uniform_filter(values, size), ndimage.uniform_filter(values**2, size)
        return cls(
            values,
            ndimage.gaussian_filter(values, 1.2 if values.ndim == 2 else 0.8, truncate=2.5),
            np.sqrt(np.clip(square - mean**2, 0, None)),
        )

    def channels(self) -> Float[np.ndarray, "2 *space"]:
        """Return what the network's image encoder sees: picture and local deviation."""
        return np.stack([self.values * 2 - 1, self.deviation * 4]).astype(np.float32)


def _core(mask: Binary) -> Binary:
    """Return the inner part of a mask: where the thing very likely is."""
    if not mask.any():
        return mask
    box = ndimage.find_objects(mask.astype(np.int8))[0]
    depth = ndimage.distance_transform_edt(np.pad(mask[box], 1))
    inner = depth[(slice(1, -1),) * mask.ndim] >= 0.6 * depth.max()
    out = np.zeros_like(mask)
    out[box] = inner
    return out


def _local_window(smooth: Array, seeds: Binary) -> tuple[float, float]:
    """Return centre and half-width of a window on the tissue pointed at, from the seeds and what is round them."""
    coarse = (slice(None, None, 2),) * smooth.ndim
    if not seeds.any():
        centre, around = float(np.median(smooth[coarse])), smooth[coarse].ravel()
    else:
        centre = float(np.median(smooth[seeds]))
        reach = int(_NEIGHBOURHOOD * max(smooth.shape) / 4) * 2 + 1
        near = ndimage.maximum_filter(seeds[coarse], reach, mode="constant")
        around = smooth[coarse][near] if near.any() else smooth.ravel()
    spread = float(np.median(np.abs(around - centre)))
    return centre, 2 * float(np.clip(spread, 0.012, 0.2))


def _similarity(smooth: Array, seeds: Binary, half_width: float) -> Array:
    """Return how alike each voxel is to the seeds (1 the same, 0 far), by the nearest of up to eight seed values."""
    if not seeds.any():
        return np.zeros_like(smooth)
    values = np.unique(np.quantile(smooth[seeds], np.linspace(0.06, 0.94, 8)).astype(np.float32))
    gap = np.abs(smooth - values[0])
    for value in values[1:]:
        np.minimum(gap, np.abs(smooth - value), out=gap)
    return np.asarray(np.exp(-gap / np.float32(half_width)))


def _overlap(shift: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return where a line and its neighbour, shifted sideways, meet: slices of the one and of the other."""
    mine = tuple(slice(max(s, 0), None if s >= 0 else s) for s in shift)
    other = tuple(slice(max(-s, 0), None if s <= 0 else -s) for s in shift)
    return mine, other


def _geodesic(
    stacked: Float[np.ndarray, "k n *space"], seeds: Bool[np.ndarray, "n *space"]
) -> Float[np.ndarray, "n *space"]:
    """Return nearness to the seeds along paths that avoid edges: 1 at a seed, 0 far away or without seeds.

    Args:
        stacked: Two pictures whose change costs, already weighted.
        seeds: Where the paths begin.
    """
    if not seeds.any():
        return np.zeros(seeds.shape, dtype=np.float32)
    distance = np.where(seeds, np.float32(0), _FAR)
    dims = seeds.ndim - 1
    side = np.float32(1.0 / max(seeds.shape[1:]))
    shifts = list(product((-1, 0, 1), repeat=dims - 1))
    plans = []
    for axis in range(1, dims + 1):
        pictures = np.ascontiguousarray(np.moveaxis(stacked, axis + 1, 1))  # (k, line, n, ...)
        steps = []
        for shift in shifts:
            mine, other = _overlap(shift)
            length = side * np.float32(np.sqrt(1 + sum(s * s for s in shift)))
            later, earlier = pictures[:, 1:], pictures[:, :-1]
            at, frm = (slice(None), slice(None), slice(None), *mine), (slice(None), slice(None), slice(None), *other)
            down = np.abs(later[at] - earlier[frm]).sum(axis=0) + length
            up = np.abs(earlier[at] - later[frm]).sum(axis=0) + length
            steps.append(((slice(None), *mine), (slice(None), *other), down, up))
        plans.append((axis, steps))
    for _ in range(2):
        for axis, steps in plans:
            lines = np.ascontiguousarray(np.moveaxis(distance, axis, 0))
            count = lines.shape[0]
            for line in range(1, count):
                here, before = lines[line], lines[line - 1]
                for mine, other, down, _ in steps:
                    np.minimum(here[mine], before[other] + down[line - 1], out=here[mine])
            for line in range(count - 2, -1, -1):
                here, before = lines[line], lines[line + 1]
                for mine, other, _, up in steps:
                    np.minimum(here[mine], before[other] + up[line], out=here[mine])
            distance = np.ascontiguousarray(np.moveaxis(lines, 0, axis))
    return np.asarray(np.exp(-np.minimum(distance, 50) / np.float32(_GEODESIC_SCALE)))


def _halves(array: np.ndarray) -> list[np.ndarray]:
    """Return the corners of every block of two along each axis after the first."""
    return [array[(slice(None), *(slice(o, None, 2) for o in at))] for at in product((0, 1), repeat=array.ndim - 1)]


def _halve_mean(planes: Float[np.ndarray, "n *space"]) -> Float[np.ndarray, "n *half"]:
    parts = _halves(planes)
    return np.asarray(sum(parts[1:], parts[0]) / np.float32(len(parts)))


def _halve_any(planes: Bool[np.ndarray, "n *space"]) -> Bool[np.ndarray, "n *half"]:
    return np.asarray(np.logical_or.reduce(_halves(planes)))


def encode_prompts(pictures: list[Picture], canvases: list[Canvas]) -> Float[np.ndarray, "n 10 *space"]:
    """Return the prompt channels of a batch.

    Args:
        pictures: All of one size with even sides.
        canvases: Their prompts.

    Returns:
        Channels: picture in the window of the tissue pointed at, positive, negative, region, previous, hint,
        similarity to positive and to negative, geodesic nearness to positive and to negative.
    """
    inner, alike, unlike, local, local_smooth = [], [], [], [], []
    for picture, canvas in zip(pictures, canvases, strict=True):
        soft = picture.smooth
        seeds = canvas.positive | (_core(canvas.hint > 0.5) & ~canvas.negative)
        centre, half = _local_window(soft, seeds if seeds.any() else _core(canvas.region) & ~canvas.negative)
        inner.append(seeds)
        alike.append(_similarity(soft, seeds, half))
        unlike.append(_similarity(soft, canvas.negative, half))
        local.append(np.clip((picture.values - centre) / (2 * half), -1.5, 1.5))
        local_smooth.append(np.clip((soft - centre) / (2 * half), -1.5, 1.5))
    drawn = [np.stack([getattr(c, n) for c in canvases]) for n in ("positive", "negative", "region")]
    known = [np.stack([getattr(c, n) for c in canvases]) for n in ("previous", "hint")]
    count = len(pictures)
    smooth = _halve_mean(np.stack([p.smooth for p in pictures]))
    costs = np.stack(
        [
            np.concatenate([smooth] * 2) * np.float32(_GEODESIC_CONTRAST),
            np.concatenate([_halve_mean(np.stack(local_smooth).astype(np.float32))] * 2)
            * np.float32(_GEODESIC_LOCAL_CONTRAST),
        ]
    )
    near = _geodesic(costs, _halve_any(np.concatenate([np.stack(inner), drawn[1]])))
    for axis in range(1, near.ndim):
        near = near.repeat(2, axis=axis)
    planes = (np.stack(local), *drawn, *known, np.stack(alike), np.stack(unlike), near[:count], near[count:])
    return np.stack([p.astype(np.float32) for p in planes], axis=1)
