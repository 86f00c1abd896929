"""Tables of accounts, tokens and sessions: the same in SQLite and in PostgreSQL. No secret is in them."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Column, Float, Index, Integer, MetaData, String, Table, Text

__all__ = ["ACCESS", "ACCOUNTS_FILE", "ATTEMPTS", "LOGINS", "SESSIONS", "TOKENS", "USERS"]

ACCESS: Final = MetaData()
ACCOUNTS_FILE: Final = "access.db"
"""Where a node with SQLite has them; in PostgreSQL they stand beside the ledger."""

USERS = Table(
    "access_users",
    ACCESS,
    Column("name", String(64), primary_key=True),
    Column("full_name", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("password", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
)
"""A password's argon2id hash; or, of an account of an identity provider, issuer and subject, and no password."""

TOKENS = Table(
    "access_tokens",
    ACCESS,
    Column("name", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("used_at", Float),
    Column("revoked_at", Float),
)

SESSIONS = Table(
    "access_sessions",
    ACCESS,
    Column("digest", String(64), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("address", String(64), nullable=False),
    Index("access_sessions_by_name", "name"),
)

ATTEMPTS = Table(
    "access_attempts",
    ACCESS,
    Column("key", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("until", Float, nullable=False),
)
"""Logins that failed, by digests of account and address."""

LOGINS = Table(
    "access_logins",
    ACCESS,
    Column("state", String(64), primary_key=True),
    Column("browser", String(64), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("target", Text, nullable=False),
    Column("created_at", Float, nullable=False),
)
"""Logins that were sent to the identity provider and have not come back; each is taken once."""
