"""Accounts and API tokens, in the database: who there is, what they are, and who is not let in any more."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from isocenter.clinic.access.identity import (
    TOKEN_PREFIX,
    Identity,
    Role,
    check_full_name,
    check_name,
    check_role,
    check_scopes,
    digest,
    is_name,
    new_secret,
)
from isocenter.clinic.access.passwords import LEAST_PASSWORD, Passwords, check_password
from isocenter.clinic.access.tables import ACCESS, SESSIONS, TOKENS, USERS
from isocenter.clinic.database import open_engine
from isocenter.clinic.workflow.tables import make_tables
from isocenter.core.errors import ConfigError, NotFound

__all__ = ["Account", "Accounts", "Token", "open_accounts"]

_USED_S = 3600.0
_LONGEST_SUBJECT = 2048


@dataclass(frozen=True)
class Account:
    """An account; times in seconds of the epoch.

    Args:
        name: What they sign in by.
        full_name: As reports are signed.
        role: What they are.
        subject: Issuer and subject of an identity provider; "" for a local account.
        created_at: When it was made.
        revoked_at: When it was revoked; None: it is not.
    """

    name: str
    full_name: str
    role: Role
    subject: str
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True)
class Token:
    """An API token, without its secret; times in seconds of the epoch."""

    name: str
    role: Role
    scopes: tuple[str, ...]
    created_at: float
    expires_at: float
    used_at: float | None
    revoked_at: float | None


def open_accounts(url: str, passwords: Passwords, least_password: int = LEAST_PASSWORD) -> Accounts:
    """Open the accounts, and make their tables where they are not there; there is no account at first.

    Args:
        url: As SQLAlchemy has it: "sqlite:///FILE", or "postgresql+psycopg://...".
        passwords: Hashes.
        least_password: Fewest characters of a new password.
    """
    engine = open_engine(url)
    make_tables(ACCESS, engine)
    return Accounts(engine, passwords, least_password=least_password)


class Accounts:
    """The accounts and tokens of a node.

    Args:
        engine: The database.
        passwords: Hashes.
        clock: Returns the time, in seconds of the epoch.
        least_password: Fewest characters of a new password.
    """

    def __init__(
        self,
        engine: Engine,
        passwords: Passwords,
        clock: Callable[[], float] = time.time,
        least_password: int = LEAST_PASSWORD,
    ) -> None:
        self.engine, self._passwords, self.clock, self._least = engine, passwords, clock, least_password

    def users(self) -> list[Account]:
        """Return all accounts, the revoked ones too, by name."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(USERS).order_by(USERS.c.name)).all()
        return [_account(row) for row in rows]

    def user(self, name: str) -> Account | None:
        """Return an account; None where there is none of this name."""
        row = self._row(name)
        return None if row is None else _account(row)

    def add_user(self, name: str, role: str, password: str, full_name: str = "") -> Account:
        """Make a local account.

        Args:
            name: What they sign in by.
            role: What they are.
            password: What they sign in with.
            full_name: As reports are signed; "" for the name.

        Raises:
            ConfigError: Name, role or password is not taken, or there is an account of this name.
        """
        check_name(name)
        kept = self._passwords.hash(check_password(password, name, self._least))
        full = check_full_name(full_name) if full_name else name
        return self._insert(Account(name, full, check_role(role), "", self.clock(), None), kept)

    def take_in(self, name: str, role: str, subject: str, full_name: str = "") -> Account | None:
        """Return the account of somebody whom the identity provider vouches for; made, or with its role of today.

        Args:
            name: What the provider calls them.
            role: What its claims say they are.
            subject: Issuer and subject, which stay when the name changes.
            full_name: As reports are signed; "" for the name.

        Returns:
            None where the account was revoked here, or the name is another's.

        Raises:
            ConfigError: The name is none that an account can have, or the subject none that a database takes.
        """
        check_name(name)
        if not subject.isprintable() or len(subject) > _LONGEST_SUBJECT:
            raise ConfigError("what the identity provider calls them is no identifier")
        with self.engine.connect() as connection:
            known = connection.execute(select(USERS).where(USERS.c.subject == subject)).first()
            named = connection.execute(select(USERS).where(USERS.c.name == name)).first()
        if known is None:
            if named is not None:
                return None
            full = check_full_name(full_name) if full_name else name
            return self._insert(Account(name, full, check_role(role), subject, self.clock(), None), "")
        if known.revoked_at is not None:
            return None
        if known.role != role:
            self.set_role(known.name, role)
        return self.user(known.name)

    def set_role(self, name: str, role: str) -> None:
        """Change what somebody is; their sessions end.

        Raises:
            ConfigError: There is no such role.
            NotFound: There is no such account.
        """
        self._change(name, {"role": check_role(role)})

    def set_password(self, name: str, password: str) -> None:
        """Change a password; the account's sessions end.

        Raises:
            ConfigError: The password is not taken, or the account is an identity provider's.
            NotFound: There is no such account.
        """
        account = self.user(name)
        if account is not None and account.subject:
            raise ConfigError("this account is the identity provider's, and has no password here")
        kept = self._passwords.hash(check_password(password, name, self._least))
        self._change(name, {"password": kept})

    def revoke_user(self, name: str) -> None:
        """Let somebody in no more; sessions end, and open sockets within seconds. The name is never given again.

        Raises:
            NotFound: There is no such account.
        """
        self._change(name, {"revoked_at": self.clock()})

    def verify(self, name: str, password: str) -> Account | None:
        """Return the account that name and password fit; None where they fit none, after the same time."""
        row = self._row(name)
        kept = "" if row is None or row.revoked_at is not None else row.password
        if not self._passwords.is_right(password, kept) or row is None:
            return None
        if self._passwords.is_old(kept):
            with self.engine.begin() as connection:
                connection.execute(
                    update(USERS).where(USERS.c.name == name).values(password=self._passwords.hash(password))
                )
        return _account(row)

    def tokens(self) -> list[Token]:
        """Return all tokens, the revoked and expired ones too, by name."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(TOKENS).order_by(TOKENS.c.name)).all()
        return [
            Token(
                r.name, check_role(r.role), tuple(r.scopes.split()), r.created_at, r.expires_at, r.used_at, r.revoked_at
            )
            for r in rows
        ]

    def add_token(self, name: str, role: str, scopes: tuple[str, ...], expires_at: float) -> str:
        """Make a token.

        Args:
            name: By which it is listed and revoked.
            role: What its holder is.
            scopes: Parts of the node that it is for.
            expires_at: When it ends, in seconds of the epoch.

        Returns:
            The secret, which is shown this once and kept nowhere.

        Raises:
            ConfigError: Name, role, scope or time is not taken, or there is a token of this name.
        """
        check_name(name)
        if expires_at <= self.clock():
            raise ConfigError("a token ends in the future")
        secret = new_secret(TOKEN_PREFIX)
        row = {
            "name": name, "digest": digest(secret), "role": check_role(role),
            "scopes": " ".join(sorted(check_scopes(scopes))), "created_at": self.clock(), "expires_at": expires_at,
        }  # fmt: skip
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(TOKENS).values(row))
        except IntegrityError as error:
            raise ConfigError("there is, or was, a token of this name") from error
        return secret

    def revoke_token(self, name: str) -> None:
        """End a token.

        Raises:
            NotFound: There is no such token.
        """
        if not is_name(name):
            raise NotFound("there is no token of this name")
        with self.engine.begin() as connection:
            done = connection.execute(update(TOKENS).where(TOKENS.c.name == name).values(revoked_at=self.clock()))
        if not done.rowcount:
            raise NotFound("there is no token of this name")

    def by_token(self, kept: str) -> Identity | None:
        """Return who holds a token, by its digest; None where it is unknown, expired or revoked."""
        now = self.clock()
        with self.engine.connect() as connection:
            row = connection.execute(select(TOKENS).where(TOKENS.c.digest == kept)).first()
        if row is None or row.revoked_at is not None or row.expires_at <= now:
            return None
        if row.used_at is None or now - row.used_at > _USED_S:  # coarse, so that reading is not always writing too
            with self.engine.begin() as connection:
                connection.execute(update(TOKENS).where(TOKENS.c.digest == kept).values(used_at=now))
        return Identity(row.name, check_role(row.role), "token", kept, frozenset(row.scopes.split()))

    def _insert(self, account: Account, password: str) -> Account:
        row = {**asdict(account), "password": password}
        try:
            with self.engine.begin() as connection:
                connection.execute(insert(USERS).values(row))
        except IntegrityError as error:
            raise ConfigError("there is, or was, an account of this name") from error
        return account

    def _row(self, name: str) -> Any:
        if not is_name(name):
            return None
        with self.engine.connect() as connection:
            return connection.execute(select(USERS).where(USERS.c.name == name)).first()

    def _change(self, name: str, values: dict[str, object]) -> None:
        if not is_name(name):
            raise NotFound("there is no account of this name")
        with self.engine.begin() as connection:
            done = connection.execute(update(USERS).where(USERS.c.name == name).values(values))
            connection.execute(delete(SESSIONS).where(SESSIONS.c.name == name))
        if not done.rowcount:
            raise NotFound("there is no account of this name")


def _account(row: Any) -> Account:
    return Account(row.name, row.full_name, check_role(row.role), row.subject, row.created_at, row.revoked_at)
