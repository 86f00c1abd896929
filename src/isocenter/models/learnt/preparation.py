"""From an image to the network's grid, and answers back to the image's own voxels.

Axes are turned to one order and direction, voxels are resized to one spacing with the edges of the grid kept where
they are, and intensities are brought to mean 0 and deviation 1: by numbers of the set where they have a unit (CT) or
are shapes of two values, by each image's own where they do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core import Image, Quantity
from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.models.learnt.region import Region
from isocenter.models.orientation import Turned
from isocenter.models.preparation import normalise

__all__ = ["Preparation", "Prepared", "resized"]

_FRONTAL = ("PA", "AP")
_LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


def resized(array: Float[np.ndarray, "*space"], shape: Sequence[int]) -> Float[np.ndarray, "*other"]:
    """Resize along every axis, linearly; where it shrinks, over as many voxels as it shrinks by.

    The outer edges of the first and last voxels stay where they are.

    Args:
        array: Values.
        shape: Wanted.

    Example:
        >>> resized(np.array([0.0, 1.0, 2.0, 3.0], np.float32), (2,)).tolist()
        [0.5, 2.5]
    """
    out = np.asarray(array, dtype=np.float32)
    for axis, (before, after) in enumerate(zip(array.shape, shape, strict=True)):
        if before == after:
            continue
        step = before / after
        at = (np.arange(after) + 0.5) * step - 0.5
        if step > 1:
            low, high = at - step / 2, at + step / 2
            edges = np.arange(before)
            weights = np.clip(np.minimum(high[:, None], edges + 0.5) - np.maximum(low[:, None], edges - 0.5), 0, None)
            weights /= weights.sum(axis=1, keepdims=True)
        else:
            weights = np.clip(1 - np.abs(np.clip(at, 0, before - 1)[:, None] - np.arange(before)), 0, None)
        out = np.moveaxis(np.tensordot(weights.astype(np.float32), out, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(out)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A prepared image, and the way back from it.

    Args:
        array: (channel, *space), mean about 0 and deviation about 1.
        turn: How its axes were turned.
        shape: Of the turned image, or of its part that is looked at, before it was resized.
        whole: Of the turned image, where only a part of it is looked at.
        corner: Row and column of that part.
        negated: Whether larger values were darker, and the negative was taken.
        first: Where the array begins on a lattice of its voxels that does not grow with the image
            (`models.learnt.sliding`); () where it has no place.
    """

    array: Float[np.ndarray, "channel *space"]
    turn: Turned
    shape: tuple[int, int, int]
    whole: tuple[int, int, int] | None = None
    corner: tuple[int, int] = (0, 0)
    negated: bool = False
    first: tuple[int, ...] = ()

    def _part(self) -> tuple[slice, slice, slice]:
        (row, column), (_, rows, columns) = self.corner, self.shape
        return slice(None), slice(row, row + rows), slice(column, column + columns)

    def label(self, mask: Shaped[np.ndarray, "z y x"]) -> Shaped[np.ndarray, "*space"]:
        """Bring class numbers onto the prepared grid: of each voxel the class at its centre."""
        turned = self.turn.forward(mask)[self._part()]
        space = self.array.shape[1:]
        wanted = (1, *space) if len(space) == 2 else space
        for axis, (before, after) in enumerate(zip(turned.shape, wanted, strict=True)):
            if before != after:
                at = np.floor((np.arange(after) + 0.5) * before / after).astype(int)
                turned = np.take(turned, at, axis=axis)
        return np.ascontiguousarray(turned[0] if len(space) == 2 else turned)

    def back(self, values: Float[np.ndarray, "k *space"]) -> Float[np.ndarray, "k z y x"]:
        """Bring values (probabilities) of the prepared grid back to the image's own voxels; 0 where it did not look."""
        deep = values[:, None] if values.ndim == 3 else values
        found = []
        for one in deep:
            part = resized(one, self.shape)
            if self.whole is not None:
                all_of_it = np.zeros(self.whole, dtype=part.dtype)
                all_of_it[self._part()] = part
                part = all_of_it
            found.append(self.turn.backward(part))
        return np.stack(found)


def _lattice(image: Image, turn: Turned) -> tuple[int, ...]:
    """Return where a turned image begins along each axis, in voxels from the origin of its frame of reference.

    A series that grows at either end keeps its planes' places. Half a voxel, where centred images begin, is no edge.
    """
    geometry = image.geometry
    if geometry.affine is None or geometry.spacing_mm is None or geometry.directions is None:
        return ()
    at = geometry.affine[:3, 3] @ geometry.directions / np.asarray(geometry.spacing_mm)
    return tuple(
        math.floor((-(float(at[axis]) + geometry.shape[axis] - 1) if flip else float(at[axis])) + 0.3)
        for axis, flip in zip(turn.order, turn.flips, strict=True)
    )


def _upright(image: Image) -> None:
    """Refuse a picture whose header says that it is not an upright frontal one, with the patient's left on the right.

    Raises:
        PixelError: So it is.
    """
    lies = image.geometry.patient_orientation
    if any(lies) and lies != ("L", "F"):
        raise PixelError(
            f"its header says that it is stored along {lies[0] or '?'}\\{lies[1] or '?'}; it learnt from upright "
            "frontal pictures (L\\F): turn it first"
        )
    view = str(image.meta.get("ViewPosition", "")).strip().upper()
    if view and view not in _FRONTAL:
        raise PixelError(f"its header says that the view is {view}; it learnt from frontal ones")


@dataclass(frozen=True)
class Preparation:
    """How images are prepared.

    Args:
        dims: 2 for single planes, 3 for volumes.
        channels: Channels that the network sees; 1 takes the luminance of a colour image.
        orientation: Order and direction of axes (as `Geometry.orientation`); None leaves them.
        spacing_mm: Of the network's grid, along the turned axes; None leaves voxels as they are.
        intensity: "image" normalises each image by itself, "set" by the numbers below (where values have a unit).
            "shape" takes images of two values, 0 and 1 whatever they are, and the mean and deviation below.
        clip: Least and largest value, for "set".
        mean: For "set" and "shape".
        deviation: For "set" and "shape".
        size: All images are resized to this, after the spacing; None leaves them.
        longest: Planes without spacing are brought to this longest side, their shape kept; None leaves them.
        region: Organ whose box alone is looked at (`models.learnt.region`), of upright pictures; None for all of it.
        region_sha256: Of the weights that find it.

    Raises:
        ConfigError: A number is out of range.
    """

    dims: int
    channels: int = 1
    orientation: str | None = None
    spacing_mm: tuple[float, float, float] | None = None
    intensity: Literal["image", "set", "shape"] = "image"
    clip: tuple[float, float] | None = None
    mean: float = 0.0
    deviation: float = 1.0
    size: tuple[int, ...] | None = None
    longest: int | None = None
    region: str | None = None
    region_sha256: str = ""

    def __post_init__(self) -> None:
        if self.dims not in (2, 3) or self.channels < 1 or self.deviation <= 0:
            raise ConfigError(f"dims must be 2 or 3, channels and deviation positive, got {self}")
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise ConfigError(f"spacing must be positive, got {self.spacing_mm}")
        if self.size is not None and (len(self.size) != self.dims or min(self.size) < 1):
            raise ConfigError(f"size needs {self.dims} positive numbers, got {self.size}")
        if self.longest is not None and (self.dims != 2 or self.size or self.spacing_mm or self.longest < 8):
            raise ConfigError("a longest side, of 8 or more, is of planes without spacing and of no set size")
        if (self.intensity == "set") != (self.clip is not None):
            raise ConfigError("the set's own intensities need the range that they are clipped to")
        if self.region is not None and (self.dims != 2 or self.size is None):
            raise ConfigError("a region is of pictures that are brought to one size")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> Preparation:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        try:
            return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})  # type: ignore[arg-type]
        except TypeError as error:
            raise ConfigError(f"this is not how images are prepared: {error}") from error

    def forward(self, image: Image) -> Prepared:
        """Prepare an image.

        Raises:
            GeometryError: It has several planes and one is wanted, or spacing is needed and not known.
            PixelError: It is flat, not finite, no shape where shapes were learnt from, has other channels than the
                network sees, or the organ that is looked at was not found.
            WeightsError: The weights that find the organ are missing, or not those that were learnt with.
        """
        if self.intensity == "set" and image.quantity is not Quantity.HU:
            raise PixelError(f"learnt from images in Hounsfield units; the values of this one are {image.quantity}")
        turn = Turned.to(image.geometry, self.orientation)
        array = np.stack([turn.forward(channel) for channel in self._channels(image)])
        shape = (array.shape[1], array.shape[2], array.shape[3])
        if self.dims == 2 and shape[0] != 1:
            raise GeometryError(f"learnt from single planes; this image has {shape[0]}")
        whole, corner = None, (0, 0)
        if self.region is not None:
            _upright(image)
            rows, columns = Region(self.region, self.region_sha256).box(array.mean(axis=0)[0])
            array, whole, corner = array[:, :, rows, columns], shape, (rows.start, columns.start)
            shape = (1, array.shape[2], array.shape[3])
        space = self._space(shape, turn, image)
        values = np.stack([resized(self._intensities(channel), space) for channel in array])
        first = _lattice(image, turn) if self.dims == 3 else ()
        return Prepared(
            values[:, 0] if self.dims == 2 else values, turn, shape, whole, corner, self._negates(image), first
        )

    def _space(self, shape: tuple[int, int, int], turn: Turned, image: Image) -> tuple[int, int, int]:
        if self.size is not None:
            whole = (1, *self.size) if self.dims == 2 else self.size
            return (whole[0], whole[1], whole[2])
        if self.longest is not None:
            scale = self.longest / max(shape[1:])
            return (1, max(1, round(shape[1] * scale)), max(1, round(shape[2] * scale)))
        if self.spacing_mm is None:
            return shape
        spacing = image.geometry.spacing_mm
        if spacing is None:
            raise GeometryError("learnt from images whose spacing is known; this image has none")
        wanted = [max(1, round(n * s / w)) for n, s, w in zip(shape, turn.of(spacing), self.spacing_mm, strict=True)]
        return (1 if self.dims == 2 else wanted[0], wanted[1], wanted[2])

    def _negates(self, image: Image) -> bool:
        return self.intensity != "set" and image.dark_is_high

    def _channels(self, image: Image) -> Float[np.ndarray, "c z y x"]:
        array = image.array.astype(np.float32)
        if not np.isfinite(array).all():
            raise PixelError("the image holds values that are not finite (NaN or infinity); repair or crop it first")
        if self._negates(image):
            array = -array
        if self.channels == 1 and len(array) == 3 and image.quantity is Quantity.RGB:
            return np.asarray(np.tensordot(_LUMINANCE, array, 1)[None], dtype=np.float32)
        if self.channels == 3 and len(array) == 1 and image.geometry.shape[0] == 1:
            return np.repeat(array, 3, axis=0)  # a grey picture among coloured ones
        if len(array) != self.channels:
            raise PixelError(f"learnt from images with {self.channels} channels; this one has {len(array)}")
        return array

    def _intensities(self, channel: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
        if self.intensity == "set" and self.clip is not None:
            return np.asarray((np.clip(channel, *self.clip) - self.mean) / self.deviation, dtype=np.float32)
        if self.intensity == "shape":
            low, high = float(channel.min()), float(channel.max())
            if low == high or not np.all((channel == low) | (channel == high)):
                raise PixelError("learnt from shapes of two values; this image has one value, or more than two")
            return np.asarray(((channel == high) - self.mean) / self.deviation, dtype=np.float32)
        return normalise(channel)
