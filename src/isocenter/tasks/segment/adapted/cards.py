"""What an adapted task takes: its card and its limits, both drawn from the confirmed images; no network is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import Image, TaskCard
from isocenter.core.errors import DataError
from isocenter.core.sides import names_a_side
from isocenter.models.layout import layout, least_likeness, likeness
from isocenter.models.orientation import Turned
from isocenter.tasks.segment.adapted.channel import finite_channel

__all__ = ["Fit", "adapted_card"]

_ROOM = 1.5
"""How many times smaller than the smallest, or larger than the largest confirmed image an image may be."""

_LIE = "^([LR][PA][SI]|[LR][SI][PA]|[PA][LR][SI]|[PA][SI][LR]|[SI][LR][PA]|[SI][PA][LR])$"

Range = tuple[float, float]


class Fit(BaseModel):
    """What an image must be like, beside what the card says.

    Attributes:
        planes: "one" for single planes, "several" for stacks and volumes.
        orientation: Order and direction of the axes that images are turned to; None where no place is known.
        patient_orientation: DICOM Patient Orientation of the confirmed pictures; None where unknown or mixed.
        named_side: Whether the structure's name says a side.
        spacing_mm: Least and largest spacing along each axis, turned; None where unknown.
        extent_mm: Least and largest side of the image along each axis, turned; None where unknown.
        aspect: Least and largest ratio of rows to columns.
        layouts: How light and dark lie in the confirmed images (`models.layout`).
        least_likeness: How alike the layout must be to the nearest of these, -1 to 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    planes: str = Field(pattern="^(one|several)$")
    orientation: str | None = Field(
        pattern=r"^(?:([LR])(?:[PA][SI]|[SI][PA])|[PA](?:[LR][SI]|[SI][LR])|[SI](?:[LR][PA]|[PA][LR]))$"
    )
    patient_orientation: tuple[str, str] | None
    named_side: bool
    spacing_mm: tuple[Range, Range, Range] | None
    extent_mm: tuple[Range, Range, Range] | None
    aspect: Range
    layouts: tuple[tuple[float, ...], ...] = Field(min_length=2)
    least_likeness: float

    @classmethod
    def of(cls, images: Sequence[Image], label: str) -> Fit:
        """Draw the limits from two or more confirmed images, all of one plane or all of several.

        Raises:
            DataError: Single planes that lie along different axes, or a structure named by its side in pictures that do
                not say, or not all alike, how they lie in the patient.
        """
        orientation = images[0].geometry.orientation
        if any(image.geometry.affine is None for image in images):
            orientation = None
        one = images[0].geometry.shape[0] == 1
        if one and any(Turned.to(image.geometry, orientation).order != (0, 1, 2) for image in images):
            raise DataError(
                "the planes of the cases lie along different axes; adapt to one kind at a time", source="cases"
            )
        turned = [_turned(image, orientation) for image in images]
        known = [t for t in turned if t is not None]
        ways = {image.geometry.patient_orientation for image in images}
        ratios = [_aspect(image, orientation) for image in images]
        whole = len(known) == len(turned)
        layouts = tuple(
            tuple(round(float(v), 4) for v in layout(finite_channel(image, Turned.to(image.geometry, orientation))[0]))
            for image in images
        )
        if names_a_side(label) and orientation is None and (len(ways) > 1 or not all(next(iter(ways)))):
            raise DataError(
                f"{label!r} names a side, and the cases do not say, or not all alike, how they lie in the patient; "
                "name it without a side, or confirm images with a place in the patient",
                source="cases",
            )
        return cls(
            planes="one" if images[0].geometry.shape[0] == 1 else "several",
            orientation=orientation,
            patient_orientation=next(iter(ways)) if len(ways) == 1 and any(next(iter(ways))) else None,
            named_side=names_a_side(label),
            spacing_mm=_ranges([spacing for spacing, _ in known]) if whole else None,
            extent_mm=_ranges([extent for _, extent in known]) if whole else None,
            aspect=_range(ratios),
            layouts=layouts,
            least_likeness=least_likeness(layouts),
        )

    def unlike(self, volume: Float[np.ndarray, "z y x"]) -> str | None:
        """Return why an image's pixels, turned and finite, are not like the confirmed ones', or None."""
        found = likeness(self.layouts, volume)
        if found >= self.least_likeness:
            return None
        return (
            f"the image is too unlike the confirmed ones: its layout of light and dark correlates {found:.2f} with the "
            f"nearest, at least {self.least_likeness:.2f} is asked; check view and crop, or confirm a few like it"
        )

    def misfit(self, image: Image) -> str | None:
        """Return why an image is not like the confirmed ones, or None."""
        count = image.geometry.shape[0]
        if self.orientation is not None and image.geometry.affine is None:
            return "needs a place in the patient, as the confirmed images had, and this image has none"
        if (count == 1) != (self.planes == "one"):
            return f"learnt from images of {self.planes} plane{'s' * (self.planes != 'one')}, this image has {count}"
        if count == 1 and Turned.to(image.geometry, self.orientation).order != (0, 1, 2):
            return f"learnt from planes that lie {self.orientation}, this one lies {image.geometry.orientation}"
        way = image.geometry.patient_orientation
        if image.geometry.affine is None:
            if self.patient_orientation is not None and any(way) and way != self.patient_orientation:
                wanted, got = "/".join(self.patient_orientation), "/".join(way)
                return f"learnt from pictures that lie {wanted} (Patient Orientation), this one lies {got}; turn it"
            if self.named_side and (self.patient_orientation is None or way != self.patient_orientation):
                return (
                    "the structure's name says a side, and this picture, or those it was learnt from, do not say how "
                    "they lie in the patient"
                )
        turned = _turned(image, self.orientation)
        for what, ranges, place in (("spacing", self.spacing_mm, 0), ("size", self.extent_mm, 1)):
            if ranges is None or turned is None:
                continue
            for axis, (low, high), value in zip("zyx", ranges, turned[place], strict=True):
                if not low <= value <= high:
                    return (
                        f"learnt from images whose {what} along {axis} allows {low:.3g} to {high:.3g} mm, this one "
                        f"has {value:.3g} mm; crop or resample it, or confirm a few like it"
                    )
        ratio = _aspect(image, self.orientation)
        if not self.aspect[0] <= ratio <= self.aspect[1]:
            return (
                f"learnt from images with {self.aspect[0]:.2f} to {self.aspect[1]:.2f} rows a column, this image has "
                f"{ratio:.2f}; crop it as those were"
            )
        return None


def _turned(
    image: Image, orientation: str | None
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Return spacing and extent in mm along the turned axes; None where spacing is not known."""
    geometry = image.geometry
    if geometry.spacing_mm is None:
        return None
    turn = Turned.to(geometry, orientation)
    extent = tuple(n * s for n, s in zip(geometry.shape, geometry.spacing_mm, strict=True))
    # One plane has no extent across itself, and its spacing there is that of a stack it may have come from.
    if geometry.shape[0] == 1:
        return (1.0, *geometry.spacing_mm[1:]), (1.0, *extent[1:])  # type: ignore[return-value]
    return turn.of(geometry.spacing_mm), turn.of(extent)  # type: ignore[arg-type]


def _aspect(image: Image, orientation: str | None) -> float:
    turn = Turned.to(image.geometry, orientation) if image.geometry.shape[0] > 1 else Turned()
    spacing = image.geometry.spacing_mm or (1.0, 1.0, 1.0)
    _, rows, columns = turn.of(tuple(n * s for n, s in zip(image.geometry.shape, spacing, strict=True)))  # type: ignore[arg-type]
    return rows / columns


def _range(values: Sequence[float]) -> Range:
    return round(min(values) / _ROOM, 6), round(max(values) * _ROOM, 6)


def _ranges(values: Sequence[tuple[float, float, float]]) -> tuple[Range, Range, Range]:
    z, y, x = (_range([v[axis] for v in values]) for axis in range(3))
    return z, y, x


def adapted_card(name: str, label: str, images: Sequence[Image], *, licence: str) -> TaskCard:
    """Return the card of a task that was learnt from confirmed images."""
    modalities, parts = ({getattr(image, key) for image in images} for key in ("modality", "body_part"))
    one_plane = images[0].geometry.shape[0] == 1
    volumes = all(image.is_volume for image in images)
    return TaskCard(
        name=name,
        title=f"{label}, adapted from a session"[:64],
        # Where some confirmed image did not say what it is, the card can't name what fits.
        modalities=() if "" in modalities else tuple(sorted(modalities)),
        body_parts=() if "" in parts else tuple(sorted(parts)),
        needs_volume=False if one_plane else (True if volumes else None),
        needs_spacing=all(image.geometry.spacing_mm is not None for image in images),
        prompts=(),
        needs_prompt=False,
        intended_use=(
            f"Outlines what a person confirmed as {label!r} in {len(images)} images, in further images like those; "
            "the person looks at every outline. Research."
        ),
        not_for="Diagnosis on its own; images of another kind, device or population than the confirmed ones.",
        licence=licence,
        weights=name,
        requires=("torch", "safetensors"),
    )
