"""What processes noted, taken into the ledger: a counter for each kind, and an event for what somebody should see."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from sqlalchemy import delete, select

from isocenter.clinic.dimse.journal import read_lines
from isocenter.clinic.dimse.notes import NOTES
from isocenter.clinic.workflow.ledger import Ledger
from isocenter.clinic.workflow.tables import CURSORS, EVENTS
from isocenter.clinic.workflow.tally import add_counts

__all__ = ["forget_events", "take_in_notes"]

_MOST_LINES: Final = 2000
_UNSEEN: Final = ("association",)
"""Kinds that are counted, and are no event."""
_BY_ENTITY: Final = {
    "association": ("entity",),
    "association refused": ("entity", "reason"),
    "association broken": ("entity", "reason"),
    "instance refused": ("entity", "reason"),
    "process ended": ("entity",),
}
"""Labels of their counters; others have the kind alone. All of them are of few: never who calls."""


def take_in_notes(ledger: Ledger, store: Path) -> int:
    """Take in what processes noted since the last time; return how many lines.

    Args:
        ledger: Where to.
        store: The node's folder.
    """
    taken = 0
    files = sorted((store / NOTES).glob("*.jsonl"))
    newest = {_process(file): file for file in files}
    for file in files:
        name = f"{NOTES}/{file.name}"
        with ledger.engine.connect() as connection:
            begin = connection.scalar(select(CURSORS.c.position).where(CURSORS.c.journal == name)) or 0
        size = file.stat().st_size
        if size <= begin:
            if newest[_process(file)] != file or not _lives(_process(file)):
                _forget(ledger, file, name)
            continue
        read = list(islice(read_lines(file, begin), _MOST_LINES))
        if not read:
            continue
        with ledger.engine.begin() as connection:
            counts: Counter[tuple[str, ...]] = Counter()
            for _, line in read:
                counts[_counter(line)] += int(line.get("count", 1))
                if line["kind"] not in _UNSEEN:
                    connection.execute(EVENTS.insert().values(_event(line)))
            add_counts(connection, ledger.insert, counts)
            ledger.put(connection, CURSORS, {"journal": name, "position": read[-1][0]}, "journal")
        taken += len(read)
    return taken


def forget_events(ledger: Ledger, before: float) -> int:
    """Remove events that are older; return how many.

    Args:
        ledger: Of a node.
        before: Seconds of the epoch.
    """
    with ledger.engine.begin() as connection:
        return connection.execute(delete(EVENTS).where(EVENTS.c.at < before)).rowcount


def _counter(line: Mapping[str, Any]) -> tuple[str, ...]:
    kind = str(line["kind"])
    return ("noted", kind, *(str(line.get(label, "")) for label in _BY_ENTITY.get(kind, ())))


def _event(line: Mapping[str, Any]) -> dict[str, Any]:
    who = str(line.get("calling", ""))
    words = [f"{who} called" if who else "", str(line.get("called", "") or line.get("entity", ""))]
    if line.get("host"):
        words.append(f"from {line['host']}")
    told = " ".join(filter(None, words))
    why = "; ".join(filter(None, (str(line.get("reason", "")), str(line.get("detail", "")))))
    count = int(line.get("count", 1))
    detail = ": ".join(filter(None, (told, why))) + (f" ({count} times)" if count > 1 else "")
    at = datetime.fromisoformat(line["at"]).timestamp()
    return {"at": at, "kind": str(line["kind"])[:32], "study": "", "detail": detail}


def _process(file: Path) -> int:
    tail = file.stem.rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return process > 0


def _forget(ledger: Ledger, file: Path, name: str) -> None:
    """Remove a file that nothing is added to any more."""
    with suppress(OSError):
        file.unlink()
        with ledger.engine.begin() as connection:
            connection.execute(delete(CURSORS).where(CURSORS.c.journal == name))
