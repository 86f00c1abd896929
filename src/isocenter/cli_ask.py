"""The commands `isocenter ask` and `isocenter mcp`: questions about a study, from people and from programs."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.ask import AskConfig, AskDocument

__all__ = ["ask", "mcp"]

_LONGEST_LINE = 8192


def ask(
    study: Annotated[
        Path,
        typer.Argument(
            help="Folder that `isocenter read` wrote, or a study, which is read first.",
            show_default=False,
            readable=False,
        ),
    ],
    question: Annotated[
        str | None, typer.Argument(help="One question in English; without it, a dialogue.", show_default=False)
    ] = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", help="Result of an earlier study of the same patient.", readable=False)
    ] = None,
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Where a study is read into; default: a folder that is deleted.")
    ] = None,
    language: Annotated[str, typer.Option("--language", help="Of the answers: en, es, zh.")] = "en",
    llm_url: Annotated[
        str | None, typer.Option("--llm-url", help="OpenAI-compatible server that may choose the tools.")
    ] = None,
    llm_model: Annotated[str, typer.Option("--llm-model", help="Name of the model at that server.")] = "default",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Host beside this machine that may be asked; may be repeated."),
    ] = None,
    llm_seconds: Annotated[float, typer.Option("--llm-seconds", help="Longest time for a model's work.")] = 60.0,
    llm_folder: Annotated[
        Path | None,
        typer.Option("--llm-folder", help="Hugging Face folder of a language model here, instead of a server."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document an answer to standard output, nothing else.")
    ] = False,
) -> None:
    """Ask about a study: how large, where, which side, what changed, why, how sure, what was not examined."""
    from isocenter.verbs.ask import configured, document_of, open_dialogue

    config = configured(
        study, question=question, prior=prior, out=out_folder, language=language, llm_url=llm_url, llm_model=llm_model,
        allow_host=tuple(allow_host or ()), llm_seconds=llm_seconds, llm_folder=llm_folder,
    )  # fmt: skip
    if question is None:
        _dialogue(config, as_json)
        return
    with progress() as tell, open_dialogue(config, tell) as dialogue:
        found = document_of(dialogue.ask(question), dialogue.examined)
    _show(found, as_json)
    if found.outcome == "refused":
        raise typer.Exit(Exit.NOTHING_ANSWERED)


def _dialogue(config: AskConfig, as_json: bool) -> None:
    from isocenter.verbs.ask import document_of, open_dialogue

    with ExitStack() as stack:
        with progress() as tell:  # the study is read under the bar; answers are printed when it is gone
            dialogue = stack.enter_context(open_dialogue(config, tell))
        if sys.stdin.isatty():
            say("ask in English; an empty line ends it")
        while line := sys.stdin.readline(_LONGEST_LINE):
            more = line
            while more and not more.endswith("\n"):  # what is longer than any question is not kept
                more = sys.stdin.readline(_LONGEST_LINE)
            if not line.strip():
                break
            _show(document_of(dialogue.ask(line), dialogue.examined), as_json)


def _show(found: AskDocument, as_json: bool) -> None:
    if as_json:
        out(found.model_dump_json())
        return
    out(found.text)
    for evidence in found.evidence:
        out(f"  {evidence.id}: {evidence.text}" + (f"; {evidence.picture}" if evidence.picture else ""))
    for remark in found.remarks:
        say(remark)


def mcp(
    result: Annotated[
        Path,
        typer.Option("--result", help="Folder that `isocenter read` wrote, or its result.json.", show_default=False),
    ],
    prior: Annotated[
        Path | None, typer.Option("--prior", help="Result of an earlier study of the same patient.", readable=False)
    ] = None,
) -> None:
    """Serve the tools of `ask` to other programs over standard input and output (Model Context Protocol)."""
    from isocenter.verbs.mcp import McpConfig, run

    run(McpConfig(result=result, prior=prior))
