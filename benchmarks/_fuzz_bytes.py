"""What a fuzz run of a node is made of: the node as it answers, bytes made wrong, data sets, and a raw DICOM caller."""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset

CANARY = "CANARYBIRD"
CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
COMMITMENT, MPPS = "1.2.840.10008.1.20.1", "1.2.840.10008.3.1.2.3.3"
EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED, JPEG, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.5"
TITLE, CALLER, TOKEN = "FUZZED", "FUZZER", "a-token-of-the-fuzz-run"
PATIENCE_S = 60.0
"""How long an answer that must come may take: a machine may be busy."""


@dataclass
class Target:
    """The node, and what it answered.

    Args:
        dimse: Port of its entity.
        web: Port of its web server.
        hl7: Port of MLLP.
        root: Of all UIDs of this run.
    """

    dimse: int
    web: int
    hl7: int
    root: str
    taken: dict[str, str] = field(default_factory=dict)
    messages: set[str] = field(default_factory=set)
    said: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    _lock: Any = field(default_factory=threading.Lock)
    _number: int = 0

    def uid(self) -> str:
        """Return a UID that was not used."""
        with self._lock:
            self._number += 1
            return f"{self.root}.{self._number}"

    def took(self, sop: str, data: bytes) -> None:
        """Remember that an instance was answered with success; what came first is what is held."""
        with self._lock:
            self.taken.setdefault(sop, hashlib.sha256(data).hexdigest())

    def heard(self, message: bytes) -> None:
        """Remember that a message was acknowledged."""
        with self._lock:
            self.messages.add(hashlib.sha256(message).hexdigest())

    def say(self, what: str) -> None:
        """Count an answer."""
        with self._lock:
            self.said[what] += 1

    def err(self, what: str) -> None:
        """Count what may not be."""
        with self._lock:
            self.wrong[what] += 1


# ---- bytes made wrong

_NUMBERS = (
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFE,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


def spoiled(chance: random.Random, data: bytes, most: int = 4) -> bytes:
    """Return bytes with one to `most` faults."""
    made = bytearray(data)
    for _ in range(chance.randint(1, most)):
        at = chance.randrange(len(made) + 1) if made else 0
        length = min(chance.choice((1, 2, 4, 8, 64, 1024)), len(made) - at)
        kind = chance.randrange(8)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del made[at : at + length]
        elif kind == 2:
            made[at:at] = made[at : at + length] * chance.choice((1, 2, 50))
        elif kind == 3:
            made[at:at] = chance.randbytes(chance.choice((1, 2, 16, 300)))
        elif kind == 4:
            del made[at:]
        elif kind in (5, 6):
            form = chance.choice(("<H", ">H", "<I", ">I"))
            number = chance.choice(_NUMBERS) & (0xFFFF if form[1] == "H" else 0xFFFFFFFF)
            piece = struct.pack(form, number)
            made[at : at + len(piece)] = piece
        else:
            made[at : at + length] = bytes(length)
    return bytes(made)


# ---- data sets


def dataset(target: Target, sop: str, study: str = "") -> Dataset:
    """Return a small instance whose patient must never stand in a log."""
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 100"
    one.SOPClassUID, one.SOPInstanceUID = CT, sop
    one.StudyDate, one.InstanceCreationDate, one.InstanceCreationTime = "20260101", "20260101", "120000"
    one.Modality, one.AccessionNumber = "CT", f"{CANARY}-A"
    one.PatientName, one.PatientID, one.PatientBirthDate = f"{CANARY}^Max", f"{CANARY}-7", "19340506"
    one.StudyInstanceUID = study or f"{target.root}.9.{zlib.crc32(sop.encode()) % 40}"
    one.SeriesInstanceUID = f"{one.StudyInstanceUID}.1"
    inner = Dataset()
    inner.CodeValue, inner.CodeMeaning = "1", f"{CANARY} code"
    outer = Dataset()
    outer.RequestedProcedureID, outer.ScheduledProtocolCodeSequence = "1", [inner]
    one.RequestAttributesSequence = [outer, outer]
    one.ImagePositionPatient, one.ImageOrientationPatient = [0, 0, 1], [1, 0, 0, 0, 1, 0]
    one.PixelSpacing, one.InstanceNumber = [0.7, 0.8], 1
    one.Rows = one.Columns = 16
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation, one.SamplesPerPixel = 15, 0, 1
    one.PhotometricInterpretation = "MONOCHROME2"
    one.PixelData = bytes(range(256)) * 2
    return one


def part10(one: Dataset, syntax: str = EXPLICIT) -> bytes:
    """Return a file of a data set."""
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = syntax
    one.file_meta.MediaStorageSOPClassUID = one.get("SOPClassUID", CT)
    one.file_meta.MediaStorageSOPInstanceUID = one.get("SOPInstanceUID", "1.2.3")
    stream = BytesIO()
    dcmwrite(stream, one, enforce_file_format=True)
    return stream.getvalue()


def body_of(one: Dataset, syntax: str = EXPLICIT) -> bytes:
    """Return a data set as it goes over the line."""
    content = part10(one, syntax)
    return content[144 + int.from_bytes(content[140:144], "little") :]


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """Return an explicit element, perhaps with a length that is a lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC"):
        return head + vr + b"\0\0" + struct.pack("<I", size & 0xFFFFFFFF) + value
    return head + vr + struct.pack("<H", size & 0xFFFF) + value


def nested(depth: int, *, ended: bool = True) -> bytes:
    """Return sequences of undefined length within each other."""
    begin = struct.pack("<HH", 0x0040, 0x0275) + b"SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return begin * depth + (end * depth if ended else b"")


def twisted(chance: random.Random, target: Target, sop: str, syntax: str) -> bytes:
    """Return a data set that is formally strange rather than random."""
    one = dataset(target, sop)
    body = body_of(one, syntax)
    kind = chance.randrange(9)
    if kind == 0:
        return body[:-1]
    if kind == 1 and syntax == EXPLICIT:
        where = body.find(b"\x28\x00\x02\x00")
        return body[:where] + nested(chance.choice((3, 50, 400, 3000)), ended=chance.random() < 0.7) + body[where:]
    if kind == 2:
        one.SpecificCharacterSet = chance.choice(
            (["", "ISO 2022 IR 87"], "ISO_IR 999", ["ISO 2022 IR 149"] * 9, "GB18030", "ISO_IR 192", "\\\\")
        )
        return body_of(one, syntax).replace(b"Max", chance.choice((b"\x1b$B", b"\xff\xfe\xfd", b"\xed\xa0\x80")))
    if kind == 3 and syntax == EXPLICIT:
        where = body.find(b"\x28\x00\x10\x00")
        vr = chance.choice((b"XX", b"SQ", b"UN", b"FD", b"\0\0", b"DS"))
        return body[:where] + element(0x00280010, vr, chance.randbytes(7), chance.choice(_NUMBERS)) + body[where:]
    if kind == 4 and syntax == EXPLICIT:
        # numbers that JSON does not know
        extra = element(0x00189087, b"FD", struct.pack("<d", float(chance.choice(("nan", "inf", "-inf")))))
        where = body.find(b"\x20\x00\x0d\x00")
        return body[:where] + extra + body[where:]
    if kind == 5:
        one.Rows, one.Columns, one.BitsAllocated = 65535, 65535, chance.choice((8, 16, 32))
        one.NumberOfFrames = chance.choice(("1", "2147483647", "0"))
        return body_of(one, syntax)
    if kind == 6 and syntax == EXPLICIT:
        where = body.find(b"\x20\x00\x13\x00")
        value = chance.choice((b"99999999999999999999999999", b"NaN ", b"1e999 ", b"-\\1 ", b"\xff\xff"))
        return body[:where] + element(0x00200013, b"IS", value) + body[where + 10 :]
    if kind == 7:
        one.PixelData = b""
        return body_of(one, syntax)
    return spoiled(chance, body)


# ---- DIMSE


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """Return a protocol data unit."""
    return struct.pack(">BxI", kind, len(body) if length is None else length) + body


def item(kind: int, body: bytes, length: int | None = None) -> bytes:
    """Return an item of an association request."""
    return struct.pack(">BxH", kind, (len(body) if length is None else length) & 0xFFFF) + body


def request(contexts: Sequence[tuple[int, str, Sequence[str]]], called: str = TITLE, most: int = 1 << 14) -> bytes:
    """Return the body of an association request."""
    body = struct.pack(">HH", 1, 0) + called.encode().ljust(16) + CALLER.encode().ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1")
    for number, abstract, transfers in contexts:
        inner = item(0x30, abstract.encode()) + b"".join(item(0x40, one.encode()) for one in transfers)
        body += item(0x20, bytes((number, 0, 0, 0)) + inner)
    return body + item(0x50, item(0x51, struct.pack(">I", most)) + item(0x52, b"1.2.3.4") + item(0x55, b"FUZZ"))


def command(values: dict[int, int | str]) -> bytes:
    """Return a command set."""
    body = b""
    for tag, value in sorted(values.items()):
        told = struct.pack("<H", value) if isinstance(value, int) else value.encode() + b"\0" * (len(value) % 2)
        body += struct.pack("<HHI", 0, tag, len(told)) + told
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def data_unit(context: int, control: int, data: bytes) -> bytes:
    """Return a P-DATA-TF with one piece."""
    return pdu(4, struct.pack(">IBB", len(data) + 2, context, control) + data)


def message(context: int, told: bytes, data: bytes | None = None, piece: int = 1 << 14) -> bytes:
    """Return a message as data units."""
    made = data_unit(context, 3, told)
    if data is None:
        return made
    cuts = range(0, len(data), piece) if data else (0,)
    return made + b"".join(
        data_unit(context, 2 if at + piece >= len(data) else 0, data[at : at + piece]) for at in cuts
    )


CONTEXTS = (
    (1, VERIFICATION, (IMPLICIT,)), (3, CT, (EXPLICIT,)), (5, CT, (IMPLICIT,)), (7, CT, (BIG,)), (9, CT, (DEFLATED,)),
    (11, COMMITMENT, (EXPLICIT,)), (13, MPPS, (EXPLICIT,)), (15, CT, (RLE,)), (17, CT, ("1.2.3.4.5",)),
)  # fmt: skip


class Caller:
    """A raw connection to the entity."""

    def __init__(self, target: Target) -> None:
        self.line = socket.create_connection(("127.0.0.1", target.dimse), timeout=PATIENCE_S)
        self.line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def send(self, data: bytes) -> None:
        """Send; that the other side ended is no fault."""
        with suppress(OSError):
            self.line.sendall(data)

    def unit(self, patience_s: float = PATIENCE_S) -> tuple[int, bytes] | None:
        """Return the next data unit; None where the line ended, or nothing came."""
        self.line.settimeout(patience_s)
        try:
            head = self._exactly(6)
            return head[0], self._exactly(int.from_bytes(head[2:6], "big"))
        except (OSError, EOFError):
            return None

    def _exactly(self, count: int) -> bytes:
        got = b""
        while len(got) < count:
            piece = self.line.recv(count - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    def associated(self, contexts: Sequence[tuple[int, str, Sequence[str]]] = CONTEXTS, most: int = 1 << 14) -> bool:
        """Ask for an association; tell whether it was accepted."""
        self.send(pdu(1, request(contexts, most=most)))
        got = self.unit()
        return got is not None and got[0] == 2

    def status(self, patience_s: float = PATIENCE_S) -> int | None:
        """Return the status of the next answer; None for none."""
        got = self.unit(patience_s)
        if got is None or got[0] != 4:
            return None
        at = got[1].find(b"\x00\x00\x00\x09\x02\x00\x00\x00")
        return None if at < 0 else int.from_bytes(got[1][at + 8 : at + 10], "little")


def store_command(sop: str, number: int = 1, sop_class: str = CT) -> bytes:
    """Return a C-STORE request."""
    return command({0x0002: sop_class, 0x0100: 1, 0x0110: number, 0x0700: 0, 0x0800: 1, 0x1000: sop})
