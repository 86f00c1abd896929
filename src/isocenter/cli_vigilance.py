"""The commands of `isocenter clinic` that watch over its answers: drift, comparison, canary, feedback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import out

__all__ = ["add"]

ConfigArgument = Annotated[
    Path,
    typer.Argument(help="The node's settings (docs/reference/clinic-yaml.md).", show_default=False, readable=False),
]
RuleArgument = Annotated[str, typer.Argument(help="Name of the rule.", show_default=False)]
ReasonOption = Annotated[str, typer.Option("--reason", help="For the record; without a patient's value.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


def add(app: typer.Typer) -> None:
    """Add the commands to `isocenter clinic`."""
    for command in (vigilance, compare, promote, rollback, resume, feedback, reference):
        app.command()(command)


def vigilance(
    config: ConfigArgument,
    html: Annotated[Path | None, typer.Option("--html", help="Write the panel as a page here.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell how answers do beside their reference: drift, rates, alarms."""
    import json

    from isocenter.verbs.clinic.vigilance.operate import clinic_vigilance

    found = clinic_vigilance(config, html=html)
    if as_json:
        out(json.dumps(found, indent=2))
        return
    alarms = [a for a in found["alarms"] if a["closed"] is None]
    lines = [f"alarm: {a['detail']}; action: {a['action']}" for a in alarms] or ["no open alarm"]
    for s in found["streams"]:
        of = f"{s['rule']}, {s['task']}" + (" (candidate)" if s["arm"] == "candidate" else "")
        wait = f"{s['reference']} of {s['wanted']} studies of the reference" if s["reference"] < s["wanted"] else ""
        watched = f"{len(s['features'])} features watched, {s['studies']} studies"
        lines.append(f"{of}: {wait or watched}")
        lines += [f"  {r['name']}: {r['happened']} of {r['cases']}" for r in s["rates"] if r["cases"]]
    lines += [f"canary of {c['rule']}: {c['state']}" for c in found["canaries"]]
    lines += [f"written: {html}"] if html is not None else []
    out("\n".join(lines))


def compare(
    config: ConfigArgument,
    live: Annotated[str, typer.Option("--live", help="Name of the live rule.", show_default=False)],
    candidate: Annotated[str, typer.Option("--candidate", help="Name of the rule in shadow.", show_default=False)],
    folder: Annotated[
        Path | None, typer.Option("--out", help="Folder for comparison.json and comparison.html.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare a rule in shadow with the live one, on the studies that both answered."""
    from isocenter.verbs.clinic.vigilance.operate import clinic_compare

    found = clinic_compare(config, live, candidate, folder)
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    lines = [found.verdict, found.text]
    for c in found.criteria:
        interval = "no interval" if c.low is None or c.high is None else f"{c.low:.3g} to {c.high:.3g}"
        lines.append(f"  {c.what}: {c.value:.3g} ({interval}), margin {c.margin:g}: {c.verdict}")
    lines += [f"  discordant {p.study}: {'; '.join(p.why)}" for p in found.discordant]
    out("\n".join(lines))


def promote(config: ConfigArgument, rule: RuleArgument, reason: ReasonOption = "") -> None:
    """Give all further studies of a rule to its candidate; no restart is needed."""
    from isocenter.verbs.clinic.vigilance.operate import clinic_decide

    new = clinic_decide(config, rule, "promote", reason)
    out(f"{rule}: the candidate answers from now on" if new else f"{rule}: the candidate was promoted before")


def rollback(config: ConfigArgument, rule: RuleArgument, reason: ReasonOption = "") -> None:
    """Give all further studies of a rule to its own tasks again; no restart is needed."""
    from isocenter.verbs.clinic.vigilance.operate import clinic_decide

    new = clinic_decide(config, rule, "rollback", reason)
    out(f"{rule}: its own tasks answer from now on" if new else f"{rule}: the candidate was rolled back before")


def resume(config: ConfigArgument, rule: RuleArgument, reason: ReasonOption = "") -> None:
    """Send the answers of a rule again that an alarm had put in shadow."""
    from isocenter.verbs.clinic.vigilance.operate import clinic_resume

    new = clinic_resume(config, rule, reason)
    out(f"{rule}: its answers are sent again" if new else f"{rule}: it was not in shadow because of an alarm")


def feedback(
    config: ConfigArgument,
    study: Annotated[str, typer.Option("--study", help="Study Instance UID.", show_default=False)],
    task: Annotated[str, typer.Option("--task", help="Whose answer.", show_default=False)],
    kind: Annotated[str, typer.Option("--kind", help="agree or override.", show_default=False)],
    about: Annotated[str, typer.Option("--about", help="mask, finding, measurement or report.")] = "report",
    covered: Annotated[
        bool | None, typer.Option("--covered/--missed", help="Whether the promised set or interval held the truth.")
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Name of the system that says so; of no person.")] = "",
) -> None:
    """Take in what a reader said of an answer."""
    from isocenter.verbs.clinic.vigilance.feedback import said_of
    from isocenter.verbs.clinic.vigilance.operate import clinic_feedback

    said = said_of(study=study, task=task, kind=kind, about=about, covered=covered, source=source)
    clinic_feedback(config, said)
    out("taken")


def reference(
    config: ConfigArgument,
    file: Annotated[Path, typer.Option("--out", help="File to write (JSON).", show_default=False)],
    rule: Annotated[str, typer.Option("--rule", help="Rule that an archive is answered by.")] = "",
    studies: Annotated[
        Path | None,
        typer.Option("--studies", help="Validation archive, one folder for each study; without it the node's record."),
    ] = None,
) -> None:
    """Write a reference for drift: of the node's first studies, or of a validation archive."""
    from isocenter.verbs.clinic.vigilance.operate import clinic_reference

    rows = clinic_reference(config, file, rule=rule, studies=studies)
    out(f"{rows} rows of reference: {file}; name it in clinic.yaml: vigilance: {{reference: {file}}}")
