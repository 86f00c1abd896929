"""A node's backup: one file, made while the node runs, checked whole before anything of it is put in place.

    ledger/TABLE.jsonl   the rows of a table, as they stood at one moment
    store/...            journals, results, audit record and what else the store holds
    manifest.json        what there is: lengths, hashes, rows; the last but one member
    manifest.sha256      hash of the manifest

The ledger is read in one transaction, first. What the ledger speaks of is on the disk before it does, and is never
changed: results that it knows, journals that only grow, instances that are held before a journal says so. So what is
copied after it, in this order, holds all that it speaks of. Checkpoints of workflows are left out: what was under way
is begun again, which is what a node that was killed does too; results have the same UIDs then, and an archive that has
them takes them once. Rows are plain, so that a backup of SQLite may be restored into PostgreSQL and back. Accounts are
a file of their own with SQLite, and stand beside the ledger in PostgreSQL: they are put where the restored node looks.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from pathlib import Path, PurePosixPath
from pkgutil import walk_packages
from typing import Any, Final, Protocol, runtime_checkable

from sqlalchemy import Connection, Engine, Integer, MetaData, Table, TableClause, func, inspect, select, text

import isocenter.clinic
from isocenter.clinic.access.tables import ACCESS, ACCOUNTS_FILE, USERS
from isocenter.clinic.database import open_engine
from isocenter.clinic.workflow.engine import result_folder
from isocenter.clinic.workflow.ledger import ARRIVING, COMPLETE, FAILED, WORKING, Ledger
from isocenter.clinic.workflow.tables import ANSWERS, CURSORS, DELIVERIES, EVENTS, STUDIES
from isocenter.core.errors import CapabilityError, ConfigError, DataError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.version import __version__

__all__ = ["Backup", "Restored", "accounts_beside", "load_ledger", "take_accounts", "unpack", "write_backup"]

_FORMAT: Final = "isocenter-backup"
_FORMAT_VERSION: Final = 1
_PASSING: Final = (
    "spool", "work", "node.lock", "node.json", "web.json", "hindered", "turned", "queue-full", "ledger.db",
    "workflow.db",
)  # fmt: skip
"""What says how a node is now, or is made anew: never in a backup."""
_RESULTS, _HELD, _JOURNAL = "results", "held", "journal"
_PIECE: Final = 1 << 20
_ROWS: Final = 2000
_LONGEST_MANIFEST: Final = 1 << 30
_UNHELD: Final = "its instances were not in the backup; send them again, then have it answered again"


@dataclass(frozen=True)
class Backup:
    """What a backup holds.

    Args:
        file: Where it is.
        made_at: When the ledger was read, in seconds of the epoch.
        files: How many.
        bytes: Of them.
        rows: By table of the ledger.
        instances: Whether held instances are in it.
        sha256: Of its manifest, which holds the hash of everything else.
    """

    file: Path
    made_at: float
    files: int
    bytes: int
    rows: dict[str, int]
    instances: bool
    sha256: str


@dataclass(frozen=True)
class Restored:
    """What was put in place; `unheld` studies were not answered, and their instances are not in the backup."""

    made_at: float
    files: int
    rows: dict[str, int]
    instances: bool
    unheld: int


@runtime_checkable
class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes, b"" at the end."""
        ...


@dataclass
class _Tar:
    """A backup in the making."""

    tar: tarfile.TarFile
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    bytes: int = 0

    def add(self, name: str, stream: Readable, size: int, changed: float) -> None:
        """Add so many bytes of a stream."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, int(changed)
        hashed = _Hashed(stream, size)
        self.tar.addfile(info, hashed)
        self.files[name] = {"bytes": size, "sha256": hashed.digest.hexdigest()}
        self.bytes += size


class _Hashed(io.RawIOBase):
    """The first bytes of a stream, hashed while they are read."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream, self._left, self.digest = stream, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            OSError: The stream ends before its size is reached.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        piece = self._stream.read(wanted)
        if len(piece) < wanted:
            raise OSError("a file became shorter while it was copied")
        self._left -= len(piece)
        self.digest.update(piece)
        return piece


def write_backup(store: Path, ledger: Ledger, to: Path, *, instances: bool = False) -> Backup:
    """Write a backup of a node, which may run.

    Args:
        store: Its folder.
        ledger: Its ledger.
        to: The file: made anew, readable by its owner alone; it stands there whole or not at all.
        instances: Whether held instances are in it: most of a store's bytes.

    Raises:
        ConfigError: The file would stand in the store itself, or there is one already.
        OutputError: It can't be written.
    """
    to = to.absolute()
    if to.exists():
        raise ConfigError(f"{to} is there already; a backup replaces nothing")
    if store.resolve() in to.resolve().parents:
        raise ConfigError("a backup does not stand in the store that it is of")
    with atomic_path(to) as temporary:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w", bufsize=_PIECE) as tar:
            made = _Tar(tar)
            made_at = time.time()
            known = _add_ledger(made, ledger, temporary.with_name(f"{temporary.name}.rows"))
            for place, size in _files_of(store, known, instances=instances):
                _add_file(made, store, place, size)
            manifest = _manifest(made, known, made_at, ledger, instances=instances)
            for name, content in (
                ("manifest.json", manifest),
                ("manifest.sha256", hashlib.sha256(manifest).hexdigest().encode() + b"\n"),
            ):
                info = tarfile.TarInfo(name)
                info.size, info.mode, info.mtime = len(content), 0o600, int(made_at)
                tar.addfile(info, io.BytesIO(content))
    return Backup(to, made_at, len(made.files), made.bytes, known.rows, instances, hashlib.sha256(manifest).hexdigest())


@dataclass
class _Known:
    """What a ledger speaks of."""

    rows: dict[str, int] = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    results: set[str] = field(default_factory=set)


def _add_ledger(made: _Tar, ledger: Ledger, scratch: Path) -> _Known:
    """Add the rows of all tables of the database, as they stood at one moment."""
    known = _Known()
    with _moment(ledger.engine) as connection:
        for name in sorted(inspect(connection).get_table_names()):
            table, count = Table(name, MetaData(), autoload_with=connection), 0
            try:
                with scratch.open("w+b") as stream:
                    scratch.chmod(0o600)
                    # As an option of the query: PostgreSQL hands over all rows at once else.
                    with connection.execute(select(table).execution_options(yield_per=_ROWS)) as rows:
                        for row in rows:
                            line = {k: _written(v) for k, v in row._mapping.items()}
                            stream.write(json.dumps(line).encode() + b"\n")
                            count += 1
                    size = stream.tell()
                    stream.seek(0)
                    made.add(f"ledger/{name}.jsonl", stream, size, time.time())
            finally:
                scratch.unlink(missing_ok=True)
            known.rows[name] = count
        known.cursors = {row.journal: int(row.position) for row in connection.execute(select(CURSORS))}
        answered = select(ANSWERS.c.study, ANSWERS.c.version, ANSWERS.c.rule).distinct()
        for row in connection.execute(answered):
            known.results.add(result_folder(Path(), row.study, row.version, row.rule).as_posix())
        for file in connection.execute(select(DELIVERIES.c.file).distinct()).scalars():
            known.results.add(str(PurePosixPath(file)))
    return known


@contextmanager
def _moment(engine: Engine) -> Iterator[Connection]:
    """A transaction that sees the ledger as it stood when it began, and holds up nobody."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("BEGIN")
            connection.execute(select(func.count()).select_from(CURSORS))  # SQLite takes its picture at the first look
            try:
                yield connection
            finally:
                connection.exec_driver_sql("ROLLBACK")
        return
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection, connection.begin():
        yield connection


def _files_of(store: Path, known: _Known, *, instances: bool) -> Iterator[tuple[Path, int | None]]:
    """Yield the files of a store in the order in which they must be copied, and how much of each; None for all."""
    others = sorted(p for p in store.iterdir() if p.name not in (*_PASSING, _RESULTS, _JOURNAL, _HELD))
    results = {file for name in known.results for file in _plain_files(store / name)}
    yield from ((file, None) for file in sorted(results))
    for file in sorted((store / _JOURNAL).glob("*.jsonl")):
        # Without instances the journals end where the ledger does: what came later is sent again.
        yield file, None if instances else known.cursors.get(file.name, 0)
    for place in others:
        if place.name.startswith(".partial-") or place.name.endswith(("-wal", "-shm", ".pulse")):
            continue
        yield from ((file, None) for file in _plain_files(place))
    if instances:
        yield from ((file, None) for file in _plain_files(store / _HELD))


def _plain_files(place: Path) -> Iterator[Path]:
    """Yield a file, or those of a folder, without what is being written."""
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        passing = file.name.startswith(".partial-") or file.name.endswith((".pulse", ".tmp", "-wal", "-shm"))
        if file.is_file() and not file.is_symlink() and not passing:
            yield file


def _add_file(made: _Tar, store: Path, file: Path, most: int | None) -> None:
    name = f"store/{file.relative_to(store).as_posix()}"
    try:
        if file.suffix == ".db":
            content = _copied_database(file)
            made.add(name, io.BytesIO(content), len(content), file.stat().st_mtime)
            return
        with file.open("rb") as stream:
            told = os.fstat(stream.fileno())
            made.add(name, stream, told.st_size if most is None else min(most, told.st_size), told.st_mtime)
    except FileNotFoundError:
        # Requests of storage commitment, and notes, go when they are done with; nothing else does.
        if file.relative_to(store).parts[0] in (_RESULTS, _HELD, _JOURNAL):
            raise


def _copied_database(file: Path) -> bytes:
    """Return another SQLite database of the store (accounts, say) as it stands at one moment."""
    with (
        closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(":memory:")) as to,
    ):
        source.backup(to)
        return to.serialize()


def _manifest(made: _Tar, known: _Known, made_at: float, ledger: Ledger, *, instances: bool) -> bytes:
    told = {
        "format": _FORMAT, "format_version": _FORMAT_VERSION, "isocenter": __version__, "made_at": made_at,
        "database": ledger.engine.dialect.name, "instances": instances, "rows": known.rows, "files": made.files,
    }  # fmt: skip
    return json.dumps(told, indent=1).encode()


def unpack(file: Path, folder: Path) -> dict[str, Any]:
    """Unpack a backup into an empty folder, all of it checked; return its manifest.

    Args:
        file: The backup.
        folder: Gets `store/` and `ledger/`.

    Raises:
        DataError: It is no backup, is cut off, or something in it is not what its manifest says.
        OutputError: The folder can't be written.
    """
    found: dict[str, dict[str, Any]] = {}
    loose: dict[str, bytes] = {}
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                stream = tar.extractfile(member) if member.isfile() else None
                if stream is None or not _is_safe(member.name) or member.name in found:
                    raise DataError("something in it has no place in a backup", source=file)
                if member.name.startswith("manifest."):
                    if member.size > _LONGEST_MANIFEST:
                        raise DataError("its manifest is too long", source=file)
                    loose[member.name] = stream.read()
                    continue
                found[member.name] = _unpacked(stream, folder / member.name, member)
    except (tarfile.TarError, EOFError) as error:
        raise DataError("it is no backup, or is cut off", source=file) from error
    except FileNotFoundError as error:
        raise explain_os_error(error, file, doing="read") from error
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    return _checked_manifest(file, loose, found)


def _unpacked(stream: Readable, to: Path, member: tarfile.TarInfo) -> dict[str, Any]:
    to.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while piece := stream.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            out.write(piece)
    os.utime(to, (member.mtime, member.mtime))
    return {"bytes": size, "sha256": digest.hexdigest()}


def _is_safe(name: str) -> bool:
    parts = PurePosixPath(name).parts
    inside = bool(parts) and not name.startswith("/") and ".." not in parts and "\\" not in name
    return inside and (
        (parts[0] in ("store", "ledger") and len(parts) > 1) or name in ("manifest.json", "manifest.sha256")
    )


def _checked_manifest(file: Path, loose: dict[str, bytes], found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    content = loose.get("manifest.json", b"")
    if not content or hashlib.sha256(content).hexdigest().encode() != loose.get("manifest.sha256", b"").strip():
        raise DataError("it has no manifest, or one that was altered; it was cut off, or is no backup", source=file)
    manifest = json.loads(content)
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise DataError("it is no backup of a node", source=file)
    if manifest.get("format_version") != _FORMAT_VERSION:
        raise DataError("it is of another version of Isocenter; restore it with that one", source=file)
    if manifest["files"] != found:
        raise DataError("something in it is not what its manifest says; nothing was restored", source=file)
    return manifest


def load_ledger(
    connection: Connection, folder: Path, manifest: dict[str, Any], accounts: Connection | None = None
) -> int:
    """Fill empty tables from an unpacked backup, in the caller's transaction; return how many studies lack instances.

    Args:
        connection: To a database that holds nothing yet.
        folder: Where it was unpacked.
        manifest: From `unpack`.
        accounts: To the database of the accounts, where it is another.

    Raises:
        ConfigError: The tables are not empty: another node's ledger is there.
        DataError: A table of the backup is not known, or has other rows than the manifest says.
    """
    for name in inspect(connection).get_table_names():
        if connection.scalar(select(func.count()).select_from(TableClause(name))):
            raise ConfigError("the database holds a ledger already; a backup is restored into an empty one")
    _refuse_checkpoints(connection)
    tables = _tables()
    unknown = sorted(set(manifest["rows"]) - {table.name for table in tables})
    if unknown:
        raise DataError(f"this version or installation does not know its tables {', '.join(unknown)}", source=folder)
    for table in tables:
        if table.name not in manifest["rows"]:
            continue  # of an older version, which had no such table
        to = accounts if accounts is not None and table.metadata is ACCESS else connection
        table.create(to, checkfirst=True)
        file = folder / "ledger" / f"{table.name}.jsonl"
        count = 0
        with file.open("rb") as stream:
            while lines := list(islice(stream, _ROWS)):
                to.execute(table.insert(), [{k: _read(v) for k, v in json.loads(n).items()} for n in lines])
                count += len(lines)
        if count != manifest["rows"][table.name]:
            raise DataError("a table has other rows than the manifest says", source=file)
        _set_sequence(to, table)
    return 0 if manifest["instances"] else _set_aside(connection)


@contextmanager
def accounts_beside(folder: Path, manifest: dict[str, Any]) -> Iterator[Connection | None]:
    """Open a new database for the accounts of a backup that has them beside the ledger; None where it has not.

    Args:
        folder: Where it was unpacked; its store gets the file.
        manifest: From `unpack`.
    """
    if USERS.name not in manifest["rows"]:
        yield None
        return
    file = folder / "store" / ACCOUNTS_FILE
    file.unlink(missing_ok=True)  # of before the node had its tables in PostgreSQL
    engine = open_engine(f"sqlite:///{file}")
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def take_accounts(connection: Connection, folder: Path, manifest: dict[str, Any]) -> None:
    """Fill the tables of accounts of a database from the file that a backup of SQLite has for them, which goes.

    Args:
        connection: To the database.
        folder: Where the backup was unpacked.
        manifest: From `unpack`.
    """
    file = folder / "store" / ACCOUNTS_FILE
    if not file.is_file():
        return
    if USERS.name not in manifest["rows"]:
        source = open_engine(f"sqlite:///{file}")
        try:
            with source.connect() as there:
                names = set(inspect(there).get_table_names())
                for table in ACCESS.sorted_tables:
                    table.create(connection, checkfirst=True)
                    rows = there.execute(select(table)).mappings().all() if table.name in names else ()
                    if rows:
                        connection.execute(table.insert(), [dict(row) for row in rows])
        finally:
            source.dispose()
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        file.with_name(name).unlink(missing_ok=True)


def _tables() -> list[Table]:
    """Return all tables that a node may have in its database, in an order in which they may be filled."""
    found: dict[str, Table] = {}
    for module in walk_packages(isocenter.clinic.__path__, f"{isocenter.clinic.__name__}."):
        try:
            names = vars(import_module(module.name))
        except (ImportError, CapabilityError):
            continue  # an extra that is not installed; what a backup has of it is then told as unknown
        for value in names.values():
            if isinstance(value, MetaData):
                found.update({table.name: table for table in value.sorted_tables})
    return list(found.values())


def _written(value: Any) -> Any:
    return {"base64": b64encode(value).decode()} if isinstance(value, bytes | memoryview) else value


def _read(value: Any) -> Any:
    return b64decode(value["base64"]) if isinstance(value, dict) else value


def _refuse_checkpoints(connection: Connection) -> None:
    """Refuse a database that knows workflows: one of the same study would be taken for done.

    Raises:
        ConfigError: There are some.
    """
    if connection.dialect.name != "postgresql":
        return
    if connection.scalar(text("SELECT to_regclass('dbos.workflow_status')")) and connection.scalar(
        text("SELECT count(*) FROM dbos.workflow_status")
    ):
        raise ConfigError("the database holds checkpoints of another node; a backup is restored into an empty one")


def _set_sequence(connection: Connection, table: Table) -> None:
    """Have PostgreSQL count on after the numbers that were put in."""
    if connection.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        if not isinstance(column.type, Integer):
            continue
        sequence = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column.name}
        )
        if sequence:
            last = int(connection.scalar(select(func.max(column))) or 0)
            connection.execute(
                text("SELECT setval(CAST(:name AS regclass), :last, false)"),
                {"name": sequence, "last": int(last or 0) + 1},
            )


def _set_aside(connection: Connection) -> int:
    """Mark the studies that were not answered yet as failed, where their instances are not there; return how many."""
    waiting = STUDIES.c.state.in_((ARRIVING, COMPLETE, WORKING))
    studies = connection.scalars(select(STUDIES.c.study).where(waiting)).all()
    for study in studies:
        connection.execute(STUDIES.update().where(STUDIES.c.study == study).values(state=FAILED))
        connection.execute(EVENTS.insert().values(at=time.time(), kind=FAILED, study=study, detail=_UNHELD))
    return len(studies)
