"""The ledger: which studies were received, how far each is, what was answered and what went where.

It is derived from the journals of receiving, line by line and once each: the same line again changes nothing. It lives
in SQLite by default and in PostgreSQL by one setting.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, true, update
from sqlalchemy.dialects import postgresql, sqlite

from isocenter.clinic.database import open_engine
from isocenter.clinic.dimse.journal import read_lines
from isocenter.clinic.workflow.amended import withdraw_amended
from isocenter.clinic.workflow.order import Waiting, order_of_work
from isocenter.clinic.workflow.tables import (
    ANSWERS,
    CONFLICTS,
    CRITICAL,
    CURSORS,
    DELIVERIES,
    EVENTS,
    INSTANCES,
    LEDGER,
    OWN,
    REFUSALS,
    STUDIES,
    make_tables,
    storable,
)
from isocenter.clinic.workflow.tally import add_counts, answer_counts, received_counts, tally_of
from isocenter.clinic.workflow.told import note_step, told_of

__all__ = ["Completeness", "Ledger", "StudyState", "delivery_key", "open_ledger"]

ARRIVING: Final = "arriving"
COMPLETE: Final = "complete"
WORKING: Final = "working"
ANSWERED: Final = "answered"
FAILED: Final = "failed"
_STEPS = "steps.jsonl"
_MOST_LINES = 2000
_LONGEST_TEXT = 4000


@dataclass(frozen=True)
class Completeness:
    """When a study has all its instances.

    Args:
        quiet_s: Nothing came for so long.
        told_s: The scanner said how many each series has, they are there, and nothing came for so long.
        longest_s: A study that never falls quiet is answered all the same after so long; what comes later is a new
            version of it.
        patience_s: A complete study is overtaken by more urgent ones for no longer than that.
    """

    quiet_s: float = 10.0
    told_s: float = 0.5
    longest_s: float = 3600.0
    patience_s: float = 1800.0


@dataclass(frozen=True)
class StudyState:
    """A study in the ledger; times in seconds of the epoch."""

    study: str
    state: str
    version: int
    instances: int
    bytes: int
    first_at: float
    last_at: float
    calling: str
    called: str
    modalities: tuple[str, ...]
    priority: int


def open_ledger(url: str) -> Ledger:
    """Open a ledger, and make its tables where they are not there.

    Args:
        url: As SQLAlchemy has it: "sqlite:///FILE", or "postgresql+psycopg://...".
    """
    engine = open_engine(url)
    make_tables(LEDGER, engine)
    return Ledger(engine)


def delivery_key(*parts: str) -> str:
    """Return the name of a delivery: the same for the same file to the same place."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Ledger:
    """The ledger of a node.

    Args:
        engine: The database.
        clock: Returns the time, in seconds of the epoch.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self.engine, self._clock = engine, clock
        self.insert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def take_in(self, journals: Path) -> int:
        """Take in what the journals of receiving say since the last time.

        Args:
            journals: Their folder.

        Returns:
            Instances that were new.
        """
        new = 0
        for file in sorted(journals.glob("*.jsonl")):
            while True:
                with self.engine.begin() as connection:
                    begin = connection.scalar(select(CURSORS.c.position).where(CURSORS.c.journal == file.name)) or 0
                    if file.stat().st_size <= begin:
                        break
                    read = list(islice(read_lines(file, begin), _MOST_LINES))
                    if not read:
                        break
                    new += self._taken(connection, [line for _, line in read])
                    self.put(connection, CURSORS, {"journal": file.name, "position": read[-1][0]}, "journal")
        return new

    def take_in_steps(self, file: Path) -> int:
        """Take in what scanners said of their steps; return how many lines were new."""
        if not file.is_file():
            return 0
        with self.engine.begin() as connection:
            begin = connection.scalar(select(CURSORS.c.position).where(CURSORS.c.journal == _STEPS)) or 0
            count = 0
            for end, line in read_lines(file, begin):
                note_step(connection, self.insert, line)
                if line.get("clock_min"):
                    told = f"{line['calling']}: a step begins {line['clock_min']:+} minutes from our time"
                    self._event(connection, "clock", "", f"{told}; a clock or a time zone is wrong")
                self.put(connection, CURSORS, {"journal": _STEPS, "position": end}, "journal")
                count += 1
        return count

    def complete(self, rule: Completeness, *, since: float = 0.0) -> list[StudyState]:
        """Mark the studies that have all their instances; return those that are to be worked on, most urgent first.

        Args:
            rule: When a study has them all.
            since: The node has been able to receive since then: silence before it says nothing.
        """
        now = self._clock()
        with self.engine.begin() as connection:
            rows = connection.execute(
                select(STUDIES.c.study, STUDIES.c.first_at, STUDIES.c.last_at).where(STUDIES.c.state == ARRIVING)
            ).all()
            told = told_of(connection, [row.study for row in rows if now - row.last_at >= rule.told_s])
            whole = {study for study, steps in told.items() if steps.whole}
            ready = [
                row.study
                for row in rows
                if now - max(row.last_at, since) >= rule.quiet_s
                or row.study in whole
                or now - max(row.first_at, since) >= rule.longest_s
            ]
            if ready:
                connection.execute(update(STUDIES).where(STUDIES.c.study.in_(ready)).values(state=COMPLETE))
                for study in ready:
                    self._event(connection, "complete", study, "")
            found = connection.execute(
                select(STUDIES, CRITICAL.c.at.label("critical"))
                .outerjoin(CRITICAL, CRITICAL.c.study == STUDIES.c.study)
                .where(STUDIES.c.state == COMPLETE)
            ).all()
        states = {row.study: _state(row) for row in found}
        waiting = [Waiting(row.study, row.critical is not None, row.priority, row.last_at) for row in found]
        return [states[one.study] for one in order_of_work(waiting, now, rule.patience_s)]

    def study(self, study: str) -> StudyState | None:
        """Return a study; None where it is not known."""
        with self.engine.connect() as connection:
            row = connection.execute(select(STUDIES).where(STUDIES.c.study == study)).first()
        return None if row is None else _state(row)

    def studies(self, *, limit: int = 100) -> list[StudyState]:
        """Return the latest studies."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(STUDIES).order_by(STUDIES.c.last_at.desc()).limit(limit)).all()
        return [_state(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Return how many studies are in each state, and deliveries ("delivery waiting", ...)."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(STUDIES.c.state, func.count()).group_by(STUDIES.c.state)).all()
            sent = connection.execute(select(DELIVERIES.c.state, func.count()).group_by(DELIVERIES.c.state)).all()
        return {**{str(s): int(n) for s, n in rows}, **{f"delivery {s}": int(n) for s, n in sent}}

    def instances(self, study: str) -> list[dict[str, Any]]:
        """Return the instances of a study, by series and UID."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(INSTANCES).where(INSTANCES.c.study == study).order_by(INSTANCES.c.series, INSTANCES.c.sop)
            ).all()
        return [dict(row._mapping) for row in rows]

    def mark(self, study: str, version: int, state: str, detail: str = "") -> bool:
        """Set a study's state, unless more has arrived since that version; return whether it was set."""
        with self.engine.begin() as connection:
            done = connection.execute(
                update(STUDIES)
                .where(STUDIES.c.study == study, STUDIES.c.version == version, STUDIES.c.state != ARRIVING)
                .values(state=state)
            )
            if done.rowcount:
                self._event(connection, state, study, detail)
        return bool(done.rowcount)

    def in_state(self, state: str) -> list[StudyState]:
        """Return the studies in a state, most urgent first."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(STUDIES).where(STUDIES.c.state == state).order_by(STUDIES.c.priority.desc(), STUDIES.c.last_at)
            ).all()
        return [_state(row) for row in rows]

    def ask_again(self, studies: Iterable[str] | None = None) -> int:
        """Have studies that failed answered again as a new version, all or those named; return how many.

        Whoever names a study has seen why it failed: it is answered without instances that other studies hold.
        """
        wanted = STUDIES.c.state == FAILED
        if studies is not None:
            wanted &= STUDIES.c.study.in_(list(studies))
        with self.engine.begin() as connection:
            again = connection.scalars(select(STUDIES.c.study).where(wanted)).all()
            for study in again:
                connection.execute(
                    update(STUDIES)
                    .where(STUDIES.c.study == study)
                    .values(state=COMPLETE, version=STUDIES.c.version + 1)
                )
                if studies is not None:
                    connection.execute(update(CONFLICTS).where(CONFLICTS.c.study == study).values(seen=True))
                self._event(connection, "asked again", study, "")
        return len(again)

    def prioritise(self, study: str, priority: int) -> None:
        """Set how urgent a study is; higher comes first."""
        with self.engine.begin() as connection:
            connection.execute(update(STUDIES).where(STUDIES.c.study == study).values(priority=priority))
            self._event(connection, "priority", study, str(priority))

    def mark_critical(self, study: str, reason: str) -> bool:
        """Have a study worked on before others; return whether it was not before.

        Args:
            study: Its UID.
            reason: What was seen, without a patient's value.
        """
        with self.engine.begin() as connection:
            put = self.insert(CRITICAL).values(study=study, at=self._clock(), reason=reason)
            new = connection.execute(put.on_conflict_do_nothing(index_elements=["study"]).returning(CRITICAL.c.study))
            if new.first() is None:
                return False
            self._event(connection, "critical", study, reason)
        return True

    def mark_uncritical(self, study: str, reason: str) -> bool:
        """Take that back; return whether it was critical."""
        with self.engine.begin() as connection:
            done = connection.execute(delete(CRITICAL).where(CRITICAL.c.study == study))
            if done.rowcount:
                self._event(connection, "not critical", study, reason)
        return bool(done.rowcount)

    def tell_once(self, kind: str, study: str, detail: str) -> bool:
        """Write an event, unless the same was written of this study before; return whether it was not."""
        with self.engine.begin() as connection:
            same = (EVENTS.c.kind == kind) & (EVENTS.c.study == study) & (EVENTS.c.detail == detail)
            if connection.scalar(select(EVENTS.c.number).where(same).limit(1)) is not None:
                return False
            self._event(connection, kind, study, detail)
        return True

    def answered(self, row: Mapping[str, Any]) -> None:
        """Write down what a task answered; the same answer again replaces it."""
        with self.engine.begin() as connection:
            before = connection.scalar(select(ANSWERS.c.state).where(ANSWERS.c.answer == row["answer"]))
            reason = storable(row["reason"], _LONGEST_TEXT)  # a task's own words
            self.put(connection, ANSWERS, {**row, "reason": reason, "at": self._clock()}, "answer")
            if before != row["state"]:
                add_counts(connection, self.insert, answer_counts(row))

    def answers(self, study: str) -> list[dict[str, Any]]:
        """Return what was answered about a study."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(ANSWERS).where(ANSWERS.c.study == study).order_by(ANSWERS.c.version, ANSWERS.c.answer)
            ).all()
        return [dict(row._mapping) for row in rows]

    def queue(self, rows: Sequence[Mapping[str, Any]]) -> int:
        """Add deliveries; those that are there already stay as they are. Return how many were new.

        What waits or was given up of earlier versions of the same is withdrawn: it must not come after what amends it.
        """
        now = self._clock()
        new = 0
        studies = sorted({row["study"] for row in rows})
        with self.engine.begin() as connection:
            # An earlier version may be ready at this moment too: each waits for the other, and then sees it.
            connection.execute(update(STUDIES).where(STUDIES.c.study.in_(studies)).values(version=STUDIES.c.version))
            for row in rows:
                values = {**row, "state": "waiting", "tries": 0, "next_at": now, "error": "", "at": now}
                put = self.insert(DELIVERIES).values(values).on_conflict_do_nothing(index_elements=["delivery"])
                new += connection.execute(put.returning(DELIVERIES.c.delivery)).first() is not None
            self._withdraw_amended(connection, DELIVERIES.c.study.in_(studies))
        return new

    def made(self, study: str, instances: Iterable[str]) -> None:
        """Remember what we made of a study ourselves, so that it is no news when it comes back."""
        with self.engine.begin() as connection:
            for sop in instances:
                connection.execute(
                    self.insert(OWN).values(sop=sop, study=study).on_conflict_do_nothing(index_elements=["sop"])
                )

    def withdraw(self, study: str, folder: str) -> int:
        """Give up deliveries of a study that wait and whose files lie in a folder of the store; return how many."""
        wanted = (DELIVERIES.c.study == study) & (DELIVERIES.c.state == "waiting")
        wanted &= DELIVERIES.c.file.startswith(f"{folder}/", autoescape=True)
        with self.engine.begin() as connection:
            done = connection.execute(update(DELIVERIES).where(wanted).values(state="withdrawn", at=self._clock()))
        return done.rowcount

    def withdraw_amended(self) -> None:
        """Give up deliveries that a later version amends: an older version of Isocenter left them waiting."""
        with self.engine.begin() as connection:
            self._withdraw_amended(connection, true())

    def _withdraw_amended(self, connection: Connection, wanted: ColumnElement[bool]) -> None:
        for study, count in withdraw_amended(connection, wanted, self._clock()).items():
            self._event(connection, "withdrawn", study, f"{count} deliveries of a version that is amended")

    def due(self, *, limit: int = 100, destination: str | None = None) -> list[dict[str, Any]]:
        """Return the deliveries whose time has come, all or those of a destination, oldest first."""
        wanted = DELIVERIES.c.state == "waiting"
        if destination is not None:
            wanted &= DELIVERIES.c.destination == destination
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(DELIVERIES)
                .where(wanted, DELIVERIES.c.next_at <= self._clock())
                .order_by(DELIVERIES.c.next_at, DELIVERIES.c.delivery)
                .limit(limit)
            ).all()
        return [dict(row._mapping) for row in rows]

    def delivered(self, delivery: str) -> None:
        """Say that a delivery was taken."""
        with self.engine.begin() as connection:
            self._count_delivery(connection, delivery, "delivered")
            connection.execute(
                update(DELIVERIES)
                .where(DELIVERIES.c.delivery == delivery)
                .values(state="delivered", error="", tries=DELIVERIES.c.tries + 1, at=self._clock())
            )

    def failed(self, delivery: str, error: str, *, wait_s: float | None) -> None:
        """Say that a delivery was not taken.

        Args:
            delivery: Its key.
            error: Why, without a patient's value.
            wait_s: When it is tried again; None: never, it is a dead letter.
        """
        now, error = self._clock(), storable(error, _LONGEST_TEXT)
        mine = select(DELIVERIES.c.state).where(DELIVERIES.c.delivery == delivery)
        with self.engine.begin() as connection:
            if connection.scalar(mine) == "withdrawn":  # while it was on its way: it is not tried again
                return
            self._count_delivery(connection, delivery, "dead" if wait_s is None else "put off")
            connection.execute(
                update(DELIVERIES)
                .where(DELIVERIES.c.delivery == delivery)
                .values(
                    state="waiting" if wait_s is not None else "dead",
                    tries=DELIVERIES.c.tries + 1,
                    next_at=now + (wait_s or 0.0),
                    error=error,
                    at=now,
                )
            )
            if wait_s is None:
                study = connection.scalar(select(DELIVERIES.c.study).where(DELIVERIES.c.delivery == delivery)) or ""
                self._event(connection, "dead letter", study, error)

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return the deliveries that were given up."""
        with self.engine.connect() as connection:
            rows = connection.execute(
                select(DELIVERIES).where(DELIVERIES.c.state == "dead").order_by(DELIVERIES.c.at)
            ).all()
        return [dict(row._mapping) for row in rows]

    def replay(self, deliveries: Iterable[str] | None = None) -> int:
        """Send dead letters again, all or those named; return how many.

        Those that a later version amends are withdrawn instead.
        """
        with self.engine.begin() as connection:
            wanted = DELIVERIES.c.state == "dead"
            if deliveries is not None:
                wanted &= DELIVERIES.c.delivery.in_(list(deliveries))
            self._withdraw_amended(connection, wanted)
            done = connection.execute(
                update(DELIVERIES).where(wanted).values(state="waiting", tries=0, next_at=self._clock(), error="")
            )
        return done.rowcount

    def put(self, connection: Connection, table: Any, row: Mapping[str, Any], *keys: str) -> None:
        """Insert a row, or replace the one of its keys."""
        rest = {name: value for name, value in row.items() if name not in keys}
        connection.execute(
            self.insert(table).values(dict(row)).on_conflict_do_update(index_elements=list(keys), set_=rest)
        )

    def tell(self, kind: str, study: str, detail: str) -> None:
        """Write an event for the panel; without a patient's value."""
        with self.engine.begin() as connection:
            self._event(connection, kind, study, detail)

    def events(self, *, limit: int = 200) -> list[dict[str, Any]]:
        """Return the latest events, newest first."""
        with self.engine.connect() as connection:
            rows = connection.execute(select(EVENTS).order_by(EVENTS.c.number.desc()).limit(limit)).all()
        return [dict(row._mapping) for row in rows]

    def conflicts(self) -> list[dict[str, Any]]:
        """Return the instances that were refused because another of their UID is held."""
        with self.engine.connect() as connection:
            return [dict(row._mapping) for row in connection.execute(select(CONFLICTS).order_by(CONFLICTS.c.at)).all()]

    def displaced(self, study: str) -> int:
        """Return how many instances of a study are not read in it, as others of their UIDs are held in other studies.

        Those that somebody has seen, and asked for the study to be answered without, are not counted.
        """
        query = (
            select(func.count())
            .select_from(CONFLICTS.join(INSTANCES, INSTANCES.c.sop == CONFLICTS.c.sop))
            .where(CONFLICTS.c.study == study, INSTANCES.c.study != study, CONFLICTS.c.seen.is_(False))
        )
        with self.engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def tally(self) -> dict[tuple[str, ...], float]:
        """Return all counters, by name and labels; see `workflow.tally`."""
        with self.engine.connect() as connection:
            return tally_of(connection)

    def _count_delivery(self, connection: Connection, delivery: str, outcome: str) -> None:
        before = connection.execute(select(DELIVERIES).where(DELIVERIES.c.delivery == delivery)).first()
        if before is not None and before.state != outcome:
            add_counts(connection, self.insert, {("deliveries", before.destination, outcome): 1})

    def _taken(self, connection: Connection, lines: Sequence[Mapping[str, Any]]) -> int:
        new = 0
        for line in lines:
            at = _seconds(line["at"])
            if line.get("conflict"):
                row = {"sop": line["sop"], "study": line["study"], "sha256": line["sha256"],
                       "calling": line["calling"], "at": at, "seen": False}  # fmt: skip
                connection.execute(
                    self.insert(CONFLICTS).values(row).on_conflict_do_nothing(index_elements=["sop", "sha256"])
                )
                self._refusal(connection, line)
                self._event(connection, "conflict", line["study"], "another instance of a UID that is held was refused")
                continue
            new += self._instance(connection, line, at)
        add_counts(connection, self.insert, received_counts(lines))
        return new

    def _instance(self, connection: Connection, line: Mapping[str, Any], at: float) -> int:
        """Take in one received instance; return 1 where it was new."""
        study = line["study"]
        if connection.scalar(select(OWN.c.sop).where(OWN.c.sop == line["sop"])):
            return 0
        first = {
            "study": study, "state": ARRIVING, "version": 1, "instances": 0, "bytes": 0, "first_at": at, "last_at": at,
            "calling": line["calling"], "called": line["called"], "modalities": "", "priority": 0,
        }  # fmt: skip
        begun = self.insert(STUDIES).values(first)
        # A line that was written again from a file of an older version does not know which title of ours was called.
        connection.execute(
            begun.on_conflict_do_update(
                index_elements=["study"], set_={"called": begun.excluded.called}, where=STUDIES.c.called == ""
            )
        )
        row = {
            "sop": line["sop"], "study": study, "series": line["series"], "sop_class": line["class"],
            "syntax": line["syntax"], "modality": storable(line["modality"], 16), "sha256": line["sha256"],
            "bytes": line["bytes"], "calling": line["calling"], "at": at,
        }  # fmt: skip
        # What an INSERT returns is what it put in; its count of rows is -1 with psycopg.
        put = self.insert(INSTANCES).values(row).on_conflict_do_nothing(index_elements=["sop"])
        if connection.execute(put.returning(INSTANCES.c.sop)).first() is None:
            if connection.scalar(select(INSTANCES.c.study).where(INSTANCES.c.sop == line["sop"])) != study:
                self._displaced(connection, line, at)
            return 0
        current = connection.execute(select(STUDIES).where(STUDIES.c.study == study)).one()
        modalities = sorted({*current.modalities.split(), *row["modality"].split()})
        values: dict[str, Any] = {
            "instances": current.instances + 1, "bytes": current.bytes + row["bytes"],
            "modalities": " ".join(modalities)[:200],
        }  # fmt: skip
        self._more(connection, current, at, values)
        return 1

    def _displaced(self, connection: Connection, line: Mapping[str, Any], at: float) -> None:
        """Write down that an instance's UID is held in another study: this one is not whole, and is told so again."""
        study = line["study"]
        row = {"sop": line["sop"], "study": study, "sha256": line["sha256"], "calling": line["calling"], "at": at,
               "seen": False}  # fmt: skip
        put = self.insert(CONFLICTS).values(row).on_conflict_do_nothing(index_elements=["sop", "sha256"])
        self._refusal(connection, line)
        if connection.execute(put.returning(CONFLICTS.c.number)).first() is None:
            return
        self._event(connection, "conflict", study, "an instance is held in another study, and not read in this")
        self._more(connection, connection.execute(select(STUDIES).where(STUDIES.c.study == study)).one(), at, {})

    def _refusal(self, connection: Connection, line: Mapping[str, Any]) -> None:
        """Write down who sent an instance that is not the one of its UID that is read."""
        put = self.insert(REFUSALS).values(sop=line["sop"], calling=line["calling"])
        connection.execute(put.on_conflict_do_nothing(index_elements=["sop", "calling"]))

    def _more(self, connection: Connection, current: Any, at: float, values: Mapping[str, Any]) -> None:
        """Write down that something of a study came."""
        changed = {**values, "last_at": max(current.last_at, at)}
        if current.state != ARRIVING:
            # More of a study that was complete: what was answered stands, and it is answered again as a new version.
            changed |= {"state": ARRIVING, "version": current.version + 1, "first_at": at}
            self._event(connection, "reopened", current.study, f"version {current.version + 1}")
        connection.execute(update(STUDIES).where(STUDIES.c.study == current.study).values(changed))

    def _event(self, connection: Connection, kind: str, study: str, detail: str) -> None:
        told = storable(detail, _LONGEST_TEXT)
        connection.execute(EVENTS.insert().values(at=self._clock(), kind=kind, study=study, detail=told))


def _state(row: Any) -> StudyState:
    return StudyState(
        row.study, row.state, row.version, row.instances, row.bytes, row.first_at, row.last_at, row.calling, row.called,
        tuple(row.modalities.split()), row.priority,
    )  # fmt: skip


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
