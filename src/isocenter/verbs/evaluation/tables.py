"""Tables that users give: read strictly, each complaint with the file and the line, never with a patient's value."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error

__all__ = ["Table", "group_columns", "patients_for", "read_table"]


@dataclass(frozen=True, eq=False)
class Table:
    """A table as text.

    Args:
        file: Where it came from.
        columns: Names, in order.
        rows: By column; every row has every column.
        lines: Of each row in the file, the heading's being the first that is not blank.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]

    def line(self, row: int) -> int:
        """Return the line of the file that a row ends on, counted from 1."""
        return self.lines[row]

    def in_order(self, cases: Sequence[str]) -> Table:
        """Return the table with its rows in the order of these cases; as it is where it is of other ones."""
        place = {row.get("case", ""): number for number, row in enumerate(self.rows)}
        if len(place) != len(self.rows) or set(place) != set(cases):
            return self
        order = [place[case] for case in cases]
        return Table(self.file, self.columns, tuple(self.rows[i] for i in order), tuple(self.lines[i] for i in order))

    def column(self, name: str) -> list[str]:
        """Return a column.

        Raises:
            DataError: There is none of the name.
        """
        if name not in self.columns:
            raise DataError(f"needs a column {name!r}; it has {', '.join(self.columns)}", source=self.file)
        return [row[name] for row in self.rows]

    def numbers(
        self, name: str, *, low: float = -math.inf, high: float = math.inf, what: str = "number"
    ) -> list[float]:
        """Return a column of finite numbers.

        Args:
            name: Of the column.
            low: Least that is allowed.
            high: Largest that is allowed.
            what: What a value is, for the message.

        Raises:
            DataError: A cell is empty, no number, not finite, or outside the limits.
        """
        found = []
        for row, text in enumerate(self.column(name)):
            try:
                value = float(text)
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                said = (
                    "is empty" if not text else "is NaN or infinite" if text.lower() in _NOT_FINITE else "is no number"
                )
                raise DataError(f"line {self.line(row)}: {name} {said}; a {what} is needed", source=self.file)
            if not low <= value <= high:
                limits = f"{low:g} or more" if math.isinf(high) else f"from {low:g} to {high:g}"
                raise DataError(
                    f"line {self.line(row)}: {name} is out of range; a {what} is {limits}", source=self.file
                )
            found.append(value)
        return found

    def names(self, name: str) -> list[str]:
        """Return a column of words, none empty.

        Raises:
            DataError: A cell is empty.
        """
        found = self.column(name)
        for row, text in enumerate(found):
            if not text:
                raise DataError(f"line {self.line(row)}: {name} is empty", source=self.file)
        return found

    def cases(self) -> list[str]:
        """Return the column `case`: every case once.

        Raises:
            DataError: A case is named twice, or not at all.
        """
        found = self.names("case")
        first: dict[str, int] = {}
        for row, name in enumerate(found):
            before = first.setdefault(name, row)
            if before != row:
                raise DataError(
                    f"line {self.line(row)} names the case of line {self.line(before)} again; a case is counted once: "
                    "take one of the two out",
                    source=self.file,
                )
        return found


_NOT_FINITE = ("nan", "inf", "-inf", "+inf", "infinity", "-infinity")


def read_table(file: Path) -> Table:
    """Read a CSV table with a heading.

    Raises:
        DataError: It can't be read, has no row, a column twice, or a row of another length.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            numbered = [(line, reader.line_num) for line in reader if line]
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError("not a CSV table in UTF-8", source=file) from error
    lines, numbers = [line for line, _ in numbered], [number for _, number in numbered]
    if len(lines) < 2:
        raise DataError("needs a heading and a row", source=file)
    columns = [name.strip() for name in lines[0]]
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice or "" in columns:
        raise DataError(f"column {twice[0] if twice else ''!r} stands twice, or a column has no name", source=file)
    for line, number in zip(lines[1:], numbers[1:], strict=True):
        if len(line) != len(columns):
            raise DataError(f"line {number} has {len(line)} cells, the heading has {len(columns)}", source=file)
    rows = tuple(dict(zip(columns, (cell.strip() for cell in line), strict=True)) for line in lines[1:])
    return Table(file, tuple(columns), rows, tuple(numbers[1:]))


def patients_for(cases: Sequence[str], table: Table | None) -> tuple[list[str], bool, tuple[str, ...]]:
    """Return the patient of each case, whether that is known, and notes.

    Args:
        cases: Names.
        table: With the columns case and patient; None where there is none, and each case counts as a patient.

    Raises:
        DataError: A case is not in the table, or stands in it twice.
    """
    if table is None:
        note = (
            "which cases are of one patient is not known: each counts as one, and intervals are too narrow where some "
            "are of the same (give --patients TABLE)"
        )
        return list(cases), False, (note,)
    known = dict(zip(table.cases(), table.names("patient"), strict=True))
    lost = [number for number, case in enumerate(cases, start=1) if case not in known]
    if lost:
        raise DataError(f"does not name the patient of {len(lost)} cases, case {lost[0]} first", source=table.file)
    found = [known[case] for case in cases]
    return found, True, several(found)


def several(patients: Sequence[str]) -> tuple[str, ...]:
    """Return a note where patients have more than one case."""
    more = [name for name, count in Counter(patients).items() if count > 1]
    if not more:
        return ()
    return (f"{len(more)} of {len(set(patients))} patients have more than one case: whole patients are resampled",)


def group_columns(
    cases: Sequence[str], patients: Sequence[str], table: Table
) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Return the columns of a table of groups for each case, found by case or by patient, and notes.

    Raises:
        DataError: The table has neither a column case nor patient, no other column, or one key twice.
    """
    key = next((name for name in ("case", "patient") if name in table.columns), None)
    columns = [name for name in table.columns if name not in ("case", "patient")]
    if key is None or not columns:
        raise DataError("needs a column 'case' or 'patient', and one to make groups of", source=table.file)
    keys = table.cases() if key == "case" else table.names("patient")
    at: dict[str, int] = {}
    for row, name in enumerate(keys):
        before = at.setdefault(name, row)
        if before != row:
            raise DataError(
                f"line {table.line(row)} names the {key} of line {table.line(before)} again", source=table.file
            )
    wanted = cases if key == "case" else patients
    rows = [table.rows[at[name]] if name in at else None for name in wanted]
    notes = []
    lost = sum(row is None for row in rows)
    if lost:
        notes.append(f"{lost} of {len(rows)} cases are not in the table of groups: they count as 'not stated'")
    unused = len(set(at) - set(wanted))
    if unused:
        notes.append(f"{unused} rows of the table of groups are of no case here")
    return {name: ["" if row is None else row[name] for row in rows] for name in columns}, tuple(notes)
