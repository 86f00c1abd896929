"""A language model chooses the tools; what they answer, and how it may be worded, stays with the ledger.

The model is given the question, the names that may be asked for, and what tools answer as data of closed tables: no
header, no report, no label or title, so no text of a study can instruct it. Whatever it asks for is checked like
anybody's call: a tool of the set, arguments of its form, names of the table. It can choose badly; it can't make a
sentence that the ledger does not support, and it can't reach another patient, as no tool does.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from isocenter.core.errors import ConfigError, ModelError
from isocenter.core.knowledge import FINDINGS
from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking.dialogue_parts import Answer, joined
from isocenter.verbs.asking.grammar import Referent
from isocenter.verbs.asking.notes import note
from isocenter.verbs.asking.reply import Reply, Said, ToolCall
from isocenter.verbs.asking.study import Examined
from isocenter.verbs.asking.tools import TOOLS, use
from isocenter.verbs.drafting.turns import CallingModel, ModelTurn, RequestedCall

__all__ = ["ROUNDS", "answered_by_model", "openai_tools"]

ROUNDS, _CALLS, _MISTAKES, _LONGEST = 4, 8, 3, 2000
"""At most so many turns of a model for a question; so many calls, mistakes, and characters of arguments."""
_SYSTEM = (
    "You answer questions about one medical imaging study by calling tools. Call the tools that answer the "
    "question, then "
    "say the answer in one to four short sentences in English, using only what the tools answered: no "
    "other finding, side, "
    "number, certainty, cause or advice. If no tool fits, call none and answer: NO TOOL. Names for 'about': {names}."
)


def openai_tools() -> list[dict[str, Any]]:
    """Return the tools in the form of OpenAI's function calling."""
    return [
        {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
        for t in TOOLS.values()
    ]


def answered_by_model(
    question: str, examined: Examined, language: Language, model: CallingModel, last: Referent | None, seconds: float
) -> Answer:
    """Answer a question with a model that chooses the tools.

    Args:
        question: Checked.
        examined: What was examined.
        language: Of the answer; the model's own words are used in English alone.
        model: The model.
        last: What was last spoken of.
        seconds: Longest time for all of it.

    Raises:
        ModelError: The model failed, called no tool, or only what it may not.
    """
    until = time.monotonic() + seconds
    messages = _opening(question, examined, last)
    calls: list[ToolCall] = []
    replies: list[Reply] = []
    mistakes, words = 0, ""
    for _ in range(ROUNDS):
        left = until - time.monotonic()
        if left <= 0:
            raise ModelError(f"it did not end within {round(seconds, 1):g} s")
        turn = model.choose(messages, openai_tools(), seconds=left)
        if not turn.calls:
            words = turn.text
            break
        messages.append(_asked(turn))
        for wanted in turn.calls[:_CALLS]:
            shown, call, reply = _done(wanted, examined)
            messages.append({"role": "tool", "tool_call_id": wanted.id, "content": json.dumps(shown)})
            mistakes += call is None
            if call is not None and reply is not None and call not in calls and len(calls) < _CALLS:
                calls.append(call)
                replies.append(reply)
        if mistakes >= _MISTAKES:
            break
    if not calls:
        raise ModelError("it asked only for what it may not have" if mistakes else "it called no tool")
    if language != "en":
        replies = [use(call, examined, language) for call in calls]
        words = ""
    answer = joined(tuple(calls), tuple(replies), language, by=model.name)
    refused = (f"{mistakes} calls were refused: no such tool, or not these arguments",) if mistakes else ()
    return replace(_worded(answer, words, examined, language), remarks=refused)


def _opening(question: str, examined: Examined, last: Referent | None) -> list[dict[str, Any]]:
    own = [f.name for f in FINDINGS if f.exam in examined.exams]
    sites = dict.fromkeys(t.claim.site for t in examined.claims)
    names = ", ".join(dict.fromkeys((*own, *sites)))
    user = question
    if last is not None:
        spoken = ", ".join(f"{k} {v}" for k, v in last.arguments.items() if k in ("about", "side", "place"))
        user = f"{question}\n(Last spoken of: {spoken}.)"
    return [{"role": "system", "content": _SYSTEM.format(names=names)}, {"role": "user", "content": user}]


def _asked(turn: ModelTurn) -> dict[str, Any]:
    """Return the model's own turn for the conversation: its calls as asked for, cut where they are too long."""
    calls = [
        {"id": c.id, "type": "function", "function": {"name": c.name[:64], "arguments": c.arguments[:_LONGEST]}}
        for c in turn.calls[:_CALLS]
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _done(wanted: RequestedCall, examined: Examined) -> tuple[dict[str, Any], ToolCall | None, Reply | None]:
    """Return what the model is shown of a call, the call and its reply; neither where it was refused."""
    try:
        call = ToolCall(wanted.name, _arguments(wanted.arguments))
        reply = use(call, examined)
    except ConfigError as error:
        return {"error": str(error)}, None, None
    return shown_to_programs(reply), call, reply


def shown_to_programs(reply: Reply) -> dict[str, Any]:
    """Return what a model or another program is shown of a reply: data and sentences, but no text of a result."""
    sentences = [one.text for one in reply.said if one.kind != "limit"]
    return {**reply.data, "sentences": sentences}


def _arguments(text: str) -> Mapping[str, Any]:
    if len(text) > _LONGEST:
        raise ConfigError("the arguments are longer than any can be")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("the arguments are no JSON") from error
    if not isinstance(given, dict):
        raise ConfigError("the arguments are no JSON object")
    return {key: value for key, value in given.items() if value is not None}


def _worded(answer: Answer, words: str, examined: Examined, language: Language) -> Answer:
    """Put the model's sentences first, where each follows from a claim that a tool answered with; count the others."""
    known = {name for one in answer.said for name in one.claims}
    said: list[Said] = []
    made: set[str] = set()
    withheld = 0
    for sentence in _sentences(words):
        claims = examined.supports(sentence)
        if claims is None or not set(claims) <= known:
            withheld += 1
            continue
        rests = tuple(dict.fromkeys(e for one in answer.said for e in one.evidence if set(one.claims) & set(claims)))
        said.append(Said(sentence, "claim", claims, rests))
        made |= set(claims)
    # What it left out is told in the composer's words.
    rest = tuple(one for one in answer.said if one.kind != "claim" or not set(one.claims) <= made)
    if withheld:
        rest = (*rest, Said(note("withheld of the model", language, number=withheld), "note"))
    return replace(answer, said=(*said, *rest), withheld=answer.withheld + withheld)


def _sentences(words: str) -> Sequence[str]:
    text = " ".join(words[:4000].split())
    if not text or text.strip(". ").upper() == "NO TOOL":
        return ()
    return [s for s in re.split(r"(?<=[.!?])\s+(?=[A-Z])", text) if s][:8]
