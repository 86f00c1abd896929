"""The node: one process that starts the others, watches them, and ends them in order.

    acceptors    receive and hold
    parts        what else runs: the workflow, the web server; each a process of its own

A part that dies is started again, after a growing wait where it dies often. Whatever kills the node itself takes its
children along (`children`), and the next start puts the store in order before anything is received.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final

from isocenter.clinic.children import StoreLock, follow_parent
from isocenter.clinic.dimse import Acceptors, Reception
from isocenter.clinic.dimse.holding import HINDERED
from isocenter.clinic.dimse.notes import Note, Notes
from isocenter.core.errors import ConfigError, OutputError, TransportError
from isocenter.data.images.atomic import atomic_path

__all__ = ["STATE_FILE", "Node", "Part", "receiving_since"]

_LOG = logging.getLogger(__name__)
_LONGEST_WAIT_S = 30.0
_SOUND_S = 60.0
_PORT_S = 3.0
STATE_FILE: Final = "node.json"
"""Where a node says which processes it has, where they listen, and since when all of its acceptors receive."""
Stopped = Callable[[], bool]


@dataclass(frozen=True)
class Part:
    """Something that runs in a process of its own.

    Args:
        name: For the log.
        run: Called in that process, with what tells when to stop; must be picklable, so a function of a module or a
            `functools.partial` of one.
    """

    name: str
    run: Callable[[Stopped], None]


class Node:
    """A node at work; a context.

    Args:
        reception: What is received.
        parts: What else runs.
        acceptors: Processes that receive.

    Attributes:
        ports: By title.

    Raises:
        ConfigError: Another node works on the store.
        TransportError: A port can't be opened.
        OutputError: The store can't be written.
    """

    def __init__(self, reception: Reception, parts: tuple[Part, ...], acceptors: int = 2) -> None:
        if len({part.name for part in parts}) < len(parts):
            raise ConfigError("two parts of a node have one name")
        self._folder = reception.folder
        self._lock = StoreLock(self._folder)
        self._lock.alone()
        self._acceptors = _open(reception, acceptors)
        self._lock.shared()
        self._since = time.time()
        self._notes = Notes(self._folder)
        self._notes.tell(Note("node started", detail=f"process {os.getpid()}"))
        self.ports, self.recovered = self._acceptors.ports, self._acceptors.recovered
        self._context = multiprocessing.get_context("spawn")
        self._stop: Event = self._context.Event()
        self._running: list[_Running] = []
        self._tell()  # before the parts start: they read it
        self._running = [_Running(part, self._start(part)) for part in parts]
        self._tell()

    def _start(self, part: Part) -> BaseProcess:
        process = self._context.Process(
            target=_run, args=(part, self._folder, self._stop), name=f"isocenter-{part.name}"
        )
        process.start()
        return process

    def watch(self) -> int:
        """Start again what died; return how much. To be called now and then."""
        started = self._acceptors.watch()
        if started:
            self._since = time.time()
            self._notes.tell(Note("process ended", "acceptor", detail="started again"), started)
        for running in self._running:
            if running.process.is_alive() or not running.is_time():
                continue
            _LOG.error("%s ended with %s; started again", running.part.name, running.process.exitcode)
            told = f"with {running.process.exitcode}; started again"
            self._notes.tell(Note("process ended", running.part.name, detail=told))
            running.process = self._start(running.part)
            running.began = time.monotonic()
            started += 1
        if started:
            self._tell()
        self._notes.flush()
        return started

    def serve(self, stopped: Stopped, look_s: float = 0.2) -> None:
        """Watch until told to stop."""
        while not stopped():
            self.watch()
            time.sleep(look_s)

    def close(self, patience_s: float = 20.0) -> None:
        """Receive no more, let the parts come to a good place, end."""
        self._acceptors.close()
        self._stop.set()
        until = time.monotonic() + patience_s
        for running in self._running:
            running.process.join(max(0.1, until - time.monotonic()))
            if running.process.is_alive():
                _LOG.error("%s does not end by itself; it is ended", running.part.name)
                running.process.kill()
                running.process.join()
        (self._folder / STATE_FILE).unlink(missing_ok=True)
        self._notes.tell(Note("node stopped"))
        self._notes.close()
        self._lock.release()

    @property
    def pids(self) -> dict[str, list[int]]:
        """Numbers of the processes, by what they do."""
        parts = {r.part.name: [r.process.pid or 0] for r in self._running}
        return {"node": [os.getpid()], "acceptors": list(self._acceptors.pids), **parts}

    def _tell(self) -> None:
        """Write down where the node is, for whoever asks for its state."""
        try:
            with atomic_path(self._folder / STATE_FILE) as temporary:
                told = {"pids": self.pids, "ports": self.ports, "receiving_since": self._since}
                temporary.write_text(json.dumps(told))
        except (OSError, OutputError) as error:
            _LOG.warning("the node's state can't be written: %s", error)  # a full disk stops no node
            (self._folder / STATE_FILE).unlink(missing_ok=True)  # and what is there is not true any more

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def receiving_since(store: Path, otherwise: float) -> float:
    """Return since when no sender was turned away from a store's node, in seconds of the epoch.

    Args:
        store: Its folder.
        otherwise: What to return where nothing says.
    """
    told = []
    with suppress(OSError, ValueError, KeyError):
        told.append(float(json.loads((store / STATE_FILE).read_text("utf-8"))["receiving_since"]))
    with suppress(OSError):
        told.append((store / HINDERED).stat().st_mtime)
    return max(told) if len(told) == 2 else max([otherwise, *told])


class _Running:
    """A part, and how often it died lately."""

    def __init__(self, part: Part, process: BaseProcess) -> None:
        self.part, self.process = part, process
        self.began = time.monotonic()
        self._deaths = 0
        self._not_before: float | None = None

    def is_time(self) -> bool:
        """Tell whether a part that died is to be started again now."""
        now = time.monotonic()
        if self._not_before is None:
            self._deaths = 0 if now - self.began > _SOUND_S else self._deaths + 1
            self._not_before = now + (0.0 if self._deaths < 3 else min(_LONGEST_WAIT_S, 2.0 ** (self._deaths - 3)))
        if now < self._not_before:
            return False
        self._not_before = None
        return True


def _open(reception: Reception, processes: int) -> Acceptors:
    """Open the ports. What a killed node had just begun to start may hold one for a moment longer."""
    until = time.monotonic() + _PORT_S
    while True:
        try:
            return Acceptors(reception, processes)
        except TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _run(part: Part, folder: Path, stop: Event) -> None:
    """What the process of a part does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    follow_parent()
    StoreLock(folder).shared()
    code: object = 0
    try:
        part.run(stop.is_set)
    except SystemExit as ended:  # it told why
        code = ended.code
    except Exception:  # noqa: BLE001  # the boundary: by whatever it was the process ends, and is started again
        _LOG.exception("%s ends by an error", part.name)
        code = 1
    if code:
        # At once: threads that try again and again (while the database is away, say) would keep the process for as long
        # as they wait, and nothing is started again that has not ended.
        logging.shutdown()
        os._exit(code if isinstance(code, int) else 1)
