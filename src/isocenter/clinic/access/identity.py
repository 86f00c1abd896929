"""Who somebody is to the node: a person with an account, or a program with a token; and what a role is."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal

from isocenter.core.errors import ConfigError

__all__ = [
    "ROLES",
    "SCOPES",
    "Identity",
    "Role",
    "check_full_name",
    "check_name",
    "check_role",
    "check_scopes",
    "digest",
    "new_secret",
]

Role = Literal["admin", "radiologist", "reader", "service"]
ROLES: Final[tuple[Role, ...]] = ("admin", "radiologist", "reader", "service")
"""admin: looks after the node and its accounts, and signs nothing. radiologist: sees studies, outlines, drafts, signs.
reader: sees studies and results, and changes nothing. service: a program, within the scopes of its token."""
SCOPES: Final = ("dicomweb", "fhir", "metrics", "node", "panel", "viewer")
"""Parts of the node that a token may be held to."""
TOKEN_PREFIX: Final = "isct_"  # noqa: S105  # what tokens begin with, so that scanners for leaked secrets know them
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


@dataclass(frozen=True)
class Identity:
    """Somebody who was recognised.

    Args:
        name: Of the account or token.
        role: What they are.
        kind: "user" came by a session, "token" by an API token.
        credential: Digest of the session's or token's secret.
        scopes: Of a token; a person is held by the role alone.
        csrf: What a page must send with every act of a session.
        full_name: Of the person, as reports are signed; "" for a token.
    """

    name: str
    role: Role
    kind: Literal["user", "token"]
    credential: str
    scopes: frozenset[str] = frozenset()
    csrf: str = ""
    full_name: str = ""


def new_secret(prefix: str = "") -> str:
    """Return a random secret of 32 bytes."""
    return prefix + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what is kept of a random secret: it has 256 bits, so that one plain hash can't be searched backwards."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def is_name(name: str) -> bool:
    """Tell whether an account or token can have this name: nothing else is looked up, and no database need take it."""
    return _NAME.fullmatch(name) is not None


def check_name(name: str) -> str:
    """Return a name of an account or token.

    Raises:
        ConfigError: It is none.
    """
    if not is_name(name):
        raise ConfigError("a name has 1 to 64 small letters, digits and . _ @ -, and begins with a letter or digit")
    return name


def check_full_name(text: str) -> str:
    """Return a person's name as it stands in reports.

    Raises:
        ConfigError: It has other than 2 to 64 printable letters, or signs that DICOM keeps for itself.
    """
    text = " ".join(text.split())
    if not 2 <= len(text) <= 64 or not text.isprintable() or any(sign in text for sign in "\\^="):
        raise ConfigError("a person's name has 2 to 64 letters, without \\ ^ =")
    return text


def check_role(role: str) -> Role:
    """Return a role.

    Raises:
        ConfigError: There is no such role.
    """
    for known in ROLES:
        if role == known:
            return known
    raise ConfigError(f"a role is one of {', '.join(ROLES)}")


def check_scopes(scopes: tuple[str, ...]) -> frozenset[str]:
    """Return the scopes of a token.

    Raises:
        ConfigError: There are none, or one is unknown.
    """
    if not scopes or set(scopes) - set(SCOPES):
        raise ConfigError(f"a token has one or more scopes of {', '.join(SCOPES)}")
    return frozenset(scopes)
