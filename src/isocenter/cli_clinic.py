"""The commands of `isocenter clinic`: the node that a hospital's systems talk to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isocenter import cli_clinic_access
from isocenter.cli_vigilance import add
from isocenter.terminal import out

__all__ = ["app"]

app = typer.Typer(
    help="The clinic's node: receives studies, answers them by rule, sends results back, and loses nothing.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(cli_clinic_access.user, name="user")
app.add_typer(cli_clinic_access.token, name="token")
app.command("audit")(cli_clinic_access.audit)
ConfigArgument = Annotated[
    Path,
    typer.Argument(help="The node's settings (docs/reference/clinic-yaml.md).", show_default=False, readable=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


@app.command()
def run(config: ConfigArgument) -> None:
    """Run the node until it is told to stop (SIGTERM, Ctrl-C)."""
    import os

    from isocenter.clinic.observe import setup_logs
    from isocenter.verbs.clinic import clinic_run, load_clinic_config
    from isocenter.verbs.clinic.observing import logs_of

    os.umask(0o077)  # whatever the node's processes write is their owner's alone
    settings = load_clinic_config(config)
    setup_logs(logs_of(settings))
    clinic_run(settings, ready=lambda node: out(f"listening: {', '.join(f'{t} {p}' for t, p in node.ports.items())}"))


@app.command()
def status(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """Tell how the node is: studies and deliveries by state, what failed and why."""
    from datetime import datetime

    from isocenter.verbs.clinic import clinic_status

    found = clinic_status(config)
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    lines = ["running" if found.running else "not running"]
    lines += [f"{one['name']}: {'' if one['ok'] else 'NOT WELL: '}{one['detail']}" for one in found.checks]
    lines += [f"{title} listens on port {port}" for title, port in found.ports.items() if found.running]
    lines += [f"studies {state}: {count}" for state, count in sorted(found.studies.items())]
    lines += [f"deliveries {state}: {count}" for state, count in sorted(found.deliveries.items())]
    lines += [f"{one['kind']}: {one['study']}: {one['detail']}" for one in found.alerts]
    lines += [f"failed: {one['study']} version {one['version']}: {one['reason']}" for one in found.failed]
    lines += [
        f"dead letter {one['delivery'][:12]}: {one['study']} to {one['destination']}: {one['error']}"
        for one in found.dead_letters
    ]
    for one in reversed(found.turned_away):
        at = datetime.fromtimestamp(one["at"]).astimezone()
        lines.append(f"{at:%Y-%m-%d %H:%M:%S} {one['kind']}: {one['detail']}")
    if found.conflicts:
        lines.append(f"{found.conflicts} instances were refused: another of their UID is held")
    out("\n".join(lines))


@app.command()
def replay(
    config: ConfigArgument,
    deliveries: Annotated[
        list[str] | None, typer.Option("--delivery", help="Key of a dead letter; more than one may be given.")
    ] = None,
    studies: Annotated[
        list[str] | None, typer.Option("--study", help="UID of a failed study; more than one may be given.")
    ] = None,
) -> None:
    """Send dead letters again, and have failed studies answered again: all, or those named."""
    from isocenter.verbs.clinic import clinic_replay

    sent, asked = clinic_replay(config, deliveries=deliveries or None, studies=studies or None)
    out(f"{sent} deliveries are sent again, {asked} studies are answered again")


@app.command()
def worklist(
    config: ConfigArgument,
    days: Annotated[int | None, typer.Option("--days", help="Days from today on; default: as in the settings.")] = None,
    patients: Annotated[bool, typer.Option("--patients", help="Print names and identifiers of patients too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what the modality worklist says is scheduled."""
    import json
    from dataclasses import asdict

    from isocenter.verbs.clinic import clinic_worklist

    found = []
    for one in clinic_worklist(config, days=days):
        line = asdict(one)
        if not patients:
            for name in ("patient_id", "issuer", "patient_name", "reason"):
                del line[name]
        found.append(line)
    if as_json:
        out(json.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in found:
        what = line["description"] or line["procedure"][1]
        told = [line["start"] or "no time", *(line[name] for name in ("modality", "station", "accession", "priority"))]
        told.append(what)
        told += [line["patient_id"], line["patient_name"]] if patients else []
        out("  ".join(part for part in told if part))
    out(f"{len(found)} steps are scheduled")


@app.command()
def recover(config: ConfigArgument) -> None:
    """Put the store of a node that does not run in order, as each start does."""
    from isocenter.verbs.clinic import clinic_recover

    found = clinic_recover(config)
    out(
        f"{found.unfinished} instances on their way in removed, {found.broken} that were never answered for removed, "
        f"{found.noted} written into the journal again"
    )


@app.command()
def backup(
    config: ConfigArgument,
    to: Annotated[Path, typer.Option("--to", help="File to write; it must not be there.", show_default=False)],
    instances: Annotated[
        bool, typer.Option("--instances", help="With the instances that are held: most of a store's bytes.")
    ] = False,
) -> None:
    """Write a backup of a node, which may run meanwhile: ledger, journals, results, audit record."""
    from isocenter.verbs.clinic import clinic_backup

    made = clinic_backup(config, to, instances=instances)
    out(f"{made.file}: {made.files} files, {made.bytes / 1e6:.1f} MB, manifest {made.sha256}")


@app.command()
def restore(
    config: ConfigArgument,
    file: Annotated[Path, typer.Argument(help="The backup.", show_default=False, readable=False)],
) -> None:
    """Put a backup in place of an empty store, after all of it was checked."""
    from isocenter.verbs.clinic import clinic_restore

    found = clinic_restore(config, file)
    lines = [f"restored: {found.files} files, {sum(found.rows.values())} rows of the ledger"]
    if found.unheld:
        lines.append(
            f"{found.unheld} studies were not answered and their instances are not in the backup: send them again"
        )
    out("\n".join(lines))


@app.command()
def conform(
    config: Annotated[
        Path | None,
        typer.Argument(help="Settings of a running node of ours, to be checked.", show_default=False, readable=False),
    ] = None,
    objects: Annotated[
        Path | None, typer.Option("--objects", help="Folder of results, with their images if these are at hand.")
    ] = None,
    peer: Annotated[
        str | None, typer.Option("--peer", help="Another node: dicom://CALLING@HOST:PORT/TITLE.", show_default=False)
    ] = None,
    web: Annotated[str | None, typer.Option("--web", help="Root of a DICOMweb service.", show_default=False)] = None,
    token: Annotated[
        Path | None, typer.Option("--token-file", help="File that holds a bearer token for it.", readable=False)
    ] = None,
    store: Annotated[
        bool, typer.Option("--store", help="Store a test image, and a workitem, of a patient Conformance^Test.")
    ] = False,
    listen: Annotated[
        int | None, typer.Option("--listen", help="Port where the node reports storage commitments to us.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check objects and a running node against AI Results and DICOM: self-tested, not certified by IHE."""
    from isocenter.verbs.clinic.conform import clinic_conform, peers

    dimse, service = peers(config, peer=peer, web=web, token=token, store=store, listen=listen)
    found = clinic_conform(objects=objects, dimse=dimse, web=service)
    if as_json:
        out(found.model_dump_json(indent=2))
    else:
        for one in (*found.objects, *found.transactions):
            out(f"{one.state}: {one.name}: {one.title} ({one.source})")
            for fault in one.faults:
                out(f"    {fault}")
        every = (*found.objects, *found.transactions)
        counted = {state: sum(one.state == state for one in every) for state in ("pass", "fail", "not applicable")}
        out(", ".join(f"{count} {state}" for state, count in counted.items()) + f" ({found.claim})")
    if found.failed:
        raise typer.Exit(1)


@app.command()
def statement() -> None:
    """Print the DICOM conformance statement and the IHE integration statement, made of the code's own tables."""
    from isocenter.verbs.clinic.statement import conformance_statement

    out(conformance_statement())


add(app)
