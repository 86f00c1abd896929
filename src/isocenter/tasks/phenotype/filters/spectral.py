"""Filters that are no product: Laplacian of Gaussian, Gabor, and those made in Fourier space (Simoncelli, Riesz)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float
from scipy import fft, signal

__all__ = ["Wave", "gabor_response", "laplacian_of_gaussian", "riesz_transform", "simoncelli_response"]

Image3 = Float[np.ndarray, "z y x"]


@dataclass(frozen=True)
class Wave:
    """A Gabor filter in voxels.

    Args:
        deviation: Of the Gaussian along the wave.
        wavelength: Of the wave.
        gamma: Deviation along the wave over that across it.
    """

    deviation: float
    wavelength: float
    gamma: float


_PAD = {"constant": "constant", "nearest": "edge", "wrap": "wrap", "reflect": "symmetric"}
_GABOR_DEVIATIONS = 5.0


def _padded(image: np.ndarray, reach: Sequence[int], mode: str) -> np.ndarray:
    """Extend an image on all sides as `mode` says, as far as a kernel reaches."""
    return np.pad(image, [(r, r) for r in reach], mode=_PAD[mode])  # type: ignore[call-overload,no-any-return]


def laplacian_of_gaussian(image: Image3, deviation: Sequence[float], cutoff: float, mode: str) -> Image3:
    """Return the response to a Laplacian of Gaussian.

    Args:
        image: The image.
        deviation: Of the Gaussian in voxels along z, y and x; 0 along z for slices one by one.
        cutoff: Where the kernel ends, in deviations.
        mode: Of the boundary.
    """
    reach = [int(np.floor(cutoff * s + 0.5)) for s in deviation]
    grids = np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij", sparse=True)
    used = [(g, s) for g, s in zip(grids, deviation, strict=True) if s > 0]
    # Spacings may differ between axes, so distances are in deviations; the scale is that of the first used axis.
    squared = sum((g / s) ** 2 for g, s in used)
    scale = math.prod(1 / (math.sqrt(2 * math.pi) * s) for _, s in used)
    kernel = -scale / used[0][1] ** 2 * (len(used) - squared) * np.exp(-squared / 2)
    return np.asarray(signal.fftconvolve(_padded(image, reach, mode), kernel, mode="valid"))


def gabor_response(image: Image3, wave: Wave, thetas: Sequence[float], mode: str) -> Image3:
    """Return the modulus of the response to a Gabor filter in each plane across z, mean over directions.

    Args:
        image: The image.
        wave: The filter.
        thetas: Directions of the wave in radians, from x towards y.
        mode: Of the boundary.
    """
    reach = int(np.ceil(_GABOR_DEVIATIONS * wave.deviation * max(1.0, 1 / wave.gamma)))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    extended = _padded(image, (0, reach, reach), mode)
    size = [int(fft.next_fast_len(n)) for n in extended.shape[1:]]
    spectrum = fft.fft2(extended, size)
    height, width = image.shape[1:]
    total = np.zeros(image.shape)
    for theta in thetas:
        along = x * math.cos(theta) + y * math.sin(theta)
        across = -x * math.sin(theta) + y * math.cos(theta)
        shape = (along**2 + wave.gamma**2 * across**2) / (2 * wave.deviation**2)
        kernel = np.exp(-shape + 2j * np.pi * along / wave.wavelength)
        answer = fft.ifft2(spectrum * fft.fft2(kernel, size))
        total += np.abs(answer[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width])
    return total / len(thetas)


def _frequencies(shape: Sequence[int]) -> list[np.ndarray]:
    """Return angular frequencies along z, y and x in units of pi: 1 is the highest that the grid holds."""
    return list(np.meshgrid(*(fft.fftfreq(n) * 2 for n in shape), indexing="ij", sparse=True))


def simoncelli_response(
    image: Image3, level: int, orders: tuple[int, ...] | None = None, *, flat: bool = False
) -> Image3:
    """Return the band-pass response of Simoncelli's isotropic wavelet, the image taken as periodic.

    Frequencies lie as in the consensus of IBSI-2: n of them spread evenly from -1 to 1, both ends among them, which is
    half a step off the frequencies of the Fourier transform; the real part of the response is taken.

    Args:
        image: The image.
        level: 1 or more; each halves the frequencies.
        orders: Orders along x, y (and z) of a Riesz transform of it; None for none.
        flat: Whether slices are filtered one by one.

    Source:
        Portilla and Simoncelli 2000; IBSI-2 manual.
    """
    axes = (1, 2) if flat else (0, 1, 2)
    sides = [image.shape[a] for a in axes]
    spread = [fft.ifftshift(np.linspace(-1, 1, n)) if n > 1 else np.zeros(1) for n in sides]
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(*spread, indexing="ij", sparse=True))) * 2 ** (level - 1)
    inside = (radius > 0.25) & (radius <= 1)
    band = np.where(inside, np.cos(np.pi / 2 * np.log2(2 * np.where(inside, radius, 1.0))), 0.0)
    spectrum: Complex[np.ndarray, "..."] = fft.fftn(image, axes=axes) * band
    if orders is not None:
        spectrum = spectrum * _riesz(_frequencies(sides), orders[::-1])
    return np.asarray(fft.ifftn(spectrum, axes=axes).real)


def riesz_transform(image: Image3, orders: tuple[int, ...], *, flat: bool = False) -> Image3:
    """Return the Riesz transform of an image, taken as periodic.

    Args:
        image: The image, or a response map of an isotropic filter.
        orders: Along x, y (and z); (1, 0, 0) is the first-order transform along x.
        flat: Whether slices are transformed one by one.

    Source:
        Unser and Van De Ville 2010; IBSI-2 manual.
    """
    axes = (1, 2) if flat else (0, 1, 2)
    grids = _frequencies([image.shape[a] for a in axes])
    return np.asarray(fft.ifftn(fft.fftn(image, axes=axes) * _riesz(grids, orders[::-1]), axes=axes).real)


def _riesz(grids: Sequence[np.ndarray], orders: Sequence[int]) -> np.ndarray:
    """Return the transform's factor at each frequency; 0 at frequency 0."""
    total = sum(orders)
    scale = math.sqrt(math.factorial(total) / math.prod(math.factorial(o) for o in orders))
    radius = np.sqrt(sum(g**2 for g in grids))
    powers = math.prod(1.0 * g**o for g, o in zip(grids, orders, strict=True))
    safe = np.where(radius > 0, radius, 1.0) ** total
    return np.asarray((-1j) ** total * scale * powers / safe * (radius > 0))
