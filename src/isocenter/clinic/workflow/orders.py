"""Orders, wherever they come from: kept beside the ledger, matched to studies, used where the patient is the same.

An order says how urgent a study is, and why it was asked for. It never says whose a study is: that is in its images.
An order of another patient than the images' is a conflict, which is told and changes nothing.

Source:
    HL7 v2.5.1, 4.5.1 (ORC-1, empty fields keep what was said before), tables 0119 and 0038; DICOM PS3.3 C.4.11
    (priorities).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    delete,
    or_,
    select,
    update,
)

from isocenter.clinic.dimse.holding import place_of
from isocenter.clinic.hl7.orders import Order, read_kept, read_orders
from isocenter.clinic.workflow.ledger import ARRIVING, COMPLETE, WORKING, Ledger
from isocenter.clinic.workflow.tables import CURSORS, INSTANCES, STUDIES, make_tables, storable
from isocenter.core.errors import DataError
from isocenter.data.images.instance import UNREADABLE, open_instance
from isocenter.data.images.quiet import quiet
from isocenter.data.records.hl7 import parse_message

__all__ = ["LEVELS", "Orders", "Patient", "Placed", "placed_by_hl7"]

LEVELS: Final = {"stat": 100, "asap": 50}
"""Priority of a study by that of its order; anything else is 0."""
_META: Final = MetaData()
_UID = String(64)
_ORDERS = Table(
    "orders",
    _META,
    Column("key", String(64), primary_key=True),
    Column("source", String(200), nullable=False),
    Column("number", String(200), nullable=False),
    Column("accession", String(64), nullable=False),
    Column("study_uid", _UID, nullable=False),
    Column("procedure", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("modality", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("due", String(32), nullable=False),
    Column("patients", Text, nullable=False),
    Column("canceled", Boolean, nullable=False),
    Column("at", Float, nullable=False),
    Index("orders_by_accession", "accession"),
    Index("orders_by_study", "study_uid"),
    Index("orders_by_number", "source", "number"),
)
_MATCHES = Table(
    "order_matches",
    _META,
    Column("key", String(64), primary_key=True),
    Column("study", _UID, primary_key=True),
    Column("state", String(16), nullable=False),
)
"""What an order is to a study: "used", "conflict", or "unknown" where it does not say whose it is."""
_HEADERS = Table(
    "study_headers",
    _META,
    Column("study", _UID, primary_key=True),
    Column("accession", String(64), nullable=False),
    Column("patient", String(64), nullable=False),
    Column("issuers", Text, nullable=False),
    Column("given", Integer, nullable=False),
    Index("study_headers_by_accession", "accession"),
)
"""What orders are matched by, as a study's images have it, and the priority that orders gave it."""
_MESSAGES = Table(
    "order_messages",
    _META,
    Column("message", String(64), primary_key=True),
    Column("sha256", String(64), nullable=False),
)
_FILLERS = Table(
    "order_fillers",
    _META,
    Column("source", String(200), primary_key=True),
    Column("filler", String(200), primary_key=True),
    Column("number", String(200), primary_key=True),
)
"""Numbers of orders by those that who performs them gave: a message may name an order by these alone."""
_CURSOR: Final = "hl7/messages.jsonl"
_AT_ONCE: Final = 200
_MOST_MESSAGES: Final = 500
_LONGEST: Final = 10_000
_CANCELING: Final = ("CA", "DC", "CR", "HD")
_REVIVING: Final = ("NW", "RO", "RL")
_CANCELED: Final = ("CA", "DC", "HD")
"""Order Status (table 0038) of what is not, or not now, to be done."""
_CONFLICT: Final = "an order of this study's number names another patient; its priority and reason are not used"
_UNKNOWN: Final = "an order of this study's number does not say whose it is, as images say it; it is not used"
_ALONE: Final = "filler "
_CHANGED: Final = "a change of an order names another patient than the order did; it is not used"
_REUSED: Final = "a message control id came again with another message; the second one is not used"


@dataclass(frozen=True)
class Patient:
    """An identifier of a patient, and the names of who gave it. Its text shows no value."""

    number: str
    issuers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Patient()"

    def is_one_of(self, others: Iterable[Patient]) -> bool:
        """Tell whether another is the same; issuers count where both say one."""
        return any(
            self.number == other.number
            and (not self.issuers or not other.issuers or bool(set(self.issuers) & set(other.issuers)))
            for other in others
        )


@dataclass(frozen=True)
class Placed:
    """An order as it is kept. Its text shows no value of the patient.

    Args:
        source: Who placed it.
        number: Its number there.
        accession: Accession number; "" for none yet.
        study_uid: Study Instance UID; "" for none yet.
        procedure: Code, text and coding system of what is ordered.
        reason: Why.
        modality: As ordered.
        priority: "stat", "asap", "routine", or "".
        due: When it is to be done.
        patients: Identifiers of the patient.
        canceled: Whether it is not, or not now, to be done; None where this is not said, and stays as it was.
        filler: Its number at who performs it; it may be the only one that is said.
    """

    source: str
    number: str
    accession: str = ""
    study_uid: str = ""
    procedure: tuple[str, str, str] = ("", "", "")
    reason: str = field(default="", repr=False)
    modality: str = ""
    priority: str = ""
    due: str = ""
    patients: tuple[Patient, ...] = ()
    canceled: bool | None = False
    filler: str = ""

    def __repr__(self) -> str:
        return f"Placed(source={self.source!r}, study_uid={self.study_uid!r}, priority={self.priority!r})"


def placed_by_hl7(order: Order, sender: str) -> Placed:
    """Return an order of a message."""
    canceled: bool | None = None  # a status, a change or an answer to a request revives no order that was canceled
    if order.control in _CANCELING or (order.control not in _REVIVING and order.status in _CANCELED):
        canceled = True
    elif order.control in _REVIVING:
        canceled = False
    return Placed(
        f"hl7:{sender}"[:200], order.placer[:200], order.accession[:64], order.study_uid,
        order.procedure, order.reason, order.modality[:16], order.priority, order.at[:32],
        tuple(Patient(number, issuers) for number, issuers in order.patients), canceled, order.filler[:200],
    )  # fmt: skip


class Orders:
    """The orders of a node.

    Args:
        ledger: In whose database they are.
        store: The node's folder.
    """

    def __init__(self, ledger: Ledger, store: Path) -> None:
        self._ledger, self._store = ledger, store
        make_tables(_META, ledger.engine)

    def keep(self, orders: Iterable[Placed]) -> int:
        """Keep orders; the same again changes nothing. Return how many were new or changed."""
        with self._ledger.engine.begin() as connection:
            told: list[str] = []
            count = sum(self._kept(connection, order, told) for order in orders)
        self._tell(told)
        return count

    def take_in(self, file: Path) -> int:
        """Take in the messages of an inbox since the last time; return how many were new.

        A message control id of a sender and a time (MSH-7) counts once: the same message again changes nothing,
        another is told.
        """
        new = 0
        while file.is_file():
            told: list[str] = []
            with self._ledger.engine.begin() as connection:
                begin = connection.scalar(select(CURSORS.c.position).where(CURSORS.c.journal == _CURSOR)) or 0
                read = list(islice(read_kept(file, begin), _MOST_MESSAGES))
                if not read:
                    return new
                for _, kept in read:
                    told_at = _time_of(kept.message)  # many senders count their control ids anew after a while
                    name = hashlib.sha256(f"{kept.sender}\0{kept.control}\0{told_at}".encode()).hexdigest()
                    digest = hashlib.sha256(kept.message).hexdigest()
                    known = connection.scalar(select(_MESSAGES.c.sha256).where(_MESSAGES.c.message == name))
                    if known is not None:
                        told += [_REUSED] if known != digest else []
                        continue
                    connection.execute(_MESSAGES.insert().values(message=name, sha256=digest))
                    new += 1
                    for order in _orders_of(kept.message):
                        self._kept(connection, placed_by_hl7(order, kept.sender), told)
                if begin:
                    connection.execute(update(CURSORS).where(CURSORS.c.journal == _CURSOR).values(position=read[-1][0]))
                else:
                    connection.execute(CURSORS.insert().values(journal=_CURSOR, position=read[-1][0]))
            self._tell(told)
        return new

    def follow(self) -> int:
        """Match orders and studies that are new; return how many matches were."""
        self._read_headers()
        number = or_(
            and_(_ORDERS.c.accession != "", _ORDERS.c.accession == _HEADERS.c.accession),
            and_(_ORDERS.c.study_uid != "", _ORDERS.c.study_uid == _HEADERS.c.study),
        )
        query = (
            select(_ORDERS.c.key, _ORDERS.c.patients, _HEADERS)
            .join(_HEADERS, number)
            .outerjoin(_MATCHES, and_(_MATCHES.c.key == _ORDERS.c.key, _MATCHES.c.study == _HEADERS.c.study))
            .where(_MATCHES.c.key.is_(None), _ORDERS.c.canceled.is_(False))
            .limit(_AT_ONCE)
        )
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(query).all()
        for row in rows:
            ordered = _patients(row.patients)
            own = Patient(row.patient, tuple(json.loads(row.issuers)))
            state = "used" if own.number and own.is_one_of(ordered) else "conflict" if ordered else "unknown"
            with self._ledger.engine.begin() as connection:
                connection.execute(_MATCHES.insert().values(key=row.key, study=row.study, state=state))
            if state != "used":
                self._ledger.tell("conflict", row.study, _CONFLICT if state == "conflict" else _UNKNOWN)
            self._prioritise(row.study)
        return len(rows)

    def of(self, study: str) -> list[Placed]:
        """Return the orders of a study that are used."""
        query = (
            select(_ORDERS)
            .join(_MATCHES, _MATCHES.c.key == _ORDERS.c.key)
            .where(_MATCHES.c.study == study, _MATCHES.c.state == "used", _ORDERS.c.canceled.is_(False))
            .order_by(_ORDERS.c.at, _ORDERS.c.key)
        )
        with self._ledger.engine.connect() as connection:
            return [_placed(row) for row in connection.execute(query)]

    def listed(self, *, limit: int = 200) -> list[dict[str, Any]]:
        """Return the latest orders and what they are to studies; without a value of a patient."""
        query = select(_ORDERS).order_by(_ORDERS.c.at.desc(), _ORDERS.c.key).limit(limit)
        with self._ledger.engine.connect() as connection:
            rows = connection.execute(query).all()
            keys = [row.key for row in rows]
            matches = connection.execute(select(_MATCHES).where(_MATCHES.c.key.in_(keys))).all()
        return [
            {
                "source": row.source, "accession": row.accession, "study_uid": row.study_uid,
                "procedure": json.loads(row.procedure)[:2], "modality": row.modality, "priority": row.priority,
                "due": row.due, "canceled": row.canceled,
                "studies": {m.study: m.state for m in matches if m.key == row.key},
            }
            for row in rows
        ]  # fmt: skip

    def _kept(self, connection: Connection, order: Placed, told: list[str]) -> int:
        """Keep an order, or change those of its number; return 1 where something changed."""
        order = _storable(order)
        numbers = self._numbers(connection, order)
        if not numbers or not (order.patients or order.canceled or order.accession or order.study_uid):
            return 0
        same = and_(_ORDERS.c.source == order.source, _ORDERS.c.number.in_(numbers))
        if order.accession:
            same = and_(same, _ORDERS.c.accession.in_([order.accession, ""]))
        # What was kept under the performer's number first: the other says more, and stands at the end.
        rows = sorted(connection.execute(select(_ORDERS).where(same)).all(), key=lambda row: row.number != numbers[-1])
        order = replace(order, number=order.number or numbers[-1])
        if not rows:
            connection.execute(_ORDERS.insert().values(**_row(order), at=time.time()))
            return 1
        changed = 0
        for row in rows:
            before = _placed(row)
            if order.patients and before.patients and _contradict(order.patients, before.patients):
                told.append(_CHANGED)
                continue
            after = _row(_merged(before, order))
            if after == _row(before):
                continue
            changed = 1
            studies = connection.scalars(select(_MATCHES.c.study).where(_MATCHES.c.key == row.key)).all()
            connection.execute(delete(_MATCHES).where(_MATCHES.c.key == row.key))
            connection.execute(delete(_ORDERS).where(_ORDERS.c.key.in_([row.key, after["key"]])))
            connection.execute(_ORDERS.insert().values(**after, at=time.time()))
            for study in studies:
                # What this order gave is taken back; `follow` gives it again where the order is still one.
                self._give(connection, study, self._level(connection, study))
        return changed

    def _numbers(self, connection: Connection, order: Placed) -> list[str]:
        """Return the numbers that an order may be kept under, last the one for orders that name the performer's alone.

        Such a one is no number of who placed it, who may have given the same to another order.
        """
        if not order.filler:
            return [order.number] if order.number else []
        alone = f"{_ALONE}{order.filler}"[:200]
        if order.number:
            row = {"source": order.source, "filler": order.filler, "number": order.number}
            connection.execute(self._ledger.insert(_FILLERS).values(row).on_conflict_do_nothing())
            return [order.number, alone]
        known = and_(_FILLERS.c.source == order.source, _FILLERS.c.filler == order.filler)
        return [*connection.scalars(select(_FILLERS.c.number).where(known)), alone]

    def _tell(self, told: Sequence[str]) -> None:
        for detail in told:
            self._ledger.tell("conflict", "", detail)

    def _read_headers(self) -> None:
        """Read what orders are matched by, of studies that are new."""
        query = (
            select(STUDIES.c.study)
            .outerjoin(_HEADERS, _HEADERS.c.study == STUDIES.c.study)
            .where(_HEADERS.c.study.is_(None), STUDIES.c.state.in_([ARRIVING, COMPLETE, WORKING]))
            .order_by(STUDIES.c.last_at.desc())
            .limit(_AT_ONCE)
        )
        with self._ledger.engine.connect() as connection:
            studies = connection.scalars(query).all()
        for study in studies:
            with self._ledger.engine.begin() as connection:
                sop = connection.scalar(select(INSTANCES.c.sop).where(INSTANCES.c.study == study).limit(1))
                if sop is not None:
                    found = _header(place_of(self._store, study, sop))
                    connection.execute(_HEADERS.insert().values(study=study, given=0, **found))

    def _prioritise(self, study: str) -> None:
        with self._ledger.engine.begin() as connection:
            level = self._level(connection, study)
            changed = self._give(connection, study, level)
        if changed:
            self._ledger.tell("priority", study, f"{level}, by its order")

    @staticmethod
    def _level(connection: Connection, study: str) -> int:
        query = (
            select(_ORDERS.c.priority)
            .join(_MATCHES, _MATCHES.c.key == _ORDERS.c.key)
            .where(_MATCHES.c.study == study, _MATCHES.c.state == "used", _ORDERS.c.canceled.is_(False))
        )
        return max([0, *(LEVELS.get(word, 0) for word in connection.scalars(query))])

    @staticmethod
    def _give(connection: Connection, study: str, level: int) -> bool:
        """Set a study's priority, unless somebody else set it higher; return whether it changed."""
        now = connection.scalar(select(STUDIES.c.priority).where(STUDIES.c.study == study))
        given = connection.scalar(select(_HEADERS.c.given).where(_HEADERS.c.study == study))
        connection.execute(update(_HEADERS).where(_HEADERS.c.study == study).values(given=level))
        if now is None or now == level or (now != given and level < now):
            return False
        connection.execute(update(STUDIES).where(STUDIES.c.study == study).values(priority=level))
        return True


def _contradict(some: Sequence[Patient], others: Sequence[Patient]) -> bool:
    """Tell whether two lists of identifiers can't be of one patient: an issuer gave two numbers, or none is common."""
    for one in some:
        comparable = [o for o in others if set(o.issuers) & set(one.issuers) or not (o.issuers or one.issuers)]
        if comparable and not one.is_one_of(comparable):
            return True
    return not any(one.is_one_of(others) for one in some)


def _storable(order: Placed) -> Placed:
    """Return an order whose texts any database takes: one that none takes would keep all that follow from coming in."""
    code, name, scheme = order.procedure
    return replace(
        order, source=storable(order.source, 200), number=storable(order.number, 200),
        accession=storable(order.accession, 64), study_uid=storable(order.study_uid, 64),
        procedure=(storable(code, _LONGEST), storable(name, _LONGEST), storable(scheme, _LONGEST)),
        reason=storable(order.reason, _LONGEST), modality=storable(order.modality, 16),
        priority=storable(order.priority, 16), due=storable(order.due, 32), filler=storable(order.filler, 200),
    )  # fmt: skip


def _time_of(message: bytes) -> str:
    try:
        return parse_message(message).header.text(7)
    except DataError:
        return ""


def _orders_of(message: bytes) -> Iterator[Order]:
    try:
        yield from read_orders(message)
    except DataError:
        return


def _merged(before: Placed, new: Placed) -> Placed:
    """Return an order after a change; what the change leaves empty stays."""
    number = new.number if before.number.startswith(_ALONE) else before.number
    return Placed(
        before.source, number, new.accession or before.accession, new.study_uid or before.study_uid,
        new.procedure if any(new.procedure) else before.procedure, new.reason or before.reason,
        new.modality or before.modality, new.priority or before.priority, new.due or before.due,
        new.patients or before.patients, before.canceled if new.canceled is None else new.canceled,
    )  # fmt: skip


def _row(order: Placed) -> dict[str, Any]:
    key = hashlib.sha256("\0".join((order.source, order.number, order.accession)).encode()).hexdigest()
    return {
        "key": key, "source": order.source, "number": order.number, "accession": order.accession,
        "study_uid": order.study_uid, "procedure": json.dumps(order.procedure), "reason": order.reason,
        "modality": order.modality, "priority": order.priority, "due": order.due,
        "patients": json.dumps([[p.number, list(p.issuers)] for p in order.patients]), "canceled": bool(order.canceled),
    }  # fmt: skip


def _patients(text: str) -> tuple[Patient, ...]:
    return tuple(Patient(number, tuple(issuers)) for number, issuers in json.loads(text))


def _placed(row: Any) -> Placed:
    code, text, scheme = json.loads(row.procedure)
    return Placed(
        row.source, row.number, row.accession, row.study_uid, (code, text, scheme), row.reason, row.modality,
        row.priority, row.due, _patients(row.patients), row.canceled,
    )  # fmt: skip


@quiet()
def _header(file: Path) -> Mapping[str, str]:
    """Return what orders are matched by; nothing of a file that can't be read."""
    try:
        return _matched_by(open_instance(file, pixels=False))
    except (DataError, *UNREADABLE):
        return {"accession": "", "patient": "", "issuers": "[]"}


def _matched_by(header: Dataset) -> Mapping[str, str]:
    issuers = [str(header.get("IssuerOfPatientID") or "").strip()]
    issuers += [
        str(item.get("UniversalEntityID") or "").strip()
        for item in header.get("IssuerOfPatientIDQualifiersSequence") or ()
    ]
    return {
        "accession": storable(str(header.get("AccessionNumber") or "").strip(), 64),
        "patient": storable(str(header.get("PatientID") or "").strip(), 64),
        "issuers": json.dumps([one for one in issuers if one]),
    }
