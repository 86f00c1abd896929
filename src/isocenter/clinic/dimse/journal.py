"""The journal of what was received: one line an instance, for whoever works on it next.

A line is written before the sender is answered, but the disk is not waited for: what outlasts a power cut is the held
instance itself, which carries its own seal (`holding`). Lines that a crash took are written again from the seals.
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
        self._lock = threading.Lock()
        try:
            self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
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
                written = os.write(self._descriptor, line)
                if written < len(line):
                    # What is left of the line must not swallow the next one.
                    os.write(self._descriptor, line[written:])
            except OSError as error:
                raise explain_os_error(error, self.file, doing="write") from error

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
