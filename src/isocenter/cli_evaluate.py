"""The commands `isocenter evaluate` and `isocenter check`: what predictions are worth, and whether a task may serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.evaluation.document import EvaluationDocument

__all__ = ["check", "evaluate"]

OutOption = Annotated[
    Path, typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False)
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Labelled set: nnU-Net, Decathlon, MedMNIST, CSV, or folders.")
]
PatientsOption = Annotated[
    Path | None, typer.Option("--patients", help="CSV: case,patient. Intervals resample patients.")
]
GroupsOption = Annotated[
    Path | None, typer.Option("--groups", help="CSV: case or patient, and columns (sex, age, site) to make groups of.")
]
CorruptOption = Annotated[
    str, typer.Option("--corrupt", help="With a task: drop curves of these corruptions (comma between), or 'auto'.")
]
CorruptCasesOption = Annotated[
    int | None, typer.Option("--corrupt-cases", help="Most cases that are made worse. Default: all.")
]
ModalityOption = Annotated[
    str | None, typer.Option("--modality", help="Modality of images whose file says none, e.g. MR.")
]
BodyPartOption = Annotated[
    str | None, typer.Option("--body-part", help="Body part of images whose file says none, e.g. BRAIN.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")]
AuditOption = Annotated[
    Path | None,
    # The environment's ISOCENTER_AUDIT is looked up by the verb: where nothing is run, it must not be taken for a wish.
    typer.Option("--audit", help="With a task: append a line to this record; or ISOCENTER_AUDIT names it."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def evaluate(
    out_folder: OutOption,
    predictions: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of masks or reports; CSV of scores, reports, survival, boxes, retrieval, clicks; .npz.",
            show_default=False,
        ),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Argument(help="Folder of the reference masks or reports, or CSV of the reference boxes or points."),
    ] = None,
    task: Annotated[
        str | None, typer.Option("--task", help="Task, or adapted folder, to run on a labelled set.")
    ] = None,
    data: DataOption = None,
    against: Annotated[
        str | None, typer.Option("--against", help="A second system: predictions of the same form, or a second task.")
    ] = None,
    match: Annotated[
        Path | None, typer.Option("--match", help="CSV: case,prediction,reference, where names of files differ.")
    ] = None,
    patients: PatientsOption = None,
    groups: GroupsOption = None,
    shift: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--shift", help="Column of --groups and two sites: the difference between them."),
    ] = None,
    missing: Annotated[
        str,
        typer.Option(
            "--missing",
            help="A reference without a prediction: fail, count-as-zero (a mask that a task abstains from, too).",
        ),
    ] = "fail",
    corners: Annotated[
        str | None,
        typer.Option("--corners", help="Of boxes in pixels: half-open (x1 is beyond the box) or inclusive (x1 in it)."),
    ] = None,
    least_iou: Annotated[float, typer.Option("--iou", help="IoU from which a box is found, in FROC.")] = 0.1,
    images: Annotated[
        Path | None, typer.Option("--images", help="CSV: image (and patient) of all images, those without a box too.")
    ] = None,
    tolerance_mm: Annotated[float, typer.Option("--tolerance-mm", help="Of the normalised surface Dice.")] = 2.0,
    surface: Annotated[
        str, typer.Option("--surface", help="border (voxels, as MONAI) or elements (as surface-distance).")
    ] = "border",
    lesions: Annotated[
        bool, typer.Option("--lesions", help="Match connected pieces too: F1, panoptic quality.")
    ] = False,
    corrupt: CorruptOption = "",
    corrupt_cases: CorruptCasesOption = None,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Show a task's worst cases.")] = True,
    level: Annotated[float, typer.Option("--level", help="Coverage of the intervals.")] = 0.95,
    resamples: Annotated[int, typer.Option("--resamples", help="Resamples of patients.")] = 1000,
    audit: AuditOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure predictions of any tool, or a task on a labelled set: intervals, tests, subgroups, drop curves."""
    from isocenter.verbs.evaluate import evaluate_predictions as verb

    given: dict[str, Any] = {
        "predictions": predictions, "references": references, "task": task, "data": data, "against": against,
        "match": match, "patients": patients, "groups": groups, "shift": shift, "missing": missing,
        "corners": corners, "least_iou": least_iou, "images": images, "tolerance_mm": tolerance_mm,
        "surface": surface, "lesions": lesions, "corrupt": _kinds(corrupt),
        "corrupt_cases": corrupt_cases, "modality": modality, "body_part": body_part, "pictures": pictures,
        "level": level, "resamples": resamples, "seed": seed, "overwrite": overwrite, "audit": audit,
    }  # fmt: skip
    with progress() as tell:
        done = verb(out_folder, progress=tell, **given)
    if as_json:
        out(done.model_dump_json(indent=2))
        return
    out("\n".join([*_lines(done), f"page: {out_folder / 'evaluation.html'}"]))


def _lines(done: EvaluationDocument) -> list[str]:
    """Return what a person reads in the terminal."""
    lines = [f"{done.cases} cases of {done.patients} patients"]
    for figure in done.figures:
        name = ", ".join(filter(None, (figure.name, figure.structure)))
        value = "not defined" if figure.value is None else f"{figure.value:.3f}"
        unit = "" if figure.unit == "1" else f" {figure.unit}"
        interval = "" if figure.low is None else f" ({figure.low:.3f} to {figure.high:.3f}, {figure.level:.0%})"
        note = f"; {figure.left_out} not finite" if figure.left_out else ""
        lines.append(f"  {name}: {value}{unit}{interval}{note}")
    reasons = sorted({f.reason for f in done.figures if f.reason})
    lines += [f"  {reason}" for reason in reasons[:2]]
    for c in done.comparisons:
        if c.difference is not None:
            name = ", ".join(filter(None, (c.name, c.structure)))
            lines.append(f"  second minus first, {name}: {c.difference:+.3f}, p {c.p_corrected:.3f} (corrected)")
    if done.subgroups is not None and done.subgroups.worst:
        lines.append(f"  worst group: {done.subgroups.worst}")
    lines += [f"  {w.what}: {w.why}" for w in done.warnings]
    return lines


def check(
    task: Annotated[str, typer.Argument(help="Task, or adapted folder.", show_default=False)],
    out_folder: OutOption,
    data: DataOption = None,
    groups: GroupsOption = None,
    corrupt: CorruptOption = "auto",
    corrupt_cases: CorruptCasesOption = 30,
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    audit: AuditOption = None,
    seen: Annotated[
        bool | None,
        typer.Option("--seen/--unseen", help="The task learnt from this set, or did not. Default: found out by hash."),
    ] = None,
    most_abstained: Annotated[
        float, typer.Option("--most-abstained", help="Share of the cases that it may abstain from.")
    ] = 0.5,
    most_seconds: Annotated[
        float | None, typer.Option("--most-seconds", help="That 19 of 20 answers may take. Default: no limit.")
    ] = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check whether a task may serve: side, repeatability, speed, calibration, groups; write its scorecard."""
    from isocenter.verbs.check import check as verb

    with progress() as tell:
        done = verb(
            task, out_folder, progress=tell, data=data, groups=groups, corrupt=_kinds(corrupt),
            corrupt_cases=corrupt_cases, modality=modality, body_part=body_part, seen=seen,
            most_abstained=most_abstained, most_seconds=most_seconds, seed=seed, overwrite=overwrite,
            audit=audit,
        )  # fmt: skip
    if as_json:
        out(done.model_dump_json(indent=2))
    else:
        lines = [f"{done.task}: {'may serve' if done.passed else 'must not serve'}"]
        lines += [f"  {c.status:<14}  {c.name}: {c.words}" for c in done.checks]
        out("\n".join([*lines, f"scorecard: {out_folder / 'scorecard.html'}"]))
    if not done.passed:
        say(f"{done.task} must not serve; against it: {', '.join(done.against)}")
        raise typer.Exit(Exit.MODEL)
