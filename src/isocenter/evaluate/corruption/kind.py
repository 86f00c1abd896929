"""What a corruption is: a name, the modalities it is meant for, and what it does at each of five grades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core import Image
from isocenter.core.errors import PixelError

__all__ = ["GRADES", "Box", "Corruption", "Scene", "Volume", "scene_of"]

GRADES = (1, 2, 3, 4, 5)
"""1 is hardly seen, 5 makes the image useless to most readers."""

Volume = Float[np.ndarray, "z y x"]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Scene:
    """What a corruption may know of an image.

    Args:
        grade: 1 to 5.
        rng: Decides everything random, alike for all grades.
        low: 0.5th percentile of the finite values.
        high: 99.5th percentile.
        spacing: Distance of voxel centres along (z, y, x); in mm where it is known, else ones.
        hounsfield: Whether values are in Hounsfield units.
    """

    grade: int
    rng: np.random.Generator
    low: float
    high: float
    spacing: tuple[float, float, float]
    hounsfield: bool

    @property
    def span(self) -> float:
        """Width between the two percentiles."""
        return self.high - self.low

    def of(self, steps: Sequence[float]) -> float:
        """Return what five steps say for the grade."""
        return float(steps[self.grade - 1])


@dataclass(frozen=True, eq=False)
class Corruption:
    """One way to make an image worse.

    Args:
        name: For commands.
        title: For people, with what the grades mean.
        modalities: DICOM modalities it is meant for; empty for any.
        change: What it does to values, on the same grid; None where it moves the picture.
        turn: Degrees by which it turns the picture in its plane.
        cut: The box that it leaves of a shape.
        volume_only: Whether it needs several slices.
        grades: That it has.
    """

    name: str
    title: str
    modalities: tuple[str, ...] = ()
    change: Callable[[Volume, Scene], Volume] | None = None
    turn: Callable[[Scene], float] | None = None
    cut: Callable[[tuple[int, int, int], Scene], Box] | None = None
    volume_only: bool = False
    grades: tuple[int, ...] = GRADES

    @property
    def moves(self) -> bool:
        """Whether the mask moves with the picture."""
        return self.change is None

    def misfit(self, image: Image) -> str | None:
        """Return why this is not meant for an image, or None."""
        if self.modalities and image.modality not in self.modalities:
            return f"{self.name} is meant for {', '.join(self.modalities)}, this image is {image.modality or 'unknown'}"
        if self.volume_only and image.geometry.shape[0] < 2:
            return f"{self.name} needs several slices"
        return None


def scene_of(image: Image, grade: int, rng: np.random.Generator) -> Scene:
    """Return what a corruption may know of an image.

    Raises:
        PixelError: The image has no finite value, or only one.
    """
    finite = image.array[np.isfinite(image.array)] if image.array.dtype.kind == "f" else image.array.ravel()
    step = max(1, finite.size // 200_000)  # percentiles of a big volume are known from a part of it
    low, high = np.percentile(finite[::step], (0.5, 99.5)) if finite.size else (0.0, 0.0)
    if not high > low:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if not high > low:
        raise PixelError("the image is flat, or has no finite value: there is nothing to make worse")
    flat = image.geometry.pixel_spacing_mm
    spacing = image.geometry.spacing_mm or ((1.0, *flat) if flat is not None else (1.0, 1.0, 1.0))
    return Scene(grade, rng, float(low), float(high), spacing, image.quantity.name == "HU")
