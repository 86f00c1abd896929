"""A clinical table from a CSV or ARFF file: every column typed, every complaint with its file and line."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.tables.columns import (
    KINDS,
    BooleanColumn,
    CategoryColumn,
    Column,
    DateColumn,
    FreeTextError,
    NumberColumn,
    split_heading,
    typed_column,
)

__all__ = ["ClinicalTable", "read_cells", "read_clinical", "table_of_cells"]

_ATTRIBUTE = re.compile(r"^@attribute\s+(?P<name>'[^']*'|\"[^\"]*\"|\S+)\s+(?P<kind>.+)$", re.IGNORECASE)
_ROW = "row"
"""Name of a first column without a heading."""
_NUMERIC = ("numeric", "real", "integer")


@dataclass(frozen=True, eq=False)
class ClinicalTable:
    """A table of people.

    Args:
        source: Where it came from.
        columns: By name, in order.
        lines: Of each row in the file.
        patients: Of each row; the number of the row where no column says it.
        patients_known: Whether a column says it.
        text: Columns of free text that were not typed, by name: they are no features.
        row_names: Whether a first column without a heading was dropped: a name or number for each row, all different.
    """

    source: str
    columns: Mapping[str, Column]
    lines: Int64[np.ndarray, " n"]
    patients: tuple[str, ...]
    patients_known: bool
    text: tuple[str, ...] = field(default=())
    row_names: bool = False

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, name: str) -> Column:
        """Return a column.

        Raises:
            DataError: There is none of the name.
        """
        if name not in self.columns:
            raise DataError(f"needs a column {name!r}; it has {', '.join(self.columns)}", source=self.source)
        return self.columns[name]

    def number(self, name: str, unit: str | None = None) -> NumberColumn:
        """Return a column of numbers, in a unit if one is asked for.

        Raises:
            DataError: There is none of the name, or it holds no numbers.
            UnitsError: It does not convert.
        """
        column = self.column(name)
        if not isinstance(column, NumberColumn):
            raise DataError(f"column {name!r} holds no numbers", source=self.source)
        return column if unit is None else column.to(unit)

    def rows(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " k"]) -> ClinicalTable:
        """Return some of the rows."""
        places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        columns: dict[str, Column] = {}
        for name, column in self.columns.items():
            columns[name] = _part(column, places)
        patients = tuple(self.patients[p] for p in places)
        return replace(self, columns=columns, lines=self.lines[places], patients=patients)

    def with_columns(self, columns: Mapping[str, Column]) -> ClinicalTable:
        """Return the same rows with other columns."""
        return replace(self, columns=columns)


def _part(column: Column, places: Int64[np.ndarray, " k"]) -> Column:
    if isinstance(column, NumberColumn):
        return NumberColumn(column.name, column.unit, column.values[places])
    if isinstance(column, CategoryColumn):
        return CategoryColumn(column.name, column.levels, column.codes[places])
    if isinstance(column, BooleanColumn):
        return BooleanColumn(column.name, column.values[places])
    return DateColumn(column.name, column.values[places], None if column.timed is None else column.timed[places])


def read_clinical(
    file: Path,
    *,
    kinds: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    patient: str | None = None,
    leave_out: Collection[str] = (),
    lenient_kinds: Mapping[str, str] | None = None,
) -> ClinicalTable:
    """Read a clinical table.

    Args:
        file: CSV with a heading (units in brackets: "age [a]"), or ARFF (.arff).
        kinds: What columns hold, by name: number, category, boolean or date; others are told by their cells. Numbers
            that are codes (1 male, 2 female) must be said to be categories.
        units: Units wanted, by name: columns are converted.
        patient: Column of the patient; several rows of one are kept together. None: each row is a patient of its own.
        leave_out: Columns that are not read.
        lenient_kinds: As `kinds`, of columns that need not be there.

    Raises:
        DataError: It can't be read, has no row, a column twice, a row of another length, or a cell that is not what its
            column holds.
        UnitsError: A unit is not of UCUM or does not convert.
        ConfigError: A setting names a column that there is not, or a kind that there is not.
    """
    heading, rows, stated = read_cells(file)
    names = _names(heading, file)
    for setting in (kinds or {}, units or {}, dict.fromkeys(leave_out, ""), {patient: ""} if patient else {}):
        for name in setting:
            if name not in names:
                raise ConfigError(f"there is no column {name!r} in {file.name}; it has {', '.join(names)}")
    asked = {**stated, **{k: v for k, v in (lenient_kinds or {}).items() if k in names}, **(kinds or {})}
    for name, kind in asked.items():
        if kind not in KINDS:
            raise ConfigError(f"column {name!r}: {kind!r} is none of {', '.join(KINDS)}")
    cells = [row[0] for _, row in rows]
    row_names = not split_heading(heading[0])[0] and patient != _ROW and len(set(cells)) == len(cells)
    skipped = {patient, *leave_out, *([_ROW] if row_names else [])}
    columns, unread = _typed(names, rows, asked, skipped, str(file))
    for name, wanted in (units or {}).items():
        made = columns.get(name)
        if not isinstance(made, NumberColumn):
            raise DataError(f"column {name!r} holds no numbers, and so has no unit", source=file)
        # A column without a unit is not given one by wishing: its heading must say it.
        columns[name] = made.to(wanted)
    lines = np.array([number for number, _ in rows], dtype=np.int64)
    patients = _patients(list(names), rows, patient, file)
    return ClinicalTable(str(file), columns, lines, patients, patient is not None, unread, row_names)


def read_cells(file: Path) -> tuple[list[str], list[tuple[int, list[str]]], dict[str, str]]:
    """Return the heading, the rows with their lines, and what kinds the file states, of a CSV or ARFF file.

    Raises:
        DataError: It can't be read, has no row, or a row of another length.
    """
    try:
        # Bytes are read whole: a table of people is small, and a bad encoding is then one error.
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except UnicodeDecodeError as error:
        raise DataError("not a table in UTF-8", source=file) from error
    return _arff(text, file) if file.suffix.lower() == ".arff" else _csv(text, file)


def table_of_cells(
    people: Sequence[Mapping[str, str]], source: str, *, lenient_kinds: Mapping[str, str] | None = None
) -> ClinicalTable:
    """Make a table of people that are given as words.

    Args:
        people: Of each, cells by heading ("age [a]").
        source: What they are called in messages.
        lenient_kinds: What columns hold, by name.

    Raises:
        DataError: A column twice, or a cell that is not what its column holds.

    Example:
        >>> table_of_cells([{"age [a]": "61"}], "a person").number("age", "mo").values.round(6).tolist()
        [732.0]
    """
    heading = list(dict.fromkeys(name for person in people for name in person))
    names = _names(heading, source)
    rows = [(number, [person.get(h, "") for h in heading]) for number, person in enumerate(people, start=1)]
    asked = {name: kind for name, kind in (lenient_kinds or {}).items() if name in names}
    columns, unread = _typed(names, rows, asked, set(), source)
    lines = np.arange(1, len(people) + 1)
    return ClinicalTable(source, columns, lines, tuple(f"row {n}" for n in lines), False, unread)


def _typed(
    names: Mapping[str, str | None],
    rows: Sequence[tuple[int, list[str]]],
    asked: Mapping[str, str],
    skipped: Collection[str | None],
    source: str,
) -> tuple[dict[str, Column], tuple[str, ...]]:
    """Return typed columns, and the names of those of free text."""
    columns: dict[str, Column] = {}
    unread: list[str] = []
    lines = [number for number, _ in rows]
    for place, (name, unit) in enumerate(names.items()):
        if name in skipped:
            continue
        try:
            columns[name] = typed_column(name, unit, [cells[place] for _, cells in rows], lines, asked.get(name))
        except FreeTextError:
            unread.append(name)
        except DataError as error:
            raise type(error)(str(error), source=source) from error
    return columns, tuple(unread)


def _names(heading: Sequence[str], file: Path | str) -> dict[str, str | None]:
    found = []
    for text in heading:
        try:
            found.append(split_heading(text))
        except DataError as error:
            raise type(error)(str(error), source=file) from error
    twice = [name for name, count in Counter(name for name, _ in found).items() if count > 1 and name]
    if twice or any(not name for name, _ in found[1:]):
        raise DataError(f"column {twice[0] if twice else ''!r} stands twice, or a column has no name", source=file)
    # A first column without a heading is what spreadsheets and data frames write for the row's name.
    return {name or _ROW: unit for name, unit in found}


def _patients(
    names: Sequence[str], rows: Sequence[tuple[int, list[str]]], patient: str | None, file: Path
) -> tuple[str, ...]:
    if patient is None:
        return tuple(f"row {number}" for number, _ in rows)
    place = names.index(patient)
    for number, cells in rows:
        if not cells[place].strip():
            raise DataError(f"line {number} has no patient", source=file)
    return tuple(cells[place].strip() for _, cells in rows)


def _csv(text: str, file: Path) -> tuple[list[str], list[tuple[int, list[str]]], dict[str, str]]:
    try:
        reader = csv.reader(text.splitlines(keepends=True))
        numbered = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise DataError("not a CSV table", source=file) from error
    if len(numbered) < 2:
        raise DataError("needs a heading and a row", source=file)
    heading = numbered[0][1]
    _check_lengths(numbered[1:], len(heading), file)
    return heading, numbered[1:], {}


def _arff(text: str, file: Path) -> tuple[list[str], list[tuple[int, list[str]]], dict[str, str]]:
    """Read an ARFF file (Weka): attributes numeric or nominal, rows separated by commas, ? for nothing known."""
    heading: list[str] = []
    kinds: dict[str, str] = {}
    rows: list[tuple[int, list[str]]] = []
    data = False
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("%"):
            continue
        if data:
            rows.append((number, next(csv.reader([line], quotechar="'", skipinitialspace=True))))
        elif line.lower().startswith("@data"):
            data = True
        elif found := _ATTRIBUTE.match(line):
            heading.append(found["name"].strip("'\""))
            kind = found["kind"].strip().lower()
            name = split_heading(heading[-1])[0]
            if kind in _NUMERIC:
                kinds[name] = "number"
            elif kind.startswith("{"):
                values = {v.strip().strip("'\"").lower() for v in kind.strip("{}").split(",")}
                kinds[name] = "boolean" if values <= {"yes", "no"} or values == {"0", "1"} else "category"
            elif kind.startswith("date"):
                kinds[name] = "date"
        elif not line.lower().startswith("@relation"):
            raise DataError(f"line {number} is not of an ARFF file", source=file)
    if not heading or not rows:
        raise DataError("needs attributes and a row", source=file)
    _check_lengths(rows, len(heading), file)
    return heading, rows, kinds


def _check_lengths(rows: Sequence[tuple[int, list[str]]], expected: int, file: Path) -> None:
    for number, cells in rows:
        if len(cells) != expected:
            raise DataError(f"line {number} has {len(cells)} cells, the heading has {expected}", source=file)
