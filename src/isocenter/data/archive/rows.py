"""Rows in the making: columns that grow, and the table that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from isocenter.data.catalog.schema import (
    INSTANCE_COLUMNS,
    LABEL_COLUMNS,
    RECORD_COLUMNS,
    REPORT_COLUMNS,
    Type,
    arrow_type,
)

__all__ = ["IN_FACE", "IN_PIXELS", "IN_TEXT", "JOURNAL", "Rows"]

IN_TEXT, IN_PIXELS, IN_FACE = "text", "burnt-in text", "face"
"""Where something was removed, in the table `removed`, beside tags and headers of files."""

_ITEM: Mapping[str, Type] = {"item": "text", "hint": "text"}
_IDENTITY: Mapping[str, Type] = {"name_key": "text", "birth_key": "text"}
_MEANING: Mapping[str, Type] = {"placed": "text", "scaled": "text"}
"""Where the pixels of an image lie in the patient, and what their numbers stand for: copies of one UID agree in it."""

JOURNAL: Mapping[str, Mapping[str, Type]] = {
    "items": {
        "item": "text", "hint": "text", "locator": "text", "name": "text", "size": "integer", "stamp": "integer",
        "outcome": "text",
    },
    "instances": {**_ITEM, **_IDENTITY, **_MEANING, **INSTANCE_COLUMNS},
    "persons": {**_ITEM, **_IDENTITY, "patient_key": "text", "patient_from": "text", "sex": "text"},
    "reports": {**_ITEM, "file_key": "text", **REPORT_COLUMNS},
    "records": {**_ITEM, **RECORD_COLUMNS},
    "links": {**_ITEM, "patient_key": "text", "study_uid": "text", "accession_key": "text"},
    "labels": {**_ITEM, "file_key": "text", **LABEL_COLUMNS},
    "splits": {**_ITEM, "cohort": "text", "patient_key": "text", "split": "text"},
    "problems": {**_ITEM, "name": "text", "reason": "text", "kind": "text"},
    "removed": {**_ITEM, "where": "text", "action": "text", "count": "integer"},
}  # fmt: skip
"""Tables of a part of the journal, with their columns. `items`, `problems` and `removed` stay private."""


class Rows:
    """Rows of one part of the journal."""

    def __init__(self) -> None:
        self._columns: dict[str, dict[str, list[Any]]] = {
            name: {column: [] for column in columns} for name, columns in JOURNAL.items()
        }
        # Bound once: a row has some sixty columns, an archive millions of rows.
        self._appends = {
            name: [(column, values.append) for column, values in columns.items() if column not in _ITEM]
            for name, columns in self._columns.items()
        }
        self._item = ("", "")

    def of_item(self, item: str, hint: str) -> None:
        """Say which item the next rows are of."""
        self._item = (item, hint)

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Add a row; what it does not name is not known."""
        columns = self._columns[table]
        columns["item"].append(self._item[0])
        columns["hint"].append(self._item[1])
        get = row.get
        for name, append in self._appends[table]:
            append(get(name))

    def extend(self, table: str, rows: Mapping[str, Sequence[Any]]) -> None:
        """Add several rows, given by columns of one length; what they do not name is not known."""
        count = len(next(iter(rows.values()), ()))
        columns = self._columns[table]
        columns["item"].extend([self._item[0]] * count)
        columns["hint"].extend([self._item[1]] * count)
        for name, values in columns.items():
            if name not in _ITEM:
                values.extend(rows.get(name) or [None] * count)

    def trouble(self, name: str, reason: str, kind: str = "refused") -> None:
        """Add what could not be read, and why."""
        self.add("problems", {"name": name, "reason": reason, "kind": kind})

    def mark(self) -> dict[str, int]:
        """Return how many rows each table has, for `back_to`."""
        return {name: len(columns["item"]) for name, columns in self._columns.items()}

    def back_to(self, mark: Mapping[str, int]) -> None:
        """Take back the rows that were added since a mark: an item gives all of its rows or none."""
        for name, length in mark.items():
            for values in self._columns[name].values():
                del values[length:]

    def count(self, table: str) -> int:
        """Return the number of rows of a table."""
        return len(self._columns[table]["item"])

    def tables(self) -> dict[str, pa.Table]:
        """Return the tables that have rows."""
        out = {}
        for name, columns in self._columns.items():
            if not columns["item"]:
                continue
            kinds = JOURNAL[name]
            schema = pa.schema([(column, pa.type_for_alias(arrow_type(kinds[column]))) for column in columns])
            out[name] = pa.table(
                [pa.array(values, type=schema.field(column).type) for column, values in columns.items()], schema=schema
            )
        return out
