"""The commands `isocenter clinic user`, `token` and `audit`: who may do what on a node, and who did what."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import out, say

__all__ = ["audit", "token", "user"]

user = typer.Typer(help="Accounts of people.", no_args_is_help=True, rich_markup_mode=None)
token = typer.Typer(help="API tokens of programs.", no_args_is_help=True, rich_markup_mode=None)
ConfigArgument = Annotated[
    Path,
    typer.Argument(help="The node's settings (docs/reference/clinic-yaml.md).", show_default=False, readable=False),
]
NameArgument = Annotated[str, typer.Argument(help="Its name.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]
RoleOption = Annotated[str, typer.Option("--role", help="admin, radiologist, reader or (tokens alone) service.")]
PasswordOption = Annotated[
    Path | None,
    typer.Option("--password-file", help="File that holds the password, its owner's alone; default: it is asked for."),
]


@user.command("add")
def user_add(
    config: ConfigArgument,
    name: NameArgument,
    role: RoleOption,
    full_name: Annotated[str, typer.Option("--full-name", help="As reports are signed; default: the name.")] = "",
    password_file: PasswordOption = None,
) -> None:
    """Make a local account. There is none at first, so the first admin is made here."""
    from isocenter.verbs.clinic.access import user_add as verb

    made = verb(config, name, role, _password(password_file), full_name)
    out(f"{made.name} may sign in, as {made.role}")


@user.command("list")
def user_list(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """List the accounts."""
    from dataclasses import asdict

    from isocenter.verbs.clinic.access import user_list as verb

    found = verb(config)
    if as_json:
        out(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return
    for one in found:
        how = "identity provider" if one.subject else "password"
        state = f"revoked {_day(one.revoked_at)}" if one.revoked_at is not None else f"since {_day(one.created_at)}"
        out(f"{one.name}  {one.role}  {how}  {state}")
    if not found:
        say("there is no account; make the first admin: isocenter clinic user add CONFIG NAME --role admin")


@user.command("role")
def user_role(config: ConfigArgument, name: NameArgument, role: RoleOption) -> None:
    """Change what somebody is; their sessions end."""
    from isocenter.verbs.clinic.access import user_role as verb

    verb(config, name, role)
    out(f"{name} is {role}")


@user.command("revoke")
def user_revoke(config: ConfigArgument, name: NameArgument) -> None:
    """Let somebody in no more; their sessions and open sockets end within seconds."""
    from isocenter.verbs.clinic.access import user_revoke as verb

    verb(config, name)
    out(f"{name} is let in no more")


@user.command("password")
def user_password(config: ConfigArgument, name: NameArgument, password_file: PasswordOption = None) -> None:
    """Give somebody another password; their sessions end."""
    from isocenter.verbs.clinic.access import user_password as verb

    verb(config, name, _password(password_file))
    out(f"{name} has another password")


@token.command("add")
def token_add(
    config: ConfigArgument,
    name: NameArgument,
    role: RoleOption,
    scope: Annotated[
        list[str], typer.Option("--scope", help="dicomweb, fhir, metrics, node, panel or viewer; repeatable.")
    ],
    days: Annotated[float, typer.Option("--days", help="How long it lasts.", min=0.001, max=3660)] = 365.0,
) -> None:
    """Make an API token, and print it: this once, for it is kept nowhere."""
    from isocenter.verbs.clinic.access import token_add as verb

    secret, until = verb(config, name, role, scope, days)
    say(f"{name} ends on {_day(until)}; this is the only time that it is shown:")
    out(secret)


@token.command("list")
def token_list(config: ConfigArgument, as_json: JsonOption = False) -> None:
    """List the tokens, without their secrets."""
    from dataclasses import asdict

    from isocenter.verbs.clinic.access import token_list as verb

    found = verb(config)
    if as_json:
        out(json.dumps([asdict(one) for one in found], indent=2))
        return
    for one in found:
        used = "never used" if one.used_at is None else f"used {_day(one.used_at)}"
        end = f"revoked {_day(one.revoked_at)}" if one.revoked_at is not None else f"until {_day(one.expires_at)}"
        out(f"{one.name}  {one.role}  {' '.join(one.scopes)}  {end}  {used}")


@token.command("revoke")
def token_revoke(config: ConfigArgument, name: NameArgument) -> None:
    """End a token; open sockets of its holder end within seconds."""
    from isocenter.verbs.clinic.access import token_revoke as verb

    verb(config, name)
    out(f"{name} is let in no more")


def audit(
    config: ConfigArgument,
    who: Annotated[str, typer.Option("--who", help="Lines of this account or token alone.")] = "",
    study: Annotated[str, typer.Option("--study", help="Lines of the study of this UID alone.")] = "",
    last: Annotated[int, typer.Option("--last", help="The latest so many.", min=1, max=100_000)] = 100,
    head: Annotated[str | None, typer.Option("--head", help="Hash that was noted: the record must hold it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the record of access, and show its latest lines: who did what, to which study, when, from where."""
    from isocenter.verbs.clinic.access import access_lines, access_verify

    found = access_verify(config, head=head)
    lines = access_lines(config, who=who, study=study, last=last)
    if as_json:
        listed = [{"line": one.number, "time": one.time, "hash": one.hash, **one.content} for one in lines]
        out(json.dumps({"lines": found.lines, "head": found.head, "shown": listed}, indent=2))
        return
    for one in lines:
        said = one.content
        status = f" {said['status']}" if said.get("status") else ""
        outcome = {0: "done", 4: "refused", 8: "failed"}.get(int(said["outcome"]), "failed")
        whose = said.get("who") or said.get("role") or "nobody known"
        parts = [one.time, whose, f"{said['kind']} {outcome}{status}", said.get("what", ""), said.get("study", "")[:12]]
        out("  ".join(filter(None, [*parts, said.get("address", ""), said.get("why", "")])))
    out(f"{found.lines} lines are whole; head {found.head}")


def _password(file: Path | None) -> str:
    """Return a password from a file, or as it is typed; never from an argument, which every process may read."""
    from isocenter.verbs.clinic.config import Secret

    if file is not None:
        return Secret(file=file).read()
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
