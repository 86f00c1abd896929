"""One association, from its request to its end: instances are held, everything else goes to services.

The loop answers one message after another. What is not understood ends the association with an abort, and only this
association; a failure of ours is answered with a status, never with silence.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

from isocenter.clinic.dimse.entities import LocalEntity, negotiated
from isocenter.clinic.dimse.holding import OUT_OF_RESOURCES, Arrival, Holding, Refused
from isocenter.clinic.dimse.messages import C_ECHO, C_STORE, Command, parse_command, response_bytes
from isocenter.clinic.dimse.notes import Note, Notes
from isocenter.clinic.dimse.upper_layer import (
    ABORT,
    ACCEPTED,
    ASSOCIATE_REQUEST,
    DATA,
    RELEASE_REQUEST,
    AssociateRequest,
    Fragment,
    Line,
    Malformed,
    PeerGone,
    abort_pdu,
    accept_pdu,
    data_pdus,
    fragments,
    parse_request,
    reject_pdu,
    release_reply_pdu,
)

__all__ = ["Answer", "Association", "Counters", "Peer", "Service"]

_LOG = logging.getLogger(__name__)
_SUCCESS: Final = 0x0000
_UNRECOGNISED: Final = 0x0211
_PROCESSING_FAILURE: Final = 0x0110
_MOST_COMMAND = 1 << 16
_MOST_DATA = 1 << 24
_AHEAD_MIN: Final = 10
_REJECTED_S: Final = 5.0
_CONTEXT_REASONS: Final = {3: "no such service or object is taken", 4: "none of its transfer syntaxes is taken"}


@dataclass(frozen=True)
class Peer:
    """Who is at the other end."""

    calling: str
    called: str
    host: str
    implementation: str = ""


@dataclass(frozen=True)
class Answer:
    """What a service answers.

    Args:
        status: As PS3.7 annex C has it.
        comment: Error comment.
        data: A data set in the context's transfer syntax; None for none.
        after: Done when the answer has been sent.
    """

    status: int
    comment: str = ""
    data: bytes | None = None
    after: Callable[[], None] | None = None


@runtime_checkable
class Service(Protocol):
    """What handles messages that are no C-STORE and no C-ECHO."""

    def handle(self, command: Command, data: bytes, transfer_syntax: str, peer: Peer) -> Answer:
        """Answer a message; the data set is empty where none came."""
        ...


@dataclass(eq=False)
class Counters:
    """What happened, by kind; safe for threads.

    Args:
        values: How often, by kind, in this process.
        lock: Of `values`.
        notes: Where it is told for the ledger, which metrics and panel read; None: nowhere.
    """

    values: dict[tuple[str, ...], int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    notes: Notes | None = None

    def add(self, *kind: str, count: int = 1) -> None:
        """Count something."""
        with self.lock:
            self.values[kind] = self.values.get(kind, 0) + count

    def tell(self, note: Note, count: int = 1) -> None:
        """Say that something happened that an administrator should be able to see."""
        if self.notes is not None:
            self.notes.tell(note, count)


class Association:
    """An association.

    Args:
        line: The connection.
        host: Address of the other side.
        entity: Who we are.
        holding: Where instances go.
        services: By command field.
        counters: What happened.
    """

    def __init__(
        self,
        line: Line,
        host: str,
        entity: LocalEntity,
        holding: Holding,
        services: Mapping[int, Service],
        counters: Counters,
    ) -> None:
        self._line, self._host, self._entity = line, host, entity
        self._holding, self._services, self._counters = holding, services, counters
        self._contexts: dict[int, tuple[str, str]] = {}
        self._peer = Peer("", "", host)
        self._most = 0
        self._command = bytearray()
        self._open: tuple[int, Command] | None = None
        self._arrival: Arrival | None = None
        self._refused: Refused | None = None
        self._data = bytearray()

    def serve(self) -> None:
        """Serve until the other side is done, gone, or not understood."""
        try:
            if self._begin():
                self._counters.add("associations", self._peer.calling)
                self._tell("association")
                while self._next():
                    pass
        except Malformed as error:
            _LOG.warning("association from %s aborted: %s", self._host, error)
            self._counters.add("aborted", str(error))
            self._tell("association broken", "aborted by us", detail=str(error))
            self._abort()
        except PeerGone as error:
            if self._line.untouched and not error.silent:
                # Who only looks whether the port is open, as monitors do, has not called.
                self._counters.add("looked at")
                return
            _LOG.warning("association from %s ended: %s", self._host, error)
            self._counters.add("cut", str(error))
            self._tell("association broken", "silence" if error.silent else "cut off", detail=str(error))
        except Exception as error:  # noqa: BLE001  # the boundary: a defect ends this association alone, and is told
            # Its words may quote a data set.
            _LOG.error("association from %s ended by a defect of Isocenter (%s)", self._host, type(error).__name__)
            self._counters.add("defects", type(error).__name__)
            self._tell("association broken", "a defect", detail=type(error).__name__)
            self._abort()
        finally:
            if self._arrival is not None:
                # Half an instance: the sender was told nothing, and sends it again.
                self._arrival.abandon()
                self._counters.add("unfinished", self._peer.calling)
                self._tell("half an instance", "what had come of it was dropped; its sender was told nothing")

    def reject(self, result: int, source: int, reason: int) -> None:
        """Read the request, and refuse it."""
        self._line.until = time.monotonic() + min(_REJECTED_S, self._entity.silence_s)
        try:
            kind, _ = self._line.read()
            if kind == ASSOCIATE_REQUEST:
                self._line.send(reject_pdu(result, source, reason))
        except (Malformed, PeerGone):
            _LOG.info("a caller from %s was gone before it could be refused", self._host)

    def _begin(self) -> bool:
        """Take the request; return whether it was accepted."""
        # Who sends a byte now and then would hold its place for ever, and nobody knows yet who it is (PS3.8 9.1.4).
        self._line.until = time.monotonic() + self._entity.silence_s
        kind, body = self._line.read()
        self._line.until = None
        self._line.connection.settimeout(self._entity.silence_s)
        if kind != ASSOCIATE_REQUEST:
            raise Malformed("something else than an association request first")
        request = parse_request(body)
        rejection = self._entity.rejection(request, self._host)
        if rejection is not None:
            # Titles come from outside: what is logged holds no control characters (`_text` keeps ASCII; repr the rest).
            _LOG.warning("association refused: %s (%r called %r from %s)", rejection.words, request.calling,
                         request.called, self._host)  # fmt: skip
            self._counters.add("rejected", rejection.words)
            self._peer = Peer(request.calling, request.called, self._host)
            self._tell("association refused", rejection.words)
            self._line.send(reject_pdu(rejection.result, rejection.source, rejection.reason))
            return False
        self._accept(request)
        return True

    def _accept(self, request: AssociateRequest) -> None:
        results = negotiated(self._entity, request)
        abstract = {proposal.context_id: proposal.abstract_syntax for proposal in request.proposals}
        self._contexts = {n: (abstract[n], syntax) for n, result, syntax in results if result == ACCEPTED}
        refused = len(results) - len(self._contexts)
        if refused:
            self._counters.add("contexts refused", request.calling, count=refused)
        self._peer = Peer(request.calling, request.called, self._host, request.implementation_version)
        for result, reason in _CONTEXT_REASONS.items():
            why = sorted({abstract[number] for number, refusal, _ in results if refusal == result})
            if why:
                more = f" and {len(why) - 1} more" if len(why) > 1 else ""
                self._tell("syntax refused", reason, detail=f"{why[0][:40]}{more}")
        # Below 12 bytes no piece of a message fits; such a limit is none.
        self._most = request.max_length if request.max_length >= 12 else 0
        self._line.send(
            accept_pdu(request, results, max_length=self._line.most, implementation=self._holding.implementation)
        )

    def _next(self) -> bool:
        """Take the next data unit; return whether there may be more."""
        kind, body = self._line.read()
        if kind == DATA:
            for fragment in fragments(body):
                self._piece(fragment)
            return True
        if kind == RELEASE_REQUEST:
            self._line.send(release_reply_pdu())
            return False
        if kind == ABORT:
            self._counters.add("aborted by the caller", self._peer.calling)
            self._tell("association broken", "aborted by the caller")
            return False
        raise Malformed("a data unit that may not come here")

    def _piece(self, fragment: Fragment) -> None:
        if fragment.context_id not in self._contexts:
            raise Malformed("a message in a presentation context that was not accepted")
        if fragment.is_command:
            self._of_command(fragment)
        else:
            self._of_data(fragment)

    def _of_command(self, fragment: Fragment) -> None:
        if self._open is not None:
            raise Malformed("a command where a data set should go on")
        if len(self._command) + len(fragment.data) > _MOST_COMMAND:
            raise Malformed("a command set that is too long")
        self._command += fragment.data
        if not fragment.is_last:
            return
        command = parse_command(bytes(self._command))
        self._command.clear()
        self._open = (fragment.context_id, command)
        abstract, syntax = self._contexts[fragment.context_id]
        if command.kind == C_STORE:
            if not command.has_data or not command.sop_instance:
                raise Malformed("a C-STORE without a data set or an instance")
            self._refused = None
            if command.sop_class != abstract:
                self._refused = Refused(0xA900, "SOP class of command and presentation context differ")
            self._arrival = self._holding.arrival(command, syntax, self._peer.calling, self._peer.called)
        elif not command.has_data:
            self._answer()

    def _of_data(self, fragment: Fragment) -> None:
        if self._open is None or self._open[0] != fragment.context_id:
            raise Malformed("a data set without a command")
        if self._arrival is not None:
            if self._refused is None:
                try:
                    self._arrival.write(fragment.data)
                except Refused as refused:
                    self._refused = refused
                    self._arrival.abandon()
        else:
            if len(self._data) + len(fragment.data) > _MOST_DATA:
                raise Malformed("a data set that is too long for its service")
            self._data += fragment.data
        if fragment.is_last:
            if self._arrival is not None:
                self._hold()
            else:
                self._answer()

    def _hold(self) -> None:
        """Hold what arrived, and say so."""
        if self._open is None or self._arrival is None:
            raise Malformed("a data set without a command")
        (context, command), arrival, calling = self._open, self._arrival, self._peer.calling
        self._open, self._arrival = None, None
        status, comment = _SUCCESS, ""
        try:
            if self._refused is not None:
                raise self._refused
            held = arrival.finish()
            self._counters.add("held again" if held.again else "held", calling)
            if arrival.ahead_min >= _AHEAD_MIN:
                told = f"an instance was made {arrival.ahead_min} minutes after now; a clock or a time zone is wrong"
                self._tell("clock", detail=told)
        except Refused as refused:
            arrival.abandon()
            status, comment = refused.status, refused.comment
            if status == OUT_OF_RESOURCES:
                self._holding.hindered()
            _LOG.warning("instance from %r refused with %04XH: %s", calling, status, comment)
            self._counters.add("refused", f"{status:04X}", comment)
            self._tell("instance refused", f"{status:04X}", detail=comment)
        self._send(context, response_bytes(command, status, comment=comment), None)

    def _answer(self) -> None:
        """Answer a message that is no C-STORE."""
        if self._open is None:
            raise Malformed("a data set without a command")
        (context, command), data = self._open, bytes(self._data)
        self._open = None
        self._data.clear()
        if command.kind == C_ECHO:
            self._send(context, response_bytes(command, _SUCCESS), None)
            return
        if command.answered:
            return  # an answer to a report of ours on this association; reports are sent on their own
        service = self._services.get(command.kind)
        if service is None:
            self._counters.add("not offered", f"{command.kind:04X}")
            self._tell("message not offered", f"{command.kind:04X}")
            self._send(context, response_bytes(command, _UNRECOGNISED), None)
            return
        began = time.monotonic()
        try:
            answer = service.handle(command, data, self._contexts[context][1], self._peer)
        except Exception as error:  # noqa: BLE001  # the boundary: a failure of ours is answered, never silence
            _LOG.error("%04XH from %r failed by a defect of Isocenter (%s)", command.kind, self._peer.calling,
                       type(error).__name__)  # fmt: skip
            self._counters.add("defects", type(error).__name__)
            self._tell("message failed", f"{command.kind:04X}", detail=type(error).__name__)
            answer = Answer(_PROCESSING_FAILURE, "processing failure")
        _LOG.debug("%04XH from %r took %.3f s", command.kind, self._peer.calling, time.monotonic() - began)
        self._send(
            context,
            response_bytes(command, answer.status, comment=answer.comment, has_data=answer.data is not None),
            answer.data,
        )
        if answer.after is not None:
            answer.after()

    def _tell(self, kind: str, reason: str = "", *, detail: str = "") -> None:
        """Say what happened on this association."""
        peer, title = self._peer, self._entity.title
        called = "" if peer.called == title else peer.called
        self._counters.tell(Note(kind, title, reason, peer.calling, called, self._host, detail))

    def _send(self, context: int, command: bytes, data: bytes | None) -> None:
        self._line.send(data_pdus(context, command, data, self._most))

    def _abort(self) -> None:
        try:
            self._line.send(abort_pdu(2, 0))
        except PeerGone:
            _LOG.info("%s was gone before the abort", self._host)
