"""Did the patient move between two neighbouring slices? A sign that needs no reference.

Anatomy changes smoothly from slice to slice; a patient who moves while the table or the slices go on leaves a jump: the
next slice fits the last one better when it is shifted. For each pair of neighbours the shift is found by phase
correlation, and counts where it is larger than what this series has elsewhere and where undoing it explains a good part
of the difference. Motion within a slice (ghosts along the phase axis of MR) is `quality.ghost_sign`.

Source:
    Kuglin and Hines, IEEE Conf. Cybernetics and Society 1975 (phase correlation). What the limits find and what they
    cry wolf over is measured in docs/results/arrival-checks.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped, UInt8
from scipy import ndimage

__all__ = ["Jump", "Thumbnail", "between", "jumps", "thumbnail"]

SIDE = 112
"""Pixels of the longer side of a thumbnail, at most."""
JUMP_MM = 3.0
"""A shift is a jump from here on (ours; measured)."""
OUTSTANDING = 4.0
"""And from so many times the series' usual shift (ours; measured)."""
EXPLAINED = 0.15
"""And where undoing it takes away this share of the difference (ours; measured)."""
LEAST_PAIRS = 6
"""Fewer pairs of neighbours do not say what is usual."""
_FARTHEST = 0.25


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A slice as it is compared: small, its values within their usual range.

    Args:
        values: From the low end of their range (0) to its high end (255).
        spacing_mm: Between its rows and columns.
    """

    values: UInt8[np.ndarray, "y x"]
    spacing_mm: tuple[float, float]


@dataclass(frozen=True)
class Jump:
    """What lies between two neighbours.

    Args:
        shift_mm: How far the second must be shifted.
        explained: Share of their difference that is gone then; negative where it grows.
    """

    shift_mm: float
    explained: float


def thumbnail(
    plane: Shaped[np.ndarray, "y x"], spacing_mm: tuple[float, float], ends: tuple[float, float] | None = None
) -> Thumbnail:
    """Make a slice small.

    Args:
        plane: Its values.
        spacing_mm: Between rows and columns.
        ends: Values that become 0 and 1 (CT: air to bone); None takes 1st and 99th percentile of this slice.
    """
    step = max(1, -(-max(plane.shape) // SIDE))
    values = plane.astype(np.float32)
    rows, columns = (n - n % step for n in values.shape)
    small = values[:rows, :columns].reshape(rows // step, step, columns // step, step).mean(axis=(1, 3))
    low, high = ends or tuple(float(v) for v in np.percentile(small, (1, 99)))
    # Of one byte each: a study of ten thousand slices has as many of them in memory.
    small = np.round(255 * np.clip((small - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
    return Thumbnail(small, (spacing_mm[0] * step, spacing_mm[1] * step))


def between(one: Thumbnail, other: Thumbnail) -> Jump | None:
    """Compare two neighbours; None where one of them is empty."""
    a, b = one.values.astype(np.float32) / 255, other.values.astype(np.float32) / 255
    if a.shape != b.shape or min(a.std(), b.std()) < 0.02:
        return None
    rows, columns = (np.hanning(n + 2)[1:-1] for n in a.shape)
    window = np.outer(rows, columns)
    first, second = (np.fft.rfft2(_edges(v) * window) for v in (a, b))
    cross = first * np.conj(second)
    peak = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), a.shape)
    # Smooth, so that a shift between pixels is one peak; and no farther than a quarter of the slice.
    peak = ndimage.gaussian_filter(peak, 1.0, mode="wrap")
    far = [np.abs(np.fft.fftfreq(n) * n) > _FARTHEST * n for n in a.shape]
    peak[far[0]], peak[:, far[1]] = -np.inf, -np.inf
    at = np.unravel_index(int(np.argmax(peak)), peak.shape)
    shift = [_signed(_finer(peak, at, axis), n) for axis, n in enumerate(a.shape)]
    moved = ndimage.shift(b, shift, order=1, mode="nearest")
    margin = int(np.ceil(max(map(abs, shift)))) + 1
    if 2 * margin >= min(a.shape):
        return None
    inner = (slice(margin, -margin), slice(margin, -margin))
    before, after = (float(np.abs(a[inner] - v[inner]).mean()) for v in (b, moved))
    distance = math.hypot(*(s * mm for s, mm in zip(shift, one.spacing_mm, strict=True)))
    return Jump(distance, 1 - after / before if before > 1e-6 else 0.0)


def _edges(values: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    return np.asarray(ndimage.gaussian_gradient_magnitude(values, 1.0))


def _finer(peak: Float[np.ndarray, "y x"], at: Sequence[np.intp | int], axis: int) -> float:
    """Return where along an axis the parabola through a peak and its neighbours is highest."""
    place = [int(v) for v in at]
    values = []
    for step in (-1, 0, 1):
        other = list(place)
        other[axis] = (place[axis] + step) % peak.shape[axis]
        values.append(float(peak[other[0], other[1]]))
    curve = values[0] - 2 * values[1] + values[2]
    return place[axis] + (0.0 if not np.isfinite(curve) or curve >= 0 else 0.5 * (values[0] - values[2]) / curve)


def _signed(place: float, length: int) -> float:
    return place - length if place > length / 2 else place


def jumps(pairs: Sequence[Jump | None]) -> list[int]:
    """Return which pairs of a series the patient moved between.

    Args:
        pairs: In order; None where a pair says nothing.
    """
    known = [pair.shift_mm for pair in pairs if pair is not None]
    if len(known) < LEAST_PAIRS:
        return []
    limit = max(JUMP_MM, OUTSTANDING * float(np.median(known)))
    return [
        number
        for number, pair in enumerate(pairs)
        if pair is not None and pair.shift_mm >= limit and pair.explained >= EXPLAINED
    ]
