"""The DICOM upper layer as an acceptor speaks it: protocol data units in, protocol data units out (PS3.8 section 9.3).

Only what an acceptor needs is here: association requests, their answers, and the fragments of messages. Lengths come
from the network: each is checked against what is there before anything is read or allocated.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = [
    "ABORT",
    "ACCEPTED",
    "ASSOCIATE_REQUEST",
    "DATA",
    "RELEASE_REQUEST",
    "AssociateRequest",
    "Fragment",
    "Line",
    "Malformed",
    "PeerGone",
    "Proposal",
    "abort_pdu",
    "accept_pdu",
    "data_pdus",
    "fragments",
    "parse_request",
    "reject_pdu",
    "release_reply_pdu",
]

ASSOCIATE_REQUEST: Final = 1
DATA: Final = 4
RELEASE_REQUEST: Final = 5
ABORT: Final = 7
ACCEPTED: Final = 0
"""Result of a presentation context; 3: abstract syntax, 4: transfer syntaxes not supported (PS3.8 table 9-18)."""

_HEAD = struct.Struct(">BxI")
_ITEM = struct.Struct(">BxH")
_APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
_ANY_SYNTAX = b"1.2.840.10008.1.2"
_MOST_REQUEST = 1 << 17
_CONTEXTS = 128


class Malformed(Exception):
    """What came over the line is no protocol data unit, or one that may not come here."""


class PeerGone(Exception):
    """The line was closed, cut, or silent for too long; the last where `silent`."""

    def __init__(self, words: str, *, silent: bool = False) -> None:
        super().__init__(words)
        self.silent = silent


@dataclass(frozen=True)
class Proposal:
    """A presentation context that the other side proposes."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True)
class AssociateRequest:
    """What an association is asked for with.

    Args:
        called: Application entity title that was called.
        calling: That of the caller.
        proposals: Presentation contexts, in their order.
        max_length: Longest data unit that the caller takes; 0 for any.
        implementation_uid: Of the caller.
        implementation_version: Of the caller.
        roles: SOP classes for which the caller asks to be provider: (as user, as provider).
        head: The bytes that the answer repeats.
    """

    called: str
    calling: str
    proposals: tuple[Proposal, ...]
    max_length: int = 0
    implementation_uid: str = ""
    implementation_version: str = ""
    roles: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    head: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Fragment:
    """A piece of a message: of its command or of its data set, the last one or not."""

    context_id: int
    is_command: bool
    is_last: bool
    data: memoryview


class Line:
    """A connection, read by whole data units.

    Args:
        connection: A connected socket; its timeout is how long silence is borne.
        most: Longest data unit that is taken, without its head.

    Attributes:
        until: Monotonic time by which the unit that is read must be whole; None: only silence counts.
    """

    def __init__(self, connection: socket.socket, most: int) -> None:
        self.connection, self.most = connection, most
        self.until: float | None = None
        self._buffer = bytearray(max(most, _MOST_REQUEST) + _HEAD.size)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    def read(self) -> tuple[int, memoryview]:
        """Return the next data unit: its type and its body, which is good until the next call.

        Raises:
            Malformed: Longer than agreed, or of a type that does not exist.
            PeerGone: Nothing more came.
        """
        self._need(_HEAD.size)
        kind, length = _HEAD.unpack_from(self._buffer, self._start)
        if not 1 <= kind <= 7:
            raise Malformed("a data unit of a type that does not exist")
        if length > (_MOST_REQUEST if kind == ASSOCIATE_REQUEST else self.most):
            raise Malformed("a data unit that is longer than agreed")
        self._need(_HEAD.size + length)
        begin = self._start + _HEAD.size
        self._start = begin + length
        return kind, self._view[begin : self._start]

    def send(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            PeerGone: The line was cut.
        """
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise PeerGone(_told(error)) from error

    def _need(self, count: int) -> None:
        """Make `count` bytes from the start be there."""
        if self._end - self._start >= count:
            return
        if self._start + count > len(self._buffer) or self._start == self._end:
            left = self._end - self._start
            self._view[:left] = bytes(self._view[self._start : self._end])
            self._start, self._end = 0, left
        while self._end - self._start < count:
            try:
                if self.until is not None:
                    left_s = self.until - time.monotonic()
                    if left_s <= 0:
                        raise PeerGone("too slow", silent=True)
                    self.connection.settimeout(left_s)
                got = self.connection.recv_into(self._view[self._end :])
            except OSError as error:
                raise PeerGone(_told(error), silent=isinstance(error, TimeoutError)) from error
            if not got:
                raise PeerGone("closed by the other side")
            self._end += got

    @property
    def untouched(self) -> bool:
        """Whether nothing at all has come."""
        return self._start == self._end == 0


def _told(error: OSError) -> str:
    return "silent for too long" if isinstance(error, TimeoutError) else "the line was cut"


def parse_request(body: memoryview | bytes) -> AssociateRequest:
    """Read an A-ASSOCIATE-RQ.

    Raises:
        Malformed: It does not add up.
    """
    data = bytes(body)
    if len(data) < 68:
        raise Malformed("an association request that is too short")
    if not struct.unpack_from(">H", data)[0] & 1:
        raise Malformed("an association request of another protocol version")
    proposals: list[Proposal] = []
    told: dict[str, object] = {}
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, item in _items(data, 68):
        if kind == 0x20:
            if len(proposals) >= _CONTEXTS:
                raise Malformed("more presentation contexts than there are numbers for")
            proposals.append(_proposal(item))
        elif kind == 0x50:
            for inner, value in _items(item, 0):
                if inner == 0x51 and len(value) == 4:
                    told["max_length"] = struct.unpack(">I", value)[0]
                elif inner == 0x52:
                    told["implementation_uid"] = _text(value)
                elif inner == 0x55:
                    told["implementation_version"] = _text(value)
                elif inner == 0x54:
                    uid, as_user, as_provider = _role(value)
                    roles[uid] = (as_user, as_provider)
    if len({p.context_id for p in proposals}) != len(proposals):
        raise Malformed("two presentation contexts of one number")
    return AssociateRequest(
        _text(data[4:20]), _text(data[20:36]), tuple(proposals), roles=roles, head=data[:68], **told # type: ignore[arg-type]
    )  # fmt: skip


def _items(data: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    while position < len(data):
        if position + _ITEM.size > len(data):
            raise Malformed("an item that is cut off")
        kind, length = _ITEM.unpack_from(data, position)
        position += _ITEM.size
        if position + length > len(data):
            raise Malformed("an item that is longer than what holds it")
        yield kind, data[position : position + length]
        position += length


def _proposal(item: bytes) -> Proposal:
    if len(item) < 4 or not item[0] & 1:
        raise Malformed("a presentation context without an odd number")
    abstract, transfers = "", []
    for kind, value in _items(item, 4):
        if kind == 0x30:
            abstract = _text(value)
        elif kind == 0x40:
            transfers.append(_text(value))
    if not abstract or not transfers:
        raise Malformed("a presentation context without a syntax")
    return Proposal(item[0], abstract, tuple(transfers))


def _role(value: bytes) -> tuple[str, bool, bool]:
    if len(value) < 4 or len(value) != 4 + struct.unpack_from(">H", value)[0]:
        raise Malformed("a role selection that does not add up")
    return _text(value[2:-2]), value[-2] == 1, value[-1] == 1


def _text(value: bytes) -> str:
    return value.decode("ascii", "replace").strip("\0 ")


def accept_pdu(
    request: AssociateRequest,
    results: Sequence[tuple[int, int, str]],
    *,
    max_length: int,
    implementation: tuple[str, str],
) -> bytes:
    """Write an A-ASSOCIATE-AC.

    Args:
        request: What it answers.
        results: Number, result and transfer syntax of each presentation context.
        max_length: Longest data unit that we take.
        implementation: Our implementation class UID and version name.
    """
    # Where a context is refused its syntax means nothing (PS3.8 table 9-18); what was proposed may be of any length.
    contexts = b"".join(
        _item(0x21, bytes((number, 0, result, 0)) + _item(0x40, syntax.encode() if result == ACCEPTED else _ANY_SYNTAX))
        for number, result, syntax in results
    )
    uid, version = implementation
    user = _item(0x51, struct.pack(">I", max_length)) + _item(0x52, uid.encode()) + _item(0x55, version.encode())
    body = request.head + _item(0x10, _APPLICATION_CONTEXT) + contexts + _item(0x50, user)
    return _HEAD.pack(2, len(body)) + body


def reject_pdu(result: int, source: int, reason: int) -> bytes:
    """Write an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return _HEAD.pack(3, 4) + bytes((0, result, source, reason))


def abort_pdu(source: int, reason: int) -> bytes:
    """Write an A-ABORT (PS3.8 table 9-26)."""
    return _HEAD.pack(ABORT, 4) + bytes((0, 0, source, reason))


def release_reply_pdu() -> bytes:
    """Write an A-RELEASE-RP."""
    return _HEAD.pack(6, 4) + bytes(4)


def _item(kind: int, value: bytes) -> bytes:
    return _ITEM.pack(kind, len(value)) + value


def fragments(body: memoryview) -> Iterator[Fragment]:
    """Read the pieces in a P-DATA-TF.

    Raises:
        Malformed: Their lengths do not add up.
    """
    position, end = 0, len(body)
    if not end:
        raise Malformed("a data unit without anything in it")
    while position < end:
        if position + 6 > end:
            raise Malformed("a piece of a message that is cut off")
        (length,) = struct.unpack_from(">I", body, position)
        stop = position + 4 + length
        if length < 2 or stop > end:
            raise Malformed("a piece of a message that is longer than what holds it")
        control = body[position + 5]
        yield Fragment(body[position + 4], bool(control & 1), bool(control & 2), body[position + 6 : stop])
        position = stop


def data_pdus(context_id: int, command: bytes, data: bytes | None, most: int) -> bytes:
    """Write a message as P-DATA-TF units.

    Args:
        context_id: Its presentation context.
        command: The command set.
        data: The data set; None where there is none.
        most: Longest data unit that the other side takes; 0 for any.
    """
    room = (most or 1 << 16) - 6
    out = []
    for content, is_command in ((command, 1), (data, 0)):
        if content is None:
            continue
        for at in range(0, len(content), room):
            piece = content[at : at + room]
            control = is_command | (2 if at + room >= len(content) else 0)
            out.append(
                _HEAD.pack(DATA, len(piece) + 6) + struct.pack(">IBB", len(piece) + 2, context_id, control) + piece
            )
    return b"".join(out)
