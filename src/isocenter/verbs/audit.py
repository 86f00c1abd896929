"""The audit record: lines that `read` writes, and what a person changed; checking and showing them.

A line says who (a pseudonym that depends on this installation's key), which verb, hashes of what went in, of the
weights and of what came out. It holds no patient's value and no name of a file (`safety.audit`).
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from isocenter.core import Mask
from isocenter.core.errors import GeometryError
from isocenter.core.fingerprint import fingerprint
from isocenter.data.images.pseudonym import pseudonym, pseudonym_key
from isocenter.safety.audit import (
    AuditedAnswer,
    AuditedChange,
    AuditEvent,
    append_event,
    check_record,
    read_lines,
    verify,
)
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.result import PredictionEntry, ResultDocument
from isocenter.version import __version__

__all__ = [
    "AUDIT_VARIABLE",
    "AuditLine",
    "AuditShown",
    "AuditVerified",
    "audit_change",
    "audit_place",
    "audit_show",
    "audit_verify",
    "record_failure",
    "record_read",
]

AUDIT_VARIABLE = "ISOCENTER_AUDIT"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AuditVerified(_Entry):
    """A record that is whole.

    Attributes:
        lines: How many.
        head: Hash of the last one. Note it elsewhere, and give it to the next check.
    """

    lines: int
    head: str


class AuditLine(_Entry):
    """One line of a record.

    Attributes:
        line: Its number.
        time: When it was written, UTC.
        hash: Its own.
        said: What it says (`safety.audit.AuditEvent`).
    """

    line: int
    time: str
    hash: str
    said: dict[str, Any]


class AuditShown(_Entry):
    """A record's lines."""

    lines: tuple[AuditLine, ...]


def audit_verify(path: Path | str, *, head: str | None = None) -> AuditVerified:
    """Check a record from its first line to its last.

    Args:
        path: The record.
        head: Hash of a line that was noted elsewhere; the record must still hold it.

    Raises:
        DataError: A line was altered, removed, added or moved, with its number; or the head is not in it.
    """
    chain = verify(Path(path), head=head)
    return AuditVerified(lines=chain.lines, head=chain.head)


def audit_show(path: Path | str, *, last: int | None = None) -> AuditShown:
    """Return the lines of a record, checked on the way.

    Args:
        path: The record.
        last: How many of the last lines; None for all.

    Raises:
        DataError: As `audit_verify`.
    """
    found = [
        AuditLine(line=number, time=time, hash=own, said=_said(event))
        for number, time, own, event in read_lines(Path(path))
    ]
    return AuditShown(lines=tuple(found if last is None else found[max(0, len(found) - last) :]))


def _said(event: AuditEvent) -> dict[str, Any]:
    return {
        **{k: v for k, v in vars(event).items() if k not in ("answers", "changes") and v not in ("", (), 0.0)},
        **({"answers": [vars(a) for a in event.answers]} if event.answers else {}),
        **({"changes": [vars(c) for c in event.changes]} if event.changes else {}),
    }


def audit_place(given: Path | None) -> Path | None:
    """Return where lines go: what was given, else what the environment's ISOCENTER_AUDIT names, else nowhere.

    The record is checked at once: work whose line could not be written is not begun.

    Raises:
        DataError: Its last line is cut off or altered.
        OutputError: The operating system refused.
    """
    named = os.environ.get(AUDIT_VARIABLE, "")
    place = given if given is not None else (Path(named) if named else None)
    if place is not None:
        check_record(place)
    return place


def record_read(place: Path, result: ResultDocument, folder: Path) -> None:
    """Write the line of a study that was read.

    Args:
        place: The record.
        result: The document.
        folder: Where it was written.

    Raises:
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    answers = tuple(_answer(p, result.images[p.image].sha256) for p in result.predictions)
    event = AuditEvent(
        verb="read",
        who=_who(),
        outcome="answered" if result.answered else "abstained",
        inputs=tuple(sorted({file.sha256 for file in result.provenance.input_files})),
        answers=answers,
        outputs=(file_sha256(folder / "result.json"), *(file.sha256 for file in result.files)),
        isocenter=__version__,
        seconds=result.provenance.seconds.get("total", 0.0),
    )
    append_event(place, event)


def record_failure(place: Path, verb: str) -> None:
    """Write the line of a verb that raised.

    Raises:
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    append_event(place, AuditEvent(verb=verb, who=_who(), outcome="failed", isocenter=__version__))


def audit_change(place: Path | str, task: str, image: str, offered: Mask, kept: Mask) -> None:
    """Write what a person changed in a mask before keeping it: voxels by segment, and hashes of both masks.

    Args:
        place: The record.
        task: Name of the task that offered it.
        image: sha256 of the image.
        offered: What the task answered.
        kept: What the person kept, on the same grid.

    Raises:
        GeometryError: The grids differ.
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    if not offered.geometry.same_grid(kept.geometry):
        raise GeometryError("the mask that was kept lies on another grid than the one that was offered")
    before, after = (fingerprint(mask.array, mask.geometry) for mask in (offered, kept))
    voxels: Mapping[int, tuple[np.ndarray, np.ndarray]] = {
        number: (_voxels(offered, number), _voxels(kept, number))
        for number in sorted({s.number for mask in (offered, kept) for s in mask.segments})
    }
    changes = tuple(
        AuditedChange(number, int((b & ~a).sum()), int((a & ~b).sum()), before, after)
        for number, (a, b) in voxels.items()
        if (a != b).any()
    )
    event = AuditEvent(
        verb="review",
        who=_who(),
        outcome="changed" if changes else "accepted",
        answers=(AuditedAnswer(_task(task), image, "answered"),),
        changes=changes,
        isocenter=__version__,
    )
    append_event(Path(place), event)


def _voxels(mask: Mask, number: int) -> np.ndarray:
    if number in {s.number for s in mask.segments}:
        return np.asarray(mask.segment_array(number))
    return np.zeros(mask.geometry.shape, dtype=bool)


def _answer(entry: PredictionEntry, image: str) -> AuditedAnswer:
    return AuditedAnswer(
        task=_task(entry.task),
        image=image,
        outcome="answered" if entry.abstained is None else "abstained",
        weights="" if entry.model is None else entry.model.weights_sha256,
        outputs=tuple(file.sha256 for file in entry.files),
    )


def _task(name: str) -> str:
    """Return the name of a task, or what stands for one that a record does not take."""
    try:
        AuditedAnswer(name, "0" * 64, "answered")
    except ValueError:
        return f"task-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name


def _who() -> str:
    """Return the user's pseudonym; it can't be turned back, or compared between installations, without the key."""
    key, _ = pseudonym_key()
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        name = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return pseudonym(key, "user", name)
