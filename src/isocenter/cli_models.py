"""The commands of `isocenter models`: weights that users bring, added, listed, checked and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import Exit, out, progress, say

__all__ = ["app"]

app = typer.Typer(
    help="Bring your own weights: add, list, check and show models; no pickle, no remote code, no download.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ModelArgument = Annotated[
    str, typer.Argument(help="Name of a model (isocenter models list), or its path.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


@app.command()
def add(
    path: Annotated[
        Path,
        typer.Argument(
            help="Hugging Face folder, MONAI bundle, nnU-Net v2 folder, or Isocenter's own .safetensors.",
            show_default=False,
            readable=False,
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", help="Name in the store; default: the folder's.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the weights, where their folder doesn't state it.")
    ] = None,
    intended_use: Annotated[
        str | None, typer.Option("--intended-use", help="What they are for, where their folder doesn't state it.")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the weights into the store.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Add weights to the store: where they lie, their hashes, licence and use; archives become safetensors."""
    from isocenter.verbs.models import models_add

    with progress() as tell:
        entry = models_add(path, name=name, licence=licence, intended_use=intended_use, copy_files=copy, progress=tell)
    if as_json:
        out(entry.model_dump_json(indent=2))
        return
    p = entry.passport
    out(
        f"{p.name}: {p.architecture}, {p.parameters:,} parameters; licence {p.licence}\n"
        f"check it before use: isocenter models check {p.name}"
    )


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List built-in models and those of the store."""
    from isocenter.verbs.models import models_list

    found = models_list()
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    lines = [f"store: {found.store}"]
    for m in found.models:
        lines.append(f"  {m.name}: {m.architecture}; {m.parameters:,} parameters; licence {m.licence}; {m.place}")
        lines += [f"      PROBLEM: {m.problem}"] if m.problem else []
    out("\n".join(lines))


@app.command()
def check(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Check a model on this machine: hashes, licence, use, memory, speed, intensities, left and right."""
    from isocenter.verbs.models import models_check

    with progress() as tell:
        report = models_check(model, progress=tell)
    if as_json:
        out(report.model_dump_json(indent=2))
    else:
        lines = [f"{report.name}: {report.passport.architecture}"]
        lines += [f"  {c.status:<14}  {c.name}: {c.words}" for c in report.checks]
        out("\n".join(lines))
    if not report.passed:
        failed = ", ".join(c.name for c in report.checks if c.status == "failed")
        say(f"{report.name} failed: {failed}")
        raise typer.Exit(Exit.MODEL)


@app.command()
def card(model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show a model's passport: network, files with hashes, licence, use, what it takes."""
    from isocenter.verbs.models import models_card

    with progress() as tell:
        found = models_card(model, progress=tell)
    out(found.passport.model_dump_json(indent=2) if as_json else found.page)
