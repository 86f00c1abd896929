"""UPS-RS: the worklist. Workitems are kept in the ledger's database, and each change is an event that is polled.

A performer claims a workitem with a Transaction UID that only it knows; nobody else can change it from then on. All
changes are made under the state that they were decided on, so that two who claim at once do not both have it.

Source:
    DICOM PS3.18, 11 (worklist service); PS3.4, annex CC.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydicom.uid import generate_uid
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from isocenter.clinic.dicomweb.index import element, tag_of
from isocenter.clinic.dicomweb.qido import matches
from isocenter.clinic.dicomweb.ups_rules import (
    CANCELED,
    FINAL,
    IN_PROGRESS,
    SCHEDULED,
    UpsRefused,
    changed,
    check_final,
    check_new,
    check_update,
    first,
)
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.clinic.workflow.tables import make_tables

__all__ = ["FILTERED", "GLOBAL", "UPS_PUSH", "Event", "Worklist"]

UPS_PUSH: Final = "1.2.840.10008.5.1.4.34.6.1"
GLOBAL: Final = "1.2.840.10008.5.1.4.34.5"
FILTERED: Final = "1.2.840.10008.5.1.4.34.5.1"
_META: Final = MetaData()
_ITEMS = Table(
    "ups_items",
    _META,
    Column("uid", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("lock", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Float, nullable=False),
)
_EVENTS = Table(
    "ups_events",
    _META,
    Column("number", Integer, primary_key=True),
    Column("uid", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Float, nullable=False),
    sqlite_autoincrement=True,
)
_SUBSCRIPTIONS = Table(
    "ups_subscriptions",
    _META,
    Column("subscriber", String(16), primary_key=True),
    Column("uid", String(64), primary_key=True),
    Column("since", Integer, nullable=False),
    Column("filter", Text, nullable=False),
)
_HIDDEN = tag_of("TransactionUID")
_TYPE_2: Final = (
    "ScheduledProcessingParametersSequence", "ScheduledWorkitemCodeSequence", "PatientName", "PatientID",
    "PatientBirthDate", "PatientSex", "InputInformationSequence", "AdmissionID", "ReferencedRequestSequence",
)  # fmt: skip
_MOST_EVENTS = 500
_KEEP = 100_000


@dataclass(frozen=True)
class Event:
    """A change of a workitem, as a subscriber is told.

    Args:
        number: Grows; ask for what comes after the last that was seen.
        uid: Of the workitem.
        kind: "state report", "progress report", "cancel requested" or "assigned".
        body: What changed, in the DICOM JSON model.
    """

    number: int
    uid: str
    kind: str
    body: Mapping[str, Any]


class Worklist:
    """Workitems in a database.

    Args:
        engine: The ledger's.
        clock: Returns the time, in seconds of the epoch.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine, self._clock = engine, clock
        self._insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
        make_tables(_META, engine)

    def create(self, body: object, uid: str = "") -> str:
        """Create a workitem; return its UID.

        Args:
            body: A data set in the DICOM JSON model.
            uid: Its UID; "" takes that of the body, or makes one.

        Raises:
            UpsRefused: It is none, or there is one of this UID.
        """
        item = check_new(body)
        told = str(first(item, "SOPInstanceUID"))
        if uid and told and uid != told:
            raise UpsRefused(400, "The UIDs of the request and of the workitem differ.")
        uid = uid or told or str(generate_uid())
        if not is_uid(uid):
            raise UpsRefused(400, "The UID of the workitem is none.")
        item = {
            **item,
            tag_of("SOPClassUID"): element("SOPClassUID", UPS_PUSH),
            tag_of("SOPInstanceUID"): element("SOPInstanceUID", uid),
            tag_of("ScheduledProcedureStepModificationDateTime"): self._now(),
        }
        item.setdefault(tag_of("WorklistLabel"), element("WorklistLabel", "Isocenter"))
        for word in _TYPE_2:
            item.setdefault(tag_of(word), element(word))
        item.pop(_HIDDEN, None)
        with self._engine.begin() as connection:
            row = {
                "uid": uid,
                "state": SCHEDULED,
                "lock": "",
                "version": 1,
                "body": json.dumps(item),
                "at": self._clock(),
            }
            # What an INSERT returns is what it put in; its count of rows is -1 with psycopg.
            put = self._insert(_ITEMS).values(row).on_conflict_do_nothing(index_elements=["uid"])
            if connection.execute(put.returning(_ITEMS.c.uid)).first() is None:
                raise UpsRefused(409, "There is a workitem of this UID.", 0x0111)
            self._event(connection, uid, "state report", _state(SCHEDULED, item))
        return uid

    def retrieve(self, uid: str) -> dict[str, Any]:
        """Return a workitem, without its Transaction UID.

        Raises:
            UpsRefused: There is none.
        """
        with self._engine.connect() as connection:
            return _shown(self._row(connection, uid))

    def change(self, uid: str, body: object, transaction: str = "") -> None:
        """Change attributes of a workitem.

        Args:
            uid: Which.
            body: The attributes, in the DICOM JSON model; each replaces what was.
            transaction: Transaction UID of whoever performs it; "" before anybody does.

        Raises:
            UpsRefused: It may not be changed, or not by this one.
        """
        new = check_update(body)
        transaction = transaction or str(first(new, "TransactionUID"))
        with self._engine.begin() as connection:
            row = self._row(connection, uid)
            if row.state in FINAL:
                raise UpsRefused(409, "The submitted request is inconsistent with the current state.", 0xC310)
            if row.state == IN_PROGRESS and transaction != row.lock:
                raise UpsRefused(409, "The Transaction UID is missing or incorrect.", 0xC301)
            if row.state == SCHEDULED and transaction:
                raise UpsRefused(409, "The workitem is not IN PROGRESS; it has no Transaction UID yet.", 0xC301)
            item = {**json.loads(row.body), **new}
            item.pop(_HIDDEN, None)
            item[tag_of("ScheduledProcedureStepModificationDateTime")] = self._now()
            self._write(connection, row, row.state, row.lock, item)
            progress = tag_of("ProcedureStepProgressInformationSequence")
            if progress in new:
                self._event(connection, uid, "progress report", {progress: new[progress]})

    def change_state(self, uid: str, state: str, transaction: str) -> str:
        """Change the state of a workitem.

        Args:
            uid: Which.
            state: To what.
            transaction: Transaction UID: new when it is claimed, the same ever after.

        Returns:
            A warning, "" for none.

        Raises:
            UpsRefused: It may not be changed so.
        """
        with self._engine.begin() as connection:
            row = self._row(connection, uid)
            warning = changed(row.state, state, lock=row.lock, given=transaction)
            if warning:
                return warning
            item = json.loads(row.body)
            if state in FINAL:
                check_final(item, state)
            self._set(connection, row, state, transaction if state == IN_PROGRESS else row.lock, item)
        return ""

    def request_cancel(self, uid: str, reason: str = "") -> str:
        """Ask that a workitem be canceled; return a warning, "" for none.

        One that nobody performs is canceled. Whoever performs one is told by an event, and decides.

        Raises:
            UpsRefused: It is completed.
        """
        with self._engine.begin() as connection:
            row = self._row(connection, uid)
            if row.state == CANCELED:
                return "The UPS is already in the requested state of CANCELED."
            if row.state in FINAL:
                raise UpsRefused(409, "The UPS is already COMPLETED.", 0xC311)
            if row.state == IN_PROGRESS:
                told = {tag_of("ReasonForCancellation"): element("ReasonForCancellation", reason)} if reason else {}
                self._event(connection, uid, "cancel requested", told)
                return ""
            item = json.loads(row.body)
            progress = {tag_of("ProcedureStepCancellationDateTime"): {"vr": "DT", "Value": [self._stamp()]}}
            if reason:
                progress[tag_of("ReasonForCancellation")] = element("ReasonForCancellation", reason)
            word = "ProcedureStepProgressInformationSequence"
            item[tag_of(word)] = {"vr": "SQ", "Value": [progress]}
            self._set(connection, row, CANCELED, row.lock, item)
        return ""

    def search(self, match: Mapping[str, str], *, limit: int, offset: int) -> tuple[list[dict[str, Any]], bool]:
        """Return workitems that match, the most urgent and then the oldest first, and whether there are more."""
        order = {"HIGH": 0, "MEDIUM": 1, "LOW": 2}
        with self._engine.connect() as connection:
            query = select(_ITEMS)
            state = match.get(tag_of("ProcedureStepState"), "")
            if state in (SCHEDULED, IN_PROGRESS, *FINAL):
                query = query.where(_ITEMS.c.state == state)
            # What is sorted is a key alone; the data sets are read for one page.
            keys = []
            for row in connection.execute(query.execution_options(yield_per=500)):
                item = _shown(row)
                if _matches(item, match):
                    start = str(first(item, "ScheduledProcedureStepStartDateTime"))
                    keys.append((order.get(str(first(item, "ScheduledProcedureStepPriority")), 1), start, row.uid))
            page = sorted(keys)[offset : offset + limit + 1]
            found = [_shown(self._row(connection, uid)) for *_, uid in page[:limit]]
        return found, len(page) > limit

    def subscribe(self, subscriber: str, uid: str, match: Mapping[str, str] | None = None) -> None:
        """Tell a subscriber of changes: of one workitem, or of all (`GLOBAL`) or some (`FILTERED`).

        Raises:
            UpsRefused: There is no such workitem.
        """
        with self._engine.begin() as connection:
            if uid not in (GLOBAL, FILTERED):
                self._row(connection, uid)
            row = {
                "subscriber": subscriber, "uid": uid, "since": self._last(connection),
                "filter": json.dumps(dict(match or {}), sort_keys=True),
            }  # fmt: skip
            insert = self._insert(_SUBSCRIPTIONS).values(row)
            # A subscription that is made again goes on where it was.
            connection.execute(
                insert.on_conflict_do_update(index_elements=["subscriber", "uid"], set_={"filter": row["filter"]})
            )

    def unsubscribe(self, subscriber: str, uid: str) -> None:
        """Tell a subscriber no longer.

        Raises:
            UpsRefused: It did not subscribe.
        """
        own = _SUBSCRIPTIONS.c
        with self._engine.begin() as connection:
            done = connection.execute(delete(_SUBSCRIPTIONS).where(own.subscriber == subscriber, own.uid == uid))
            if not done.rowcount:
                raise UpsRefused(404, "There is no such subscription.")

    def events(self, subscriber: str, after: int = 0) -> list[Event]:
        """Return what a subscriber has not seen, oldest first.

        Raises:
            UpsRefused: It did not subscribe to anything.
        """
        with self._engine.connect() as connection:
            rows = connection.execute(select(_SUBSCRIPTIONS).where(_SUBSCRIPTIONS.c.subscriber == subscriber)).all()
            if not rows:
                raise UpsRefused(404, "There is no such subscription.")
            after = max(after, min(row.since for row in rows))
            query = select(_EVENTS).where(_EVENTS.c.number > after).order_by(_EVENTS.c.number)
            found: list[Event] = []
            with connection.execute(query.execution_options(yield_per=500)) as since:
                for row in since:
                    if self._concerns(connection, row, rows):
                        found.append(Event(row.number, row.uid, row.kind, json.loads(row.body)))
                        if len(found) >= _MOST_EVENTS:
                            break
            return found

    def _concerns(self, connection: Connection, event: Any, subscriptions: Sequence[Any]) -> bool:
        for one in subscriptions:
            if event.number <= one.since or one.uid not in (event.uid, GLOBAL, FILTERED):
                continue
            wanted = json.loads(one.filter)
            if one.uid != FILTERED or not wanted or _matches(_shown(self._row(connection, event.uid)), wanted):
                return True
        return False

    def _set(self, connection: Connection, row: Any, state: str, lock: str, item: dict[str, Any]) -> None:
        item[tag_of("ProcedureStepState")] = element("ProcedureStepState", state)
        self._write(connection, row, state, lock, item)
        self._event(connection, row.uid, "state report", _state(state, item))

    def _write(self, connection: Connection, row: Any, state: str, lock: str, item: Mapping[str, Any]) -> None:
        done = connection.execute(
            update(_ITEMS)
            .where(_ITEMS.c.uid == row.uid, _ITEMS.c.version == row.version)
            .values(state=state, lock=lock, version=row.version + 1, body=json.dumps(item), at=self._clock())
        )
        if not done.rowcount:
            raise UpsRefused(409, "The workitem was changed by another at the same time; retrieve it again.", 0xC302)

    def _event(self, connection: Connection, uid: str, kind: str, body: Mapping[str, Any]) -> None:
        if connection.dialect.name == "postgresql":
            # Numbers are committed in their order, as in SQLite: who has seen one never misses one before it.
            connection.execute(text(f"LOCK TABLE {_EVENTS.name} IN SHARE ROW EXCLUSIVE MODE"))
        made = connection.execute(
            _EVENTS.insert().values(uid=uid, kind=kind, body=json.dumps(dict(body)), at=self._clock())
        )
        number = made.inserted_primary_key[0] if made.inserted_primary_key else 0
        if number % 1000 == 0:
            connection.execute(delete(_EVENTS).where(_EVENTS.c.number <= number - _KEEP))

    @staticmethod
    def _last(connection: Connection) -> int:
        return connection.scalar(select(_EVENTS.c.number).order_by(_EVENTS.c.number.desc()).limit(1)) or 0

    @staticmethod
    def _row(connection: Connection, uid: str) -> Any:
        row = connection.execute(select(_ITEMS).where(_ITEMS.c.uid == uid)).one_or_none()
        if row is None:
            raise UpsRefused(404, "There is no such workitem.", 0xC307)
        return row

    def _stamp(self) -> str:
        return datetime.fromtimestamp(self._clock(), UTC).strftime("%Y%m%d%H%M%S") + "+0000"

    def _now(self) -> dict[str, Any]:
        return {"vr": "DT", "Value": [self._stamp()]}


def _shown(row: Any) -> dict[str, Any]:
    item: dict[str, Any] = json.loads(row.body)
    item.pop(_HIDDEN, None)
    return dict(sorted(item.items()))


def _state(state: str, item: Mapping[str, Any]) -> dict[str, Any]:
    ready = tag_of("InputReadinessState")
    told = {tag_of("ProcedureStepState"): element("ProcedureStepState", state)}
    return {**told, ready: item[ready]} if ready in item else told


def _matches(item: Mapping[str, Any], match: Mapping[str, str]) -> bool:
    """Tell whether a workitem matches; a dotted tag looks into a sequence."""
    return all(
        any(matches(found, tag.rsplit(".", 1)[-1], value) for found in _found(item, tag.split(".")))
        for tag, value in match.items()
    )


def _found(item: Mapping[str, Any], path: Sequence[str]) -> Iterator[Mapping[str, Any] | None]:
    found = item.get(path[0])
    # What stands in values that are no data sets is checked by nobody.
    found = found if isinstance(found, Mapping) else None
    if len(path) == 1:
        yield found
        return
    values = (found or {}).get("Value")
    for inner in values if isinstance(values, list) else ():
        if isinstance(inner, Mapping):
            yield from _found(inner, path[1:])
