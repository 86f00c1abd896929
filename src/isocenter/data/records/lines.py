"""A table as JSON, one flat object a line: the keys are the columns."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator

from isocenter.core.errors import DataError
from isocenter.data.records.complaints import Complaints
from isocenter.data.records.options import ReadOptions
from isocenter.data.records.rows import Found
from isocenter.data.records.tables.delimited import MAX_CELL, RawTable
from isocenter.data.records.tables.read import rows_of_table

__all__ = ["stream_lines"]

_SAMPLE = 1000


def stream_lines(stream: io.BufferedIOBase, source: str, options: ReadOptions | None = None) -> Iterator[Found]:
    """Yield what a table of JSON lines holds; a value that is a list or an object is refused with its line.

    Raises:
        DataError: No line is an object.
        ConfigError: An option names what is not there.
    """
    complaints = Complaints(source)
    rows = _objects(stream, complaints)
    sample = list(itertools.islice(rows, _SAMPLE))
    if not sample:
        raise DataError("no line is a JSON object", source=source)
    names = list(dict.fromkeys(key for _, row in sample for key in row))
    cells = _cells(itertools.chain(sample, rows), names, complaints)
    yield from rows_of_table(RawTable(names, cells, "jsonl"), complaints, options)


def _objects(stream: io.BufferedIOBase, complaints: Complaints) -> Iterator[tuple[int, dict[str, object]]]:
    number = 0
    while line := stream.readline(MAX_CELL + 1):
        number += 1
        if len(line) > MAX_CELL:
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_CELL)
            complaints.add("is too long", number)
        elif line.strip():
            try:
                found = json.loads(line.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                complaints.add("is no JSON in UTF-8", number)
                continue
            if isinstance(found, dict):
                yield number, found
            else:
                complaints.add("is no JSON object", number)


def _cells(
    rows: Iterator[tuple[int, dict[str, object]]], names: list[str], complaints: Complaints
) -> Iterator[tuple[int, list[str]]]:
    known = set(names)
    for number, row in rows:
        if set(row) - known:
            complaints.add(f"has a key that the first {_SAMPLE} lines do not have; its value is left out", number)
        cells = []
        for name in names:
            value = row.get(name)
            if isinstance(value, list | dict):
                complaints.add(f"has a list or an object under {name!r}, which is not read", number)
                value = None
            cells.append("" if value is None else str(value).lower() if isinstance(value, bool) else str(value))
        yield number, cells
