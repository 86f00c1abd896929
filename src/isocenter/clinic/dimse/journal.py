"""The journal of what was received: one line an instance, for whoever works on it next.

A line is written before the sender is answered, but the disk is not waited for: what outlasts a power cut is the held
instance itself, which carries its own seal (`holding`). Lines that a crash took are written again from the seals.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from isocenter.data.images.atomic import explain_os_error

__all__ = ["Journal", "end_of_cut", "read_lines"]

_CUT: Final = b"#\n"


class Journal:
    """A file that only grows; safe for threads.

    Args:
        file: Made where it is not there; its folder must be.
        shared: Whether several processes append to it; a lock of the file keeps their lines apart then.

    Raises:
        OutputError: It can't be written.
    """

    def __init__(self, file: Path, *, shared: bool = False) -> None:
        self.file, self._shared = file, shared
        self._lock = threading.Lock()
        # Whether the last line may be cut off: by whoever wrote before us, or by a disk that was full.
        self._unsure = True
        try:
            self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explain_os_error(error, file, doing="write") from error

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write a line.

        Raises:
            OutputError: The disk is full; the line may be cut off, which readers pass over.
        """
        line = json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        with self._lock:
            try:
                with self._alone():
                    if self._unsure:
                        line = end_of_cut(self._descriptor) + line
                    self._unsure = True
                    while line:
                        line = line[os.write(self._descriptor, line) :]
                    self._unsure = self._shared
            except OSError as error:
                raise explain_os_error(error, self.file, doing="write") from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing."""
        if not self._shared:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def end_of_cut(descriptor: int) -> bytes:
    """Return what goes before the next line, so that a last one that was cut off does not swallow it; else nothing.

    With it a line that lacked nothing but its end can't be read either: whoever sent it was told that it was not taken.

    Args:
        descriptor: Of a file that may be read.
    """
    size = os.fstat(descriptor).st_size
    return _CUT if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""


def read_lines(file: Path, position: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the whole lines of a journal from a position on; yield where each ends, and what it says.

    Args:
        file: The journal; it may be growing.
        position: Where to begin, as an earlier line ended.
    """
    with file.open("rb") as stream:
        stream.seek(position)
        for line in stream:
            if not line.endswith(b"\n"):
                return
            position += len(line)
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off by a full disk, then gone on: nobody was told that it was received
            if isinstance(entry, dict):
                yield position, entry
