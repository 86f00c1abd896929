"""What the layer is made of, and how it is set."""

from __future__ import annotations

from dataclasses import dataclass, field

from isocenter.clinic.access.accounts import Accounts
from isocenter.clinic.access.audit import NoRecord, Trail
from isocenter.clinic.access.identity import digest
from isocenter.clinic.access.limits import Buckets, Proxies, Rate
from isocenter.clinic.access.oidc import Provider
from isocenter.clinic.access.rules import Table
from isocenter.clinic.access.sessions import Attempts, Sessions

__all__ = ["CONTENT_POLICY", "Access", "LayerSettings", "Rates"]

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Rates:
    """How often somebody may ask.

    Args:
        login: Logins, of one address.
        known: Requests of one account or token.
        unknown: Requests that nobody is known by, of one address.
    """

    login: Rate = field(default_factory=lambda: Rate(6.0, 10))
    known: Rate = field(default_factory=lambda: Rate(0.005, 2000))
    unknown: Rate = field(default_factory=lambda: Rate(0.5, 60))


@dataclass(frozen=True)
class LayerSettings:
    """How the layer is set.

    Args:
        names: Names by which the server may be called, without port; the loopback's names are always among them.
        proxies: Addresses or networks of servers in front of ours, whose X-Forwarded-For and -Proto are taken.
        body_bytes: Longest body.
        upload_bytes: Longest body on `upload_paths`.
        upload_paths: Beginnings of paths.
        policy: Content-Security-Policy; {sockets} stands for where sockets may be opened to.
        check_s: How often it is looked up whether somebody with an open socket or a long answer is still let in.
        rates: How often somebody may ask.
        home: Where a login leads.
        plain_study: Write studies' UIDs into the record, not their digests.
        logins_at_once: Passwords that are hashed at one time, each taking 64 MiB.
    """

    names: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    body_bytes: int = 4 << 20
    upload_bytes: int = 4 << 30
    upload_paths: tuple[str, ...] = ()
    policy: str = CONTENT_POLICY
    check_s: float = 2.0
    rates: Rates = field(default_factory=Rates)
    home: str = "/"
    plain_study: bool = False
    logins_at_once: int = 2


@dataclass
class Access:
    """What the layer asks.

    Args:
        accounts: Accounts and tokens.
        sessions: Sessions of people.
        table: Who may do what.
        settings: How the layer is set.
        trail: Where events go.
        provider: The identity provider; None: there are local accounts alone.
        local: Whether people may sign in by a password.
    """

    accounts: Accounts
    sessions: Sessions
    table: Table
    settings: LayerSettings = field(default_factory=LayerSettings)
    trail: Trail = field(default_factory=lambda: Trail(NoRecord()))
    provider: Provider | None = None
    local: bool = True

    def __post_init__(self) -> None:
        rates = self.settings.rates
        self.attempts = Attempts(self.accounts)
        self.proxies = Proxies(self.settings.proxies)
        self.logins, self.known, self.unknown = Buckets(rates.login), Buckets(rates.known), Buckets(rates.unknown)

    def knows(self, token: str) -> bool:
        """Tell whether an API token is one, and good."""
        return self.accounts.by_token(digest(token)) is not None

    def close(self) -> None:
        """Write what waits, and let go of the database."""
        self.trail.close()
        self.accounts.engine.dispose()
