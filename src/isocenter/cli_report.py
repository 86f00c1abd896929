"""The command `isocenter report`: a draft whose every sentence leads to its evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import out

__all__ = ["report"]


def report(
    result: Annotated[
        Path, typer.Argument(help="Folder that `isocenter read` wrote, or its result.json.", show_default=False)
    ],
    out_folder: Annotated[
        Path, typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False)
    ],
    language: Annotated[str, typer.Option("--language", help="Of the draft: en, es, zh.")] = "en",
    indication: Annotated[str, typer.Option("--indication", help="As the clinician gave it; printed as given.")] = "",
    comparison: Annotated[str, typer.Option("--comparison", help="With what it was compared; printed as given.")] = "",
    llm_url: Annotated[
        str | None,
        typer.Option("--llm-url", help="OpenAI-compatible server that may put the draft into other words."),
    ] = None,
    llm_model: Annotated[str, typer.Option("--llm-model", help="Name of the model at that server.")] = "default",
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", help="Host beside this machine that the draft may be sent to; may be repeated."),
    ] = None,
    llm_seconds: Annotated[float, typer.Option("--llm-seconds", help="Longest time for the model's answer.")] = 60.0,
    llm_folder: Annotated[
        Path | None,
        typer.Option("--llm-folder", help="Hugging Face folder of a language model here, instead of a server."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older draft.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")
    ] = False,
) -> None:
    """Draft a report from what `isocenter read` answered: every sentence on evidence, or withheld."""
    from isocenter.verbs import reports

    document = reports.report(
        result, out_folder, language=language, indication=indication, comparison=comparison, llm_url=llm_url,
        llm_model=llm_model, allow_host=tuple(allow_host or ()), llm_seconds=llm_seconds, llm_folder=llm_folder,
        overwrite=overwrite,
    )  # fmt: skip
    if as_json:
        out(document.model_dump_json())
        return
    for part in document.parts:
        for section in part.sections:
            if section["name"] in ("findings", "impression"):
                shown = [x["text"] for x in section["sentences"] if not x["withheld"]]
                out(f"{section['title']}:" + "".join(f"\n  {text}" for text in shown))
        out(part.written_by)
    if document.withheld:
        out(f"{document.withheld} sentences were withheld; the page shows them, and why")
    out(f"draft, signed by nobody: {out_folder / reports.PAGE}")
