"""Who may do what on the node: accounts, roles, tokens, sessions, an identity provider, a record of every access."""

from __future__ import annotations

from isocenter.clinic.access.accounts import Account, Accounts, Token, open_accounts
from isocenter.clinic.access.audit import Event, NoRecord, Sink, Trail, study_digest
from isocenter.clinic.access.context import Access, LayerSettings, Rates
from isocenter.clinic.access.identity import ROLES, SCOPES, Identity, Role
from isocenter.clinic.access.layer import IDENTITY, REVOKED, AccessLayer, protect
from isocenter.clinic.access.oidc import Provider, ProviderSettings
from isocenter.clinic.access.passwords import Passwords, check_password
from isocenter.clinic.access.rules import PUBLIC, SOCKET, Rule, Table, routes_of
from isocenter.clinic.access.sessions import Sessions
from isocenter.clinic.access.table import NODE, VIEWER

__all__ = [
    "IDENTITY",
    "NODE",
    "PUBLIC",
    "REVOKED",
    "ROLES",
    "SCOPES",
    "SOCKET",
    "VIEWER",
    "Access",
    "AccessLayer",
    "Account",
    "Accounts",
    "Event",
    "Identity",
    "LayerSettings",
    "NoRecord",
    "Passwords",
    "Provider",
    "ProviderSettings",
    "Rates",
    "Role",
    "Rule",
    "Sessions",
    "Sink",
    "Table",
    "Token",
    "Trail",
    "check_password",
    "open_accounts",
    "protect",
    "routes_of",
    "study_digest",
]
