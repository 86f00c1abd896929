"""A filter by its settings: from an image to its response map, with boundary, rotations and energy as IBSI-2 says."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from isocenter.core import Image, Quantity
from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.tasks.phenotype.filters.kernels import laws_kernels, wavelet_pair
from isocenter.tasks.phenotype.filters.separable import pooled, separable, wavelet_response
from isocenter.tasks.phenotype.filters.spectral import (
    Wave,
    gabor_response,
    laplacian_of_gaussian,
    riesz_transform,
    simoncelli_response,
)

__all__ = ["Boundary", "Filter", "Kind", "filtered_image", "response_map"]

Kind = Literal["mean", "log", "laws", "gabor", "wavelet", "simoncelli", "riesz"]
Boundary = Literal["zero", "nearest", "periodic", "mirror"]
Image3 = Float[np.ndarray, "z y x"]

_MODES = {"zero": "constant", "nearest": "nearest", "periodic": "wrap", "mirror": "reflect"}
_ALIKE = 1e-3


@dataclass(frozen=True)
class Filter:
    """A filter of IBSI-2.

    Args:
        kind: Which.
        flat: Whether slices are filtered one by one (2D) instead of the volume (3D). A 3D Gabor filter is the mean
            over the three orthogonal sets of planes.
        boundary: What lies beyond the image. Simoncelli and Riesz take it as periodic whatever is said here.
        support: Of a mean: voxels along an axis, odd.
        deviation_mm: Of LoG and Gabor.
        cutoff: Of LoG: where its kernel ends, in deviations.
        kernels: Of Laws: e.g. "E5L5S5", along x, y and z.
        energy: Of Laws: delta of the energy map (mean of the absolute response over 2 delta + 1 voxels), 0 for none.
        wavelength_mm: Of Gabor.
        gamma: Of Gabor: how the deviation along the wave is to that across it.
        theta: Of Gabor: direction in radians; with `invariant`, the step between directions.
        wavelet: Of a separable wavelet: "haar", "db1" to "db10", "coif1".
        bands: Of it: "L" and "H" along x, y and z.
        level: Of a separable wavelet or Simoncelli's.
        orders: Of Riesz (alone or on Simoncelli's): along x, y and z; empty for none.
        invariant: Whether responses to rotations are pooled: right-angled ones for Laws (maximum) and wavelets (mean),
            directions of a full turn for Gabor (mean).

    Raises:
        ConfigError: A setting is missing, or not valid.
    """

    kind: Kind
    flat: bool = False
    boundary: Boundary = "mirror"
    support: int = 3
    deviation_mm: float = 1.0
    cutoff: float = 4.0
    kernels: str = ""
    energy: int = 0
    wavelength_mm: float = 2.0
    gamma: float = 1.0
    theta: float = 0.0
    wavelet: str = "haar"
    bands: str = ""
    level: int = 1
    orders: tuple[int, ...] = ()
    invariant: bool = False

    def __post_init__(self) -> None:
        axes = 2 if self.flat else 3
        if self.kind not in ("mean", "log", "laws", "gabor", "wavelet", "simoncelli", "riesz"):
            raise ConfigError(f"no filter {self.kind!r}")
        if self.boundary not in _MODES:
            raise ConfigError(f"a boundary is {', '.join(_MODES)}, not {self.boundary!r}")
        if self.support < 1 or self.support % 2 == 0:
            raise ConfigError(f"the support of a mean is an odd number of voxels, got {self.support}")
        if min(self.deviation_mm, self.cutoff, self.wavelength_mm, self.gamma) <= 0 or self.level < 1:
            raise ConfigError("deviation, cutoff, wavelength, gamma and level of a filter must be above 0")
        if self.energy < 0 or any(o < 0 for o in self.orders):
            raise ConfigError("the delta of an energy map and orders of a Riesz transform can't be negative")
        if self.kind == "laws" and len(laws_kernels(self.kernels)) != axes:
            raise ConfigError(f"Laws' kernels are {axes} here, e.g. {'L5E5' if self.flat else 'L5E5S5'!r}")
        if self.kind == "wavelet":
            wavelet_pair(self.wavelet)
            if len(self.bands) != axes or set(self.bands) - {"L", "H"}:
                raise ConfigError(f"the bands of a wavelet are {axes} letters L and H, got {self.bands!r}")
        if (self.kind == "riesz" or self.orders) and (len(self.orders) != axes or sum(self.orders) < 1):
            raise ConfigError(f"the orders of a Riesz transform are {axes} whole numbers, not all 0")
        if self.kind == "gabor" and self.invariant and not 0 < self.theta <= 2 * math.pi:
            raise ConfigError("the step between directions of a Gabor filter must be above 0 and at most a full turn")

    @property
    def name(self) -> str:
        """A short name, for tags: the kind and what sets it apart."""
        own = {
            "mean": f"s{self.support}",
            "log": f"s{self.deviation_mm:g}",
            "laws": f"{self.kernels}{f'_e{self.energy}' if self.energy else ''}",
            "gabor": f"s{self.deviation_mm:g}_g{self.gamma:g}_l{self.wavelength_mm:g}_t{self.theta:.4g}",
            "wavelet": f"{self.wavelet}_{self.bands}_{self.level}",
            "simoncelli": f"{self.level}",
            "riesz": "",
        }[self.kind]
        orders = "r" + "".join(map(str, self.orders)) if self.orders else ""
        ends = [own, orders, "2d" if self.flat else "3d", "invar" if self.invariant else ""]
        return "_".join(filter(None, [self.kind, *ends]))


def response_map(image: Image3, how: Filter, spacing_mm: tuple[float, float, float]) -> Image3:
    """Return the response of a volume to a filter.

    Args:
        image: The volume.
        how: The filter.
        spacing_mm: Along z, y and x.

    Raises:
        PixelError: The image holds values that are not finite.
        GeometryError: A Gabor filter needs pixels that are alike in all directions that it is used in.

    Source:
        IBSI-2 reference manual (https://arxiv.org/abs/2006.05470).

    Example:
        >>> impulse = np.zeros((3, 5, 5))
        >>> impulse[1, 2, 2] = 9.0
        >>> float(response_map(impulse, Filter("mean", flat=True), (1.0, 1.0, 1.0))[1, 1, 1])
        1.0
    """
    if not np.isfinite(image).all():
        raise PixelError("an image that is filtered can't hold values that are not finite numbers")
    values = image.astype(np.float64)
    axes, mode = (2 if how.flat else 3), _MODES[how.boundary]
    if how.kind == "mean":
        return separable(values, [np.full(how.support, 1 / how.support)] * axes, mode)
    if how.kind == "log":
        deviation = [how.deviation_mm / s for s in spacing_mm]
        return laplacian_of_gaussian(values, [0.0, *deviation[1:]] if how.flat else deviation, how.cutoff, mode)
    if how.kind == "laws":
        return _laws(values, how, axes, mode)
    if how.kind == "gabor":
        return _gabor(values, how, spacing_mm, mode)
    if how.kind == "wavelet":

        def respond(turned: Image3, order: tuple[int, ...]) -> Image3:
            return wavelet_response(turned, how.wavelet, "".join(how.bands[o] for o in order), how.level, mode)

        return pooled(values, axes, respond, "mean") if how.invariant else respond(values, tuple(range(axes)))
    if how.kind == "simoncelli":
        return simoncelli_response(values, how.level, how.orders or None, flat=how.flat)
    return riesz_transform(values, how.orders, flat=how.flat)


def _laws(image: Image3, how: Filter, axes: int, mode: str) -> Image3:
    kernels = laws_kernels(how.kernels)

    def respond(turned: Image3, order: tuple[int, ...]) -> Image3:
        return separable(turned, [kernels[o] for o in order], mode)

    found = pooled(image, axes, respond, "max") if how.invariant else respond(image, tuple(range(axes)))
    if not how.energy:
        return found
    return separable(np.abs(found), [np.full(2 * how.energy + 1, 1 / (2 * how.energy + 1))] * axes, mode)


def _gabor(image: Image3, how: Filter, spacing_mm: tuple[float, float, float], mode: str) -> Image3:
    used = spacing_mm[1:] if how.flat else spacing_mm
    if max(used) - min(used) > _ALIKE * max(used):
        raise GeometryError(f"a Gabor filter needs voxels alike in all its directions, these are {used} mm; resample")
    step = used[0]
    wave = Wave(how.deviation_mm / step, how.wavelength_mm / step, how.gamma)

    def planes(volume: Image3) -> Image3:
        return gabor_response(volume, wave, _directions(how), mode)

    turns: tuple[tuple[int, int, int], ...] = ((0, 1, 2),) if how.flat else ((0, 1, 2), (1, 0, 2), (2, 0, 1))
    return _over_planes(image, planes, turns)


def _directions(how: Filter) -> list[float]:
    if not how.invariant:
        return [how.theta]
    count = round(2 * math.pi / how.theta)
    if abs(count * how.theta - 2 * math.pi) > 1e-9 or count % 2:
        return np.arange(0, 2 * math.pi - 1e-9, how.theta).tolist()
    # The other half of the turn gives the same moduli, conjugates of these.
    return [k * how.theta for k in range(count // 2)]


def _over_planes(image: Image3, planes: Callable[[Image3], Image3], turns: tuple[tuple[int, int, int], ...]) -> Image3:
    found = [planes(image.transpose(t)).transpose(tuple(np.argsort(t).tolist())) for t in turns]
    return np.asarray(np.mean(found, axis=0))


def filtered_image(image: Image, how: Filter) -> Image:
    """Return the response map of an image, in no unit.

    Args:
        image: Of one channel.
        how: The filter.

    Raises:
        GeometryError: The spacing is not known, or does not suit the filter.
        PixelError: The image has more than one channel, or values that are not finite.
    """
    if image.array.shape[0] != 1:
        raise PixelError(f"a filter needs an image of one channel, this one has {image.array.shape[0]}")
    spacing = image.geometry.spacing_mm
    if spacing is None:
        raise GeometryError("a filter is in millimetres, and the spacing of this image is not known")
    if image.geometry.shape[0] == 1 and not how.flat:
        raise GeometryError("a single plane takes filters of planes (flat) alone")
    array = response_map(image.array[0].astype(np.float64), how, spacing)
    note = f"response to the filter {how.name}"
    return replace(image, array=array[None], quantity=Quantity.ARBITRARY, notes=(*image.notes, note))
