"""The audit record: lines of every verb that runs a task or a model, and what a person changed; checking and showing.

A verb works inside `audited`, which says where its lines go and writes one where it fails, and gives what came out to
`record_run` before its result gets its name.

A line says who (a pseudonym that depends on this installation's key), which verb, hashes of what went in, of the
weights and of what came out. It holds no patient's value and no name of a file (`safety.audit`).
"""

from __future__ import annotations

import getpass
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from isocenter.core import Mask, Prediction
from isocenter.core.errors import GeometryError, IsocenterError
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
    "audited",
    "audited_answer",
    "audited_prediction",
    "record_change",
    "record_failure",
    "record_read",
    "record_run",
]

AUDIT_VARIABLE = "ISOCENTER_AUDIT"
_MOST_ANSWERS = 1000
"""Of one line; a set of more cases takes several."""


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


@contextmanager
def audited(given: Path | None, verb: str) -> Iterator[Path | None]:
    """Yield where the lines of a verb go, None for nowhere; a verb that raises gets a line that says so.

    Args:
        given: The record, as the user named it; see `audit_place`.
        verb: What is run.

    Raises:
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    place = audit_place(given)
    try:
        yield place
    except IsocenterError:
        if place is not None:
            record_failure(place, verb)
        raise


def record_run(
    place: Path | None,
    verb: str,
    answers: Sequence[AuditedAnswer],
    *,
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    seconds: float = 0.0,
    outcome: str = "",
    person: str = "",
) -> None:
    """Write what tasks or models did in one run of a verb; several lines where there are very many answers.

    Args:
        place: The record, from `audited`; None writes nothing.
        verb: What was run.
        answers: What each task did with each image.
        inputs: sha256 of what went in.
        outputs: sha256 of the files that hold the whole.
        seconds: How long it took.
        outcome: Of the whole; "" tells it from the answers.
        person: Who did it, where a server did it for them; told by a pseudonym. "" for the user of this process.

    Raises:
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    if place is None:
        return
    for first in range(0, max(len(answers), 1), _MOST_ANSWERS):
        some = tuple(answers[first : first + _MOST_ANSWERS])
        event = AuditEvent(
            verb=verb,
            who=_who(person),
            outcome=outcome or ("abstained" if some and all(a.outcome == "abstained" for a in some) else "answered"),
            inputs=tuple(inputs),
            answers=some,
            outputs=tuple(outputs),
            isocenter=__version__,
            seconds=seconds,
        )
        append_event(place, event)


def record_read(place: Path | None, result: ResultDocument, folder: Path, verb: str = "read") -> None:
    """Write the line of a study that was read.

    Args:
        place: The record; None writes nothing.
        result: The document.
        folder: Where it was written.
        verb: What was run.

    Raises:
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    if place is None:
        return
    record_run(
        place,
        verb,
        [audited_answer(p, result.images[p.image].sha256) for p in result.predictions],
        inputs=sorted({file.sha256 for file in result.provenance.input_files}),
        outputs=(file_sha256(folder / "result.json"), *(file.sha256 for file in result.files)),
        seconds=result.provenance.seconds.get("total", 0.0),
    )


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
    record_change(Path(place), "review", AuditedAnswer(_task(task), image, "answered"), offered, kept)


def record_change(place: Path | None, verb: str, answer: AuditedAnswer, offered: Mask, kept: Mask) -> None:
    """Write what a person made of an answer, as `audit_change`, for a verb.

    Args:
        place: The record, from `audited`; None writes nothing.
        verb: In which the person did it.
        answer: What was answered; its outputs are what was kept.
        offered: What the task answered.
        kept: What the person kept, on the same grid.

    Raises:
        GeometryError: The grids differ.
        DataError: The record is not whole.
        OutputError: The operating system refused.
    """
    if not offered.geometry.same_grid(kept.geometry):
        raise GeometryError("the mask that was kept lies on another grid than the one that was offered")
    if place is None:
        return
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
        verb=verb,
        who=_who(),
        outcome="changed" if changes else "accepted",
        answers=(answer,),
        changes=changes,
        isocenter=__version__,
    )
    append_event(place, event)


def _voxels(mask: Mask, number: int) -> np.ndarray:
    if number in {s.number for s in mask.segments}:
        return np.asarray(mask.segment_array(number))
    return np.zeros(mask.geometry.shape, dtype=bool)


def audited_answer(entry: PredictionEntry, image: str) -> AuditedAnswer:
    """Return what a record keeps of an answer, or of a task that abstained.

    Args:
        entry: The answer.
        image: sha256 of the image.
    """
    return AuditedAnswer(
        task=_task(entry.task),
        image=image,
        outcome="answered" if entry.abstained is None else "abstained",
        weights="" if entry.model is None else entry.model.weights_sha256,
        outputs=tuple(file.sha256 for file in entry.files),
    )


def audited_prediction(task: str, image: str, prediction: Prediction) -> AuditedAnswer:
    """Return what a record keeps of a prediction that no file was written of.

    Args:
        task: Name of the task.
        image: sha256 of the image.
        prediction: Its answer, or its reason for none.
    """
    return AuditedAnswer(
        task=_task(task),
        image=image,
        outcome="answered" if prediction.abstained is None else "abstained",
        weights="" if prediction.model is None else prediction.model.weights_sha256,
    )


def _task(name: str) -> str:
    """Return the name of a task, or what stands for one that a record does not take."""
    try:
        AuditedAnswer(name, "0" * 64, "answered")
    except ValueError:
        return f"task-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name


def _who(person: str = "") -> str:
    """Return the user's pseudonym; it can't be turned back, or compared between installations, without the key."""
    key, _ = pseudonym_key()
    if person:
        return pseudonym(key, "person", person)
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container whose user has no name
        name = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return pseudonym(key, "user", name)
