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
        quality: For masks: what an answer's own numbers are worth (`safety.quality`); None with too few cases.
        volumes: For masks: by number of the segment, the interval of its volume (`safety.intervals`).
        margins: For masks: by number of the segment, the threshold that bounds what is missed (`safety.masks`).
        temperature: Of the logits of classes, fitted on held-out cases.
        sets: For classes: the set that holds the true one (`safety.sets`); None with too few cases.
        findings: For findings: by number of the finding, the set of present and absent that holds the truth
            (`safety.sets`, within each of the two); those with too few cases of either have none.
        interval: For numbers: the interval that holds the true one (`safety.intervals`); None likewise.
        horizon_days: For events: up to when.
        baseline: For events: cumulative hazard up to there of a case of risk 0.
        risk: For events: what a risk stands for (`safety.risks`); None with too few cases.
        level: The chance.
        cases: Held-out cases behind it.
        difficulty: For numbers: by which the interval's width varies (`safety.difficulty`); None for one width.
        difficulties: For masks: the same of volumes, by number of the segment.
        by: What groups are made by: the name of a column (`tasks.learnt.groups`); "" for none.
        group_sets: As `sets`, of each group with cases enough; None where none has.
        group_intervals: As `interval`, by group.
        group_volumes: As `volumes`, by group.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quality: dict[str, object] | None = None
    volumes: dict[str, dict[str, object]] = Field(default_factory=dict)
    margins: dict[str, dict[str, object]] = Field(default_factory=dict)
    temperature: float = Field(default=1.0, gt=0)
    sets: dict[str, object] | None = None
    findings: dict[str, dict[str, object]] = Field(default_factory=dict)
    interval: dict[str, object] | None = None
    horizon_days: float | None = Field(default=None, gt=0)
    baseline: float | None = Field(default=None, ge=0)
    risk: dict[str, object] | None = None
    level: float = Field(default=0.9, gt=0, lt=1)
    cases: int = Field(default=0, ge=0)
    difficulty: dict[str, object] | None = None
    difficulties: dict[str, dict[str, object]] = Field(default_factory=dict)
    by: str = ""
    group_sets: dict[str, object] | None = None
    group_intervals: dict[str, dict[str, object]] = Field(default_factory=dict)
    group_volumes: dict[str, dict[str, dict[str, object]]] = Field(default_factory=dict)

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
