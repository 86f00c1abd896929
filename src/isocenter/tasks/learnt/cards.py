"""The card of a learnt task, and what it promises; no network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import Code, TaskCard

__all__ = ["Kind", "Promise", "class_codes", "learnt_card"]

Kind = Literal["segment", "classify", "multilabel", "regress", "survive"]
_SCHEME = "99ISOCENTER"
_SAYS = {
    "segment": "Outlines",
    "classify": "Says with what probability an image is of one of these classes:",
    "multilabel": "Says with what probability an image shows each of these findings:",
    "regress": "Estimates a number from an image:",
    "survive": "Estimates the chance of an event from an image:",
}


class Promise(BaseModel):
    """What held-out cases promise of a further one.

    Attributes:
        expected_dice: For masks: what sharpness is worth (`models.segmentation.calibrate`); None with too few cases.
        temperature: Of the logits of classes, fitted on held-out cases.
        least_probability: For classes: all classes with this probability or more make the set that holds the true one
            with the chance `level`; None with too few cases.
        error: For numbers: this half-width holds the true one with the chance `level`; None with too few cases.
        horizon_days: For events: up to when.
        baseline: For events: cumulative hazard up to there of a case of risk 0.
        level: The chance.
        cases: Held-out cases behind it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    expected_dice: dict[str, object] | None = None
    temperature: float = Field(default=1.0, gt=0)
    least_probability: float | None = Field(default=None, ge=0, le=1)
    error: float | None = Field(default=None, ge=0)
    horizon_days: float | None = Field(default=None, gt=0)
    baseline: float | None = Field(default=None, ge=0)
    level: float = Field(default=0.9, gt=0, lt=1)
    cases: int = Field(default=0, ge=0)

    @property
    def chance(self) -> str:
        """The chance as people write it."""
        return f"{self.level:.0%}"


def class_codes(classes: Sequence[str]) -> tuple[Code, ...]:
    """Return a private code for each class of a set that brings none.

    Example:
        >>> str(class_codes(["normal"])[0])
        'normal (class-1, 99ISOCENTER)'
    """
    return tuple(Code(f"class-{number}", _SCHEME, name[:64]) for number, name in enumerate(classes, start=1))


def learnt_card(
    name: str, kind: Kind, classes: Sequence[str], *, modalities: Sequence[str], dims: int, spacing: bool, licence: str
) -> TaskCard:
    """Return the card of a task.

    Args:
        name: Of the task.
        kind: Of its answers.
        classes: Their names.
        modalities: Of the images that it learnt from; where one does not say, any fits.
        dims: 2 for single planes.
        spacing: Whether spacing must be known.
        licence: Of the networks.
    """
    named = ", ".join(classes[:6]) + (f" and {len(classes) - 6} more" if len(classes) > 6 else "")
    return TaskCard(
        name=name,
        title=f"{name}: {named}"[:64],
        modalities=() if "" in modalities else tuple(sorted(modalities)),
        body_parts=(),
        needs_volume=None if dims == 3 else False,
        needs_spacing=spacing,
        prompts=(),
        needs_prompt=False,
        intended_use=f"{_SAYS[kind]} {named}; in images like those of the set that it learnt from. Research.",
        not_for="Diagnosis on its own; images of another kind, device or population than those it learnt from.",
        licence=licence,
        weights=name,
        requires=("torch", "safetensors"),
    )
