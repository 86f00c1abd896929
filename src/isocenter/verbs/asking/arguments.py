"""What the tools take: strict, closed, and described for whoever chooses them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "AboutArguments",
    "Arguments",
    "ListArguments",
    "MeasureArguments",
    "NoArguments",
    "PerhapsAboutArguments",
    "Place",
    "Side",
]

Side = Literal["left", "right", "both"]
Place = Literal["anterior", "posterior", "upper", "lower"]


class Arguments(BaseModel):
    """Arguments of a tool."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NoArguments(Arguments):
    """No arguments."""


class ListArguments(Arguments):
    """Which findings to list."""

    status: Literal["all", "present", "uncertain", "absent"] = Field(
        default="all", description="Only findings of this status; uncertain means possible."
    )


class AboutArguments(Arguments):
    """What it is about."""

    about: str = Field(
        min_length=2, max_length=80, description="A finding or a part of the body, e.g. 'pleural effusion', 'lung'."
    )
    side: Side | None = Field(default=None, description="Only this side of the body.")
    place: Place | None = Field(default=None, description="Only this part of the part of the body.")


class MeasureArguments(AboutArguments):
    """What to measure."""

    quantity: Literal["volume", "area", "diameter"] | None = Field(default=None, description="Only this kind of size.")


class PerhapsAboutArguments(Arguments):
    """What it is about, if anything."""

    about: str | None = Field(
        default=None, min_length=2, max_length=80, description="A finding or a part of the body; null for everything."
    )
    side: Side | None = Field(default=None, description="Only this side of the body.")
    place: Place | None = Field(default=None, description="Only this part of the part of the body.")
