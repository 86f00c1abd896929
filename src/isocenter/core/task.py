"""A task: a card that says what it is for, and a function from a study and prompts to a prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from isocenter.core.image import Image
from isocenter.core.prediction import Prediction
from isocenter.core.prompt import Prompt
from isocenter.core.study import Study

__all__ = ["LooksAhead", "Task", "TaskCard", "TaskEntry", "is_for_others"]


@dataclass(frozen=True)
class TaskCard:
    """What a task is for. Read without loading the model (or torch).

    Args:
        name: Name in commands and files, e.g. "lungs-cxr".
        title: Name for people.
        modalities: DICOM modalities it takes; empty for any.
        body_parts: DICOM body parts it takes; empty for any.
        needs_volume: True for 3D only, False for 2D only, None for either.
        needs_spacing: Whether spacing in mm must be known.
        prompts: Prompt kinds it takes; empty for an automatic task.
        needs_prompt: Whether it can't run without one.
        intended_use: One or two sentences.
        not_for: What it must not be used for.
        licence: SPDX identifier of the weights' licence.
        weights: Name of the weights file, "" for none.
        version: Version of the task.
        requires: Import names of optional packages it needs, e.g. ("torch",).
    """

    name: str
    title: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    needs_volume: bool | None
    needs_spacing: bool
    prompts: tuple[str, ...]
    needs_prompt: bool
    intended_use: str
    not_for: str
    licence: str
    weights: str = ""
    version: str = "1"
    requires: tuple[str, ...] = ()

    def misfit(self, image: Image) -> str | None:
        """Return why an image does not fit this card, or None when it does.

        An unknown modality or body part (a NIfTI, a PNG) never fits a card that names some, unless the caller says it
        is one; guessing would be the wrong kind of help.
        """
        if self.modalities and image.modality not in self.modalities:
            got = image.modality or "unknown"
            return f"needs modality {' or '.join(self.modalities)}, this image is {got}"
        if self.body_parts and image.body_part not in self.body_parts:
            got = image.body_part or "unknown"
            return f"needs body part {' or '.join(self.body_parts)}, this image says {got}"
        if self.needs_volume is True and not image.is_volume:
            return "needs a volume, this image is a single plane or a cine"
        if self.needs_volume is False and image.geometry.shape[0] != 1:
            return "needs a single plane, this image has several"
        if self.needs_spacing and image.geometry.spacing_mm is None:
            return "needs voxel spacing in mm, this image has none"
        return None


def is_for_others(reason: str) -> bool:
    """Tell whether an abstention says that a task is for images of another kind (`TaskCard.misfit`), which this is not.

    An image whose kind is not known is another thing: its user may say what it is.

    Example:
        >>> [is_for_others(f"needs modality US, this image is {got}") for got in ("CT", "unknown")]
        [True, False]
    """
    return reason.startswith(("needs modality ", "needs body part ")) and not reason.endswith(" unknown")


@runtime_checkable
class Task(Protocol):
    """The one contract between models and everything else."""

    @property
    def card(self) -> TaskCard:
        """What the task is for."""
        ...

    def run(self, study: Study, prompts: Sequence[Prompt] = ()) -> Prediction:
        """Answer for a study with one image (the verb picks it), or abstain with a reason."""
        ...


@runtime_checkable
class LooksAhead(Protocol):
    """What a task may offer beside `Task`: the work on an image that is still arriving that the whole image can use."""

    def look_ahead(self, study: Study) -> None:
        """Do that work, where somebody remembers it (`core.memo`); answers nothing."""
        ...


@dataclass(frozen=True)
class TaskEntry:
    """What a plug-in registers: the card, readable at once, and where the task itself is loaded from when it runs.

    Args:
        card: The task's card.
        factory: "package.module:name" of a callable without arguments that returns the `Task`; imported only to run,
            so that listing tasks never imports torch.
        make: What makes the task where it is not a plug-in but read from a folder; it then stands for the factory.
    """

    card: TaskCard
    factory: str
    make: Callable[[], Task] | None = field(default=None, compare=False, repr=False)
