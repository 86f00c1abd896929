"""A chain of lines that can't be altered unseen: what the records of answers and of access are kept in.

A record is a text file of JSON lines. Each line holds the sha256 of the line before it and its own, over the canonical
form of its content, so that a line which is altered, removed, added or moved breaks the chain at a line number that is
told. Lines cut off at the end leave a whole, shorter chain: they are found with the head (the last line's hash) that
was noted elsewhere, in another system or on paper. Whoever can write the file and knows the rule can write a new chain
from the start; only a head that is kept elsewhere finds that out too.

Lines are appended under a lock and flushed to the disk before the call returns, so several processes can share a file.
What a line may hold is its kind's affair: `audit` for answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
    "Chain",
    "ChainLine",
    "append_lines",
    "canonical",
    "checked",
    "last_line",
    "read_chain",
    "verify_chain",
]

START = "0" * 64
"""What the first line names as the hash of the line before it."""
_HASH = re.compile(r"[0-9a-f]{64}")
_LARGEST_LINE = 1 << 20
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_OWN = ("format", "line", "before", "time", "hash")


@dataclass(frozen=True)
class Chain:
    """What a record holds.

    Args:
        lines: How many.
        head: Hash of the last one; `START` of an empty record. Note it elsewhere to find lines that are cut off later.
    """

    lines: int
    head: str


@dataclass(frozen=True)
class ChainLine:
    """A line that is true to itself.

    Args:
        number: From 1.
        before: Hash of the line before it.
        time: When it was appended, in UTC.
        hash: Its own.
        content: What it says, without these.
    """

    number: int
    before: str
    time: str
    hash: str
    content: Mapping[str, Any]


def canonical(content: Mapping[str, Any]) -> bytes:
    """Return the form of a content that is hashed: keys in order, no space, ASCII."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def append_lines(path: Path, form: str, contents: Sequence[Mapping[str, Any]], *, mode: int = 0o666) -> Chain:
    """Append lines, on the disk before this returns; all of them, or none.

    Args:
        path: The record; made where there is none. Its folder must exist.
        form: Kind and version of the lines.
        contents: What they say, one mapping each.
        mode: Of a file that is made, under the process's mask.

    Returns:
        Number of lines and head after them.

    Raises:
        DataError: The record is not whole: its last line is cut off or altered.
        OutputError: The operating system refused.
    """
    time = datetime.now(UTC).replace(microsecond=0).isoformat()
    with _opened(path, mode) as stream:
        number, before = _last(stream, path, form)
        lines = []
        for content in contents:
            number += 1
            whole = {"format": form, "line": number, "before": before, "time": time, **content}
            before = hashlib.sha256(before.encode() + canonical(whole)).hexdigest()
            lines.append(canonical({**whole, "hash": before}) + b"\n")
        end = stream.seek(0, os.SEEK_END)
        try:
            stream.write(b"".join(lines))
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            stream.truncate(end)  # a full disk: half a line would end the record for good
            raise
    return Chain(number, before)


def last_line(path: Path, form: str, *, mode: int = 0o666) -> Chain:
    """Return number and hash of the last line, by it alone; the record is made where there is none.

    Raises:
        DataError: It is cut off or altered.
        OutputError: The operating system refused.
    """
    with _opened(path, mode) as stream:
        return Chain(*_last(stream, path, form))


def read_chain(path: Path, form: str) -> Iterator[ChainLine]:
    """Yield every line, each checked against the one before it.

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
            line = _parsed(raw[:-1], path, form, f"line {count}")
            if line.number != count or line.before != expected:
                what = "a line before it was removed, added or moved" if count > 1 else "lines before it were removed"
                raise DataError(f"line {count} does not follow the one before it: {what}", source=path)
            yield line
            expected = line.hash


def verify_chain(path: Path, form: str, *, head: str | None = None) -> Chain:
    """Check a whole record; see `checked`."""
    return checked(path, ((line.number, line.hash) for line in read_chain(path, form)), head)


def checked(path: Path, lines: Iterable[tuple[int, str]], head: str | None) -> Chain:
    """Read all lines, each of which checks itself, and look for a head.

    Args:
        path: The record.
        lines: Number and hash of each.
        head: Hash of a line that was noted elsewhere: the record must still hold it.

    Returns:
        Number of lines and head.

    Raises:
        DataError: The head is not in the record, so lines were cut off or all was written anew; or what `lines` raises.
    """
    if head is not None and not _HASH.fullmatch(head):
        raise DataError("a head is the sha256 of a line: 64 hexadecimal digits", source=path)
    count, last, seen = 0, START, head in (None, START)
    for number, own in lines:
        count, last = number, own
        seen = seen or own == head
    if not seen:
        raise DataError(
            f"the record is whole to its line {count}, but does not hold the head that was given: lines after it were "
            "cut off, or the record was written anew",
            source=path,
        )
    return Chain(count, last)


@contextmanager
def _opened(path: Path, mode: int) -> Iterator[BinaryIO]:
    """Open and hold the record for appending, and say plainly why that can't be done."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), mode)
        with os.fdopen(descriptor, "a+b") as stream, _locked(stream):
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


def _last(stream: BinaryIO, path: Path, form: str) -> tuple[int, str]:
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
    last = _parsed(tail[:-1].rsplit(b"\n", 1)[-1], path, form, "the last line")
    return last.number, last.hash


def _parsed(raw: bytes, path: Path, form: str, where: str) -> ChainLine:
    """Return a line, which must be true to itself."""
    try:
        content = json.loads(raw)
        own, number, before, time = (content[k] for k in ("hash", "line", "before", "time"))
        rest = {k: v for k, v in content.items() if k != "hash"}
        true = content["format"] == form and canonical(content) == raw and bool(_TIME.fullmatch(time))
        true = true and hashlib.sha256(before.encode() + canonical(rest)).hexdigest() == own
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        true = False
    if not true or type(number) is not int:
        raise DataError(f"{where} is not what was written: it was altered, or is not of this kind", source=path)
    return ChainLine(number, before, time, own, {k: v for k, v in content.items() if k not in _OWN})
