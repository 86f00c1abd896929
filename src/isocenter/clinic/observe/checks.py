"""Whether a node can do its work: what a load balancer, a monitor and an administrator ask."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from isocenter.clinic.dimse.holding import QUEUE_FULL
from isocenter.clinic.observe.processes import Processes, processes_of
from isocenter.clinic.workflow.engine import TURNED
from isocenter.clinic.workflow.ledger import Ledger
from isocenter.clinic.workflow.tables import STUDIES
from isocenter.clinic.workflow.tally import add_counts

__all__ = ["Check", "Needs", "checks", "disk_of", "held_bytes", "ready"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: Of the check.
        ok: Whether it is as it should be.
        detail: In words, without a patient's value.
    """

    name: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Needs:
    """What a node needs to be ready.

    Args:
        acceptors: Processes that receive.
        reserve_bytes: Room on the disk below which instances are refused.
        quota_bytes: Most that is held; None for no limit.
        acceptor_s: An acceptor that said nothing for so long does not listen.
        workflow_s: A workflow that did not turn for so long stands still.
        ledger_s: A database that takes longer than that can't be used.
    """

    acceptors: int = 2
    reserve_bytes: int = 256 << 20
    quota_bytes: int | None = None
    acceptor_s: float = 15.0
    workflow_s: float = 30.0
    ledger_s: float = 5.0


def checks(store: Path, ledger: Ledger, needs: Needs) -> tuple[Check, ...]:
    """Look at a node.

    Args:
        store: Its folder.
        ledger: Its ledger.
        needs: What it needs.
    """
    processes = processes_of(store)
    database = _database(ledger, needs.ledger_s)
    return (
        Check("node", processes.running, "runs" if processes.running else "does not run"),
        _acceptors(processes, needs),
        _workflow(store, needs),
        *database,
        _disk(store, needs),
        _quota(ledger, needs, reachable=database[0].ok),
        _queue(store),
    )


def ready(found: Iterable[Check]) -> bool:
    """Tell whether all checks are well."""
    return all(check.ok for check in found)


def disk_of(store: Path) -> tuple[int, int]:
    """Return the bytes of a store's disk that we may still use, and all of them; (0, 0) where it can't be told."""
    try:
        disk = os.statvfs(store)
    except OSError:
        return 0, 0
    return disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize


def held_bytes(ledger: Ledger) -> int:
    """Return how many bytes of instances the ledger knows."""
    with ledger.engine.connect() as connection:
        return int(connection.scalar(select(func.coalesce(func.sum(STUDIES.c.bytes), 0))) or 0)


def _acceptors(processes: Processes, needs: Needs) -> Check:
    listening = [p for p in processes.of("acceptors") if p.alive and 0 <= p.pulse_s <= needs.acceptor_s]
    detail = f"{len(listening)} of {needs.acceptors} processes listen"
    if processes.ports:
        detail += f" ({', '.join(f'{title} on port {port}' for title, port in sorted(processes.ports.items()))})"
    return Check("acceptors", len(listening) >= needs.acceptors, detail)


def _workflow(store: Path, needs: Needs) -> Check:
    try:
        since = max(0.0, time.time() - (store / TURNED).stat().st_mtime)
    except OSError:
        return Check("workflow", False, "never turned")
    return Check("workflow", since <= needs.workflow_s, f"turned {since:.0f} s ago")


def _database(ledger: Ledger, seconds: float) -> tuple[Check, Check]:
    """Read, then write: a database that hangs is one that can't be used."""

    def read() -> None:
        with ledger.engine.connect() as connection:
            connection.execute(select(func.count()).select_from(STUDIES.select().limit(1).subquery()))

    def write() -> None:
        with ledger.engine.begin() as connection:
            add_counts(connection, ledger.insert, {("looked at",): 1})

    reached = _within(read, seconds)
    written = reached or _within(write, seconds)
    return (
        Check("database", not reached, reached or f"answers ({ledger.engine.dialect.name})"),
        Check("ledger", not written, written or "can be written"),
    )


def _within(what: Callable[[], None], seconds: float) -> str:
    """Do something; return what went wrong, "" for nothing. What hangs is left to hang in a thread of its own."""
    trouble = [f"no answer in {seconds:g} s"]

    def run() -> None:
        try:
            what()
            trouble[0] = ""
        except (SQLAlchemyError, OSError) as error:
            trouble[0] = f"can't be used ({type(error).__name__})"

    thread = threading.Thread(target=run, name="check", daemon=True)
    thread.start()
    thread.join(seconds)
    return trouble[0]


def _disk(store: Path, needs: Needs) -> Check:
    free, _ = disk_of(store)
    return Check(
        "disk", free > needs.reserve_bytes, f"{free / 1e9:.1f} GB free, {needs.reserve_bytes / 1e9:.1f} GB in reserve"
    )


def _quota(ledger: Ledger, needs: Needs, *, reachable: bool) -> Check:
    if needs.quota_bytes is None:
        return Check("quota", True, "none is set")
    if not reachable:
        return Check("quota", False, "can't be told without the database")
    used = held_bytes(ledger)
    return Check("quota", used < needs.quota_bytes, f"{used / 1e9:.1f} of {needs.quota_bytes / 1e9:.1f} GB are used")


def _queue(store: Path) -> Check:
    full = (store / QUEUE_FULL).exists()
    return Check("queue", not full, "full: instances are refused until fewer studies wait" if full else "takes studies")
