"""Arrays that don't all fit into memory: beyond a limit they lie on disk and are read where they are looked at.

An array on the shelf is a memory map of a .npy: the system keeps of it what is used and drops it when memory is short,
so a set of a hundred CTs is learnt from on a laptop. What is learnt does not depend on where an array lies.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np

from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import explain_os_error

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

__all__ = ["Shelf", "alone_in", "half_of_memory"]

_LEAST = 1 << 16
"""Smaller arrays stay in memory: a map of each costs more than it saves."""
_UNKNOWN = 2 * 2**30


def half_of_memory() -> int:
    """Return half of the bytes of memory that nothing uses now; 2 GiB where the system does not say."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        with Path("/proc/meminfo").open(encoding="ascii") as stream:
            for line in stream:
                if line.startswith("MemAvailable:"):
                    free = int(line.split()[1]) * 1024
    except (OSError, ValueError, AttributeError):
        return _UNKNOWN
    return max(free, 0) // 2


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder of checkpoints for one process; the hold ends with it, however it ends.

    Raises:
        ConfigError: Another process learns there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "held").open("ab") as stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConfigError(
                    f"{folder}: another process learns this network now; wait for it, or stop it first"
                ) from error
        yield


class Shelf:
    """Keeps arrays: in memory up to a limit, on disk beyond it.

    Args:
        folder: For those on disk; it is made when the first is laid there, and removed on leaving.
        most_bytes: Of the arrays in memory.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place, Shelf(Path(place) / "shelf", most_bytes=0) as shelf:
        ...     kept = shelf.keep(np.arange(40_000.0))
        ...     type(kept).__name__, float(kept[-1]), shelf.on_disk
        ('memmap', 39999.0, 1)
    """

    def __init__(self, folder: Path, *, most_bytes: int) -> None:
        self.folder, self.most_bytes = folder, most_bytes
        self.held, self.on_disk = 0, 0

    def __enter__(self) -> Shelf:
        shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self, array: np.ndarray) -> np.ndarray:
        """Return the same values, in memory or as a map of a file that can't be written to.

        Raises:
            OutputError: The disk is full, or the folder can't be written.
        """
        if array.nbytes < _LEAST or self.held + array.nbytes <= self.most_bytes:
            self.held += array.nbytes
            return array
        file = self.folder / f"{self.on_disk}.npy"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            np.save(file, np.ascontiguousarray(array))
        except OSError as error:
            raise explain_os_error(error, file, doing="write") from error
        self.on_disk += 1
        mapped: np.ndarray = np.load(file, mmap_mode="r")
        return mapped
