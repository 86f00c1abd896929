"""Find: what an archive holds of which an expression is true; or any question in SQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_path, make_parent
from isocenter.verbs.archive_folder import require_packages

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ask_sql", "find", "write_rows"]


def find(
    expression: str, archive: Path | str, *, level: str = "series", limit: int | None = None, held: bool = False,
    cohort: str = "", like: str = "", progress: Callable[[str, float], None] | None = None,
) -> pa.Table:  # fmt: skip
    """Find what an expression is true of.

    Args:
        expression: As after WHERE in SQL; "" for all.
        archive: Its folder.
        level: What is returned: series, studies, patients, instances, reports or records.
        limit: At most so many rows.
        held: Whether rows that are held back count too.
        cohort: NAME, NAME-vN or NAME:PART: nothing beyond it is looked for.
        like: A series UID, a file or a text: what is most like it comes first; of a text, reports.
        progress: Called with what is being done and the fraction done.

    Returns:
        The rows.

    Raises:
        ConfigError: The expression is none, or names what there is not.
        DataError: There is no archive.
        CapabilityError: A package is missing.
    """
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.cohorts import read_cohort
    from isocenter.verbs.likeness import find_like

    catalog = open_catalog(Path(archive))
    name, _, part = cohort.partition(":")
    rows = read_cohort(catalog.root, name).part(part) if cohort else None
    if like:
        if held or level != "series":
            raise ConfigError("likeness is of series or reports: leave out the level and held rows")
        return find_like(catalog, like, expression, limit=limit, cohort=rows, progress=progress)
    return catalog.find(expression, level=level, limit=limit, held=held, cohort=rows)


def ask_sql(query: str, archive: Path | str, *, cohort: str = "") -> pa.Table:
    """Ask a catalog by a SELECT of its own.

    Args:
        query: Over patients, studies, series, instances, reports, records, labels and splits.
        archive: Its folder.
        cohort: NAME, NAME-vN or NAME:PART: nothing beyond it is in the tables.

    Raises:
        ConfigError: It is no single SELECT, or names what there is not.
        DataError: There is no archive.
        CapabilityError: A package is missing.
    """
    require_packages()
    from isocenter.data.catalog.catalog import open_catalog
    from isocenter.data.catalog.cohorts import read_cohort

    catalog = open_catalog(Path(archive))
    name, _, part = cohort.partition(":")
    return catalog.sql(query, cohort=read_cohort(catalog.root, name).part(part) if cohort else None)


def write_rows(rows: pa.Table, file: Path) -> None:
    """Write rows to a file: CSV or Parquet, by its ending.

    Raises:
        ConfigError: Another ending.
        OutputError: It can't be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    ending = file.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise ConfigError("rows are written to .csv or .parquet")
    make_parent(file)
    with atomic_path(file) as temporary:
        if ending == ".parquet":
            pyarrow.parquet.write_table(rows, temporary)
        else:
            pyarrow.csv.write_csv(_flat(rows), temporary)


def _flat(rows: pa.Table) -> pa.Table:
    """Return rows whose maps are text, which CSV can hold."""
    import pyarrow as pa

    columns = {
        name: pa.array([None if v is None else str(v) for v in rows.column(name).to_pylist()])
        if pa.types.is_nested(rows.schema.field(name).type)
        else rows.column(name)
        for name in rows.column_names
    }
    return pa.table(columns)
