"""A Parquet table, a batch of rows at a time, as text cells like any other table's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from isocenter.core.errors import CapabilityError, DataError
from isocenter.data.records.complaints import Complaints
from isocenter.data.records.options import ReadOptions
from isocenter.data.records.rows import Found
from isocenter.data.records.tables.delimited import RawTable
from isocenter.data.records.tables.read import rows_of_table

__all__ = ["stream_parquet"]

_BATCH = 5000


def stream_parquet(path: Path, source: str, options: ReadOptions | None = None) -> Iterator[Found]:
    """Yield what a Parquet file holds; of nested columns nothing, and that is said.

    Raises:
        CapabilityError: pyarrow is not installed.
        DataError: It is no Parquet file, or a damaged one.
    """
    complaints = Complaints(source, "row")
    with _opened(path, source, complaints) as table:
        yield from rows_of_table(table, complaints, options)


@contextmanager
def _opened(path: Path, source: str, complaints: Complaints) -> Iterator[RawTable]:
    try:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise CapabilityError("Parquet needs pyarrow: pip install 'isocenter[archive]'") from error
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            nested = [field.name for field in schema if pa.types.is_nested(field.type)]
            names = [field.name for field in schema if field.name not in nested]
            if not names:
                raise DataError("a Parquet table without a column that can be read", source=source)
            notes = [f"nested columns are not read: {', '.join(nested)}"] if nested else []
            yield RawTable(names, _rows(file, names, complaints), "parquet", notes, unit="row")
    except pa.ArrowException as error:
        raise DataError("no Parquet file, or a damaged one", source=source) from error


def _rows(file: Any, names: list[str], complaints: Complaints) -> Iterator[tuple[int, list[str]]]:
    number = 0
    # A nested column is "name.list.element" to the reader of columns: names with points are asked for as they are.
    for batch in file.iter_batches(batch_size=_BATCH, columns=names):
        columns = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in names]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, [_text(value, number, complaints) for value in values]


def _text(value: Any, number: int, complaints: Complaints) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if value != value else repr(value)
    if isinstance(value, datetime):
        return value.isoformat(" ") if value.time() != datetime.min.time() else value.date().isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        complaints.add("holds bytes that are no text", number)
        return ""
    return str(value)
