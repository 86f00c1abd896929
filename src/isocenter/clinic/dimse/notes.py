"""What processes that must not wait have to tell: refusals, aborts, lost connections, and that they are alive.

    notes/TIME-PID.jsonl    one line a kind of happening, with how often
    notes/PID.pulse         that the process turns, and how many associations it has

A thread writes; whoever tells only adds to a table in memory. The workflow takes the lines into the ledger, once each
(`workflow.noted`). The first of a kind is written at once, what repeats every ten seconds; only so many different ones
are told a minute, so that somebody who calls under a thousand names fills no disk. A process that is killed loses what
it had not written: the repeats of ten seconds at most, never an instance.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from isocenter.clinic.dimse.journal import Journal
from isocenter.core.errors import OutputError

__all__ = ["NOTES", "Note", "Notes", "Pulse", "read_pulse"]

_LOG = logging.getLogger(__name__)
NOTES: Final = "notes"
"""Folder in a node's store."""
_LOOK_S = 0.25
_AGAIN_S = 10.0
_PULSE_S = 1.0
_MINUTE_S = 60.0
_DIFFERENT = 100
_LONGEST_FILE = 4 << 20
_LONGEST_TEXT = 160
_MORE = "further ones, which are counted but not listed"


@dataclass(frozen=True)
class Note:
    """Something that happened.

    Args:
        kind: One of few: it names a counter and an event.
        entity: Title of ours.
        reason: One of few.
        calling: Who called, as they say.
        called: Whom they called, where that is not `entity`.
        host: Where they called from.
        detail: More of it; never a patient's value.
    """

    kind: str
    entity: str = ""
    reason: str = ""
    calling: str = ""
    called: str = ""
    host: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Pulse:
    """That a process was alive at a time (seconds of the epoch), and its open associations by title of ours."""

    at: float
    associations: Mapping[str, int]


class Notes:
    """What a process tells.

    Args:
        folder: The node's store.
        clock: Returns a time that never goes back, in seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder / NOTES, clock
        self._lock = threading.Lock()
        self._waiting: dict[Note, int] = {}
        self._told: dict[Note, float] = {}
        self._new = 0
        self._minute = clock()
        self._journal: Journal | None = None
        self._turned = time.time()
        self._open: dict[str, int] = {}
        self._pulse: tuple[float, dict[str, int]] = (0.0, {})
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def tell(self, note: Note, count: int = 1) -> None:
        """Say that something happened; returns at once."""
        note = replace(note, **{k: _plain(v) for k, v in asdict(note).items()})
        with self._lock:
            if note not in self._told and note not in self._waiting:
                if self._new >= _DIFFERENT:
                    note = Note(note.kind, note.entity, note.reason, detail=_MORE)
                else:
                    self._new += 1
            self._waiting[note] = self._waiting.get(note, 0) + count

    def turned(self, associations: Mapping[str, int]) -> None:
        """Say that the process turns, and what it has open."""
        self._turned, self._open = time.time(), dict(associations)

    def start(self) -> None:
        """Begin to write, in a thread."""
        self._thread = threading.Thread(target=self._write, name="notes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what is left."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        self.flush(all_of_it=True)
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        with suppress(OSError):
            (self._folder / f"{os.getpid()}.pulse").unlink(missing_ok=True)

    def flush(self, *, all_of_it: bool = False) -> int:
        """Write what is due; return how many lines. What a full disk does not take stays for the next time."""
        now = self._clock()
        with self._lock:
            if now - self._minute >= _MINUTE_S:
                self._minute, self._new = now, 0
                self._told = {note: at for note, at in self._told.items() if now - at < _MINUTE_S}
            due = {
                note: count
                for note, count in self._waiting.items()
                if all_of_it or now - self._told.get(note, -_AGAIN_S) >= _AGAIN_S
            }
            for note in due:
                del self._waiting[note]
                self._told[note] = now
        written = 0
        for note, count in due.items():
            try:
                self._append(note, count)
                written += 1
            except (OutputError, OSError):
                with self._lock:
                    self._waiting[note] = self._waiting.get(note, 0) + count
        return written

    def _write(self) -> None:
        while not self._ended.wait(_LOOK_S):
            self.flush()
            self._beat()

    def _append(self, note: Note, count: int) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        journal = self._journal
        if journal is not None and journal.file.stat().st_size > _LONGEST_FILE:
            journal.close()
            journal = None
        if journal is None:
            journal = self._journal = Journal(self._folder / f"{time.time_ns():020d}-{os.getpid()}.jsonl")
        line = {key: value for key, value in asdict(note).items() if value}
        journal.append({**line, "count": count, "at": datetime.now(UTC).isoformat(timespec="milliseconds")})

    def _beat(self) -> None:
        """Say that the process turns: only where it did since the last time."""
        at, told = self._pulse
        turned, associations = self._turned, self._open
        if turned - at < _PULSE_S and associations == told:
            return
        file = self._folder / f"{os.getpid()}.pulse"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = file.with_suffix(".pulse.tmp")
            temporary.write_text(json.dumps({"at": turned, "open": associations}))
            temporary.chmod(0o600)
            temporary.replace(file)
        except OSError:
            with suppress(OSError):
                os.utime(file)  # a full disk allows it
        self._pulse = (turned, associations)


def read_pulse(store: Path, process: int) -> Pulse | None:
    """Return the last sign of a process; None where there is none.

    Args:
        store: The node's folder.
        process: Its number.
    """
    file = store / NOTES / f"{process}.pulse"
    try:
        told: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return Pulse(max(float(told["at"]), file.stat().st_mtime), {str(k): int(v) for k, v in told["open"].items()})
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _plain(text: str) -> str:
    """Return a text from outside without what may not be printed, and not too long."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST_TEXT]
