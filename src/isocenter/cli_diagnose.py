"""The command `isocenter diagnose`: what a study shows, how sure that is, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.result import PredictionEntry, ResultDocument

__all__ = ["CasesOption", "ClinicalOption", "diagnose"]

# Of `isocenter adapt --data`: what diagnosing uses of a task's folder is made there.
ClinicalOption = Annotated[
    Path | None, typer.Option("--clinical", help="Of a set: CSV of case or patient, and covariates to join with.")
]
CasesOption = Annotated[
    bool, typer.Option("--cases/--no-cases", help="Of a set: keep an index, for answers to name the nearest cases.")
]


def diagnose(
    path: Annotated[
        Path,
        typer.Argument(
            help="DICOM file, folder, zip or DICOMDIR; NIfTI, NRRD or picture.", show_default=False, readable=False
        ),
    ],
    out_folder: Annotated[
        Path,
        typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False, readable=False),
    ],
    task: Annotated[
        list[str],
        typer.Option(
            "--task", help="Name of a task, or folder of an adapted one; may be repeated.", show_default=False
        ),
    ],
    clinical: Annotated[
        Path | None,
        typer.Option("--clinical", help="CSV of this study's covariates, for tasks that learnt with such a table."),
    ] = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", help="Earlier result of the same patient: its folder, or result.json.")
    ] = None,
    on_irregular: Annotated[
        str, typer.Option("--on-irregular", help="Irregular or tilted series: raise, or resample.")
    ] = "raise",
    modality: Annotated[
        str | None, typer.Option("--modality", help="Modality of images whose file says none, e.g. CT.")
    ] = None,
    body_part: Annotated[
        str | None, typer.Option("--body-part", help="Body part of images whose file says none, e.g. CHEST.")
    ] = None,
    reader: Annotated[str, typer.Option("--reader", help="Reader plug-in; see isocenter plugins.")] = "images",
    audit: Annotated[
        Path | None, typer.Option("--audit", help="Record to append a line to; default: $ISOCENTER_AUDIT, or none.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 0,
    air: Annotated[bool, typer.Option("--air", help="Write a whole DICOM result set (IHE AI Results).")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")
    ] = False,
) -> None:
    """Say what a study shows, how sure that is, and why: maps, nearest confirmed cases, what drove it."""
    from isocenter.verbs.diagnose import diagnose as verb

    with progress() as tell:
        result = verb(
            path, out_folder, tuple(task), progress=tell, clinical=clinical, prior=prior, on_irregular=on_irregular,
            modality=modality, body_part=body_part, reader=reader, audit=audit, seed=seed, overwrite=overwrite,
            air={} if air else None,
        )  # fmt: skip
    if as_json:
        out(result.to_json())
    else:
        out("\n".join([*_lines(result), f"result: {out_folder / 'report.html'}"]))
    if not result.answered:
        reasons = "; ".join(dict.fromkeys(p.abstained or "" for p in result.predictions))
        say(f"nothing was answered: every task abstained: {reasons}")
        raise typer.Exit(Exit.NOTHING_ANSWERED)


def _lines(result: ResultDocument) -> list[str]:
    lines: list[str] = []
    for prediction in result.predictions:
        where = f", image {prediction.image}" if len(result.images) > 1 else ""
        lines.append(f"{prediction.title or prediction.task}{where}")
        if prediction.abstained is not None:
            lines.append(f"  no answer: {prediction.abstained}")
            continue
        lines += [f"  {line}" for line in _answer_lines(prediction)]
    lines += [f"compared: {c.about}: {c.text}" for c in result.comparison]
    return lines


def _answer_lines(prediction: PredictionEntry) -> list[str]:
    lines = [f"{m.name.meaning}: {m.value:.3g}" for m in prediction.measurements if m.segment is None]
    sure = prediction.uncertainty
    if sure is not None and sure.level is not None and sure.members:
        lines.append(f"{sure.level:.0%} set: {', '.join(code.meaning for code in sure.members)}")
    elif sure is not None and sure.low is not None and sure.high is not None:
        lines.append(f"{sure.kind} {sure.low:.3g} to {sure.high:.3g}")
    lines += [
        f"{own.about.meaning}: {' or '.join(code.meaning.lower() for code in own.members) or 'neither'}"
        for own in prediction.further
        if own.about is not None
    ]
    kinds = ("region", "neighbour", "missing")
    shown = [e for e in prediction.evidence if e.kind in kinds or "with the table" in e.numbers]
    return lines + [f"{e.kind}: {e.text}" for e in shown]
