"""The command `isocenter treat`: what another treatment would change, and for whom nothing can be said."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.cli_prognose import BlockOption, DatedByOption, IndexTimeOption, KindOption, PatientColumnOption, _pairs
from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.treatment.document import AmountEntry, OutcomeBlock, TreatDocument

__all__ = ["treat"]


FeatureOption = Annotated[
    list[str] | None, typer.Option("--feature", help="Column known before treatment; default: all that can be.")
]
LeaveOutOption = Annotated[
    list[str] | None, typer.Option("--leave-out", help="Column that is no feature; may be repeated.")
]
HarmOption = Annotated[
    list[str] | None, typer.Option("--harm", help="Further column of 1 and 0, worse the more; may be repeated.")
]
BetterOption = Annotated[
    str | None, typer.Option("--better", help="Which way --outcome is better: higher or lower; needed with it.")
]
MethodOption = Annotated[
    str, typer.Option("--method", help="together, causal-forest, dr-learner, r-learner or t-learner.")
]
LeastShareOption = Annotated[
    float, typer.Option("--least-share", help="An option given more seldom to people alike is too rare.")
]
WidthLimitOption = Annotated[
    float | None, typer.Option("--width-limit", help="A wider interval of a person's difference says too little.")
]
AuditOption = Annotated[
    Path | None, typer.Option("--audit", help="Record to append a line to; default: $ISOCENTER_AUDIT, or none.")
]
AsJsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


def treat(
    table: Annotated[
        Path,
        typer.Argument(
            help="CSV or ARFF, one row per person; units in the heading.", show_default=False, readable=False
        ),
    ],
    out_folder: Annotated[
        Path,
        typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False, readable=False),
    ],
    treatment: Annotated[
        str, typer.Option("--treatment", help="Column of the option that each person got.", show_default=False)
    ],
    design: Annotated[
        str,
        typer.Option(
            "--design", help="randomised where a coin decided, else observational: associations.", show_default=False
        ),
    ],
    option: Annotated[str | None, typer.Option("--option", help="Value that is the treatment, unless 0 and 1.")] = None,
    against: Annotated[str | None, typer.Option("--against", help="Value that is the comparator.")] = None,
    outcome: Annotated[str | None, typer.Option("--outcome", help="Column of a number, or of 1 and 0.")] = None,
    time: Annotated[
        str | None, typer.Option("--time", help="Column of times; days, or the unit that its heading states.")
    ] = None,
    event: Annotated[str | None, typer.Option("--event", help="Column of whether the event happened.")] = None,
    event_name: Annotated[str, typer.Option("--event-name", help="What the event is called in words.")] = "event",
    horizon: Annotated[
        float | None, typer.Option("--horizon", help="Days up to which the outcome is meant; needed with --time.")
    ] = None,
    scale: Annotated[str, typer.Option("--scale", help="Of times: survival at the horizon, or days.")] = "survival",
    harm: HarmOption = None,
    feature: FeatureOption = None,
    leave_out: LeaveOutOption = None,
    block: BlockOption = None,
    patient_column: PatientColumnOption = None,
    index_time: IndexTimeOption = None,
    dated_by: DatedByOption = None,
    kind: KindOption = None,
    better: BetterOption = None,
    event_is: Annotated[str, typer.Option("--event-is", help="Whether the --event is bad or good.")] = "bad",
    people: Annotated[
        Path | None, typer.Option("--people", help="CSV of people to tell something of.", readable=False)
    ] = None,
    method: MethodOption = "together",
    level: Annotated[float, typer.Option("--level", help="Coverage asked of intervals.")] = 0.9,
    least_share: LeastShareOption = 0.05,
    width_limit: WidthLimitOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")] = False,
    audit: AuditOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Say what a treatment changes, for whom, and of whom nothing can be said; observational: associations."""
    from isocenter.verbs.treat import treat as verb

    with progress() as tell:
        found = verb(
            table, out_folder, treatment, design, progress=tell, option=option, against=against, outcome=outcome,
            time=time, event=event, event_name=event_name, horizon_days=horizon, scale=scale, harms=tuple(harm or ()),
            features=tuple(feature or ()), leave_out=tuple(leave_out or ()), better=better, event_is=event_is,
            people=people, method=method, level=level, least_share=least_share, width_limit=width_limit, seed=seed,
            overwrite=overwrite, blocks=tuple(block or ()), patient=patient_column, index_time=index_time,
            dated_by=_pairs(dated_by, "--dated-by"), kinds=_pairs(kind, "--kind"), audit=audit,
        )  # fmt: skip
    if as_json:
        out(found.model_dump_json(indent=2))
    else:
        out("\n".join([*_lines(found), f"result: {out_folder / 'treat.html'}"]))
    if found.people and all(p.refused for p in found.people):
        say("nothing was said of any of these people: insufficient support")
        raise typer.Exit(Exit.NOTHING_ANSWERED)


def _amount(entry: AmountEntry, block: OutcomeBlock) -> str:
    times, unit = (100, " in 100") if block.chance else (1, "" if block.unit == "1" else f" {block.unit}")
    digits = 0 if times * (entry.high - entry.low) >= 20 else 1
    value, low, high = (f"{times * v:.{digits}f}" for v in (entry.value, entry.low, entry.high))
    return f"{value}{unit} ({low} to {high})"


def _lines(d: TreatDocument) -> list[str]:
    lines = [f"{d.treatment} against {d.comparator}, {d.design}: {d.claim}s" + (" (synthetic)" if d.synthetic else "")]
    lines.append(f"of {d.support.people} people something is said of {d.support.supported}")
    lines += [f"  nothing of a group: {rule}" for rule in d.support.rules]
    lines += [f"block {b.name}: {b.people} people have it, {b.features} features" for b in d.blocks]
    for block in (d.outcome, *d.harms):
        lines.append(f"average {d.claim}: {_amount(block.average, block)} {block.words}")
        failed = [r.name for r in block.refutations if not r.passed]
        lines.append(f"  refuted by {', '.join(failed)}" if failed else "  withstood every attempt to refute it")
        lines.append(f"  {block.bound}")
    if d.outcome.calibration is not None:
        lines.append(f"differences between people: {d.outcome.calibration.told}")
    if d.outcome.policy is not None:
        policy = d.outcome.policy
        lines.append(
            f"treating where a benefit is predicted: {_amount(policy.over_all, d.outcome)} over treating all, "
            f"{_amount(policy.over_none, d.outcome)} over treating none"
        )
    for person in d.people:
        lines += [f"{person.person}: {person.verdict}", *(f"  {line}" for line in person.sentences)]
    return lines
