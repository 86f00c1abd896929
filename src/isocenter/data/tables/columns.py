"""Columns that know what they hold: numbers with a UCUM unit, categories, yes or no, dates.

A heading states the unit in brackets: "age [a]", "creatinine [mg/dL]". A column with a unit holds numbers, and a cell
that is no number is an error with its line. Without a unit, what all cells have in common decides.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from isocenter.core.errors import DataError, UnitsError
from isocenter.core.ucum import convert_units, read_unit

__all__ = [
    "KINDS",
    "MISSING",
    "BooleanColumn",
    "CategoryColumn",
    "Column",
    "DateColumn",
    "FreeTextError",
    "NumberColumn",
    "plain_number",
    "split_heading",
    "typed_column",
]

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?", "."})
"""Cells that say that nothing is known, in small letters."""
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_OTHER_DATE = re.compile(
    r"\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})|\d{4}[./]\d{1,2}[./]\d{1,2}|(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
)
"""Days before months, after them, and as DICOM writes them."""
KINDS = ("number", "category", "boolean", "date")
_YES, _NO = frozenset({"yes", "true", "y", "t"}), frozenset({"no", "false", "n", "f"})
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?)?")
_MOST_LEVELS = 50
_HEADING = re.compile(r"^(?P<name>.*?)\s*\[(?P<unit>.+)\]$")


class FreeTextError(DataError):
    """A column holds words that are too many to be categories."""


@dataclass(frozen=True, eq=False)
class NumberColumn:
    """Numbers of one unit.

    Args:
        name: Without the unit.
        unit: UCUM; "1" for none.
        values: NaN where nothing is known.
    """

    name: str
    unit: str
    values: Float[np.ndarray, " n"]

    @property
    def missing(self) -> Bool[np.ndarray, " n"]:
        """Where nothing is known."""
        return np.asarray(np.isnan(self.values))

    def to(self, unit: str) -> NumberColumn:
        """Return the column in another unit.

        Raises:
            UnitsError: The two do not convert.

        Example:
            >>> NumberColumn("height", "m", np.array([1.7])).to("cm").values.tolist()
            [170.0]
        """
        return NumberColumn(self.name, unit, convert_units(self.values, self.unit, unit, what=f"column {self.name!r}"))


@dataclass(frozen=True, eq=False)
class CategoryColumn:
    """One of several levels each.

    Args:
        name: Of the column.
        levels: Sorted; numbers by their size.
        codes: Place of the level; -1 where nothing is known.
    """

    name: str
    levels: tuple[str, ...]
    codes: Int64[np.ndarray, " n"]

    @property
    def missing(self) -> Bool[np.ndarray, " n"]:
        """Where nothing is known."""
        return self.codes < 0


@dataclass(frozen=True, eq=False)
class BooleanColumn:
    """Yes or no.

    Args:
        name: Of the column.
        values: 1 for yes, 0 for no, NaN where nothing is known.
    """

    name: str
    values: Float[np.ndarray, " n"]

    @property
    def missing(self) -> Bool[np.ndarray, " n"]:
        """Where nothing is known."""
        return np.asarray(np.isnan(self.values))


@dataclass(frozen=True, eq=False)
class DateColumn:
    """Days of the calendar, some or all with a time of day.

    Args:
        name: Of the column.
        values: `datetime64[D]`, or `datetime64[us]` with times of day; NaT where nothing is known.
        timed: Which hold a time of day; None for no one.
    """

    name: str
    values: Shaped[np.ndarray, " n"]
    timed: Bool[np.ndarray, " n"] | None = None

    @property
    def missing(self) -> Bool[np.ndarray, " n"]:
        """Where nothing is known."""
        return np.asarray(np.isnat(self.values))

    @property
    def days(self) -> Shaped[np.ndarray, " n"]:
        """The days alone, `datetime64[D]`."""
        return self.values.astype("datetime64[D]")

    def later_than(self, other: DateColumn) -> Bool[np.ndarray, " n"]:
        """Return where a date is later than another's, or on its day while only one of the two has a time of day."""
        none = np.zeros(len(self.values), dtype=np.bool_)
        mine, its = (none if c.timed is None else c.timed for c in (self, other))
        same_day = self.days == other.days
        return np.asarray((self.days > other.days) | (same_day & ((mine != its) | (self.values > other.values))))


Column = NumberColumn | CategoryColumn | BooleanColumn | DateColumn


def split_heading(heading: str) -> tuple[str, str | None]:
    """Return the name and the unit of a heading.

    Raises:
        UnitsError: The unit is not of UCUM.

    Example:
        >>> split_heading("age [a]"), split_heading("sex"), split_heading("RR [mm[Hg]]")
        (('age', 'a'), ('sex', None), ('RR', 'mm[Hg]'))
    """
    found = _HEADING.match(heading.strip())
    if found is None:
        return heading.strip(), None
    name, unit = found["name"].strip(), found["unit"].strip()
    if not name:
        raise UnitsError(f"the heading {heading!r} is a unit without a name")
    try:
        read_unit(unit)
    except UnitsError as error:
        raise UnitsError(f"heading {heading!r}: {error}") from error
    return name, unit


def typed_column(name: str, unit: str | None, cells: Sequence[str], lines: Sequence[int], kind: str | None) -> Column:
    """Make a column of text into one that knows what it holds.

    Args:
        name: Of the column.
        unit: UCUM; None where the heading has none.
        cells: As they stand.
        lines: Of each, for messages.
        kind: One of `KINDS`, stated by whoever reads; None lets the unit and the cells decide.

    Raises:
        DataError: A cell is not what its column holds, or the words of a column are too many to be categories.
    """
    text = [cell.strip().strip("'\"") for cell in cells]
    known = [t for t in text if t.lower() not in MISSING]
    if unit is not None and kind not in (None, "number"):
        raise UnitsError(f"column {name!r} has a unit and is said to be a {kind}; only numbers have units")
    if kind is None and unit is None:
        _refuse_other_dates(name, known)
    chosen = kind or ("number" if unit is not None else _guess(known))
    if chosen == "number":
        return NumberColumn(
            name, unit or "1", np.array([_number(name, t, n) for t, n in zip(text, lines, strict=True)])
        )
    if chosen == "boolean":
        return BooleanColumn(name, np.array([_yes_no(name, t, n) for t, n in zip(text, lines, strict=True)]))
    if chosen == "date":
        return _dates(name, text, lines)
    return _category(name, text, known, stated=kind is not None)


def _refuse_other_dates(name: str, known: Sequence[str]) -> None:
    """Refuse dates that are not written as dates: read as words or numbers, nobody would see that they are too late."""
    plain = sum(_ISO_DATE.match(cell) is not None for cell in known)
    alike = plain + sum(_OTHER_DATE.fullmatch(cell) is not None for cell in known)
    # With a word among them a column of dates would be one of words.
    if plain < len(known) <= 2 * alike:
        raise DataError(
            f"column {name!r} looks like dates; write them as 2024-01-31, and leave empty what is not known; or say "
            "that it is a category or a number, or leave it out"
        )


def _guess(known: Sequence[str]) -> str:
    small = {t.lower() for t in known}
    if known and small <= _YES | _NO:
        return "boolean"
    if all(_is_number(t) for t in small):
        return "number"
    return "date" if all(_DATE.match(t) for t in known) else "category"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _number(name: str, text: str, line: int) -> float:
    if text.lower() in MISSING:
        return math.nan
    if not _is_number(text):
        raise DataError(
            f"line {line}: {name!r} holds what is no finite number; leave the cell empty if it is not known"
        )
    return float(text)


def _yes_no(name: str, text: str, line: int) -> float:
    small = text.lower()
    if small in MISSING:
        return math.nan
    if small in _YES or small in ("1", "1.0"):
        return 1.0
    if small in _NO or small in ("0", "0.0"):
        return 0.0
    raise DataError(f"line {line}: {name!r} holds what is neither yes nor no (true or false, 1 or 0)")


def _dates(name: str, text: Sequence[str], lines: Sequence[int]) -> DateColumn:
    values = np.array([_date(name, t, n) for t, n in zip(text, lines, strict=True)], dtype="datetime64[us]")
    timed = np.array([len(t) > len("2024-01-31") for t in text]) & ~np.isnat(values)
    days = values.astype("datetime64[D]")
    # A column of midnights alone is how programs write days.
    if not (values[timed] != days[timed]).any():
        return DateColumn(name, days)
    return DateColumn(name, values, timed)


def _date(name: str, text: str, line: int) -> np.datetime64:
    if text.lower() in MISSING:
        return np.datetime64("NaT", "us")
    try:
        if not _MOMENT.fullmatch(text):
            raise ValueError
        return np.datetime64(text, "us")
    except ValueError as error:
        raise DataError(
            f"line {line}: {name!r} holds what is no date; write 2024-01-31, or 2024-01-31T16:05 without a time zone"
        ) from error


def plain_number(number: float) -> str:
    """Return a number as a code is written: whole ones with all their digits and without a point.

    Example:
        >>> plain_number(1234567.0), plain_number(0.5)
        ('1234567', '0.5')
    """
    return str(int(number)) if float(number).is_integer() else str(float(number))


def _code(text: str) -> str:
    try:
        return str(int(text))  # of any length, which a float would round
    except ValueError:
        return plain_number(float(text))


def _category(name: str, text: Sequence[str], known: Sequence[str], *, stated: bool) -> CategoryColumn:
    whole = all(_is_number(t) for t in known)
    # "1" and "1.0" are one level.
    clean = [_code(t) if whole and t.lower() not in MISSING else t for t in text]
    levels = tuple(sorted({c for c in clean if c.lower() not in MISSING}, key=_size if whole else str))
    if len(levels) > _MOST_LEVELS and not stated:
        raise FreeTextError(
            f"{name!r} holds {len(levels)} different words: free text or names are no categories; leave the "
            "column out, or say that it is a category"
        )
    place = {level: n for n, level in enumerate(levels)}
    return CategoryColumn(name, levels, np.array([place.get(c, -1) for c in clean], dtype=np.int64))


def _size(level: str) -> tuple[float, str]:
    return float(level), level
