"""Tables of people for `isocenter treat`: numbers with a unit, words as groups, one row per person.

A heading states the unit in brackets, as UCUM writes it: "age [a]", "creatinine [umol/L]". Columns of numbers become
one feature, of words one per group; dates are no features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import DataError, UnitsError
from isocenter.verbs.evaluation.tables import Table

__all__ = ["EMPTY", "FeaturePlan", "convert", "feature_plan", "patients_of", "split_heading", "yes_no"]

KEYS = ("patient", "case", "id", "person")
EMPTY = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
_HEADING = re.compile(r"^(?P<name>.*?)\s*\[(?P<unit>.+)\]$")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOST_LEVELS = 20
_UNITS = MappingProxyType({
    "time": {"h": 1 / 24, "d": 1.0, "wk": 7.0, "mo": 30.4375, "a": 365.25},
    "length": {"um": 1e-3, "mm": 1.0, "cm": 10.0, "m": 1000.0},
    "volume": {"uL": 1e-3, "mm3": 1e-3, "mL": 1.0, "cm3": 1.0, "dL": 100.0, "L": 1000.0},
    "mass": {"ug": 1e-3, "mg": 1.0, "g": 1e3, "kg": 1e6},
    "mass concentration": {"ug/L": 1e-3, "mg/L": 1.0, "mg/dL": 10.0, "mg/mL": 1e3, "g/L": 1e3, "g/dL": 1e4},
    "amount concentration": {"nmol/L": 1e-3, "umol/L": 1.0, "mmol/L": 1e3, "mol/L": 1e6},
    "share": {"1": 1.0, "%": 0.01},
})  # fmt: skip


def split_heading(heading: str) -> tuple[str, str]:
    """Return the name and the unit of a heading, "" where it states none.

    Example:
        >>> split_heading("age [a]"), split_heading("lesion SUVmax [{SUVbw}g/ml]"), split_heading("sex")
        (('age', 'a'), ('lesion SUVmax', '{SUVbw}g/ml'), ('sex', ''))
    """
    found = _HEADING.match(heading.strip())
    return (found["name"], found["unit"]) if found else (heading.strip(), "")


def convert(column: str, unit: str, wanted: str) -> float:
    """Return the factor from one unit to another.

    Raises:
        UnitsError: They are not of one kind, or one is not known.

    Example:
        >>> round(convert("haemoglobin", "g/dL", "g/L")), convert("time", "wk", "d")
        (10, 7.0)
    """
    if unit == wanted:
        return 1.0
    for units in _UNITS.values():
        if unit in units and wanted in units:
            return units[unit] / units[wanted]
    raise UnitsError(f"column {column!r}: {unit or 'no unit'} does not convert to {wanted or 'no unit'}")


def patients_of(table: Table) -> tuple[str, ...]:
    """Return the name of each row's person, numbers where the table has no such column.

    Raises:
        DataError: A person stands in two rows: both would be learnt from and held out.
    """
    key = next((name for name in KEYS if name in table.columns), None)
    if key is None:
        return tuple(f"row {number}" for number in range(1, len(table.rows) + 1))
    names, first = table.names(key), dict[str, int]()
    for row, name in enumerate(names):
        before = first.setdefault(name, row)
        if before != row:
            raise DataError(
                f"line {table.line(row)} is of the person of line {table.line(before)}; one row per person is needed",
                source=table.file,
            )
    return tuple(names)


def yes_no(table: Table, column: str) -> Bool[np.ndarray, " n"]:
    """Return a column of yes or no (1 and 0, yes and no, true and false).

    Raises:
        DataError: A cell holds something else.
    """
    words = {"1": True, "0": False, "1.0": True, "0.0": False, "yes": True, "no": False, "true": True, "false": False}
    found = []
    for row, cell in enumerate(table.column(column)):
        if cell.lower() not in words:
            raise DataError(f"line {table.line(row)}: {column} is neither 1 nor 0 (yes nor no)", source=table.file)
        found.append(words[cell.lower()])
    return np.array(found, dtype=bool)


@dataclass(frozen=True)
class _Column:
    """A column as it was learnt from: its unit, or its groups."""

    heading: str
    name: str
    unit: str
    levels: tuple[str, ...]


@dataclass(frozen=True)
class FeaturePlan:
    """Which columns are features, and how.

    Args:
        columns: In order.
        left_out: Column and why it is no feature.
    """

    columns: tuple[_Column, ...]
    left_out: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features: one per column of numbers, one per group of words but the first."""
        return tuple(
            name
            for c in self.columns
            for name in ([f"{c.name}: {level}" for level in c.levels[1:]] if c.levels else [c.heading])
        )

    def values(self, table: Table) -> tuple[Float[np.ndarray, "n q"], list[str | None]]:
        """Return the features of a table's rows, NaN for what is not stated, and of each row what was never seen.

        Raises:
            DataError: A column is not there, or a cell is no number.
            UnitsError: A column's unit does not convert to that learnt from.
        """
        here = {split_heading(heading)[0]: heading for heading in table.columns}
        parts, unseen = [], [None] * len(table.rows)  # type: tuple[list[Float[np.ndarray, "n k"]], list[str | None]]
        for own in self.columns:
            if own.name not in here:
                raise DataError(f"needs a column {own.heading!r}", source=table.file)
            heading = here[own.name]
            cells = table.column(heading)
            if own.levels:
                parts.append(_grouped(own, cells, unseen))
            else:
                factor = convert(own.name, split_heading(heading)[1], own.unit)
                parts.append(factor * _numbers(table, heading, cells)[:, None])
        return np.concatenate(parts, axis=1), unseen


def _grouped(own: _Column, cells: Sequence[str], unseen: list[str | None]) -> Float[np.ndarray, "n k"]:
    for row, cell in enumerate(cells):
        if cell.lower() not in EMPTY and cell not in own.levels:
            unseen[row] = unseen[row] or f"nobody among those learnt from has this value of {own.name}"
    empty = np.array([c.lower() in EMPTY for c in cells])
    found = np.stack([np.array([c == level for c in cells], dtype=float) for level in own.levels[1:]], axis=1)
    found[empty] = np.nan
    return found


def _numbers(table: Table, heading: str, cells: Sequence[str]) -> Float[np.ndarray, " n"]:
    found = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell.lower() in EMPTY:
            continue
        value = _number(cell)
        if value is None:
            raise DataError(f"line {table.line(row)}: {heading} is no number", source=table.file)
        found[row] = value
    return found


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def feature_plan(table: Table, taken: Sequence[str], wanted: Sequence[str] = ()) -> FeaturePlan:
    """Decide which columns are features.

    Args:
        table: Learnt from.
        taken: Headings that are something else (treatment, outcome, harms): never features.
        wanted: Headings to take, with or without their unit; none takes all that can be.

    Raises:
        DataError: A wanted column is not there, is taken, or can't be a feature; or there is none at all.
    """
    by_name = {split_heading(h)[0]: h for h in table.columns} | {h: h for h in table.columns}
    missing = [w for w in wanted if w not in by_name]
    if missing:
        raise DataError(f"needs a column {missing[0]!r}; it has {', '.join(table.columns)}", source=table.file)
    asked = [by_name[w] for w in wanted] or [h for h in table.columns if h not in taken and h not in KEYS]
    columns, left_out = [], []
    for heading in asked:
        if heading in taken:
            raise DataError(f"{heading!r} can't be a feature: it is the treatment or an outcome", source=table.file)
        made = _typed(heading, [c for c in table.column(heading) if c.lower() not in EMPTY])
        if isinstance(made, _Column):
            columns.append(made)
        elif wanted:
            raise DataError(f"{heading!r} can't be a feature: {made}", source=table.file)
        else:
            left_out.append((heading, made))
    if not columns:
        raise DataError("has no column that can be a feature", source=table.file)
    return FeaturePlan(tuple(columns), tuple(left_out))


def _typed(heading: str, cells: Sequence[str]) -> _Column | str:
    """Return a column as a feature, or why it is none."""
    name, unit = split_heading(heading)
    levels = sorted(set(cells))
    if len(levels) < 2:
        return "it is the same for everyone"
    if all(_DATE.match(c) for c in cells):
        return "dates are no features"
    if unit or all(_number(c) is not None for c in cells):
        return _Column(heading, name, unit, ())
    if len(levels) > _MOST_LEVELS:
        return f"its words are of more than {_MOST_LEVELS} kinds"
    return _Column(heading, name, "", tuple(levels))
