"""What goes wrong while an image is taken: a patient who moves, a coil that shades, thick slices, another phase."""

from __future__ import annotations

import numpy as np
from jaxtyping import Complex, Float
from scipy import fft, ndimage

from isocenter.evaluate.corruption.kind import Corruption, Scene, Volume

__all__ = ["SCANNER"]

_CENTRE = 0.06
"""Share of the lines round the middle of k-space that are taken while the patient is still: they hold the contrast."""


def _lines(count: int) -> Float[np.ndarray, " n"]:
    """Return the frequency of each line, cycles per voxel, -0.5 to 0.5, in the order of the transform."""
    lines: Float[np.ndarray, " n"] = fft.fftfreq(count)
    return lines


def _finite(volume: Volume, scene: Scene) -> Volume:
    filled: Volume = np.nan_to_num(volume, nan=scene.low, posinf=scene.high, neginf=scene.low)
    return filled


def _from_lines(k: Complex[np.ndarray, "z y x"], before: Volume) -> Volume:
    image: Volume = fft.ifft2(k, axes=(1, 2)).real
    return np.where(np.isfinite(before), image, before)


def _motion(volume: Volume, scene: Scene) -> Volume:
    """Bands of k-space lines of a patient who lay a little elsewhere: each band gets the phase of its own shift."""
    k = fft.fft2(_finite(volume, scene), axes=(1, 2))
    ky, kx = _lines(volume.shape[1]), _lines(volume.shape[2])
    reach = scene.of((0.006, 0.012, 0.02, 0.032, 0.05)) * min(volume.shape[1:])
    bands = 6
    shifts = scene.rng.uniform(-1, 1, (bands, 2)) * reach
    which = scene.rng.permutation(bands)[np.minimum((np.abs(ky) * 2 * bands).astype(int), bands - 1)]
    still = np.abs(ky) < _CENTRE / 2
    dy, dx = (np.where(still, 0.0, shifts[which, axis]) for axis in (0, 1))
    phase = np.exp(-2j * np.pi * (ky * dy)[:, None] - 2j * np.pi * dx[:, None] * kx[None, :])
    return _from_lines(k * phase, volume)


def _ghosting(volume: Volume, scene: Scene) -> Volume:
    """Every third line weaker, as breathing and pulsing make it: copies of the patient along the lines."""
    k = fft.fft2(_finite(volume, scene), axes=(1, 2))
    ky = _lines(volume.shape[1])
    order = np.argsort(np.argsort(ky))
    weak = (order % 3 == int(scene.rng.integers(3))) & (np.abs(ky) >= _CENTRE / 2)
    gain = np.where(weak, 1 - scene.of((0.15, 0.3, 0.5, 0.7, 0.95)), 1.0)
    return _from_lines(k * gain[None, :, None], volume)


def _bias(volume: Volume, scene: Scene) -> Volume:
    """A smooth factor over the image, as a coil's profile: at grade 5 from about 1 / 2.7 to 2.7."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in volume.shape), indexing="ij")
    first, second = scene.rng.normal(0, 1, 3), scene.rng.normal(0, 0.6, 3)
    field = sum(
        (a * axis + b * axis**2 for a, b, axis in zip(first, second, axes, strict=True)), np.zeros(volume.shape)
    )
    field = field - field.mean()
    field /= max(float(np.abs(field).max()), 1e-9)
    floor = min(0.0, float(np.nanmin(volume)))
    made: Volume = (volume - floor) * np.exp(scene.of((0.12, 0.28, 0.48, 0.72, 1.0)) * field) + floor
    return made


def _thick(volume: Volume, scene: Scene) -> Volume:
    """Slices 2 to 6 times as thick, put back on the grid by straight lines."""
    axis = int(np.argmax(scene.spacing)) if min(volume.shape) > 1 and max(scene.spacing) > min(scene.spacing) else 0
    count, factor = volume.shape[axis], scene.grade + 1
    thick = ndimage.uniform_filter1d(_finite(volume, scene), factor, axis=axis, mode="nearest")
    centres = np.arange(factor // 2, count, factor)
    if not len(centres):
        centres = np.array([count // 2])
    # A mean over an even number of slices lies between two of them, half a slice before its place in the array.
    middles = centres - (0.5 if factor % 2 == 0 else 0.0)
    place = np.interp(np.arange(count), middles, np.arange(len(centres)))
    below = np.floor(place).astype(int)
    above = np.minimum(below + 1, len(centres) - 1)
    share = (place - below).reshape([-1 if a == axis else 1 for a in range(3)])
    kept = np.take(thick, centres, axis=axis)
    made: Volume = np.take(kept, below, axis=axis) * (1 - share) + np.take(kept, above, axis=axis) * share
    return made


def _washed_out(volume: Volume, scene: Scene) -> Volume:
    """Another contrast phase: what is brighter than soft tissue and darker than bone comes down to soft tissue."""
    share = scene.of((0.15, 0.3, 0.5, 0.7, 0.9))
    inside = (volume > 40) & (volume < 350)
    return np.where(inside, 40 + (volume - 40) * (1 - share), volume)


SCANNER = (
    Corruption("motion", "the patient moved by up to 0.6 to 5 % of the picture", ("MR",), _motion),
    Corruption("ghosting", "every third line weaker by 15 to 95 %", ("MR",), _ghosting),
    Corruption("bias-field", "a smooth factor, up to 1.1 to 2.7", ("MR",), _bias),
    Corruption("thick-slices", "slices 2 to 6 times as thick", ("CT", "MR", "PT", "NM"), _thick, volume_only=True),
    Corruption("contrast-phase", "contrast medium washed out by 15 to 90 %", ("CT",), _washed_out),
)
"""All that scanners do."""
