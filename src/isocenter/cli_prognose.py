"""The command `isocenter prognose`: learn when an event comes, or tell it for a person."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.prognosis.document import ModalityEntry, PrognosisDocument, PrognosisModel

__all__ = ["prognose"]


TableOption = Annotated[
    Path | None,
    typer.Argument(
        help="CSV or ARFF, a row for each person, units in the heading: age [a].",
        show_default=False,
        readable=False,
    ),
]
OutFolderOption = Annotated[
    Path | None,
    typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False, readable=False),
]
TimeOption = Annotated[str | None, typer.Option("--time", help="Column of the time to the event, or until last seen.")]
EventOption = Annotated[str | None, typer.Option("--event", help="Column of the event.")]
HorizonOption = Annotated[float | None, typer.Option("--horizon", help="Day that is asked about.")]
EventCodeOption = Annotated[str, typer.Option("--event-code", help="Value of the event.")]
CensoredCodeOption = Annotated[str, typer.Option("--censored-code", help="Value of those last seen without any event.")]
CompetingOption = Annotated[
    list[str] | None, typer.Option("--competing", help="Value of a competing event; may be repeated.")
]
PatientColumnOption = Annotated[
    str | None, typer.Option("--patient-column", help="Column of the patient; default: each row is one.")
]
IndexTimeOption = Annotated[
    str | None, typer.Option("--index-time", help="Column of the date of prediction; later dates are no features.")
]
DatedByOption = Annotated[list[str] | None, typer.Option("--dated-by", help="COLUMN=DATE COLUMN; may be repeated.")]
FeatureOption = Annotated[
    list[str] | None, typer.Option("--feature", help="Column to learn from; may be repeated; default: all.")
]
LeaveOutOption = Annotated[
    list[str] | None, typer.Option("--leave-out", help="Column not to learn from; may be repeated.")
]
KindOption = Annotated[
    list[str] | None,
    typer.Option("--kind", help="COLUMN=number, category, boolean or date; may be repeated."),
]
UnitOption = Annotated[list[str] | None, typer.Option("--unit", help="COLUMN=UNIT to convert to; may be repeated.")]
GroupOption = Annotated[str | None, typer.Option("--group", help="Column by which what is missing is told.")]
LearnerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--learner",
        help="cox, forest, deepsurv, discrete; over blocks fusion, fusion-deepsurv; of competing events cox, "
        "fine-gray; may be repeated; default: cox and forest, or the two of competing events.",
    ),
]
BlockOption = Annotated[
    list[str] | None,
    typer.Option(
        "--block",
        help="Modality beside the table, joined by patient: NAME=FILE (numbers), NAME=FOLDER (phenotypes), "
        "NAME=FILE:COLUMN or NAME=:COLUMN (text); may be repeated.",
    ),
]
BatchOption = Annotated[
    str | None, typer.Option("--batch", help="Column of the scanner: blocks are harmonised (ComBat) inside folds.")
]
ComponentsOption = Annotated[int, typer.Option("--components", help="Principal components of a block at most.")]
AuditOption = Annotated[
    Path | None, typer.Option("--audit", help="Record to append a line to; default: $ISOCENTER_AUDIT, or none.")
]
FoldsOption = Annotated[int, typer.Option("--folds", help="Outer folds.")]
InnerOption = Annotated[int, typer.Option("--inner", help="Inner folds, in which settings are chosen.")]
RefitsOption = Annotated[int, typer.Option("--refits", help="Models of resampled patients, for bands.")]
ResamplesOption = Annotated[int, typer.Option("--resamples", help="Of patients, for the intervals of figures.")]
ModelOption = Annotated[
    Path | None, typer.Option("--model", help="Folder of a model: tell it for people.", readable=False)
]
PatientOption = Annotated[
    list[str] | None, typer.Option("--patient", help="A person: 'age [a]=61,stage=II'; may be repeated.")
]
LevelOption = Annotated[float, typer.Option("--level", help="Coverage asked of a person's band.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


def prognose(
    table: TableOption = None,
    out_folder: OutFolderOption = None,
    time: TimeOption = None,
    event: EventOption = None,
    horizon: HorizonOption = None,
    event_code: EventCodeOption = "1",
    censored_code: CensoredCodeOption = "0",
    competing: CompetingOption = None,
    patient_column: PatientColumnOption = None,
    index_time: IndexTimeOption = None,
    dated_by: DatedByOption = None,
    feature: FeatureOption = None,
    leave_out: LeaveOutOption = None,
    kind: KindOption = None,
    unit: UnitOption = None,
    group: GroupOption = None,
    block: BlockOption = None,
    batch: BatchOption = None,
    components: ComponentsOption = 8,
    learner: LearnerOption = None,
    folds: FoldsOption = 5,
    inner: InnerOption = 3,
    refits: RefitsOption = 50,
    resamples: ResamplesOption = 500,
    model: ModelOption = None,
    patient: PatientOption = None,
    level: LevelOption = 0.9,
    seed: SeedOption = 0,
    audit: AuditOption = None,
    overwrite: OverwriteOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Learn a prognosis from a clinical table, measured by nested cross-validation; or, with --model, tell it."""
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.prognose import prognose as verb
    from isocenter.verbs.prognose import prognose_people

    if model is not None:
        if any((time, event, horizon)):
            raise ConfigError("--model tells a prognosis, --time, --event and --horizon learn one: give either")
        told = prognose_people(
            model, out_folder, table=table, people=patient or (), blocks=block or (), level=level, seed=seed,
            audit=audit, overwrite=overwrite,
        )  # fmt: skip
        _tell(told, out_folder, as_json)
        return
    missing = [n for n, v in (("TABLE", table), ("--out", out_folder), ("--time", time), ("--event", event),
                              ("--horizon", horizon)) if v is None]  # fmt: skip
    if table is None or out_folder is None or time is None or event is None or horizon is None:
        raise ConfigError(f"to learn a prognosis, give {', '.join(missing)}; to tell one, give --model")
    given: dict[str, Any] = {
        "event_code": event_code, "censored_code": censored_code, "competing": tuple(competing or ()),
        "patient": patient_column, "index_time": index_time, "dated_by": _pairs(dated_by, "--dated-by"),
        "features": tuple(feature or ()), "leave_out": tuple(leave_out or ()), "kinds": _pairs(kind, "--kind"),
        "units": _pairs(unit, "--unit"), "group": group, "folds": folds, "inner": inner, "refits": refits,
        "resamples": resamples, "overwrite": overwrite, "seed": seed, "blocks": tuple(block or ()), "batch": batch,
        "components": components, "audit": audit,
    }  # fmt: skip
    if learner:
        given["learners"] = tuple(learner)
    with progress() as tell:
        made = verb(table, out_folder, time=time, event=event, horizon_days=horizon, progress=tell, **given)
    if as_json:
        out(made.model_dump_json(indent=2))
    else:
        out("\n".join([*_lines(made), f"page: {out_folder / 'model.html'}"]))


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    from isocenter.core.errors import ConfigError

    found = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise ConfigError(f"{option} takes COLUMN=VALUE")
        found[name] = value
    return found


def _lines(made: PrognosisModel) -> list[str]:
    lines = [f"{made.event}: {made.events} events in {made.rows} rows of {made.patients} patients"]
    lines += ["synthetic: these people are invented"] if made.synthetic else []
    lines += [f"block {b.name}: {b.people} of {made.rows} have it" for b in made.blocks]
    for one in made.learners:
        lines.append(f"{one.learner}{' (kept)' if one.learner == made.learner else ''}")
        for f in one.figures:
            interval = "" if f.low is None or f.high is None else f" ({f.low:.3f} to {f.high:.3f})"
            lines.append(f"  {' '.join(filter(None, (f.name, f.of)))}: {f.value:.3f}{interval}")
        for t in one.taken:
            interval = (
                "" if t.lost_low is None or t.lost_high is None else f" ({t.lost_low:+.3f} to {t.lost_high:+.3f})"
            )
            lines.append(f"  without {t.modality}: concordance {t.value:.3f}, lost {t.lost:+.3f}{interval}")
    return lines + [f"left out: {what}" for what in made.left_out] + [f"note: {note}" for note in made.notes]


def _modality(m: ModalityEntry) -> str:
    if not m.used:
        said = "missing" if not m.present else "not used"
    else:
        said = "here" if m.without is None else f"without it {m.without:.1%}"
    return said if m.attention is None else f"{said}; attention {m.attention:.2f}"


def _tell(told: PrognosisDocument, out_folder: Path | None, as_json: bool) -> None:
    if as_json:
        out(told.model_dump_json(indent=2))
    else:
        lines = ["synthetic: of invented people"] if told.synthetic else []
        for p in told.people:
            if p.abstained is not None or p.risk is None or p.low is None or p.high is None or p.level is None:
                lines.append(f"person {p.person}: no answer: {p.abstained}")
                continue
            lines.append(
                f"person {p.person}: {p.risk:.1%} by day {told.horizon_days:g} ({p.low:.1%} to {p.high:.1%}, "
                f"{p.level:.0%} band)"
            )
            lines += [f"  {d.covariate}: {d.adds:+.2f}" for d in p.drivers[:5]]
            lines += [f"  {m.modality}: {_modality(m)}" for m in p.modalities]
            lines += [f"  note: {note}" for note in p.notes]
        if out_folder is not None:
            lines.append(f"page: {out_folder / 'prognosis.html'}")
        out("\n".join(lines))
    if all(p.abstained is not None for p in told.people):
        say("nothing was answered: " + "; ".join(dict.fromkeys(p.abstained or "" for p in told.people)))
        raise typer.Exit(Exit.NOTHING_ANSWERED)
