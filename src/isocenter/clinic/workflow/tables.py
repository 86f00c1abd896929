"""Tables of the node's ledger: the same in SQLite and in PostgreSQL."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

__all__ = [
    "ANSWERS",
    "CONFLICTS",
    "COUNTERS",
    "CRITICAL",
    "CURSORS",
    "DELIVERIES",
    "EVENTS",
    "INSTANCES",
    "LEDGER",
    "OWN",
    "REFUSALS",
    "STEPS",
    "STEP_SERIES",
    "STUDIES",
    "make_tables",
    "storable",
]

LEDGER: Final = MetaData()
_UID = String(64)

CURSORS = Table(
    "cursors",
    LEDGER,
    Column("journal", String(120), primary_key=True),
    Column("position", BigInteger, nullable=False),
)
"""How far each journal was taken in."""

STUDIES = Table(
    "studies",
    LEDGER,
    Column("study", _UID, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("version", Integer, nullable=False),
    Column("instances", Integer, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
    Column("calling", String(16), nullable=False),
    Column("called", String(16), nullable=False),
    Column("modalities", String(200), nullable=False),
    Column("priority", Integer, nullable=False, default=0),
    Index("studies_by_state", "state", "last_at"),
)
"""A study's state: arriving, complete, working, answered, failed. Its version grows when more arrives later."""

INSTANCES = Table(
    "instances",
    LEDGER,
    Column("sop", _UID, primary_key=True),
    Column("study", _UID, ForeignKey("studies.study"), nullable=False),
    Column("series", _UID, nullable=False),
    Column("sop_class", _UID, nullable=False),
    Column("syntax", _UID, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("calling", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Index("instances_by_study", "study", "series"),
)

CONFLICTS = Table(
    "conflicts",
    LEDGER,
    Column("number", Integer, primary_key=True),
    Column("sop", _UID, nullable=False),
    Column("study", _UID, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("calling", String(16), nullable=False),
    Column("at", Float, nullable=False),
    Column("seen", Boolean, nullable=False, default=False),
    UniqueConstraint("sop", "sha256"),
)
"""Instances that were refused because another of their UID is held."""

REFUSALS = Table(
    "refusals",
    LEDGER,
    Column("sop", _UID, primary_key=True),
    Column("calling", String(16), primary_key=True),
)
"""Who sent an instance that is not the one of its UID that is read: of the others of one content `conflicts` knows the
first sender alone."""

STEPS = Table(
    "steps",
    LEDGER,
    Column("study", _UID, primary_key=True),
    Column("step", _UID, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("expected", Integer, nullable=False),
    Column("at", Float, nullable=False),
)
"""What scanners say of their performed procedure steps: how many instances a study is to have."""

STEP_SERIES = Table(
    "step_series",
    LEDGER,
    Column("step", _UID, primary_key=True),
    Column("series", _UID, primary_key=True),
    Column("expected", Integer, nullable=False),
)
"""How many of them each series is to have; of steps that an older version took in there is nothing."""

ANSWERS = Table(
    "answers",
    LEDGER,
    Column("answer", String(64), primary_key=True),
    Column("study", _UID, ForeignKey("studies.study"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("rule", String(64), nullable=False),
    Column("task", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Index("answers_by_study", "study", "version"),
)
"""What a task answered: answered, abstained, or failed, with the reason."""

DELIVERIES = Table(
    "deliveries",
    LEDGER,
    Column("delivery", String(64), primary_key=True),
    Column("study", _UID, ForeignKey("studies.study"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("destination", String(64), nullable=False),
    Column("form", String(16), nullable=False),
    Column("file", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("at", Float, nullable=False),
    Index("deliveries_by_state", "state", "next_at"),
    Index("deliveries_by_study", "study", "destination"),
)
"""What goes where: waiting, delivered, dead (a dead letter, until somebody sends it again), or withdrawn."""

OWN = Table(
    "own",
    LEDGER,
    Column("sop", _UID, primary_key=True),
    Column("study", _UID, nullable=False),
)
"""Instances that the node made itself: an archive that sends all it gets sends them back, and they are no news."""

CRITICAL = Table(
    "critical",
    LEDGER,
    Column("study", _UID, primary_key=True),
    Column("at", Float, nullable=False),
    Column("reason", Text, nullable=False),
)
"""Studies that are worked on before others, and why; never a patient's value."""

EVENTS = Table(
    "events",
    LEDGER,
    Column("number", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("study", _UID, nullable=False),
    Column("detail", Text, nullable=False),
    Index("events_by_time", "at"),
)
"""What the panel shows; never a patient's value."""


def storable(text: str, longest: int) -> str:
    """Return a text from outside as every database takes it: PostgreSQL refuses NUL, and what is too long for a column.

    One row that is refused would be tried for ever, and hold up all that follow it.
    """
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")[:longest]


def make_tables(tables: MetaData, engine: Engine) -> None:
    """Make the tables that are not there. Processes of a node that start at once may each find that one is not.

    Each table is made by itself, if it is not there by then: nobody begins anew because another was quicker. PostgreSQL
    may refuse a table all the same that is being made at that moment; it is there at the next try.
    """
    for table in tables.sorted_tables:
        for last in (False, True):
            try:
                with engine.begin() as connection:
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in sorted(table.indexes, key=lambda one: str(one.name)):
                        connection.execute(CreateIndex(index, if_not_exists=True))
                break
            except DBAPIError:
                if last:
                    raise


COUNTERS = Table(
    "counters",
    LEDGER,
    Column("name", String(40), primary_key=True),
    Column("labels", String(400), primary_key=True),
    Column("value", Float, nullable=False),
)
"""What metrics count; labels are a list in JSON. They never shrink."""
