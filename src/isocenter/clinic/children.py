"""Processes that end with the one that started them, and the lock by which a store has one node.

A node that is killed takes nothing with it by itself: its children would go on receiving into a store that the next
node is putting in order. So each child watches for the end of its parent, and holds the store's lock, which the next
node waits for.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import explain_os_error

__all__ = ["StoreLock", "follow_parent"]

_LOOK_S = 0.05


def follow_parent() -> None:
    """End this process at once when the one that started it has ended, however that was."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(70)

    threading.Thread(target=watch, args=(parent.sentinel,), name="follow-parent", daemon=True).start()


class StoreLock:
    """The lock of a store. It goes with the process that holds it, by kill -9 too.

    Args:
        folder: The store; made where it is not there.

    Raises:
        OutputError: It can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(folder / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise explain_os_error(error, folder, doing="write") from error

    def alone(self, patience_s: float = 10.0) -> None:
        """Wait until nobody else holds it, and hold it alone.

        Raises:
            ConfigError: Somebody still does.
        """
        until = time.monotonic() + patience_s
        while not self._take(fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise ConfigError(f"another node works on {self._folder}; stop it, or give this one a store of its own")
            time.sleep(_LOOK_S)

    def shared(self) -> None:
        """Hold it with others of the same node."""
        while not self._take(fcntl.LOCK_SH):
            time.sleep(_LOOK_S)

    def is_free(self) -> bool:
        """Tell whether nobody holds it."""
        if not self._take(fcntl.LOCK_EX):
            return False
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return True

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)

    def _take(self, how: int) -> bool:
        try:
            fcntl.flock(self._descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
