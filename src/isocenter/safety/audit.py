"""Who ran what on what, what came out, and what a person changed: a chain of lines that can't be altered unseen.

A record is a text file of JSON lines. Each line holds the sha256 of the line before it and its own, over the canonical
form of its content, so that a line which is altered, removed, added or moved breaks the chain at a line number that is
told. Lines cut off at the end leave a whole, shorter chain: they are found with the head (the last line's hash) that
was noted elsewhere, in another system or on paper. Whoever can write the file and knows the rule can write a new chain
from the start; only a head that is kept elsewhere finds that out too.

No patient's value can stand in it: every field is known beforehand, and holds a hash, a number, a time or a short name
of a task; anything else is refused.

Lines are appended under a lock and flushed to the disk before the call returns, so several processes can share a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from isocenter.core.errors import DataError, OutputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

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

START = "0" * 64
"""What the first line names as the hash of the line before it."""
_FORMAT = "isocenter-audit/1"
_LARGEST_LINE = 1 << 20
_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_WHO = re.compile(r"[0-9a-f]{32}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
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


@dataclass(frozen=True)
class Chain:
    """What a record holds.

    Args:
        lines: How many.
        head: Hash of the last one; `START` of an empty record. Note it elsewhere to find lines that are cut off later.
    """

    lines: int
    head: str


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _line(number: int, before: str, time: str, event: AuditEvent) -> tuple[bytes, str]:
    content = {"format": _FORMAT, "line": number, "before": before, "time": time, **_plain(event)}
    own = hashlib.sha256(before.encode() + _canonical(content)).hexdigest()
    return _canonical({**content, "hash": own}) + b"\n", own


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
    time = datetime.now(UTC).replace(microsecond=0).isoformat()
    with _opened(path) as stream:
        number, before = _last(stream, path)
        line, own = _line(number + 1, before, time, event)
        end = stream.seek(0, os.SEEK_END)
        try:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(end)  # a full disk: half a line would end the record for good
            raise
    return Chain(number + 1, own)


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
    with _opened(path) as stream:
        return Chain(*_last(stream, path))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open and hold the record for appending, and say plainly why that can't be done."""
    try:
        with path.open("a+b") as stream, _locked(stream):
            yield stream
    except OSError as error:
        raise OutputError(
            f"cannot write the audit record: {error.strerror or type(error).__name__}; make room, or choose another "
            "file that this user may write",
            source=path,
        ) from error


@contextmanager
def _locked(stream: BinaryIO, *, shared: bool = False) -> Iterator[None]:
    """Hold the file, for this process alone or with other readers; the lock goes with the process, however it ends."""
    if sys.platform == "win32":
        stream.seek(0)
        msvcrt.locking(stream.fileno(), msvcrt.LK_LOCK, 1)
        try:
            yield
        finally:
            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(stream.fileno(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(stream.fileno(), fcntl.LOCK_UN)


def _last(stream: BinaryIO, path: Path) -> tuple[int, str]:
    """Return number and hash of the last line, which must be whole and true to itself."""
    size = stream.seek(0, os.SEEK_END)
    if not size:
        return 0, START
    start = max(0, size - _LARGEST_LINE)
    stream.seek(start)
    tail = stream.read()
    if not tail.endswith(b"\n"):
        raise DataError(
            "the last line of the audit record is cut off; keep the file, and go on in a new one", source=path
        )
    last = tail[:-1].rsplit(b"\n", 1)[-1]
    number, _, own, _ = _parsed(last, path, "the last line")
    return number, own


def _parsed(raw: bytes, path: Path, where: str) -> tuple[int, str, str, AuditEvent]:
    """Return number, hash before, own hash and content of a line that is true to itself."""
    try:
        content = json.loads(raw)
        own, number, before, time = (content[k] for k in ("hash", "line", "before", "time"))
        rest = {k: v for k, v in content.items() if k != "hash"}
        true = content["format"] == _FORMAT and _canonical(content) == raw and bool(_TIME.fullmatch(time))
        true = true and hashlib.sha256(before.encode() + _canonical(rest)).hexdigest() == own
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        true = False
    if not true or type(number) is not int:
        raise DataError(f"{where} is not what was written: it was altered, or is not of this kind", source=path)
    values = {k: v for k, v in rest.items() if k not in ("format", "line", "before", "time")}
    try:
        event = AuditEvent.from_fields(values)
    except DataError as error:
        raise DataError(f"{where} holds what a record does not take", source=path) from error
    return number, before, own, event


def read_lines(path: Path) -> Iterator[tuple[int, str, str, AuditEvent]]:
    """Yield number, time, hash and content of every line, each checked against the one before it.

    Raises:
        DataError: The file can't be read, or a line was altered, removed, added or moved, with its number.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise DataError(f"no audit record can be read here: {error.strerror}", source=path) from error
    expected, count = START, 0
    with stream, _locked(stream, shared=True):
        while raw := stream.readline(_LARGEST_LINE):
            count += 1
            if not raw.endswith(b"\n"):
                raise DataError(f"line {count} is cut off", source=path)
            number, before, own, event = _parsed(raw[:-1], path, f"line {count}")
            if number != count or before != expected:
                what = "a line before it was removed, added or moved" if count > 1 else "lines before it were removed"
                raise DataError(f"line {count} does not follow the one before it: {what}", source=path)
            yield number, str(json.loads(raw)["time"]), own, event
            expected = own


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
    if head is not None and not _HASH.fullmatch(head):
        raise DataError("a head is the sha256 of a line: 64 hexadecimal digits", source=path)
    count, last, seen = 0, START, head in (None, START)
    for number, _, own, _ in read_lines(path):
        count, last = number, own
        seen = seen or own == head
    if not seen:
        raise DataError(
            f"the record is whole to its line {count}, but does not hold the head that was given: lines after it were "
            "cut off, or the record was written anew",
            source=path,
        )
    return Chain(count, last)
