"""The card of a task that answers questions, and what it promises of each kind; no network is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core import Code, TaskCard

__all__ = ["Asked", "answer_card", "answer_codes"]

_SCHEME = "99ISOCENTER"


class Asked(BaseModel):
    """A kind of question that was learnt, and what validation cases promise of its answers.

    Attributes:
        kind: Its name.
        wordings: Questions of this kind that were learnt, as `core.wording.plain_question` writes them.
        answers: The closed set.
        temperature: Of the log-likelihoods.
        sets: The set that holds the true answer (`safety.sets`); None with too few cases.
        level: Its chance.
        cases: Validation questions behind it.
        patients: Of how many patients; of how many images (or groups of them) where patients are not known.
        patients_known: Whether the set said which images are of one patient.
        looking: Whether it answered better with the image than its blind twin did ("helps", "does not help"), or why
            that is not known ("too few patients" on validation, "no twin" was trained).
        shown: Validation questions whose set, fitted without their patients, does not hold all answers: what is shown;
            None where too few cases were left to fit on.
        shown_coverage: How many of those sets hold the true answer; None with none.
        shown_low: Lower end of its exact 95 % interval.
        shown_high: Upper end.
        images: How many images a question is of.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = Field(min_length=1)
    wordings: tuple[str, ...] = Field(min_length=1)
    answers: tuple[str, ...] = Field(min_length=2)
    temperature: float = Field(gt=0)
    sets: dict[str, object] | None = None
    level: float = Field(gt=0, lt=1)
    cases: int = Field(ge=1)
    patients: int = Field(ge=1)
    patients_known: bool = True
    looking: Literal["helps", "does not help", "too few patients", "no twin"]
    shown: int | None = Field(default=None, ge=0)
    shown_coverage: float | None = Field(default=None, ge=0, le=1)
    shown_low: float | None = Field(default=None, ge=0, le=1)
    shown_high: float | None = Field(default=None, ge=0, le=1)
    images: int = Field(default=1, ge=1)

    @property
    def keeps_its_level(self) -> bool:
        """Whether what was seen of shown answers is compatible with the level: only then it is promised of one."""
        return self.sets is not None and self.shown_high is not None and self.shown_high >= self.level


def answer_codes(asked: Asked) -> tuple[Code, ...]:
    """Return a private code for each answer of a kind."""
    return tuple(Code(f"answer-{n}", _SCHEME, answer[:64]) for n, answer in enumerate(asked.answers, start=1))


def answer_card(name: str, kinds: Sequence[str], *, dims: int, licence: str) -> TaskCard:
    """Return the card of a task.

    Args:
        name: Of the task.
        kinds: Of questions.
        dims: 2 for single planes, 3 for volumes.
        licence: Of the weights.
    """
    named = ", ".join(kinds[:6]) + (f" and {len(kinds) - 6} more" if len(kinds) > 6 else "")
    return TaskCard(
        name=name,
        title=f"{name}: questions"[:64],
        modalities=(),
        body_parts=(),
        needs_volume=dims == 3,
        needs_spacing=False,
        prompts=("text",),
        needs_prompt=True,
        intended_use=f"Answers questions that it learnt ({named}) about images like those it learnt from. Research.",
        not_for="Diagnosis on its own; other questions; images of another kind, device or population.",
        licence=licence,
        weights=name,
        requires=("torch", "safetensors"),
    )
