"""Acceptors: processes that share the ports of our application entities, a thread an association.

Python runs one thread of a process at a time, so receiving scales with processes. They share each listening socket; one
that has fewer associations is quicker to take the next.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import select
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

from isocenter.clinic.children import StoreLock, follow_parent
from isocenter.clinic.dimse.association import Association, Counters, Service
from isocenter.clinic.dimse.entities import LocalEntity
from isocenter.clinic.dimse.holding import Holding, Limits, recover
from isocenter.clinic.dimse.notes import Note, Notes
from isocenter.clinic.dimse.upper_layer import Line
from isocenter.core.errors import TransportError

__all__ = ["Acceptors", "Reception", "listen", "serve"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.2
_BACKLOG = 128
_MOST_WAITING = 4
_TOO_MANY = (2, 3, 2)  # transient, of the presentation service: local limit exceeded
Services = Callable[[], Mapping[int, Service]]


@dataclass(frozen=True)
class Reception:
    """What acceptors serve.

    Args:
        entities: Ours.
        folder: Where instances are held.
        implementation: Our implementation class UID and version name.
        limits: When to refuse.
        services: Makes, in each process, what handles other messages; None for none.
        prepare: Called first in each process, to set up its log say; None for nothing.
    """

    entities: tuple[LocalEntity, ...]
    folder: Path
    implementation: tuple[str, str]
    limits: Limits = field(default_factory=Limits)
    services: Services | None = None
    prepare: Callable[[], None] | None = None


def listen(entity: LocalEntity) -> socket.socket:
    """Open the port of an entity.

    Raises:
        TransportError: It is taken, or may not be opened.
    """
    family = socket.AF_INET6 if ":" in entity.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((entity.host, entity.port))
        made.listen(_BACKLOG)
        made.setblocking(False)
    except OSError as error:
        made.close()
        raise TransportError(
            f"{entity.title} can't listen on port {entity.port}: {error.strerror}; is it taken, or does it need rights?"
        ) from error
    return made


class Acceptors:
    """Processes that accept associations; a context.

    Args:
        reception: What they serve.
        processes: How many.

    Attributes:
        ports: By title.
        recovered: What an earlier run had left.

    Raises:
        TransportError: A port can't be opened.
        OutputError: The folder can't be written.
    """

    def __init__(self, reception: Reception, processes: int = 2) -> None:
        self.recovered = recover(reception.folder)
        self._reception = reception
        self._sockets = []
        try:
            for entity in reception.entities:
                self._sockets.append(listen(entity))
        except TransportError:
            self._close()
            raise
        self.ports = {
            entity.title: int(made.getsockname()[1])
            for entity, made in zip(reception.entities, self._sockets, strict=True)
        }
        self._context = multiprocessing.get_context("spawn")
        self._stop: Event = self._context.Event()
        self._processes: list[BaseProcess] = [self._start() for _ in range(processes)]

    def _start(self) -> BaseProcess:
        process = self._context.Process(
            target=_run, args=(self._reception, self._sockets, self._stop), name="isocenter-acceptor", daemon=True
        )
        process.start()
        return process

    def watch(self) -> int:
        """Start processes again that ended by themselves; return how many. To be called now and then."""
        ended = [number for number, process in enumerate(self._processes) if not process.is_alive()]
        for number in ended:
            _LOG.error("an acceptor ended with %s; started again", self._processes[number].exitcode)
            self._processes[number] = self._start()
        return len(ended)

    @property
    def pids(self) -> tuple[int, ...]:
        """Numbers of the processes."""
        return tuple(process.pid for process in self._processes if process.pid is not None)

    def close(self, patience_s: float = 10.0) -> None:
        """Take no new associations, let open ones end, then end."""
        self._stop.set()
        until = time.monotonic() + patience_s
        for process in self._processes:
            process.join(max(0.1, until - time.monotonic()))
            if process.is_alive():
                process.terminate()
                process.join()
        self._close()

    def _close(self) -> None:
        for made in self._sockets:
            made.close()

    def __enter__(self) -> Acceptors:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _run(reception: Reception, sockets: Sequence[socket.socket], stop: Event) -> None:
    """What one process does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    follow_parent()
    StoreLock(reception.folder).shared()
    if reception.prepare is not None:
        reception.prepare()
    serve(reception, sockets, stop.is_set)


def serve(
    reception: Reception,
    sockets: Sequence[socket.socket],
    stopped: Callable[[], bool],
    counters: Counters | None = None,
    patience_s: float = 8.0,
) -> None:
    """Accept associations until told to stop; then wait for the open ones.

    Args:
        reception: What is served.
        sockets: One that listens for each entity.
        stopped: Whether to stop.
        counters: What happened.
        patience_s: Seconds that open associations are waited for.
    """
    holding = Holding(reception.folder, reception.implementation, reception.limits)
    services = reception.services() if reception.services is not None else {}
    notes = Notes(reception.folder)
    counters = counters or Counters()
    counters.notes = notes
    desk = _Desk(reception.entities, holding, services, counters)
    poller = select.poll()
    by_number = {made.fileno(): (made, entity) for made, entity in zip(sockets, reception.entities, strict=True)}
    for number in by_number:
        poller.register(number, select.POLLIN)
    holding.hindered()  # before now there may have been nobody
    notes.start()
    while not stopped():
        notes.turned(desk.open)
        for number, _ in poller.poll(_LOOK_S * 1000):
            # Who is busy waits a moment, so that a process with fewer associations takes this one.
            time.sleep(0.002 * min(desk.active, 10))
            made, entity = by_number[number]
            try:
                connection, address = made.accept()
            except BlockingIOError:
                continue
            except OSError as error:
                # No file is left, or the caller has gone: neither is a reason to end.
                _LOG.error("a connection to %s can't be taken: %s", entity.title, error.strerror)
                time.sleep(_LOOK_S)
                continue
            desk.take(connection, str(address[0]), entity)
    until = time.monotonic() + patience_s
    while desk.active and time.monotonic() < until:
        time.sleep(0.02)
    notes.close()


class _Desk:
    """Associations of one process."""

    def __init__(
        self, entities: Sequence[LocalEntity], holding: Holding, services: Mapping[int, Service], counters: Counters
    ) -> None:
        self._holding, self._services, self._counters = holding, services, counters
        self._tls = {e.title: None if e.tls is None else e.tls.context() for e in entities}
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}

    @property
    def open(self) -> dict[str, int]:
        with self._lock:
            return dict(self._open)

    @property
    def active(self) -> int:
        return sum(self._open.values())

    def take(self, connection: socket.socket, host: str, entity: LocalEntity) -> None:
        with self._lock:
            before = self._open.get(entity.title, 0)
            if before >= _MOST_WAITING * max(1, entity.associations):
                # Each that is told why not takes a thread until it has asked; of a flood most are only let go.
                self._counters.add("rejected", "far too many associations")
                connection.close()
                return
            self._open[entity.title] = before + 1
        thread = threading.Thread(
            target=self._serve, args=(connection, host, entity, before >= entity.associations), daemon=True
        )
        thread.start()

    def _serve(self, connection: socket.socket, host: str, entity: LocalEntity, full: bool) -> None:
        try:
            connection.settimeout(entity.silence_s)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            tls = self._tls[entity.title]
            if tls is not None:
                connection = tls.wrap_socket(connection, server_side=True)
            association = Association(
                Line(connection, entity.max_length), host, entity, self._holding, self._services, self._counters
            )
            if full:
                self._counters.add("rejected", "too many associations")
                self._refused(entity, host, "too many associations")
                association.reject(*_TOO_MANY)
            else:
                association.serve()
        except ssl.SSLEOFError:
            self._counters.add("looked at")  # who only looks whether the port is open has not called
        except ssl.SSLError as error:
            _LOG.warning("TLS with %s failed: %s", host, error.reason)
            self._counters.add("rejected", "TLS")
            self._refused(entity, host, "TLS failed", str(error.reason))
        except OSError as error:
            _LOG.warning("a connection from %s was cut: %s", host, error.strerror)
        finally:
            with contextlib.suppress(OSError):
                connection.close()
            with self._lock:
                self._open[entity.title] -= 1

    def _refused(self, entity: LocalEntity, host: str, reason: str, detail: str = "") -> None:
        self._counters.tell(Note("association refused", entity.title, reason, host=host, detail=detail))
