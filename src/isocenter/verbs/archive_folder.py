"""What verbs share that work on an archive: the packages it needs, and what it says of its own troubles."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from isocenter.core.errors import CapabilityError

__all__ = ["problems_of", "require_packages"]

_PACKAGES = ("duckdb", "pyarrow")


def require_packages() -> None:
    """Refuse where the packages of an archive are missing.

    Raises:
        CapabilityError: The line that installs them.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise CapabilityError(f'an archive needs {", ".join(missing)}: pip install "isocenter[archive]"')


def problems_of(root: Path) -> list[tuple[str, str, int, str]]:
    """Return what could not be read in an archive, or conflicts: kind, reason, how many, and the first by name."""
    import duckdb

    file = root / "private" / "problems.parquet"
    if not file.is_file():
        return []
    quoted = str(file).replace("'", "''")
    with duckdb.connect() as database:
        # No parameter: DuckDB would import pandas, where it is installed, to look at its type.
        rows = database.execute(
            f"SELECT kind, reason, count(*), min(name) FROM read_parquet('{quoted}') GROUP BY kind, reason "  # noqa: S608
            "ORDER BY CASE kind WHEN 'conflict' THEN 0 WHEN 'refused' THEN 1 WHEN 'suspicious' THEN 2 ELSE 3 END, "
            "count(*) DESC, reason"
        ).fetchall()
    return [(str(k), str(r), int(c), str(f)) for k, r, c, f in rows]
