"""The commands of `isocenter audit`: check a record of what was run, and show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import out

__all__ = ["app"]

app = typer.Typer(
    help="The record of who ran what: check that no line was altered, removed or added; show it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
RecordArgument = Annotated[Path, typer.Argument(help="The record (JSON lines).", show_default=False, readable=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


@app.command()
def verify(
    record: RecordArgument,
    head: Annotated[
        str | None,
        typer.Option("--head", help="Hash of a line that was noted elsewhere: finds lines cut off after it."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a record from its first line to its last; name the first line that is not as it was written."""
    from isocenter.verbs.audit import audit_verify

    found = audit_verify(record, head=head)
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    out(f"{found.lines} lines, each as it was written\nhead: {found.head}")


@app.command()
def show(
    record: RecordArgument,
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only so many of the last lines.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the lines of a record: when, who (a pseudonym), what, and how it ended."""
    from isocenter.verbs.audit import audit_show

    found = audit_show(record, last=last)
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    lines = []
    for line in found.lines:
        said = line.said
        lines.append(f"{line.line}: {line.time} {said['who'][:8]} {said['verb']}: {said['outcome']}")
        lines += [
            f"    {a['task']}: {a['outcome']}, image {a['image'][:12]}"
            + (f", weights {a['weights'][:12]}" if a["weights"] else "")
            for a in said.get("answers", ())
        ]
        lines += [
            f"    segment {c['segment']}: {c['added']} voxels added, {c['removed']} removed; "
            f"mask {c['before'][:12]} before, {c['after'][:12]} after"
            for c in said.get("changes", ())
        ]
    out("\n".join(lines) or "the record is empty")
