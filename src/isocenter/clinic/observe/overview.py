"""What a node shows of itself: what was received, what waits and why, what failed, what was turned away.

Plain values for the panel and for JSON: titles, UIDs, numbers, and reasons of ours; nothing of a patient.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, and_, func, select

from isocenter.clinic.dimse.holding import HINDERED
from isocenter.clinic.node import receiving_since
from isocenter.clinic.observe.checks import Check, Needs, disk_of, held_bytes
from isocenter.clinic.observe.processes import processes_of
from isocenter.clinic.workflow.ledger import ARRIVING, COMPLETE, FAILED, WORKING, Completeness, Ledger
from isocenter.clinic.workflow.tables import ANSWERS, CONFLICTS, DELIVERIES, EVENTS, STUDIES
from isocenter.clinic.workflow.told import Told, told_of
from isocenter.version import __version__

__all__ = ["ALARM", "CLOCK", "TURNED_AWAY", "Overview", "deliveries_of", "events_of", "studies_of"]

TURNED_AWAY: Final = (
    "association refused", "association broken", "instance refused", "syntax refused", "half an instance",
    "message not offered", "queue full", "conflict", "HL7 refused",
)  # fmt: skip
"""Kinds of events that tell of bad input."""
CLOCK: Final = "clock"
ALARM: Final = "alarm"
_ENDED: Final = ("noted", "process ended")
_DAY_S: Final = 86400.0
_MOST: Final = 1000


@dataclass(frozen=True)
class Overview:
    """Looks at a node.

    Args:
        store: Its folder.
        ledger: Its ledger.
        needs: What it needs.
        completeness: When a study has all its instances.
        destinations: Names of where results go.
        at_once: Studies that are answered at one time.
    """

    store: Path
    ledger: Ledger
    needs: Needs
    completeness: Completeness
    destinations: tuple[str, ...]
    at_once: int = 1

    def look(self, found: Sequence[Check]) -> dict[str, Any]:
        """Return the whole of it.

        Args:
            found: Checks, as they were a moment ago.
        """
        now = time.time()
        processes = processes_of(self.store)
        free, size = disk_of(self.store)
        counts = self.ledger.counts()
        failed = studies_of(self.ledger, state=FAILED, limit=50)
        reasons = self._reasons([one["study"] for one in failed])
        return {
            "version": __version__,
            "at": now,
            "ready": all(check.ok for check in found),
            "checks": [asdict(check) for check in found],
            "running": processes.running,
            "ports": dict(processes.ports or {}),
            "associations": dict(processes.associations or {}),
            "processes": [asdict(process) for process in processes.processes],
            "restarts": {
                key[2]: int(count) for key, count in self.ledger.tally().items() if key[:2] == _ENDED
            },
            "disk": {
                "free_bytes": free, "size_bytes": size, "reserve_bytes": self.needs.reserve_bytes,
                "held_bytes": held_bytes(self.ledger), "quota_bytes": self.needs.quota_bytes,
            },
            "hindered_at": self._hindered(),
            "studies": {k: n for k, n in counts.items() if not k.startswith("delivery ")},
            "deliveries": {k.removeprefix("delivery "): n for k, n in counts.items() if k.startswith("delivery ")},
            "answers": self._answers(),
            "waiting": self.waiting(now),
            "failed": [{**one, "reason": reasons.get(one["study"], "")} for one in failed],
            "dead_letters": deliveries_of(self.ledger, state="dead", limit=100),
            "destinations": [self._destination(name, now) for name in self._named()],
            "conflicts": self._conflicts(),
            "turned_away": events_of(self.ledger, kinds=TURNED_AWAY, since=now - 7 * _DAY_S, limit=50),
            "alarms": events_of(self.ledger, kinds=(ALARM,), since=now - 30 * _DAY_S, limit=50),
            "clocks": events_of(self.ledger, kinds=(CLOCK,), since=now - 7 * _DAY_S, limit=20),
        }  # fmt: skip

    def waiting(self, now: float, limit: int = 50) -> list[dict[str, Any]]:
        """Return what waits, with the reason: studies that arrive or queue, the most urgent first.

        Args:
            now: Seconds of the epoch.
            limit: Most of each state.
        """
        since = receiving_since(self.store, 0.0)
        found = []
        with self.ledger.engine.connect() as connection:
            for state in (ARRIVING, COMPLETE, WORKING):
                rows = connection.execute(
                    select(STUDIES)
                    .where(STUDIES.c.state == state)
                    .order_by(STUDIES.c.priority.desc(), STUDIES.c.last_at)
                    .limit(limit)
                ).all()
                told = told_of(connection, [row.study for row in rows] if state == ARRIVING else [])
                for place, row in enumerate(rows):
                    why = self._why(state, row, place, now, max(since, row.last_at), told.get(row.study))
                    found.append({**_study(row), "why": why})
        return found

    def _why(self, state: str, row: Any, place: int, now: float, quiet: float, steps: Told | None) -> str:
        if state == WORKING:
            return "is being answered"
        if state == COMPLETE:
            return "is the next to be answered" if place < self.at_once else f"{place} studies are before it"
        left = max(0.0, self.completeness.quiet_s - (now - quiet))
        told = ""
        if steps is not None and steps.expected:
            here = row.instances if steps.here is None else steps.here
            told = f"the scanner says {steps.expected} instances, {here} of them are here; "
        return f"{told}complete in {left:.0f} s if no more comes"

    def _hindered(self) -> float | None:
        try:
            return (self.store / HINDERED).stat().st_mtime
        except OSError:
            return None

    def _named(self) -> list[str]:
        with self.ledger.engine.connect() as connection:
            used = connection.scalars(select(DELIVERIES.c.destination).distinct()).all()
        return sorted({*self.destinations, *map(str, used)})

    def _answers(self) -> list[dict[str, Any]]:
        with self.ledger.engine.connect() as connection:
            rows = connection.execute(
                select(ANSWERS.c.task, ANSWERS.c.state, func.count(), func.avg(ANSWERS.c.seconds))
                .group_by(ANSWERS.c.task, ANSWERS.c.state)
                .order_by(ANSWERS.c.task, ANSWERS.c.state)
            ).all()
        return [{"task": t, "state": s, "count": int(n), "mean_seconds": float(m)} for t, s, n, m in rows]

    def _reasons(self, studies: Sequence[str]) -> dict[str, str]:
        with self.ledger.engine.connect() as connection:
            rows = connection.execute(
                select(EVENTS.c.study, EVENTS.c.detail)
                .where(EVENTS.c.kind == FAILED, EVENTS.c.study.in_(list(studies)))
                .order_by(EVENTS.c.number)
            ).all()
        return {row.study: row.detail for row in rows}

    def _destination(self, name: str, now: float) -> dict[str, Any]:
        """Tell how a destination is, by what became of deliveries: nothing is sent to try it out."""
        here = DELIVERIES.c.destination == name
        with self.ledger.engine.connect() as connection:
            states = {str(s): int(n) for s, n in connection.execute(
                select(DELIVERIES.c.state, func.count()).where(here).group_by(DELIVERIES.c.state)
            )}  # fmt: skip
            taken = connection.scalar(select(func.max(DELIVERIES.c.at)).where(here, DELIVERIES.c.state == "delivered"))
            tried = _latest_failure(connection, and_(here, DELIVERIES.c.tries > 0, DELIVERIES.c.error != ""))
        if tried is not None and (taken is None or tried.at > taken):
            state, why = "not taking", tried.error
            if tried.state == "waiting":
                why += f"; tried {tried.tries} times, again in {max(0.0, tried.next_at - now):.0f} s"
        elif taken is not None:
            state, why = "taking", ""
        else:
            state, why = "not tried yet", ""
        known = name in self.destinations
        return {
            "name": name, "state": state, "why": why if known else "no destination of this name is configured any more",
            "taken_at": taken, "waiting": states.get("waiting", 0), "delivered": states.get("delivered", 0),
            "dead": states.get("dead", 0),
        }  # fmt: skip

    def _conflicts(self) -> list[dict[str, Any]]:
        with self.ledger.engine.connect() as connection:
            rows = connection.execute(select(CONFLICTS).order_by(CONFLICTS.c.at.desc()).limit(50)).all()
        return [{"sop": r.sop, "study": r.study, "calling": r.calling, "at": r.at} for r in rows]


def events_of(
    ledger: Ledger, *, kinds: Sequence[str] = (), since: float = 0.0, before: int | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return events, newest first.

    Args:
        ledger: Of a node.
        kinds: That are wanted; none for all.
        since: Seconds of the epoch.
        before: Number of an event; older ones are returned.
        limit: Most.
    """
    wanted = select(EVENTS).where(EVENTS.c.at >= since)
    if kinds:
        wanted = wanted.where(EVENTS.c.kind.in_(list(kinds)))
    if before is not None:
        wanted = wanted.where(EVENTS.c.number < before)
    with ledger.engine.connect() as connection:
        rows = connection.execute(wanted.order_by(EVENTS.c.number.desc()).limit(min(limit, _MOST))).all()
    return [dict(row._mapping) for row in rows]


def studies_of(ledger: Ledger, *, state: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """Return studies, the latest first, all or those in a state."""
    wanted = select(STUDIES).where(STUDIES.c.state == state) if state else select(STUDIES)
    with ledger.engine.connect() as connection:
        rows = connection.execute(wanted.order_by(STUDIES.c.last_at.desc()).limit(min(limit, _MOST))).all()
    return [_study(row) for row in rows]


def deliveries_of(ledger: Ledger, *, state: str = "", destination: str = "", limit: int = 100) -> list[dict[str, Any]]:
    """Return deliveries, the latest first, all or those in a state or to a destination."""
    wanted = select(DELIVERIES)
    if state:
        wanted = wanted.where(DELIVERIES.c.state == state)
    if destination:
        wanted = wanted.where(DELIVERIES.c.destination == destination)
    with ledger.engine.connect() as connection:
        rows = connection.execute(wanted.order_by(DELIVERIES.c.at.desc()).limit(min(limit, _MOST))).all()
    names = ("delivery", "study", "version", "destination", "form", "state", "tries", "next_at", "error", "at")
    return [{name: row._mapping[name] for name in names} for row in rows]


def _latest_failure(connection: Connection, wanted: Any) -> Any:
    return connection.execute(select(DELIVERIES).where(wanted).order_by(DELIVERIES.c.at.desc()).limit(1)).first()


def _study(row: Any) -> dict[str, Any]:
    names = ("study", "state", "version", "instances", "bytes", "first_at", "last_at", "calling", "called", "priority")
    return {**{name: row._mapping[name] for name in names}, "modalities": row.modalities.split()}
