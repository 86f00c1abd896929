"""Sessions of people, logins that failed, and logins that are on their way to the identity provider."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from isocenter.clinic.access.accounts import Accounts
from isocenter.clinic.access.identity import Identity, check_role, digest, new_secret
from isocenter.clinic.access.limits import place_of
from isocenter.clinic.access.tables import ATTEMPTS, LOGINS, SESSIONS, USERS

__all__ = ["Attempts", "PendingLogin", "Sessions", "csrf_of"]

_SEEN_S = 30.0


def csrf_of(session: str) -> str:
    """Return what a page must send with every act of a session: only who has the session's secret can make it."""
    return hmac.new(session.encode("utf-8", "surrogatepass"), b"isocenter csrf", hashlib.sha256).hexdigest()


class Sessions:
    """Sessions of people.

    Args:
        accounts: Whose.
        idle_s: A session ends when nothing came for so long.
        longest_s: And after so long in any case.
    """

    def __init__(self, accounts: Accounts, idle_s: float = 1800.0, longest_s: float = 36000.0) -> None:
        self._accounts, self._idle, self.longest_s = accounts, idle_s, longest_s
        self._engine = accounts.engine

    def open(self, name: str, address: str, before: str = "") -> str:
        """Begin a session.

        Args:
            name: Of the account.
            address: Of the client.
            before: Secret of a session that ends by this: a login never goes on with one that was there before it.

        Returns:
            The secret of the cookie.
        """
        secret, now = new_secret(), self._accounts.clock()
        with self._engine.begin() as connection:
            gone = (SESSIONS.c.seen_at <= now - self._idle) | (SESSIONS.c.created_at <= now - self.longest_s)
            connection.execute(delete(SESSIONS).where(gone | (SESSIONS.c.digest == digest(before))))
            row = {"digest": digest(secret), "name": name, "created_at": now, "seen_at": now, "address": address[:64]}
            connection.execute(insert(SESSIONS).values(row))
        return secret

    def by_session(self, secret: str) -> Identity | None:
        """Return whose session it is; None where there is none, it has ended, or the account was revoked."""
        found = self.by_digest(digest(secret), seen=True)
        if found is None:
            return None
        return replace(found, csrf=csrf_of(secret))

    def by_digest(self, kept: str, *, seen: bool = False) -> Identity | None:
        """Return whose session it is, by its digest.

        Args:
            kept: The digest.
            seen: Whether somebody acts by it: an open socket alone keeps no session from falling idle.
        """
        now = self._accounts.clock()
        with self._engine.connect() as connection:
            row = connection.execute(
                select(SESSIONS.c.name, SESSIONS.c.created_at, SESSIONS.c.seen_at, USERS.c.role, USERS.c.full_name)
                .join(USERS, USERS.c.name == SESSIONS.c.name)
                .where(SESSIONS.c.digest == kept, USERS.c.revoked_at.is_(None))
            ).first()
        if row is None or now - row.seen_at >= self._idle or now - row.created_at >= self.longest_s:
            return None
        if seen and now - row.seen_at > _SEEN_S:
            with self._engine.begin() as connection:
                connection.execute(update(SESSIONS).where(SESSIONS.c.digest == kept).values(seen_at=now))
        return Identity(row.name, check_role(row.role), "user", kept, full_name=row.full_name)

    def still(self, identity: Identity) -> bool:
        """Tell whether somebody who was recognised would be recognised as the same now."""
        if identity.kind == "token":
            now = self._accounts.by_token(identity.credential)
            return now is not None and (now.role, now.scopes) == (identity.role, identity.scopes)
        found = self.by_digest(identity.credential)
        return found is not None and found.role == identity.role

    def end(self, secret: str) -> None:
        """End a session."""
        with self._engine.begin() as connection:
            connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest(secret)))

    def send_away(self, pending: PendingLogin) -> None:
        """Remember a login that goes to the identity provider; those that never came back are forgotten."""
        now = self._accounts.clock()
        with self._engine.begin() as connection:
            connection.execute(delete(LOGINS).where(LOGINS.c.created_at < now - PendingLogin.LIFE_S))
            connection.execute(insert(LOGINS).values(**pending.row(), created_at=now))

    def come_back(self, state: str, browser: str) -> PendingLogin | None:
        """Return the login of a state, once: it is gone then, whether or not it fits the browser.

        Args:
            state: As the identity provider gave it back.
            browser: Secret of the cookie of the browser that began it.
        """
        with self._engine.begin() as connection:
            row = connection.execute(delete(LOGINS).where(LOGINS.c.state == digest(state)).returning(*LOGINS.c)).first()
        if row is None or self._accounts.clock() - row.created_at > PendingLogin.LIFE_S:
            return None
        if not hmac.compare_digest(row.browser, digest(browser)):
            return None
        return PendingLogin(state, browser, row.nonce, row.verifier, row.target)


@dataclass(frozen=True)
class PendingLogin:
    """A login on its way to the identity provider.

    Args:
        state: What comes back with it.
        browser: Secret of a cookie of the browser that began it.
        nonce: What the identity token must hold.
        verifier: Of PKCE.
        target: Where to go afterwards, on this server.
    """

    state: str
    browser: str
    nonce: str
    verifier: str
    target: str

    LIFE_S = 600.0

    def row(self) -> dict[str, str]:
        """Return what is kept of it."""
        return {
            "state": digest(self.state), "browser": digest(self.browser), "nonce": self.nonce,
            "verifier": self.verifier, "target": self.target,
        }  # fmt: skip


@dataclass(frozen=True)
class _Bound:
    """How many logins may fail before the next has to wait, and how long at first."""

    free: int
    first_s: float
    longest_s: float


_BOUNDS = {"both": _Bound(5, 15.0, 900.0), "address": _Bound(20, 15.0, 900.0), "account": _Bound(50, 15.0, 300.0)}
"""By account and address, so that who guesses from elsewhere does not lock the owner out; by address, against one that
tries many accounts; by account, against many addresses that try one: the wait stays short then, for its owner."""


class Attempts:
    """Logins that failed: after some, each next has to wait twice as long. An account that is not there counts too.

    Args:
        accounts: Whose database and clock.
    """

    FORGET_S = 86400.0

    def __init__(self, accounts: Accounts) -> None:
        self._accounts, self._engine = accounts, accounts.engine
        self._insert = postgresql.insert if accounts.engine.dialect.name == "postgresql" else sqlite.insert

    def wait_s(self, name: str, address: str) -> float:
        """Return for how long no login of this account from this address is looked at; 0: it is."""
        with self._engine.connect() as connection:
            found = connection.scalars(
                select(ATTEMPTS.c.until).where(ATTEMPTS.c.key.in_(list(_keys(name, address).values())))
            ).all()
        return max(0.0, max(found, default=0.0) - self._accounts.clock())

    def failed(self, name: str, address: str) -> None:
        """Count a login that failed."""
        now = self._accounts.clock()
        with self._engine.begin() as connection:
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.last_at < now - self.FORGET_S))
            for kind, key in _keys(name, address).items():
                self._count(connection, key, _BOUNDS[kind], now)

    def succeeded(self, name: str, address: str) -> None:
        """Forget what failed for this account from this address."""
        with self._engine.begin() as connection:
            connection.execute(delete(ATTEMPTS).where(ATTEMPTS.c.key == _keys(name, address)["both"]))

    def _count(self, connection: Connection, key: str, bound: _Bound, now: float) -> None:
        fresh = {"key": key, "count": 1, "last_at": now, "until": 0.0}
        count = connection.execute(
            self._insert(ATTEMPTS)
            .values(fresh)
            .on_conflict_do_update(index_elements=["key"], set_={"count": ATTEMPTS.c.count + 1, "last_at": now})
            .returning(ATTEMPTS.c.count)
        ).scalar_one()
        if count >= bound.free:
            wait = min(bound.longest_s, bound.first_s * 2.0 ** min(count - bound.free, 32))
            connection.execute(update(ATTEMPTS).where(ATTEMPTS.c.key == key).values(until=now + wait))


def _keys(name: str, address: str) -> dict[str, str]:
    place = place_of(address)
    parts = {"both": f"both\0{name}\0{place}", "address": f"address\0{place}", "account": f"account\0{name}"}
    return {kind: digest(text) for kind, text in parts.items()}
