"""Opening the node's databases: SQLite in a file of its owner alone, or PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event

from isocenter.core.errors import ConfigError, OutputError

__all__ = ["open_engine"]

_SQLITE: Final = "sqlite:///"


def open_engine(url: str) -> Engine:
    """Open a database.

    Args:
        url: As SQLAlchemy has it: "sqlite:///FILE", or "postgresql+psycopg://...". A file is made for its owner alone;
            what SQLite puts beside it gets the same mode.

    Raises:
        ConfigError: Others may read the file of a database that is there.
        OutputError: The file can't be made.
    """
    if url.startswith(_SQLITE) and ":memory:" not in url:
        _own(Path(url.removeprefix(_SQLITE)))
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _settle_sqlite)
    return engine


def _own(file: Path) -> None:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OutputError(f"the database can't be opened: {error.strerror}", source=file) from error
    try:
        mode = os.fstat(descriptor).st_mode
    finally:
        os.close(descriptor)
    if os.name == "posix" and mode & 0o077:
        raise ConfigError(f"others may read the database {file}; give it to its owner alone: chmod 600")


def _settle_sqlite(connection: Any, _record: object) -> None:
    # Readers do not wait for the writer, and what is committed outlasts a power cut.
    for line in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {line}")
