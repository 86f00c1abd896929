"""An answer, and how the replies of several tools become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking.notes import note
from isocenter.verbs.asking.reply import Outcome, Reply, Said, ToolCall

__all__ = ["Answer", "joined"]

_RANK: tuple[Outcome, ...] = ("answered", "not found", "not examined", "refused")


@dataclass(frozen=True)
class Answer:
    """An answer to a question.

    Args:
        outcome: "answered"; "not found": looked for and not there; "not examined": no task looked; "refused".
        why: Why it was refused, by the name of a refusal; "" where it wasn't.
        said: Sentences, in order.
        calls: Tools that were called.
        data: What each answered, as data.
        by: Who chose the tools: "rules", or a model's name.
        remarks: What happened on the way, for whoever asks.
        withheld: How many sentences were withheld.
    """

    outcome: Outcome
    why: str = ""
    said: tuple[Said, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    data: tuple[dict[str, Any], ...] = ()
    by: str = "rules"
    remarks: tuple[str, ...] = ()
    withheld: int = 0

    @property
    def text(self) -> str:
        """The answer as plain text, a sentence a line."""
        return "\n".join(one.text for one in self.said)


def joined(
    calls: tuple[ToolCall, ...], replies: tuple[Reply, ...], language: Language, *, by: str = "rules"
) -> Answer:  # fmt: skip
    """Join what tools replied to one answer; each sentence stands once."""
    said = tuple(dict.fromkeys(one for reply in replies for one in reply.said))
    withheld = sum(reply.withheld for reply in replies)
    if withheld:
        said = (*said, Said(note("withheld", language, number=withheld), "note"))
    outcome = min((reply.outcome for reply in replies), key=_RANK.index)
    return Answer(outcome, "", said, calls, tuple(dict(r.data) for r in replies), by, (), withheld)
