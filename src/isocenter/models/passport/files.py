"""Files of weights: their hashes, and whether they are still what was recorded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from isocenter.core.errors import WeightsError
from isocenter.models.passport.document import WeightFile

__all__ = ["Progress", "altered", "describe_files", "hash_file"]

Progress = Callable[[str, float], None]
_CHUNK = 1 << 22


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, whatever its size.

    Raises:
        WeightsError: It can't be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror}); check the path and its permissions") from error
    return digest.hexdigest()


def describe_files(root: Path, names: Iterable[str], progress: Progress | None = None) -> tuple[WeightFile, ...]:
    """Return size and hash of files.

    Args:
        root: The folder that names are relative to.
        names: With forward slashes.
        progress: Called with the file's name and the share of all bytes that is done.

    Raises:
        WeightsError: A file can't be read.
    """
    chosen = list(dict.fromkeys(names))
    try:
        sizes = [(root / name).stat().st_size for name in chosen]
    except OSError as error:
        raise WeightsError(f"{error.filename}: can't be read; check the path and its permissions") from error
    done, found = 0, []
    for name, size in zip(chosen, sizes, strict=True):
        if progress is not None:
            progress(f"hashing {name}", done / max(1, sum(sizes)))
        found.append(WeightFile(name=name, size_bytes=size, sha256=hash_file(root / name)))
        done += size
    return tuple(found)


def altered(recorded: Sequence[WeightFile], found: Sequence[WeightFile]) -> tuple[str, ...]:
    """Say in words how files differ from what was recorded; empty when they don't."""
    now = {file.name: file for file in found}
    words = []
    for file in recorded:
        there = now.pop(file.name, None)
        if there is None:
            words.append(f"{file.name} is gone")
        elif there.sha256 != file.sha256:
            words.append(f"{file.name} was altered (sha256 {there.sha256[:12]}..., recorded {file.sha256[:12]}...)")
    return (*words, *(f"{name} was not there when it was added" for name in now))
