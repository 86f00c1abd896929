"""Which files of a folder an archive has taken in, as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb

from isocenter.data.archive.layout import Archive

__all__ = ["taken_dicom"]


def taken_dicom(archive: Archive, folder: Path) -> Iterator[Path]:
    """Yield the DICOM files below a folder that the archive has taken in and that have not changed since.

    What was refused is not among them, nor what was lost.

    Args:
        archive: The archive.
        folder: As its name was given when it was taken in.
    """
    if not any(archive.journal.glob("[0-9]*/items.parquet")):
        return
    with closing(duckdb.connect(config={"memory_limit": "256MB", "threads": 1})) as database:
        reader = database.execute(
            "SELECT DISTINCT locator, size, stamp FROM read_parquet(?) WHERE outcome = 'dicom' "
            "AND starts_with(locator, ?) ORDER BY locator",
            [str(archive.journal / "[0-9]*" / "items.parquet"), f"{folder}/"],
        )
        while rows := reader.fetchmany(10_000):
            for locator, size, stamp in rows:
                path = Path(locator)
                if not path.is_file():
                    continue
                status = path.stat()
                if (status.st_size, status.st_mtime_ns & 0x7FFFFFFFFFFFFFFF) == (size, stamp):
                    yield path
