"""Where the bytes of a shard are: a file on a local disk, or an object elsewhere that is staged part by part.

Reading is the same for both: Blosc2 maps a local file. Of an object elsewhere that file is a sparse one of the same
length, made empty; header, index and metadata are fetched into their places when the shard is opened, and a chunk when
it is first touched. So a patch of a remote shard costs the ranges of its chunks once, and is then as fast as a local
one. `Staging` bounds what lies on the disk: files that were used longest ago are dropped whole and begin anew.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from multiprocessing import util
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

from isocenter.core.errors import CapabilityError, ConfigError, DataError
from isocenter.data.images.atomic import explain_os_error

__all__ = ["Backing", "LocalFile", "StagedFile", "Staging", "is_remote", "local_path"]

Range = tuple[int, int]
_PAGE = 4096
_MERGE_DISK = 64 * 1024
_MERGE = 256 * 1024
"""Two ranges that are closer than this are read as one: a request costs more than the bytes between."""


def is_remote(path: str | Path) -> bool:
    """Tell a URL of object storage from a local path."""
    return "://" in str(path) and not str(path).startswith("file://")


def local_path(path: str | Path) -> Path:
    """Return the path of a local file, also from a "file://" URL."""
    return Path(str(path).removeprefix("file://"))


@runtime_checkable
class Backing(Protocol):
    """The bytes of one shard.

    `generation` changes when what was there before is gone and must be asked for again.
    """

    name: str
    length: int

    @property
    def generation(self) -> int:
        """Grows with each loss."""

    @property
    def path(self) -> Path:
        """The local file that Blosc2 maps."""

    def need(self, ranges: Sequence[Range]) -> None:
        """See that these bytes are in the local file."""

    def ahead(self, ranges: Sequence[Range]) -> None:
        """Say that these bytes will be needed soon."""

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return bytes, which must be in the local file."""

    def close(self) -> None:
        """Let go of the file."""


class LocalFile:
    """A shard on a local disk, mapped into memory: only pages that are touched are read.

    Args:
        path: The file. It must not be cut short by others while it is open.

    Raises:
        DataError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.name, self._path = str(path), path
        self._map: mmap.mmap | None = None
        self.length = self._mapped()

    def _mapped(self) -> int:
        """Map the file; return its length."""
        try:
            with self._path.open("rb") as file:
                length = os.fstat(file.fileno()).st_size
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if length else None
        except OSError as error:
            raise explain_os_error(error, self._path, doing="read") from error
        return length

    @property
    def generation(self) -> int:
        """Nothing is ever lost."""
        return 0

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def need(self, ranges: Sequence[Range]) -> None:
        """Tell the system, which then reads all ranges at once, not page by page; map the file anew after a close."""
        if self._map is None and self.length and self._mapped() != self.length:
            raise DataError("was replaced while it was open; open it again", source=self.name)
        self.ahead(ranges)

    def ahead(self, ranges: Sequence[Range]) -> None:
        """Let the system begin to read."""
        if self._map is None or not hasattr(self._map, "madvise"):
            return
        for start, stop in merged(ranges, _MERGE_DISK):
            page = start - start % mmap.PAGESIZE
            self._map.madvise(mmap.MADV_WILLNEED, page, stop - page)

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return bytes without a copy; an empty file has none."""
        return b"" if self._map is None else memoryview(self._map)[start:stop]

    def close(self) -> None:
        """Let the map go with its last view."""
        self._map = None


class Staging:
    """A folder on a local disk for parts of remote shards, with a bound.

    Each process has a folder of its own in it, so the bound is per process. It is removed when the staging is closed or
    collected, or the process ends; what a killed one has left, when the next begins in the same folder.

    Args:
        folder: Where; a temporary folder by default.
        limit_bytes: How much may lie there at most, counted in whole pages.
        options: Passed to fsspec: credentials, endpoints.

    Attributes:
        fetched_bytes: All bytes that came over the network.
        requests: How many ranges were asked for.

    Raises:
        ConfigError: The limit is not positive.
    """

    def __init__(
        self, folder: Path | None = None, *, limit_bytes: int = 8 * 2**30, options: dict[str, Any] | None = None
    ) -> None:
        if limit_bytes < 1:
            raise ConfigError(f"the limit of a staging folder must be positive, got {limit_bytes}")
        self.parent, self.limit_bytes, self.options = folder, limit_bytes, dict(options or {})
        self.fetched_bytes = self.requests = 0
        self._folder: Path | None = None
        self._process = 0
        self._used: dict[StagedFile, None] = {}
        self._remove: util.Finalize[None] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.parent, "limit_bytes": self.limit_bytes, "options": self.options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], limit_bytes=state["limit_bytes"], options=state["options"])  # type: ignore[misc]

    def __enter__(self) -> Staging:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """This process's own folder."""
        if self._folder is None or self._process != os.getpid():
            try:
                if self.parent is not None:
                    self.parent.mkdir(parents=True, exist_ok=True)
                    _sweep(self.parent)
                self._folder = Path(tempfile.mkdtemp(prefix=f"shards-{os.getpid()}-", dir=self.parent))
            except OSError as error:
                raise explain_os_error(error, self.parent or Path(tempfile.gettempdir()), doing="write") from error
            self._process = os.getpid()
            self._used = {}
            # Not weakref.finalize: workers of multiprocessing end without what is registered there.
            self._remove = util.Finalize(self, _remove, (self._folder, self._process), exitpriority=1)
        return self._folder

    @property
    def staged_bytes(self) -> int:
        """What lies in the folder now, counted in whole pages; what was fetched twice counts twice."""
        return sum(file.held for file in self._used)

    def use(self, file: StagedFile, more: int) -> None:
        """Note that a file is used and will hold more bytes; drop others, and at last itself, to stay in the bound."""
        self._used.pop(file, None)
        while self._used and self.staged_bytes + file.held + more > self.limit_bytes:
            oldest = next(iter(self._used))
            del self._used[oldest]
            oldest.drop()
        if file.held and file.held + more > self.limit_bytes:
            file.drop()
        self._used[file] = None

    def open_url(self, url: str) -> bytes:
        """Return a whole small object, such as an index.

        Raises:
            CapabilityError: fsspec is not installed, or does not know this kind of storage.
            DataError: It is not there.
        """
        system, key = self.find(url)
        try:
            content: bytes = system.cat_file(key)
        except OSError as error:
            raise _explained(error, url) from error
        return content

    def find(self, url: str) -> tuple[Any, str]:
        """Return the file system of fsspec and the key in it."""
        try:
            import fsspec
        except ModuleNotFoundError as error:
            raise CapabilityError("remote shards need fsspec: pip install 'isocenter[archive]'") from error
        try:
            system, key = fsspec.core.url_to_fs(url, **self.options)
        except (ImportError, ValueError) as error:
            raise CapabilityError(f"{url}: fsspec cannot open it: {error}") from error
        return system, str(key)

    def forget(self, file: StagedFile) -> None:
        """Drop a file that is no longer open."""
        self._used.pop(file, None)

    def close(self) -> None:
        """Remove the folder."""
        for file in list(self._used):
            file.drop()
        self._used = {}
        if self._remove is not None:
            self._remove()
        self._folder = None


class StagedFile:
    """A remote shard, staged part by part into a sparse local file.

    Args:
        url: Any that fsspec understands, e.g. "s3://bucket/case.b2nd".
        staging: Where its parts lie.

    Raises:
        CapabilityError: fsspec, or what it needs for this kind of storage, is not installed.
        DataError: The object is not there or cannot be read.
    """

    def __init__(self, url: str, staging: Staging) -> None:
        self.name, self.staging = url, staging
        self._generation, self.held = 0, 0
        self._have: set[Range] = set()
        self._path: Path | None = None
        self._process = 0
        self._system, self._key = staging.find(url)
        try:
            self.length = int(self._system.size(self._key))
        except OSError as error:
            raise _explained(error, url) from error

    @property
    def generation(self) -> int:
        """Grows when what was staged is gone; also in a forked worker, because its parent's file is its parent's."""
        if self._path is not None and self._process != os.getpid():
            self._path, self.held, self._have = None, 0, set()
            self._generation += 1
        return self._generation

    @property
    def path(self) -> Path:
        """The sparse local file, made when first asked for in this process."""
        _ = self.generation
        if self._path is None:
            handle, name = tempfile.mkstemp(suffix=".b2nd", dir=self.staging.folder)
            os.ftruncate(handle, self.length)
            os.close(handle)
            self._path, self._process = Path(name), os.getpid()
        return self._path

    def need(self, ranges: Sequence[Range]) -> None:
        """Fetch what is not there yet, near ranges in one request, all of them at once where fsspec can.

        Raises:
            DataError: The storage refused or sent less.
        """
        _ = self.path
        asked = merged([r for r in ranges if r not in self._have], _MERGE)
        generation = self.generation
        self.staging.use(self, sum(map(_pages, asked)))
        if not asked or self.generation != generation:
            return  # dropped to stay in the bound: who asks sees it by the generation, and asks again
        try:
            parts = self._system.cat_ranges([self._key] * len(asked), [a for a, _ in asked], [b for _, b in asked])
        except OSError as error:
            raise _explained(error, self.name) from error
        handle = os.open(self.path, os.O_WRONLY)
        try:
            for (start, stop), part in zip(asked, parts, strict=True):
                if not isinstance(part, bytes) or len(part) != stop - start:
                    raise DataError("the storage sent less than was asked for; try again", source=self.name)
                os.pwrite(handle, part, start)
                self.held += _pages((start, stop))
                self.staging.fetched_bytes += len(part)
                self.staging.requests += 1
        except OSError as error:
            raise explain_os_error(error, self.path, doing="write") from error
        finally:
            os.close(handle)
        self._have.update(ranges)

    def ahead(self, ranges: Sequence[Range]) -> None:
        """Nothing: what is needed is fetched in one go when it is touched."""

    def read(self, start: int, stop: int) -> bytes | memoryview:
        """Return bytes of the local file."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def drop(self) -> None:
        """Remove what was staged; it is fetched anew when it is needed again."""
        if self._path is not None and self._process == os.getpid():
            self._path.unlink(missing_ok=True)
        self._path, self.held, self._have = None, 0, set()
        self._generation += 1

    def close(self) -> None:
        """Remove what was staged."""
        self.staging.forget(self)
        self.drop()


def _pages(part: Range) -> int:
    """Return the bytes that a part takes of a sparse file."""
    return (-(-part[1] // _PAGE) - part[0] // _PAGE) * _PAGE


def merged(ranges: Sequence[Range], gap: int) -> list[Range]:
    """Return the ranges in order, with those as one between which no more than a gap lies."""
    out: list[Range] = []
    for start, stop in sorted(ranges):
        if out and start - out[-1][1] <= gap:
            out[-1] = (out[-1][0], max(stop, out[-1][1]))
        else:
            out.append((start, stop))
    return out


def _explained(error: OSError, url: str) -> DataError:
    """Turn an error of a storage into one clear line; fsspec gives most of them no number."""
    kinds = ((FileNotFoundError, errno.ENOENT), (PermissionError, errno.EACCES))
    number = error.errno or next((n for kind, n in kinds if isinstance(error, kind)), None)
    known = OSError(number, "") if number else error
    said = explain_os_error(known, Path(url), doing="read")
    return DataError(str(said).removeprefix(f"{said.source}: "), source=url)


def _sweep(parent: Path) -> None:
    """Remove the folders of processes of this machine that are no more."""
    for folder in parent.glob("shards-*-*"):
        number = folder.name.split("-")[1]
        if not number.isdigit():
            continue
        try:
            os.kill(int(number), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (PermissionError, OverflowError):
            continue


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a forked worker must not remove its parent's
        shutil.rmtree(folder, ignore_errors=True)
