"""Time to an event: in days, seen or censored, or ended by a competing event. What cannot be is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from isocenter.core.errors import DataError
from isocenter.core.ucum import convert_units
from isocenter.data.tables.columns import BooleanColumn, CategoryColumn, DateColumn, plain_number
from isocenter.data.tables.reading import ClinicalTable

__all__ = ["Codes", "Outcome", "read_outcome"]


@dataclass(frozen=True)
class Codes:
    """What the values of an event column mean.

    Args:
        event: The value of the event that is asked about ("1"; of yes or no, yes).
        censored: The value of those who were last seen without any event ("0"; no).
        competing: Values of events after which the one asked about can't happen any more.
    """

    event: str = "1"
    censored: str = "0"
    competing: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Outcome:
    """Times to an event.

    Args:
        days: Until the event, a competing one, or until last seen.
        codes: 0 censored, 1 the event, 2 and on competing events, in the order stated.
        competing: Their values.
        known: Which rows of the table have an outcome; `days` and `codes` are of these.
    """

    days: Float[np.ndarray, " n"]
    codes: Int64[np.ndarray, " n"]
    competing: tuple[str, ...]
    known: Bool[np.ndarray, " rows"]

    @property
    def happened(self) -> Bool[np.ndarray, " n"]:
        """Whether the event asked about happened."""
        return np.asarray(self.codes == 1)


def read_outcome(table: ClinicalTable, time: str, event: str, codes: Codes = Codes()) -> Outcome:
    """Read times to an event.

    Args:
        table: The table.
        time: Column of numbers; its unit is converted to days, and without a unit it is of days.
        event: Column of codes, words or yes and no.
        codes: What they mean.

    Raises:
        DataError: A column is missing or of another kind, a time is negative, a value of the event column is not
            explained, or nobody had the event.
        UnitsError: The unit of the time is none of time.
    """
    column = table.column(time)
    if isinstance(column, DateColumn | CategoryColumn | BooleanColumn):
        raise DataError(f"the time {time!r} must hold numbers (days since the index time)", source=table.source)
    days = column.values
    if column.unit != "1":
        days = convert_units(days, column.unit, "d", what=f"column {time!r}")
    values = _values(table, event)
    known = ~np.isnan(days) & (values != "")
    _refuse_negative(table, time, days)
    meant = {codes.censored: 0, codes.event: 1, **{c: n for n, c in enumerate(codes.competing, start=2)}}
    if len(meant) != 2 + len(codes.competing):
        raise DataError("the values of event, censored and competing must differ")
    strange = set(values[known]) - set(meant)
    if strange:
        raise DataError(
            f"{event!r} holds {len(strange)} different values that are not explained: say which value is the event, "
            "which is censored, and which are competing events",
            source=table.source,
        )
    numbers = np.array([meant[v] for v in values[known]], dtype=np.int64)
    if not (numbers == 1).any():
        raise DataError(
            f"nobody had the event: no row of {event!r} holds {codes.event!r}; nothing can be learnt",
            source=table.source,
        )
    if not days[known].max() > 0:
        raise DataError(f"all times of {time!r} are 0", source=table.source)
    return Outcome(days[known], numbers, codes.competing, known)


def _values(table: ClinicalTable, event: str) -> Shaped[np.ndarray, " n"]:
    """Return an event column as words, "" where nothing is known; yes and no are 1 and 0."""
    column = table.column(event)
    if isinstance(column, DateColumn):
        raise DataError(
            f"the event {event!r} holds dates; it must hold codes, words or yes and no", source=table.source
        )
    if isinstance(column, CategoryColumn):
        return np.array([column.levels[c] if c >= 0 else "" for c in column.codes], dtype=object)
    return np.array(["" if np.isnan(v) else plain_number(float(v)) for v in column.values], dtype=object)


def _refuse_negative(table: ClinicalTable, time: str, days: Float[np.ndarray, " n"]) -> None:
    below = np.flatnonzero(days < 0)
    if len(below):
        raise DataError(
            f"{len(below)} times of {time!r} are negative, the first on line {int(table.lines[below[0]])}: an event "
            "before the index time is no outcome; correct the rows or leave them out",
            source=table.source,
        )
