"""Make an image worse, and its mask with it where the picture moves."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Shaped

from isocenter.core import Geometry, Image, Source
from isocenter.core.errors import ConfigError, GeometryError
from isocenter.evaluate.corruption.kind import Corruption, Scene, scene_of
from isocenter.evaluate.corruption.noise import NOISE
from isocenter.evaluate.corruption.picture import PICTURE
from isocenter.evaluate.corruption.placing import PLACING, turned
from isocenter.evaluate.corruption.scanner import SCANNER

__all__ = ["CORRUPTIONS", "Corrupted", "corrupt", "corruptions_for"]

CORRUPTIONS: Final = MappingProxyType({one.name: one for one in (*NOISE, *SCANNER, *PICTURE, *PLACING)})
"""Every kind by name."""


@dataclass(frozen=True, eq=False)
class Corrupted:
    """An image that was made worse.

    Args:
        image: On its own grid, which a crop makes smaller; without the source's identity: it is another image.
        mask: The mask on the same grid; None where none was given.
    """

    image: Image
    mask: Shaped[np.ndarray, "z y x"] | None


def corruptions_for(image: Image) -> tuple[Corruption, ...]:
    """Return the kinds that are meant for an image."""
    return tuple(one for one in CORRUPTIONS.values() if one.misfit(image) is None)


def corrupt(
    image: Image, kind: str, grade: int, *, seed: int = 0, mask: Shaped[np.ndarray, "z y x"] | None = None
) -> Corrupted:
    """Make an image worse.

    Args:
        image: Any; every channel is changed alike.
        kind: Name of a corruption.
        grade: 1 to 5.
        seed: Decides everything random; the same for all grades of one curve.
        mask: Labels or a bool mask on the image's grid.

    Returns:
        The image with its type of numbers, and the mask: moved where the picture moved, untouched otherwise.

    Raises:
        ConfigError: There is no such kind or grade, or it is not meant for this image.
        GeometryError: The mask is on another grid.
        PixelError: The image is flat.

    Example:
        >>> ramp = np.arange(64 * 64, dtype=np.int16).reshape(1, 1, 64, 64)
        >>> image = Image(ramp, Geometry((1, 64, 64)), modality="US")
        >>> [int(np.abs(corrupt(image, "gamma", g).image.array - ramp).mean()) for g in (1, 3, 5)]
        [139, 573, 1050]
    """
    corruption = CORRUPTIONS.get(kind)
    if corruption is None:
        raise ConfigError(f"no corruption is named {kind!r}; there are: {', '.join(CORRUPTIONS)}")
    if grade not in corruption.grades:
        raise ConfigError(f"{kind} has the grades {', '.join(map(str, corruption.grades))}, not {grade}")
    reason = corruption.misfit(image)
    if reason is not None:
        raise ConfigError(reason)
    if mask is not None and mask.shape != image.geometry.shape:
        raise GeometryError(f"the mask {mask.shape} is not on the image's grid {image.geometry.shape}")

    def scene() -> Scene:
        """Return the same scene for every channel: the noise of a colour is that of its picture."""
        return scene_of(image, grade, np.random.default_rng((seed, zlib.crc32(kind.encode()))))

    channels = [channel.astype(np.float64) for channel in image.array]
    geometry = image.geometry
    if corruption.change is not None:
        channels = [corruption.change(channel, scene()) for channel in channels]
    elif corruption.turn is not None:
        how = scene()
        degrees = corruption.turn(how)
        fill = float(np.nanmin(image.array))
        channels = [turned(c, degrees, how.spacing, order=1, fill=fill) for c in channels]
        if mask is not None:
            mask = turned(mask, degrees, how.spacing, order=0, fill=0).astype(mask.dtype)
    elif corruption.cut is not None:
        box = corruption.cut(geometry.shape, scene())
        channels = [channel[box] for channel in channels]
        mask = None if mask is None else np.ascontiguousarray(mask[box])
        geometry = _cut(geometry, box)
    note = f"made worse on purpose: {kind}, grade {grade}, seed {seed}"
    made = replace(
        image,
        array=_as_stored(np.stack(channels), image.array),
        geometry=geometry,
        source=Source(),
        notes=(*image.notes, note),
    )
    return Corrupted(made, mask)


def _cut(geometry: Geometry, box: tuple[slice, slice, slice]) -> Geometry:
    shape = tuple(part.stop - part.start for part in box)
    return geometry.cropped((box[0].start, box[1].start, box[2].start), (shape[0], shape[1], shape[2]))


def _as_stored(made: Shaped[np.ndarray, "c z y x"], like: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "c z y x"]:
    """Return values in the type of the image; those that are never negative stay so."""
    if like.size and float(np.nanmin(like)) >= 0:
        made = np.maximum(made, 0)
    if like.dtype.kind == "f":
        return np.ascontiguousarray(made, dtype=like.dtype)
    limits = np.iinfo(like.dtype)
    stored: Shaped[np.ndarray, "c z y x"] = np.clip(np.rint(made), limits.min, limits.max).astype(like.dtype)
    return stored
