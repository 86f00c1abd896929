"""Signs that the workflow turns, and that the machine's clock goes on as it should."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["OwnClock", "touch"]

_JUMP_S = 5.0


class OwnClock:
    """Notices that somebody set the clock of this machine.

    Args:
        wall: Returns the time, in seconds of the epoch.
        steady: Returns a time that nobody sets.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()

    def set_by(self) -> float:
        """Return by how many seconds the clock was set since the last call; 0 where it was not."""
        offset = self._wall() - self._steady()
        jump, self._offset = offset - self._offset, offset
        return jump if abs(jump) >= _JUMP_S else 0.0


def touch(file: Path) -> None:
    """Give a file the time of now; a full disk allows it where the file is there."""
    try:
        os.utime(file)
    except OSError:
        with suppress(OSError):
            file.touch(mode=0o600)
