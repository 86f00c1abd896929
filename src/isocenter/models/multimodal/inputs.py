"""How images go into a multimodal model: fitted into the tower's size, intensities as the tower learnt them.

Everything is numpy and scipy; no image processor of transformers and no torchvision is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float

from isocenter.core import Image
from isocenter.core.errors import ConfigError, PixelError
from isocenter.models.learnt.preparation import resized
from isocenter.models.orientation import Turned
from isocenter.models.passport.document import Scaling
from isocenter.models.preparation import Letterbox, normalise

__all__ = ["ImageInput", "array_of", "folder_scaling"]

_RANK = MappingProxyType({"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2})
_OF_FILMS = MappingProxyType({"H": "S", "F": "I"})


@dataclass(frozen=True)
class ImageInput:
    """How a plane or a volume goes into the tower; never mirrored.

    Args:
        size: Pixels (rows, columns) of a square, or voxels (z, y, x).
        channels: Channels of the tower; all see the same grey values.
        mean: Of each channel, for towers that learnt from pictures of 0 to 1; empty: each image by its own mean and
            deviation.
        std: Likewise.

    Raises:
        ConfigError: A number is out of range, or a plane is no square.

    Example:
        >>> ImageInput((8, 8)).prepare(np.arange(24.0).reshape(4, 6)).shape
        (1, 8, 8)
    """

    size: tuple[int, ...]
    channels: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.size) not in (2, 3) or min(self.size) < 1 or (len(self.size) == 2 and len(set(self.size)) > 1):
            raise ConfigError(f"an image goes in as a square or as three sides, got {self.size}")
        counts = {len(self.mean), len(self.std)}
        if self.channels < 1 or counts not in ({0}, {self.channels}) or any(s <= 0 for s in self.std):
            raise ConfigError("mean and deviation are given for each channel, or for none; deviations are positive")

    @property
    def dims(self) -> int:
        """Axes of what goes in."""
        return len(self.size)

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_card(cls, values: Mapping[str, Any]) -> ImageInput:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        try:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"this is not how images go in: {error}") from error

    def prepare(self, image: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "channel *space2"]:
        """Return the tower's input for one plane (rows, columns) or volume (z, y, x).

        Raises:
            PixelError: Another number of axes, a flat image, or values that are not finite.
        """
        if image.ndim != self.dims:
            raise PixelError(f"the model sees {self.dims} axes, the image has {image.ndim}")
        flat = self._fitted(normalise(np.asarray(image, dtype=np.float32)))
        if not self.mean:
            return np.repeat(flat[None], self.channels, axis=0)
        # Normalising cut the image at its percentiles; darkest is 0, brightest 1, and what lies outside is dark.
        low, high = float(flat.min()), float(flat.max())
        grey = (flat - low) / max(high - low, 1e-6)
        return np.stack([(grey - m) / s for m, s in zip(self.mean, self.std, strict=True)]).astype(np.float32)

    def _fitted(self, image: Float[np.ndarray, "*space"]) -> Float[np.ndarray, "*space2"]:
        if self.dims == 3:
            return resized(image, self.size)
        rows, columns = image.shape
        if (rows, columns) == self.size:
            return image
        if not self.mean:
            return Letterbox(rows, columns, self.size[0]).forward(image)
        shifted = image - image.min()
        return Letterbox(rows, columns, self.size[0]).forward(shifted)


def array_of(image: Image, dims: int) -> Float[np.ndarray, "*space"]:
    """Return an image as a plane (rows, columns) or a volume (z, y, x) of grey values, as they go in.

    An image that says how it lies goes in as it is hung. Columns of a plane grow to the patient's left, in a sagittal
    plane to the back; rows grow to the feet, in an axial plane to the back. A volume is axial, from feet to head. A
    film whose columns run from front to back is not mirrored: which way it hangs is the reader's. An image that says
    nothing is taken as it is. Where larger values are darker (MONOCHROME1), the negative goes in.

    Raises:
        PixelError: A plane is wanted and there are several, or a volume and there is one plane; or the rows of a plane
            run where its columns should.
    """
    array = image.array.astype(np.float32).mean(axis=0)
    array = -array if image.dark_is_high else array
    if dims == 2:
        if len(array) != 1:
            raise PixelError(f"the model sees planes, this image has {len(array)}; give one")
        return _as_hung(array[0], image)
    if len(array) == 1:
        raise PixelError("the model sees volumes, this image is a single plane")
    return Turned.to(image.geometry, "SPL").forward(array)


def _as_hung(plane: Float[np.ndarray, "rows columns"], image: Image) -> Float[np.ndarray, "rows columns"]:
    letters = image.geometry.orientation
    if letters is not None:
        rows, columns = letters[1], letters[2]
        # Of its two axes the columns have the earlier one: left, then back, then feet.
        turned = _RANK[columns] > _RANK[rows]
    else:
        columns, rows = (_OF_FILMS.get(told[:1], told[:1]) for told in image.geometry.patient_orientation)
        turned = columns in ("S", "I")
    if turned:
        raise PixelError(
            f"the plane lies turned: its rows run towards {rows or 'no side'}, its columns towards {columns}; "
            "transpose it, with what it says of how it lies"
        )
    if columns == "R" or (columns == "A" and letters is not None):
        plane = plane[:, ::-1]
    if rows == "S" or (rows == "A" and (columns in ("L", "R") or letters is not None)):
        plane = plane[::-1]
    return np.ascontiguousarray(plane)


def folder_scaling(scaling: Scaling | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of three channels of 0 to 1, as a folder states them; 0.5 where it states none.

    Raises:
        ConfigError: It states something that is not for three channels.
    """
    if scaling is None or not scaling.mean or not scaling.std:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if len(scaling.mean) != 3 or len(scaling.std) != 3:
        raise ConfigError(f"the folder prepares {len(scaling.mean)} channels; pictures have three")
    # What is stated is for pictures of 0 to 255 times a factor: brought to 0 to 1.
    reach = 255 * scaling.factor
    return tuple(m / reach for m in scaling.mean), tuple(s / reach for s in scaling.std)
