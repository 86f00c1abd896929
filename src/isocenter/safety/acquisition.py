"""What a header and the kind of numbers say of how an image was made, against those that were learnt from.

Only what is stated counts: an image whose header says nothing is left to the pixels' own numbers (`safety.gate`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from isocenter.core import Image, Quantity
from isocenter.core.errors import ConfigError
from isocenter.safety.card import rule_from

__all__ = ["Acquisition"]

_ROOM = 1.5
"""Spacing may lie this factor beyond the least and the largest that were learnt from (a convention of ours)."""


@dataclass(frozen=True)
class Acquisition:
    """What the images that were learnt from say; JSON-ready with `as_card`.

    Args:
        modalities: DICOM modalities; "" among them where one does not say.
        colour: Whether some hold colour.
        dark_is_high: Whether some say that larger values are darker (MONOCHROME1); of values without a unit the
            preparation takes the negative, so that it does not matter.
        quantities: What the numbers mean.
        values: Least 1st and largest 99th percentile, where all have a unit; None where they have none.
        spacing_mm: Least and largest spacing along any axis; None where one does not know it.
    """

    modalities: tuple[str, ...]
    colour: bool
    dark_is_high: bool
    quantities: tuple[str, ...]
    values: tuple[float, float] | None = None
    spacing_mm: tuple[float, float] | None = None

    @classmethod
    def of(cls, images: Sequence[Image]) -> Acquisition:
        """Return what images say.

        Raises:
            ConfigError: There is none.
        """
        if not images:
            raise ConfigError("there is no image to describe")
        quantities = tuple(sorted({str(image.quantity) for image in images}))
        values = None
        if all(image.quantity not in (Quantity.ARBITRARY, Quantity.RGB) for image in images) and len(quantities) == 1:
            ends = np.array([np.percentile(image.array[0][::2], (1, 99)) for image in images])
            values = (float(ends[:, 0].min()), float(ends[:, 1].max()))
        spacings = [_spacing(image) for image in images]
        known = [s for s in spacings if s is not None]
        return cls(
            modalities=tuple(sorted({image.modality for image in images})),
            colour=any(_is_colour(image) for image in images),
            dark_is_high=any(image.dark_is_high for image in images),
            quantities=quantities,
            values=values,
            spacing_mm=(min(min(s) for s in known), max(max(s) for s in known)) if len(known) == len(images) else None,
        )

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> Acquisition:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown.
        """
        return rule_from(cls, values, "how images were made")

    def strange(self, image: Image) -> str | None:
        """Return what an image says that none of those learnt from said, or None."""
        if image.modality and "" not in self.modalities and image.modality not in self.modalities:
            return f"its modality is {image.modality}; it learnt from {', '.join(self.modalities)}"
        if _is_colour(image) and not self.colour:
            return "it is in colour; it learnt from grey images"
        if image.dark_is_high and not self.dark_is_high and image.quantity is not Quantity.ARBITRARY:
            return "its header says that larger values are darker (MONOCHROME1); it learnt from the opposite: invert it"
        if str(image.quantity) not in self.quantities and image.quantity is not Quantity.RGB:
            return f"its values are {image.quantity}; it learnt from {', '.join(self.quantities)}"
        if self.values is not None:
            low, high = (float(v) for v in np.percentile(image.array[0][::2], (1, 99)))
            room = 0.5 * (self.values[1] - self.values[0])
            if low < self.values[0] - room or high > self.values[1] + room:
                return (
                    f"its values reach from {low:.4g} to {high:.4g}; those it learnt from, from {self.values[0]:.4g} "
                    f"to {self.values[1]:.4g}"
                )
        spacing = _spacing(image)
        if self.spacing_mm is not None and spacing is not None:
            least, most = self.spacing_mm[0] / _ROOM, self.spacing_mm[1] * _ROOM
            if min(spacing) < least or max(spacing) > most:
                return (
                    f"its spacing is {min(spacing):.3g} to {max(spacing):.3g} mm; it learnt from "
                    f"{self.spacing_mm[0]:.3g} to {self.spacing_mm[1]:.3g} mm"
                )
        return None


def _is_colour(image: Image) -> bool:
    if image.quantity is not Quantity.RGB or len(image.array) != 3:
        return False
    red, green, blue = image.array
    return not (np.array_equal(red, green) and np.array_equal(green, blue))


def _spacing(image: Image) -> tuple[float, ...] | None:
    """Return the spacing along the axes that have more than one voxel."""
    spacing = image.geometry.spacing_mm
    if spacing is None:
        return None
    found = tuple(s for s, n in zip(spacing, image.geometry.shape, strict=True) if n > 1)
    return found or None
