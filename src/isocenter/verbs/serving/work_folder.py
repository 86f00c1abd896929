"""The work folder: one server at a time, as sessions and drafts are held in memory between their writings."""

from __future__ import annotations

import fcntl
from io import TextIOWrapper
from pathlib import Path

from isocenter.core.errors import OutputError
from isocenter.data.images.atomic import explain_os_error

__all__ = ["lock_work"]


def lock_work(work: Path) -> TextIOWrapper:
    """Hold a work folder until what is returned is closed, or the process ends.

    Raises:
        OutputError: Another server holds it, or it can't be written.
    """
    try:
        lock = (work / ".lock").open("a", encoding="ascii")
    except OSError as error:
        raise explain_os_error(error, work, doing="write") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise OutputError(
            "another server works in this folder; stop it, or give another --work", source=work
        ) from error
    return lock
