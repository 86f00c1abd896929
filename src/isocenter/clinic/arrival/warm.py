"""Arrays of studies that are still arriving, on the disk: sealed, bounded, and gone when the study is answered.

    STORE/arrival/STUDY/memo/KEY     magic, sha256 of all that follows, what the array is, its bytes

The seal covers the key too, so that a file that was cut off, altered, renamed or written by another version is not
used, and is removed. Nothing here outlasts what it was made from, and nothing depends on it: without it the same is
computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import struct
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

__all__ = ["FolderMemo", "arrival_folder", "tidy", "warm_folder"]

_MAGIC: Final = b"ISOMEMO1"
_HEAD = struct.Struct("<8s32sI")
_KINDS = frozenset("biuf")
_COUNT_EVERY_S: Final = 5.0


def warm_folder(store: Path) -> Path:
    """Return where everything of studies that are arriving is."""
    return store / "arrival"


def arrival_folder(store: Path, study: str) -> Path:
    """Return the folder of a study that is arriving."""
    return warm_folder(store) / hashlib.blake2b(study.encode(), digest_size=16).hexdigest()


@dataclass
class FolderMemo:
    """A `core.memo.Memo` in a folder; several processes may use one.

    Args:
        folder: Made when something is kept; readable by its owner alone.
        limit_bytes: Nothing more is kept beyond it.
        reserve_bytes: Room on the disk that is left to what is received.
        read_only: Whether nothing more is kept: for the last answer, after which all of it goes.
    """

    folder: Path
    limit_bytes: int = 4 << 30
    reserve_bytes: int = 512 << 20
    read_only: bool = False
    _held: int = field(default=0, init=False, repr=False)
    _counted: float = field(default=-_COUNT_EVERY_S, init=False, repr=False)

    def get(self, key: str) -> np.ndarray | None:
        """Return what was kept; None where nothing sound is."""
        file = self.folder / key
        try:
            content = file.read_bytes()
        except OSError:
            return None
        found = _unsealed(key, content)
        if found is None:
            file.unlink(missing_ok=True)
        return found

    def put(self, key: str, value: np.ndarray) -> None:
        """Keep an array, where there is room; a disk that refuses is no error, as nothing depends on it."""
        if self.read_only or value.dtype.kind not in _KINDS:
            return
        content = _sealed(key, value)
        if not self._has_room(len(content)):
            return
        temporary = self.folder / f".{secrets.token_hex(8)}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            temporary.replace(self.folder / key)
            self._held += len(content)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        try:
            disk = os.statvfs(next(place for place in (self.folder, *self.folder.parents) if place.is_dir()))
        except OSError:
            return False
        if time.monotonic() - self._counted > _COUNT_EVERY_S:  # other processes add to it too
            self._held, self._counted = sum(_size(entry) for entry in _entries(self.folder)), time.monotonic()
        return self._held + size <= self.limit_bytes and disk.f_bavail * disk.f_frsize - size > self.reserve_bytes


def _sealed(key: str, value: np.ndarray) -> bytes:
    said = json.dumps([value.dtype.str, list(value.shape)]).encode()
    rest = said + np.ascontiguousarray(value).tobytes()
    return _HEAD.pack(_MAGIC, hashlib.sha256(key.encode() + rest).digest(), len(said)) + rest


def _unsealed(key: str, content: bytes) -> np.ndarray | None:
    if len(content) < _HEAD.size:
        return None
    magic, seal, length = _HEAD.unpack_from(content)
    rest = memoryview(content)[_HEAD.size :]
    digest = hashlib.sha256(key.encode())
    digest.update(rest)
    if magic != _MAGIC or digest.digest() != seal:
        return None
    kind, shape = json.loads(bytes(rest[:length]))
    return np.frombuffer(rest[length:], dtype=np.dtype(kind)).reshape(shape).copy()


def tidy(store: Path, alive: Collection[str], limit_bytes: int) -> int:
    """Remove what belongs to no study that is arriving or worked on, then the oldest beyond the limit.

    Args:
        store: The node's folder.
        alive: Study Instance UIDs.
        limit_bytes: Most that is kept of all studies together.

    Returns:
        Bytes that are left.
    """
    kept = {arrival_folder(store, study).name for study in alive}
    for folder in _entries(warm_folder(store)):
        if folder.name not in kept:
            shutil.rmtree(folder.path, ignore_errors=True)
    files = []
    for folder in _entries(warm_folder(store)):
        for entry in _entries(Path(folder.path) / "memo"):
            with suppress(OSError):
                told = entry.stat()
                files.append((told.st_mtime, told.st_size, entry.path))
    left = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if left <= limit_bytes:
            break
        with suppress(OSError):
            Path(path).unlink()
        left -= size
    return left


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0
