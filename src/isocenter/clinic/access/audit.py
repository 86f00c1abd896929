"""Who did what, to which study, from where, and how it came out: events of access, each on the disk before its answer.

What an event holds is chosen so that no patient's value can stand in it: names of accounts, words of ours, an address,
and a study as a digest of its UID.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol, runtime_checkable

from isocenter.clinic.access.rules import Act
from isocenter.core.errors import IsocenterError, OutputError

__all__ = ["Event", "Kind", "NoRecord", "Outcome", "Sink", "Trail", "study_digest"]

Kind = Literal[
    "start", "stop", "login", "logout", "access", "user-added", "user-role", "user-revoked", "user-password",
    "token-added", "token-revoked", "record-read", "revoked-while-open",
]  # fmt: skip
Outcome = Literal[0, 4, 8, 12]
"""Success, minor failure (refused), serious failure (a defect), major failure: DICOM PS3.15 A.5.1."""
_MOST_AT_ONCE: Final = 256
_MOST_WAITING: Final = 4096
_END_S: Final = 10.0


def study_digest(study: str) -> str:
    """Return what stands in the record for a study: sha256 of its UID; "" for none.

    Example:
        >>> study_digest("1.2.3")[:8]
        'c47f5b18'
    """
    return hashlib.sha256(study.encode("utf-8", "surrogatepass")).hexdigest() if study else ""


@dataclass(frozen=True)
class Event:
    """One event.

    Args:
        kind: What kind of event.
        act: Create, read, update, delete, execute.
        outcome: How it came out.
        who: Account or token; "" for nobody who is known.
        role: What they are.
        address: Where it came from; "" for this machine.
        what: Route, as the table has it ("GET /dicomweb/studies/{study}"), or the account or token that was changed.
        study: `study_digest` of the study; "" for none or several.
        status: HTTP status; 0 where there is none.
        why: A word or two of ours.
    """

    kind: Kind
    act: Act
    outcome: Outcome
    who: str = ""
    role: str = ""
    address: str = ""
    what: str = ""
    study: str = ""
    status: int = 0
    why: str = ""

    def plain(self) -> dict[str, Any]:
        """Return the fields that say something."""
        return {k: v for k, v in asdict(self).items() if v != ""}


@runtime_checkable
class Sink(Protocol):
    """Where events are kept."""

    def append(self, events: Sequence[Event]) -> None:
        """Keep events; they are on the disk when this returns.

        Raises:
            OutputError: They can't be written.
            DataError: What is there was altered.
        """
        ...


class NoRecord:
    """A `Sink` that keeps nothing, where the configuration says so."""

    def append(self, events: Sequence[Event]) -> None:
        """Keep nothing."""


class Trail:
    """Writes events in a thread of its own: those that come while it writes are written together, by one flush.

    Args:
        sink: Where to.

    Attributes:
        broken: Whether the last events could not be written.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.broken = False
        self._waiting: queue.Queue[tuple[Event, Future[None]] | None] = queue.Queue(_MOST_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def tell(self, event: Event) -> Future[None]:
        """Write an event down; what is returned is done once it is on the disk.

        Raises:
            OutputError: So many wait that the record does not keep up.
        """
        told: Future[None] = Future()
        told.set_running_or_notify_cancel()  # whoever asked may hang up; what was done is written all the same
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="access-record", daemon=True)
                self._thread.start()
            try:
                self._waiting.put_nowait((event, told))
            except queue.Full:
                raise OutputError("the record of access does not keep up with what happens") from None
        return told

    def close(self) -> None:
        """Write what waits, and end."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._waiting.put(None)
            thread.join(_END_S)

    def _write(self) -> None:
        while True:
            batch = [self._waiting.get()]
            while len(batch) < _MOST_AT_ONCE and batch[-1] is not None:
                try:
                    batch.append(self._waiting.get_nowait())
                except queue.Empty:
                    break
            told = [one for one in batch if one is not None]
            if told:
                self._keep(told)
            if batch[-1] is None:
                return

    def _keep(self, told: list[tuple[Event, Future[None]]]) -> None:
        try:
            self.sink.append([event for event, _ in told])
            self.broken = False
        except (IsocenterError, OSError) as error:
            self.broken = True
            for _, future in told:
                future.set_exception(OutputError(f"the record of access can't be written ({type(error).__name__})"))
        else:
            for _, future in told:
                future.set_result(None)
