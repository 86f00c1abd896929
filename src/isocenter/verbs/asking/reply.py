"""What a tool is called with, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Outcome", "Reply", "Said", "ToolCall"]

Outcome = Literal["answered", "not found", "not examined", "refused"]


@dataclass(frozen=True)
class Said:
    """A sentence of an answer.

    Args:
        text: The sentence.
        kind: "claim": supported by the ledger; "earlier": by that of the earlier study; "note": a fixed sentence;
            "limit": a sentence of the result about the examination itself, for people only.
        claims: Names of the claims that it makes.
        evidence: Names of what they rest on.
    """

    text: str
    kind: Literal["claim", "earlier", "note", "limit"]
    claims: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What a tool answers.

    Args:
        outcome: Whether it could.
        said: Sentences, in order.
        data: The same as data, every word of a closed table.
        withheld: How many sentences the ledger did not let pass.
    """

    outcome: Outcome
    said: tuple[Said, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    withheld: int = 0


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool.

    Args:
        tool: Its name.
        arguments: Its arguments, without those that are not given.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
