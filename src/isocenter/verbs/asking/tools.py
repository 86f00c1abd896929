"""The tools that answer: a small closed set, each with strict arguments, over what was examined and nothing else.

A tool reads; it writes nothing, opens no file and knows no other patient. It answers with sentences that the ledger
supports, fixed sentences of `notes`, and the same as data whose every word is of a closed table. So what a language
model or another program is given as data holds no text of a header, a report, a label or a title: nothing in it can
instruct.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from isocenter.core.errors import ConfigError
from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking import answers
from isocenter.verbs.asking.arguments import (
    AboutArguments,
    Arguments,
    ListArguments,
    MeasureArguments,
    NoArguments,
    PerhapsAboutArguments,
)
from isocenter.verbs.asking.changes import compare
from isocenter.verbs.asking.names import Lexicon, lexicon_for
from isocenter.verbs.asking.reply import Reply, ToolCall
from isocenter.verbs.asking.study import Examined

__all__ = ["TOOLS", "Tool", "lexicon_of", "use"]


@dataclass(frozen=True)
class Tool:
    """A tool.

    Args:
        name: By which it is called.
        description: What it answers, for whoever chooses it.
        arguments: What it takes.
        run: Does it.
    """

    name: str
    description: str
    arguments: type[Arguments]
    run: Callable[[Examined, Any, Language], Reply]

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of its arguments."""
        made = self.arguments.model_json_schema()
        return {"type": "object", "properties": made.get("properties", {}), "required": made.get("required", []),
                "additionalProperties": False}  # fmt: skip


def lexicon_of(examined: Examined) -> Lexicon:
    """Return the names that may be asked for in a study."""
    return lexicon_for(examined.exams, frozenset(told.claim.about for told in examined.claims))


def use(call: ToolCall, examined: Examined, language: Language = "en") -> Reply:
    """Call a tool.

    Args:
        call: Which, with what.
        examined: What was examined.
        language: Of the sentences.

    Raises:
        ConfigError: There is no such tool, or it does not take these arguments.
    """
    tool = TOOLS.get(call.tool)
    if tool is None:
        raise ConfigError(f"there is no such tool; there are {', '.join(TOOLS)}")
    try:
        given = tool.arguments.model_validate(dict(call.arguments))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"] if p in tool.arguments.model_fields) or "an argument"
        raise ConfigError(f"{tool.name}: {where} is not as it must be") from error
    about = getattr(given, "about", None)
    if about is not None:
        name = lexicon_of(examined).resolve(about)
        if name is None:
            raise ConfigError(f"{tool.name}: about names no finding and no part of the body that is known")
        given = given.model_copy(update={"about": name})
    return tool.run(examined, given, language)


_ALL = (
    Tool(
        "list_findings", "Which findings were looked for, and whether each is present, possible or absent.",
        ListArguments, answers.list_findings,
    ),
    Tool("find", "Whether one finding or part of the body is there.", AboutArguments, answers.find),
    Tool(
        "measure", "How large a part of the body or an outlined lesion is; side 'both' compares the sides.",
        MeasureArguments, answers.measure,
    ),
    Tool("locate", "Where a finding or an outline is.", AboutArguments, answers.locate),
    Tool("side_of", "On which side of the body a finding or an outline is.", AboutArguments, answers.side_of),
    Tool("compare", "What changed since the earlier study.", PerhapsAboutArguments, compare),
    Tool("why", "What an answer rests on: evidence, weights, probability, promised set.", AboutArguments, answers.why),
    Tool(
        "confidence", "How sure an answer is: probability, promised set, interval.", AboutArguments,
        answers.confidence,
    ),
    Tool("not_examined", "What no task looked for, abstentions and limits.", NoArguments, answers.not_examined),
    Tool("describe_study", "What images there are and what was done.", NoArguments, answers.describe_study),
)  # fmt: skip
TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in _ALL})
"""Every tool, by name."""
