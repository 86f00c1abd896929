"""Tables of the node's vigilance, beside its ledger: the same in SQLite and in PostgreSQL; never a patient's value."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

__all__ = ["CHOICES", "EPISODES", "OBSERVATIONS", "SAID", "VIGILANCE"]

VIGILANCE: Final = MetaData()
_UID = String(64)

OBSERVATIONS = Table(
    "observations",
    VIGILANCE,
    Column("number", Integer, primary_key=True),
    Column("observation", String(64), nullable=False, unique=True),
    Column("study", _UID, nullable=False),
    Column("version", Integer, nullable=False),
    Column("rule", String(64), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("task", String(64), nullable=False),
    Column("image", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("gated", Boolean, nullable=False),
    Column("weights", String(64), nullable=False),
    Column("model", String(120), nullable=False),
    Column("seconds", Float, nullable=False),
    Column("numbers", Text, nullable=False),
    Column("words", Text, nullable=False),
    Index("observations_by_stream", "rule", "arm", "task", "number"),
    Index("observations_by_study", "study"),
)
"""One row for each task and image of a study: what went in and what came out, as numbers and words of closed lists."""

SAID = Table(
    "said",
    VIGILANCE,
    Column("number", Integer, primary_key=True),
    Column("said", String(64), nullable=False, unique=True),
    Column("study", _UID, nullable=False),
    Column("task", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("about", String(16), nullable=False),
    Column("covered", Boolean),
    Column("source", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Index("said_by_study", "study", "task"),
)
"""What readers said of an answer: agree or override, of what kind; and whether a promised set held the truth."""

EPISODES = Table(
    "episodes",
    VIGILANCE,
    Column("number", Integer, primary_key=True),
    Column("rule", String(64), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("task", String(64), nullable=False),
    Column("feature", String(120), nullable=False),
    Column("opened", Integer, nullable=False),
    Column("closed", Integer),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),
    Column("detail", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Index("episodes_by_stream", "rule", "arm", "task", "feature"),
)
"""Alarms, from when they were told to when all was as before; opened and closed are numbers of observations."""

CHOICES = Table(
    "choices",
    VIGILANCE,
    Column("rule", String(64), primary_key=True),
    Column("about", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("who", String(64), nullable=False),
    Column("at", Float, nullable=False),
)
"""What was decided of a rule: "shadow", or the canary of the tasks that `about` is a hash of."""
