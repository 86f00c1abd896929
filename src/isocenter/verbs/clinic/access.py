"""Accounts, roles and the record of access of a node, made from its configuration, and the verbs for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from isocenter.clinic.access import (
    NODE,
    VIEWER,
    Access,
    Account,
    Accounts,
    Event,
    LayerSettings,
    Passwords,
    Provider,
    ProviderSettings,
    Rates,
    Sessions,
    Table,
    Token,
    Trail,
    open_accounts,
    study_digest,
)
from isocenter.clinic.access.audit import Kind
from isocenter.clinic.access.limits import Rate
from isocenter.clinic.access.tables import ACCOUNTS_FILE
from isocenter.clinic.modes import own_folder, tighten
from isocenter.core.errors import ConfigError
from isocenter.safety.chain import Chain, ChainLine, append_lines, last_line, read_chain, verify_chain
from isocenter.verbs.clinic.config import ClinicConfig, load_clinic_config
from isocenter.verbs.clinic.config_access import AccessConfig

__all__ = [
    "RECORD_FORM",
    "ChainSink",
    "access_lines",
    "access_record",
    "access_verify",
    "node_access",
    "token_add",
    "token_list",
    "token_revoke",
    "user_add",
    "user_list",
    "user_password",
    "user_revoke",
    "user_role",
    "viewer_access",
]

RECORD_FORM: Final = "isocenter-access/1"
_DAY_S: Final = 86400.0
_BURST: Final = 10


@dataclass(frozen=True)
class ChainSink:
    """A `Sink` that appends to a chain of lines, its owner's alone.

    Args:
        path: The record.
    """

    path: Path

    def append(self, events: Sequence[Event]) -> None:
        """Append events; see `Sink`."""
        append_lines(self.path, RECORD_FORM, [event.plain() for event in events], mode=0o600)


def access_record(config: ClinicConfig) -> Path:
    """Return the record of access of a node."""
    return _section(config).record_path(config.store)


def node_access(config: ClinicConfig) -> Access:
    """Make what guards the node's web server.

    Raises:
        ConfigError: There is no section `access:` or `web:`, a secret is not there, or files are another's.
        CapabilityError: A package is missing.
        DataError: The record was altered at its end.
    """
    if config.web is None:
        raise ConfigError("the node has no web server: clinic.yaml has no section web")
    web = config.web
    host = web.public_url.partition("://")[2].partition("/")[0]
    name = (host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host,) if host else ()
    settings = LayerSettings(
        names=(web.host, *web.names, *name),
        upload_bytes=web.upload_mb << 20,
        upload_paths=("/dicomweb/studies",),
        home="/panel",
    )
    return _access(config, NODE, settings)


def viewer_access(config: ClinicConfig, settings: LayerSettings) -> Access:
    """Make what guards a viewer, by the accounts of a node; see `node_access`."""
    return _access(config, VIEWER, settings)


def _access(config: ClinicConfig, table: Table, settings: LayerSettings) -> Access:
    section = _section(config)
    record = section.record_path(config.store)
    own_folder(record.parent)
    last_line(record, RECORD_FORM, mode=0o600)  # a record that was altered at its end is told before anybody is let in
    tighten(record)
    accounts = _accounts(config)
    sessions = Sessions(accounts, section.idle_minutes * 60, section.longest_hours * 3600)
    rates = Rates(known=Rate(1 / section.requests, max(_BURST, round(_BURST * section.requests))))
    whole = {**vars(settings), "proxies": section.proxies, "rates": rates, "plain_study": section.studies == "plain"}
    trail = Trail(ChainSink(record))
    return Access(accounts, sessions, table, LayerSettings(**whole), trail, _provider(section), section.accounts)


def _provider(section: AccessConfig) -> Provider | None:
    if section.provider is None:
        return None
    told = section.provider
    return Provider(
        ProviderSettings(
            told.issuer,
            told.client_id,
            told.redirect_url,
            dict(told.roles),
            "" if told.client_secret is None else told.client_secret.read(),
            told.role_claim,
            told.name_claim,
            told.full_name_claim,
            told.scopes,
            told.label,
            "" if told.authorities is None else str(told.authorities),
            told.timeout_s,
        )
    )


def _section(config: ClinicConfig) -> AccessConfig:
    if config.access is None:
        raise ConfigError("the node has no accounts: clinic.yaml has no section access")
    return config.access


def _accounts(config: ClinicConfig) -> Accounts:
    own_folder(config.store)
    return open_accounts(config.database_url(ACCOUNTS_FILE), Passwords(), _section(config).password_length)


@contextmanager
def _at_work(config: ClinicConfig | Path | str) -> Iterator[tuple[Accounts, ChainSink]]:
    """Open accounts and record, for somebody at the command line: whoever may read the store may do all of this."""
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    record = access_record(config)
    own_folder(record.parent)
    last_line(record, RECORD_FORM, mode=0o600)
    accounts = _accounts(config)
    try:
        yield accounts, ChainSink(record)
    finally:
        accounts.engine.dispose()


def _told(sink: ChainSink, kind: Kind, act: Any, what: str) -> None:
    sink.append([Event(kind, act, 0, "", "command line", "", what)])


def user_add(config: ClinicConfig | Path | str, name: str, role: str, password: str, full_name: str = "") -> Account:
    """Make a local account.

    Raises:
        ConfigError: Name, role or password is not taken, or there is, or was, an account of this name.
    """
    if role == "service":
        raise ConfigError("a program gets a token, not an account: isocenter clinic token add")
    with _at_work(config) as (accounts, sink):
        account = accounts.add_user(name, role, password, full_name)
        _told(sink, "user-added", "C", f"{name} as {role}")
    return account


def user_list(config: ClinicConfig | Path | str) -> list[Account]:
    """Return all accounts, the revoked ones too."""
    with _at_work(config) as (accounts, _):
        return accounts.users()


def user_role(config: ClinicConfig | Path | str, name: str, role: str) -> None:
    """Change what somebody is; their sessions end.

    Raises:
        ConfigError: There is no such role.
        NotFound: There is no such account.
    """
    with _at_work(config) as (accounts, sink):
        accounts.set_role(name, role)
        _told(sink, "user-role", "U", f"{name} as {role}")


def user_revoke(config: ClinicConfig | Path | str, name: str) -> None:
    """Let somebody in no more; open sessions and sockets end within seconds.

    Raises:
        NotFound: There is no such account.
    """
    with _at_work(config) as (accounts, sink):
        accounts.revoke_user(name)
        _told(sink, "user-revoked", "U", name)


def user_password(config: ClinicConfig | Path | str, name: str, password: str) -> None:
    """Give somebody another password; their sessions end.

    Raises:
        ConfigError: The password is not taken.
        NotFound: There is no such account.
    """
    with _at_work(config) as (accounts, sink):
        accounts.set_password(name, password)
        _told(sink, "user-password", "U", name)


def token_add(
    config: ClinicConfig | Path | str, name: str, role: str, scopes: Sequence[str], days: float
) -> tuple[str, float]:
    """Make an API token.

    Returns:
        Its secret, which is kept nowhere, and when it ends, in seconds of the epoch.

    Raises:
        ConfigError: Name, role, scope or time is not taken, or there is, or was, a token of this name.
    """
    with _at_work(config) as (accounts, sink):
        until = time.time() + days * _DAY_S
        secret = accounts.add_token(name, role, tuple(scopes), until)
        day = datetime.fromtimestamp(until, UTC).date().isoformat()
        _told(sink, "token-added", "C", f"{name} as {role} for {' '.join(sorted(scopes))} until {day}")
    return secret, until


def token_list(config: ClinicConfig | Path | str) -> list[Token]:
    """Return all tokens, without their secrets."""
    with _at_work(config) as (accounts, _):
        return accounts.tokens()


def token_revoke(config: ClinicConfig | Path | str, name: str) -> None:
    """End a token; open sockets end within seconds.

    Raises:
        NotFound: There is no such token.
    """
    with _at_work(config) as (accounts, sink):
        accounts.revoke_token(name)
        _told(sink, "token-revoked", "U", name)


def access_verify(config: ClinicConfig | Path | str, *, head: str | None = None) -> Chain:
    """Check the whole record of access.

    Args:
        config: `clinic.yaml`, or what it says.
        head: Hash of a line that was noted elsewhere: the record must still hold it.

    Raises:
        DataError: A line was altered, removed, added or moved, with its number; or the head is not in the record.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    return verify_chain(access_record(config), RECORD_FORM, head=head)


def access_lines(
    config: ClinicConfig | Path | str, *, who: str = "", study: str = "", last: int = 100
) -> list[ChainLine]:
    """Return lines of the record of access, checked; reading it is written into it too.

    Args:
        config: `clinic.yaml`, or what it says.
        who: Of this account or token; "" for all.
        study: Of this study, by its UID; "" for all.
        last: The latest so many.
    """
    config = config if isinstance(config, ClinicConfig) else load_clinic_config(config)
    record = access_record(config)
    wanted = {study, study_digest(study)}
    kept: deque[ChainLine] = deque(maxlen=last)
    for line in read_chain(record, RECORD_FORM):
        if (not who or line.content.get("who") == who) and (not study or line.content.get("study") in wanted):
            kept.append(line)
    _told(ChainSink(record), "record-read", "R", "record of access")
    return list(kept)
