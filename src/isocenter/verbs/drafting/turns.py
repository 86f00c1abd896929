"""What a language model that may call tools is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

__all__ = ["CallingModel", "ModelTurn", "RequestedCall"]


@dataclass(frozen=True)
class RequestedCall:
    """A call that a model asks for; neither its name nor its arguments have been checked.

    Args:
        id: By which its answer is given back.
        name: Of the tool.
        arguments: JSON, as the model wrote it.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ModelTurn:
    """What a model answers: calls, or words.

    Args:
        text: Its words; "" where it gave none.
        calls: Calls that it asks for.
    """

    text: str = ""
    calls: tuple[RequestedCall, ...] = ()


@runtime_checkable
class CallingModel(Protocol):
    """What is asked of a language model that chooses tools."""

    @property
    def name(self) -> str:
        """Its name, for the answer."""

    def choose(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], *, seconds: float
    ) -> ModelTurn:
        """Return what it answers to a conversation, in the form of OpenAI's chat completions.

        Raises:
            ModelError: It did not answer, not in time, or not in that form.
        """
