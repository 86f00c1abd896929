"""Who ran what on what, what came out, and what a person changed: a chain of lines that can't be altered unseen.

No patient's value can stand in it: every field is known beforehand, and holds a hash, a number, a time or a short name
of a task; anything else is refused.

How lines are kept, and what finds out that one was altered, is `chain`'s affair.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from isocenter.core.errors import DataError
from isocenter.safety.chain import START, Chain, append_lines, checked, last_line, read_chain

__all__ = [
    "START",
    "AuditEvent",
    "AuditedAnswer",
    "AuditedChange",
    "Chain",
    "append_event",
    "check_record",
    "read_lines",
    "verify",
]

_FORMAT = "isocenter-audit/1"
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_WHO = re.compile(r"[0-9a-f]{32}")
_OUTCOMES = ("answered", "abstained", "failed", "changed", "accepted", "rejected")


def _refuse(what: str, wanted: str) -> DataError:
    # The value is not shown: what does not fit here may be a patient's.
    return DataError(f"the audit record takes {wanted} as {what}, and nothing else; no line was written")


@dataclass(frozen=True)
class AuditedAnswer:
    """What one task did with one image.

    Args:
        task: Name of the task.
        image: sha256 of the image.
        outcome: "answered", "abstained" or "failed".
        weights: sha256 of the weights, "" for none.
        outputs: sha256 of the files that were written for it.

    Raises:
        DataError: A field holds anything else.
    """

    task: str
    image: str
    outcome: str
    weights: str = ""
    outputs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.task):
            raise _refuse("a task", "a name in small letters, digits, dots and dashes")
        if self.outcome not in _OUTCOMES:
            raise _refuse("an outcome", f"one of {', '.join(_OUTCOMES)}")
        for value in (self.image, *self.outputs, *([self.weights] if self.weights else [])):
            if not _HASH.fullmatch(value):
                raise _refuse("an image, weights or output", "a sha256")


@dataclass(frozen=True)
class AuditedChange:
    """What a person changed in one segment of an answer.

    Args:
        segment: Its number.
        added: Voxels that the person added.
        removed: Voxels that the person removed.
        before: sha256 of the mask that was offered.
        after: sha256 of the mask that was kept.

    Raises:
        DataError: A field holds anything else.
    """

    segment: int
    added: int
    removed: int
    before: str
    after: str

    def __post_init__(self) -> None:
        if any(type(n) is not int or n < 0 for n in (self.segment, self.added, self.removed)):
            raise _refuse("a change", "numbers of voxels")
        if not (_HASH.fullmatch(self.before) and _HASH.fullmatch(self.after)):
            raise _refuse("a mask", "a sha256")


@dataclass(frozen=True)
class AuditEvent:
    """What one line says.

    Args:
        verb: What was run, e.g. "read".
        who: Pseudonym of the user: 32 hexadecimal digits that depend on a key of this installation.
        outcome: Of the whole.
        inputs: sha256 of the input files.
        answers: What each task did.
        changes: What a person changed.
        outputs: sha256 of the files that hold the whole (`result.json`).
        isocenter: Version of the package.
        seconds: How long it took.

    Raises:
        DataError: A field holds anything else.
    """

    verb: str
    who: str
    outcome: str
    inputs: tuple[str, ...] = ()
    answers: tuple[AuditedAnswer, ...] = ()
    changes: tuple[AuditedChange, ...] = ()
    outputs: tuple[str, ...] = ()
    isocenter: str = ""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.verb) or (self.isocenter and not _NAME.fullmatch(self.isocenter)):
            raise _refuse("a verb or a version", "a name in small letters, digits, dots and dashes")
        if not _WHO.fullmatch(self.who):
            raise _refuse("a user", "a pseudonym of 32 hexadecimal digits")
        if self.outcome not in _OUTCOMES:
            raise _refuse("an outcome", f"one of {', '.join(_OUTCOMES)}")
        if any(not _HASH.fullmatch(value) for value in (*self.inputs, *self.outputs)):
            raise _refuse("an input or output", "a sha256")
        if not 0 <= self.seconds < 1e9:
            raise _refuse("seconds", "a number")

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> AuditEvent:
        """Make an event of plain values, as a line or another program holds them.

        Raises:
            DataError: A key is unknown or missing, or a value is not what the key takes.
        """
        answers = tuple(_made(AuditedAnswer, v) for v in _listed(values, "answers"))
        changes = tuple(_made(AuditedChange, v) for v in _listed(values, "changes"))
        made: AuditEvent = _made(cls, {**values, "answers": answers, "changes": changes})
        return made


def _listed(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key, ())
    if not isinstance(found, list | tuple):
        raise _refuse(key, "a list")
    return list(found)


def _made(kind: type[Any], values: object) -> Any:
    """Make a dataclass of plain values; a key that it does not know is refused, whatever it holds."""
    if not isinstance(values, Mapping):
        raise _refuse("a part of a line", "an object")
    known = {f.name: str(f.type) for f in fields(kind)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise _refuse(f"a key ({len(unknown)} unknown)", ", ".join(known))
    given: dict[str, Any] = {}
    for name, value in values.items():
        if "tuple" in known[name]:
            if not isinstance(value, list | tuple):
                raise _refuse(name, "a list")
            given[name] = tuple(value)
        elif known[name] == "str" and not isinstance(value, str):
            raise _refuse(name, "text")
        elif known[name] in ("float", "int") and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _refuse(name, "a number")
        else:
            given[name] = value
    try:
        return kind(**given)
    except TypeError as error:
        raise _refuse("a line", f"{', '.join(known)} (some are missing)") from error


def _plain(event: object) -> dict[str, Any]:
    """Return the fields that say something, ready for JSON."""
    found: dict[str, Any] = {}
    for field in fields(event):  # type: ignore[arg-type]
        value = getattr(event, field.name)
        if isinstance(value, tuple):
            value = [v if isinstance(v, str) else _plain(v) for v in value]
        if value not in ("", [], 0.0) or field.name in ("segment", "added", "removed"):
            found[field.name] = value
    return found


def append_event(path: Path, event: AuditEvent) -> Chain:
    """Append one line, on the disk before this returns.

    Args:
        path: The record; made where there is none. Its folder must exist.
        event: What it says.

    Returns:
        Number of lines and head after it.

    Raises:
        DataError: The record is not whole: its last line is cut off or altered.
        OutputError: The operating system refused.
    """
    return append_lines(path, _FORMAT, [_plain(event)])


def check_record(path: Path) -> Chain:
    """Check that a line can be appended, before the work is done that it shall tell of.

    Args:
        path: The record; made where there is none.

    Returns:
        Number of lines and head, by the last line alone; `verify` checks all.

    Raises:
        DataError: Its last line is cut off or altered.
        OutputError: The operating system refused.
    """
    return last_line(path, _FORMAT)


def read_lines(path: Path) -> Iterator[tuple[int, str, str, AuditEvent]]:
    """Yield number, time, hash and content of every line, each checked against the one before it.

    Raises:
        DataError: The file can't be read, or a line was altered, removed, added or moved, with its number.
    """
    for line in read_chain(path, _FORMAT):
        try:
            event = AuditEvent.from_fields(line.content)
        except DataError as error:
            raise DataError(f"line {line.number} holds what a record does not take", source=path) from error
        yield line.number, line.time, line.hash, event


def verify(path: Path, *, head: str | None = None) -> Chain:
    """Check a whole record.

    Args:
        path: The record.
        head: Hash of a line that was noted elsewhere: the record must still hold it.

    Returns:
        Number of lines and head.

    Raises:
        DataError: A line was altered, removed, added or moved, with its number; or the head is not in the record, so
            lines were cut off or all was written anew.
    """
    return checked(path, ((number, own) for number, _, own, _ in read_lines(path)), head)
