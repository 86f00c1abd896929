"""The journal of what was received: one line an instance, on the disk before the sender is told so.

Lines of several associations that wait at the same time go to the disk together. A line that was cut off by a crash was
never answered; a reader leaves it out.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isocenter.data.images.atomic import explain_os_error

__all__ = ["Journal", "read_lines"]


class Journal:
    """A file that only grows, of one process.

    Args:
        file: Made where it is not there; its folder must be.

    Raises:
        OutputError: It can't be written.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            folder = os.open(file.parent, os.O_RDONLY | os.O_CLOEXEC)
            os.fsync(folder)  # the file's name, too, must outlast a crash
            os.close(folder)
        except OSError as error:
            raise explain_os_error(error, file, doing="write") from error
        self._lock = threading.Lock()
        self._disk = threading.Lock()
        self._waiting: list[bytes] = []
        self._given = 0
        self._kept = 0
        self._failed: OSError | None = None

    def append(self, entry: Mapping[str, Any]) -> None:
        """Write a line; it is on the disk when this returns.

        Raises:
            OutputError: The disk is full, or the journal could not be written earlier: what stands in it is then not
                known, and the process must begin a new one.
        """
        line = json.dumps(entry, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        with self._lock:
            self._waiting.append(line)
            self._given += 1
            mine = self._given
        with self._disk:
            if self._kept < mine and self._failed is None:
                with self._lock:
                    lines, self._waiting, until = self._waiting, [], self._given
                try:
                    self._write(b"".join(lines))
                    self._kept = until
                except OSError as error:
                    self._failed = error
            if self._kept < mine and self._failed is not None:
                raise explain_os_error(self._failed, self.file, doing="write") from self._failed

    def _write(self, content: bytes) -> None:
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


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
