"""Opening the node's databases: SQLite in a file of its owner alone, or PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import OperationalError

from isocenter.clinic.modes import tighten
from isocenter.core.errors import OutputError, TransportError

__all__ = ["open_engine"]

_SQLITE: Final = "sqlite:///"


def open_engine(url: str) -> Engine:
    """Open a database.

    Args:
        url: As SQLAlchemy has it: "sqlite:///FILE", or "postgresql+psycopg://...". A file is made for its owner alone,
            or taken away from others; what SQLite puts beside it gets the same mode.

    Raises:
        ConfigError: The file is another's.
        OutputError: The file can't be made.
        TransportError: PostgreSQL does not answer, or does not let this user in.
    """
    if url.startswith(_SQLITE) and url != _SQLITE and ":memory:" not in url:
        file = Path(url.removeprefix(_SQLITE))
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise OutputError(f"the database can't be opened: {error.strerror}", source=file) from error
        tighten(file)
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _settle_sqlite)
        return engine
    try:
        engine.connect().close()
    except OperationalError as error:
        engine.dispose()
        raise TransportError(
            "PostgreSQL does not answer, or does not let us in: is it running, are address, user, password and name of "
            "the database of the URL right?"
        ) from error
    return engine


def _settle_sqlite(connection: Any, _record: object) -> None:
    # Readers do not wait for the writer, and what is committed outlasts a power cut.
    for line in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {line}")
