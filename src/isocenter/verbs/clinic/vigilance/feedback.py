"""What readers say of answers, strictly checked before it is on record."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.clinic.vigilance import Said
from isocenter.core.errors import ConfigError

__all__ = ["Feedback", "said_of"]


class Feedback(BaseModel):
    """What a reader says of an answer.

    Attributes:
        study: Study Instance UID.
        task: Whose answer.
        kind: "agree" or "override".
        about: What was overridden.
        covered: Whether the promised set or interval held the truth, where that is known.
        source: Name of the system that says so; it must not name a person or a patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    study: str = Field(min_length=1, max_length=64, pattern=r"^[0-9.]+$")
    task: str = Field(min_length=1, max_length=64)
    kind: Literal["agree", "override"]
    about: Literal["mask", "finding", "measurement", "report"] = "report"
    covered: bool | None = None
    source: str = Field(default="", max_length=64, pattern=r"^[A-Za-z0-9_.-]*$")

    def said(self) -> Said:
        """Return it as it goes on record."""
        return Said(self.study, self.task, self.kind, self.about, self.covered, self.source)


def said_of(**fields: Any) -> Said:
    """Return what was said.

    Raises:
        ConfigError: A field is wrong.
    """
    try:
        return Feedback(**fields).said()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
