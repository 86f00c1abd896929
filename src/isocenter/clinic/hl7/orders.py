"""Orders and results that come by HL7: kept as lines on the disk before they are acknowledged.

Source:
    HL7 v2.5.1, 4.4.1 (ORM^O01), 4.4.6 (OMI^O23), 4.5 (ORC, OBR, IPC), 7.3.1 (ORU^R01).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from isocenter.clinic.dimse.holding import write_all
from isocenter.clinic.dimse.journal import end_of_cut, read_lines
from isocenter.clinic.hl7.mllp import (
    INTERNAL,
    MESSAGE_TYPE,
    PROCESSING_ID,
    REQUIRED_FIELD,
    SEGMENT_ORDER,
    TABLE_VALUE,
    VERSION,
    Refusal,
)
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.records.hl7 import Message, Segment, parse_message

__all__ = ["Inbox", "Kept", "Order", "read_kept", "read_orders"]

_ORDERS: Final = (("ORM", "O01"), ("OMI", "O23"))
_RESULTS: Final = (("ORU", "R01"),)
_CONTROLS: Final = ("NW", "CA", "DC", "XO", "SC", "RE", "RO", "SN", "NA", "OK", "CR", "UA", "PA", "CH", "HD", "RL")
_REMEMBERED = 10_000


@dataclass(frozen=True)
class Order:
    """One imaging service that was ordered, changed or canceled. Its text shows no value of the patient.

    Args:
        control: ORC-1: NW new, CA cancel, XO change, SC status, ...
        placer: Placer's order number.
        filler: Filler's order number.
        accession: Accession number; "" where the order has none yet.
        study_uid: Study Instance UID; "" where the order has none yet.
        procedure: Code, text and coding system of what is ordered.
        modality: As the order has it.
        priority: "stat", "asap", "routine" or "".
        at: When it is to be done, as HL7 writes times.
        patient_id: Patient's identifier.
        issuer: Who gave it.
        reason: Why it is asked for.
        patients: All identifiers of the patient, each with the names of who gave it.
        status: ORC-5: CA canceled, HD on hold, IP in progress, ...
    """

    control: str
    placer: str
    filler: str
    accession: str
    study_uid: str
    procedure: tuple[str, str, str]
    modality: str
    priority: str
    at: str
    patient_id: str
    issuer: str
    reason: str = ""
    patients: tuple[tuple[str, tuple[str, ...]], ...] = ()
    status: str = ""

    def __repr__(self) -> str:
        return f"Order(control={self.control!r}, study_uid={self.study_uid!r}, procedure={self.procedure[0]!r})"


@dataclass(frozen=True)
class Kept:
    """A message that is on the disk.

    Args:
        kind: "ORM^O01", "OMI^O23" or "ORU^R01".
        control: MSH-10.
        sender: MSH-3 and MSH-4.
        at: When it came.
        message: As it came.
    """

    kind: str
    control: str
    sender: str
    at: str
    message: bytes

    def __repr__(self) -> str:
        return f"Kept(kind={self.kind!r}, at={self.at!r}, {len(self.message)} bytes)"


class Inbox:
    """Takes messages; give `take` to an `MllpServer`.

    A message is written with all of its text, so its folder is readable by us alone. The same message again (a sender
    that saw no answer) is acknowledged and not written twice.

    Args:
        folder: Made where it is not there.
        accepted: Processing ids (MSH-11) that are taken: P production, T training, D debugging.

    Raises:
        OutputError: It can't be written.
    """

    def __init__(self, folder: Path, *, accepted: tuple[str, ...] = ("P",)) -> None:
        self._accepted, self._lock = accepted, threading.Lock()
        self.file = folder / "messages.jsonl"
        self._seen: OrderedDict[str, None] = OrderedDict()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.file.is_file():
                for _, line in read_lines(self.file):
                    self._remember(str(line.get("sha256")))
            self._descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            for path in (folder, folder.parent):
                descriptor = os.open(path, os.O_RDONLY)
                os.fsync(descriptor)
                os.close(descriptor)
        except OSError as error:
            raise explain_os_error(error, folder, doing="write") from error

    def take(self, message: Message, data: bytes) -> None:
        """Check a message and keep it; it is on the disk when this returns.

        Raises:
            Refusal: It is wrong (AE), of a kind that is not taken here, or can't be written now (AR).
        """
        kind = _checked(message, self._accepted)
        digest = hashlib.sha256(data).hexdigest()
        header = message.header
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"), "kind": kind, "control": header.text(10),
            "sender": f"{header.text(3)}|{header.text(4)}", "sha256": digest,
            "message": base64.b64encode(data).decode(),
        }  # fmt: skip
        with self._lock:
            if digest in self._seen:
                return
            self._write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
            self._remember(digest)

    def _write(self, line: bytes) -> None:
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            # A process that was killed while it wrote left half a line.
            write_all(self._descriptor, end_of_cut(self._descriptor) + line)
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._descriptor, end)  # it was not taken: sent again, it would stand there twice
            raise Refusal("AR", INTERNAL) from error

    def _remember(self, digest: str) -> None:
        self._seen[digest] = None
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def read_kept(file: Path, position: int = 0) -> Iterator[tuple[int, Kept]]:
    """Read the messages of an inbox from a position on; yield where each ends, and it."""
    for end, line in read_lines(file, position):
        yield end, Kept(line["kind"], line["control"], line["sender"], line["at"], base64.b64decode(line["message"]))


def _checked(message: Message, accepted: tuple[str, ...]) -> str:
    """Return the kind of a message that may be taken."""
    header = message.header
    kind = (header.text(9, 1), header.text(9, 2))
    if not header.text(10):
        raise Refusal("AR", REQUIRED_FIELD, "MSH^1^10")
    if kind not in (*_ORDERS, *_RESULTS):
        raise Refusal("AR", MESSAGE_TYPE, "MSH^1^9")
    if header.text(11) not in accepted:
        raise Refusal("AR", PROCESSING_ID, "MSH^1^11")
    if not header.text(12).startswith("2."):
        raise Refusal("AR", VERSION, "MSH^1^12")
    names = [segment.name for segment in message.segments]
    # A message of orders has one patient: of two it can't be told whose each order is.
    if message.strange or (kind in _ORDERS and names.count("PID") > 1):
        raise Refusal("AE", SEGMENT_ORDER)
    for needed in ("OBR",) if kind in _RESULTS else ("PID", "ORC"):
        if needed not in names:
            raise Refusal("AE", SEGMENT_ORDER, needed)
    if kind in _ORDERS:
        patient = message.segments[names.index("PID")]
        if not patient.text(3):
            raise Refusal("AE", REQUIRED_FIELD, "PID^1^3")
        for number, order in enumerate(_orders(message), start=1):
            if not order.control:
                raise Refusal("AE", REQUIRED_FIELD, f"ORC^{number}^1")
            if order.control not in _CONTROLS:
                raise Refusal("AE", TABLE_VALUE, f"ORC^{number}^1")
            if not order.placer and not order.filler:
                raise Refusal("AE", REQUIRED_FIELD, f"ORC^{number}^2")
    return "^".join(kind)


def read_orders(data: bytes) -> tuple[Order, ...]:
    """Return the orders of a message; none for one that holds none.

    Raises:
        DataError: It is no HL7 message.
    """
    return _orders(parse_message(data))


def _orders(message: Message) -> tuple[Order, ...]:
    patient: Segment | None = None
    groups: list[dict[str, Segment]] = []
    for segment in message.segments:
        if segment.name == "PID":
            patient = segment
        elif segment.name == "ORC":
            groups.append({"ORC": segment, **({} if patient is None else {"PID": patient})})
        elif groups:
            # A second OBR without an ORC of its own is a further service of the same order.
            if segment.name == "OBR" and "OBR" in groups[-1]:
                groups.append({name: groups[-1][name] for name in ("ORC", "PID") if name in groups[-1]})
            groups[-1].setdefault(segment.name, segment)
    return tuple(_order(group, group.get("PID", patient)) for group in groups)


def _order(group: dict[str, Segment], patient: Segment | None) -> Order:
    def text(*places: tuple[str, int, int]) -> str:
        for name, number, component in places:
            if name in group and (found := group[name].text(number, component)):
                return found
        return ""

    study = text(("IPC", 3, 1), ("ZDS", 1, 1))
    stated = text(("TQ1", 9, 1), ("ORC", 7, 6), ("OBR", 27, 6), ("OBR", 5, 1)).upper()
    priority = {"S": "stat", "STAT": "stat", "A": "asap", "ASAP": "asap", "R": "routine", "ROUTINE": "routine"}
    return Order(
        text(("ORC", 1, 1)), text(("ORC", 2, 1), ("OBR", 2, 1)), text(("ORC", 3, 1), ("OBR", 3, 1)),
        text(("IPC", 1, 1), ("OBR", 18, 1)), study if is_uid(study) else "",
        (text(("OBR", 4, 1)), text(("OBR", 4, 2)), text(("OBR", 4, 3))), text(("IPC", 5, 1), ("OBR", 24, 1)),
        priority.get(stated, ""), text(("TQ1", 7, 1), ("OBR", 36, 1), ("ORC", 7, 4)),
        patient.text(3) if patient is not None else "", "" if patient is None else _issuer(patient),
        text(("OBR", 31, 2), ("OBR", 31, 1), ("ORC", 16, 2), ("ORC", 16, 1)),
        () if patient is None else _patients(patient), text(("ORC", 5, 1)),
    )  # fmt: skip


def _patients(patient: Segment) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return all identifiers, each with namespace and universal id of who gave it."""
    found = []
    for repetition in patient.repetitions(3):
        number = patient.component(repetition, 1)
        issuers = (patient.component(repetition, 4), patient.component(repetition, 4, 2))
        if number:
            found.append((number, tuple(one for one in issuers if one)))
    return tuple(found)


def _issuer(patient: Segment) -> str:
    repetitions = patient.repetitions(3)
    if not repetitions:
        return ""
    return patient.component(repetitions[0], 4, 2) or patient.component(repetitions[0], 4)
