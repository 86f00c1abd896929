"""The command `isocenter label`: findings of reports as labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import Exit, out, progress, say

__all__ = ["label"]


def label(
    reports: Annotated[
        Path,
        typer.Argument(
            help="Folder of .txt files, .csv, .jsonl, one text file, or - for standard input.",
            show_default=False,
            readable=False,
        ),
    ],
    out_folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for labels.csv and labels.json; default: print the table.")
    ] = None,
    chexpert: Annotated[
        bool, typer.Option("--chexpert", help="The 14 observations of CheXpert too (1, 0, -1, blank); printed alone.")
    ] = False,
    id_column: Annotated[str | None, typer.Option("--id-column", help="Column of the reports' names.")] = None,
    text_column: Annotated[str | None, typer.Option("--text-column", help="Column of the texts.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace older labels.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")
    ] = False,
) -> None:
    """Label chest X-ray reports: findings with presence, side, severity, change, code and place, by rules."""
    from isocenter.verbs.label import label_reports

    with progress() as tell:
        found = label_reports(
            reports, out_folder, chexpert=chexpert, id_column=id_column, text_column=text_column,
            overwrite=overwrite, progress=tell,
        )  # fmt: skip
    if as_json:
        out(found.model_dump_json(indent=2))
    elif out_folder is None:
        out(found.chexpert_table() if chexpert else found.table())
    else:
        findings = sum(len(r.findings) for r in found.reports)
        out(f"{found.labelled} of {len(found.reports)} reports labelled, {findings} findings: {out_folder}")
    others = [f"{count} {name}" for name, count in sorted(found.outcomes.items()) if name != "labelled"]
    if others:
        say(f"not labelled: {', '.join(others)}")
    if not found.labelled:
        raise typer.Exit(Exit.NOTHING_ANSWERED)
