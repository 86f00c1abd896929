"""Where the files are: sources walked in depth, as a stream, into a listing.

A folder of ten million files is listed without being held in memory. Nothing but regular files is listed, a folder
that was visited already (a link in a circle) is left out, and zip archives are listed by their entries, under the
guards that reading them has. Other places (object storage) are walked through fsspec.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.core.errors import CapabilityError, ConfigError, DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.discover import ZipLimits

__all__ = ["Listed", "Place", "Trouble", "parse_source", "walk"]

_LEFT_OUT = frozenset(
    {".ds_store", "thumbs.db", "desktop.ini", "sha256sums", ".gitignore", ".gitattributes", ".received"}
)
"""What systems and programs write beside the data; `.received` is of `clinic.retrieve`."""
_ENTRY = "!/"


@dataclass(frozen=True)
class Place:
    """One source, as it was given.

    Args:
        where: A path or an address (`s3://...`).
        domain: The name that identifiers in it are of, "" where none was given.
        remote: Whether fsspec opens it.
    """

    where: str
    domain: str = ""
    remote: bool = False


@dataclass(frozen=True)
class Listed:
    """One file.

    Args:
        locator: A path or address; of an entry of a zip archive, followed by "!/" and its name.
        name: Relative to the source, with forward slashes.
        size: Bytes.
        stamp: What changes when the file does: its time in nanoseconds, or a checksum.
    """

    locator: str
    name: str
    size: int
    stamp: int


@dataclass(frozen=True)
class Trouble:
    """What could not be listed or read, and why.

    Args:
        name: Of the file or folder.
        reason: In words; never a value of a patient.
        kind: "refused": should have been readable. "ignored": nothing to read. "lost": was there when it was listed.
    """

    name: str
    reason: str
    kind: str = "refused"


def parse_source(text: str) -> Place:
    """Read a source as it is given: a path, an address, or NAME=one of these.

    Raises:
        ConfigError: The name is no word.

    Example:
        >>> parse_source("hospital=/data/dicom")
        Place(where='/data/dicom', domain='hospital', remote=False)
    """
    name, sign, rest = text.partition("=")
    if sign and rest and "/" not in name and not Path(text).exists():
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise ConfigError(f"a source may be given as NAME=PATH; {name!r} is no name")
        return Place(rest, name, "://" in rest)
    return Place(text, "", "://" in text)


def walk(place: Place, *, limits: ZipLimits | None = None) -> Iterator[Listed | Trouble]:
    """List a source in depth; the files of a folder come in the order of their names.

    Args:
        place: The source.
        limits: Guards for zip archives.

    Raises:
        DataError: The source is not there.
        CapabilityError: It is an address, and fsspec is not installed.
    """
    if place.remote:
        yield from _walk_remote(place.where)
        return
    root = Path(place.where)
    try:
        mode = root.stat().st_mode
    except OSError as error:
        raise explain_os_error(error, root, doing="read") from error
    if stat.S_ISREG(mode):
        status = root.stat()
        yield from _one(str(root), root.name, status.st_size, status.st_mtime_ns, limits or ZipLimits())
    elif stat.S_ISDIR(mode):
        yield from _walk_folder(root, limits or ZipLimits())
    else:
        raise DataError("this is neither a file nor a folder (a device, pipe or socket)", source=root)


def _walk_folder(root: Path, limits: ZipLimits) -> Iterator[Listed | Trouble]:
    visited: set[tuple[int, int]] = set()
    waiting: list[tuple[str, str]] = [(str(root), "")]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116
            if (status.st_dev, status.st_ino) in visited:
                yield Trouble(prefix.rstrip("/"), "a link to a folder that is read already; left out", "ignored")
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda e: e.name)
        except OSError as error:
            if not prefix:
                raise explain_os_error(error, root, doing="read") from error
            yield Trouble(
                prefix.rstrip("/"), _reason(error), "lost" if isinstance(error, FileNotFoundError) else "refused"
            )
            continue
        below = []
        for entry in found:
            name = prefix + entry.name
            try:
                status = entry.stat()
            except OSError as error:
                dangling = entry.is_symlink() and isinstance(error, FileNotFoundError)
                yield Trouble(name, "the link points to nothing; correct it" if dangling else _reason(error))
                continue
            if stat.S_ISDIR(status.st_mode):
                below.append((entry.path, name + "/"))
            elif not stat.S_ISREG(status.st_mode):
                yield Trouble(name, "a device, pipe or socket; never opened", "ignored")
            elif entry.name.lower() not in _LEFT_OUT:
                yield from _one(entry.path, name, status.st_size, status.st_mtime_ns, limits)
        waiting.extend(reversed(below))


def _one(path: str, name: str, size: int, stamp: int, limits: ZipLimits) -> Iterator[Listed | Trouble]:
    if size == 0:
        yield Trouble(name, "the file is empty; fetch it again")
    elif name.lower().endswith(".zip"):
        yield from _entries(path, name, size, stamp, limits)
    else:
        yield Listed(path, name, size, stamp)


def _entries(path: str, name: str, size: int, stamp: int, limits: ZipLimits) -> Iterator[Listed | Trouble]:
    """List a zip archive; its entries are read one at a time, so that nothing is unpacked to a disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if not e.is_dir()]
    except OSError as error:
        yield Trouble(name, _reason(error))
        return
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError):
        yield Trouble(name, "the archive is damaged; fetch it again")
        return
    total = sum(e.file_size for e in entries)
    if (
        len(entries) > limits.max_files
        or total > limits.max_bytes
        or (total > 100 * 2**20 and total / max(1, size) > limits.max_ratio)
    ):
        yield Trouble(name, "the archive unpacks to far more than it holds: it may be a bomb; unpack it yourself")
        return
    for entry in sorted(entries, key=lambda e: e.filename):
        inner = f"{name}{_ENTRY}{entry.filename}"
        parts = entry.filename.split("/")
        if entry.flag_bits & 1:
            yield Trouble(inner, "is encrypted; unpack the archive yourself")
        elif parts[-1].lower() in _LEFT_OUT or parts[0] == "__MACOSX":
            continue
        elif entry.file_size == 0:
            yield Trouble(inner, "the file is empty; fetch it again")
        elif entry.filename.lower().endswith(".zip"):
            yield Trouble(inner, "an archive inside an archive; unpack it first")
        else:
            yield Listed(f"{path}{_ENTRY}{entry.filename}", inner, entry.file_size, stamp ^ entry.CRC)


def _walk_remote(where: str) -> Iterator[Listed | Trouble]:
    files, root = open_remote(where)
    found = files.find(root, detail=True)
    if not found:
        raise DataError("there is nothing at this address; correct it", source=where)
    protocol = where.split("://", 1)[0]
    for path in sorted(found):
        about = found[path]
        name = path.removeprefix(root).lstrip("/") or path.rsplit("/", 1)[-1]
        size = int(about.get("size") or 0)
        stamp = about.get("ETag") or about.get("etag") or about.get("mtime") or about.get("created") or ""
        if size == 0:
            yield Trouble(name, "the file is empty; fetch it again")
        elif name.rsplit("/", 1)[-1].lower() not in _LEFT_OUT:
            yield Listed(f"{protocol}://{path.lstrip('/')}", name, size, _number(str(stamp)))


def open_remote(where: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        CapabilityError: fsspec, or what it needs for this kind of address, is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise CapabilityError('addresses need fsspec: pip install "isocenter[archive]"') from error
    try:
        files, path = fsspec.core.url_to_fs(where)
    except (ImportError, ValueError) as error:
        raise CapabilityError(f"no file system for this kind of address is installed ({error})") from error
    return files, str(path)


def _number(text: str) -> int:
    value = 0
    for byte in text.encode():
        value = (value * 257 + byte) & 0x7FFFFFFFFFFFFFFF
    return value


def _reason(error: OSError) -> str:
    said = explain_os_error(error, Path("x"), doing="read")
    return str(said).removeprefix("x: ")
