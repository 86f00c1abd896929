"""What was known when: nothing dated later than the index time is a feature, and no date lies ahead of today.

A column is dated by a second one: "psa [ng/mL]" by "psa date", or by what the caller states. A column of dates is dated
by itself, and becomes the days that it lies before the index time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError
from isocenter.data.tables.columns import Column, DateColumn, NumberColumn
from isocenter.data.tables.reading import ClinicalTable

__all__ = ["InTime", "dating_of", "features_in_time"]

_SUFFIXES = (" date", "_date", " time", "_time")


@dataclass(frozen=True, eq=False)
class InTime:
    """Columns that may be features.

    Args:
        table: With those columns alone; dates are days before the index time.
        refused: Columns that are dated later in some row, and in how many rows.
    """

    table: ClinicalTable
    refused: Mapping[str, int]


def features_in_time(
    table: ClinicalTable,
    index_time: str | None,
    *,
    dated_by: Mapping[str, str] | None = None,
    today: date | None = None,
    refuse: bool = True,
) -> InTime:
    """Keep what was known at the index time.

    Args:
        table: The table.
        index_time: Column of the moment of prediction; None where the table has no dates: then it may have none.
        dated_by: The date column of each column; "NAME date" and "NAME_date" are found without, in any case of letters.
        today: No date lies after it; None does not look.
        refuse: Whether a column that is dated later is an error; else it is left out and named.

    Raises:
        DataError: Dates without an index time, an index time that is missing, dates in the future, a column that is
            dated later than the index time, or (even without `refuse`) a later date that dates no column.
    """
    dates = {name: c for name, c in table.columns.items() if isinstance(c, DateColumn)}
    if today is not None:
        _check_future(table, dates, today)
    if index_time is None:
        if dates:
            raise DataError(
                f"columns of dates ({', '.join(dates)}) need the column of the index time, or what is dated later "
                "can't be told",
                source=table.source,
            )
        return InTime(table, {})
    moment = table.column(index_time)
    if not isinstance(moment, DateColumn):
        raise DataError(f"the index time {index_time!r} holds no dates", source=table.source)
    if moment.missing.any():
        line = int(table.lines[np.flatnonzero(moment.missing)[0]])
        raise DataError(f"line {line} has no index time ({index_time})", source=table.source)
    dating = dating_of(table, dated_by)
    _refuse_undating(table, {n: c for n, c in dates.items() if n != index_time and n not in dating.values()}, moment)
    kept: dict[str, Column] = {}
    refused: dict[str, int] = {}
    for name, column in table.columns.items():
        if name == index_time or name in dating.values():
            continue
        dated = column if isinstance(column, DateColumn) else dates.get(dating.get(name, ""))
        if dated is not None:
            late = ~column.missing & ~dated.missing & dated.later_than(moment)
            unknown = ~column.missing & dated.missing
            if late.any() or unknown.any():
                refused[name] = int((late | unknown).sum())
                continue
        if isinstance(column, DateColumn):
            days = _days_between(column, moment)
            days[column.missing] = np.nan
            kept[f"{name} before {index_time}"] = NumberColumn(f"{name} before {index_time}", "d", days)
        else:
            kept[name] = column
    if refused and refuse:
        told = ", ".join(f"{name} ({count} rows)" for name, count in refused.items())
        raise DataError(
            f"dated later than the index time {index_time!r}, or without a date or time of day that tells: {told}; "
            "what was not known then is no feature: leave these columns out",
            source=table.source,
        )
    return InTime(table.with_columns(kept), refused)


def _check_future(table: ClinicalTable, dates: Mapping[str, DateColumn], today: date) -> None:
    for name, column in dates.items():
        ahead = ~column.missing & (column.days > np.datetime64(today, "D"))
        if ahead.any():
            line = int(table.lines[np.flatnonzero(ahead)[0]])
            raise DataError(
                f"{int(ahead.sum())} dates of {name!r} lie in the future, the first on line {line}; correct them",
                source=table.source,
            )


def _refuse_undating(table: ClinicalTable, dates: Mapping[str, DateColumn], moment: DateColumn) -> None:
    late = {name: int((~c.missing & c.later_than(moment)).sum()) for name, c in dates.items()}
    if any(late.values()):
        told = ", ".join(f"{name} ({count} rows)" for name, count in late.items() if count)
        raise DataError(
            f"dates that are not before the index time {moment.name!r}, and that date no column: {told}; say which "
            "column they date, or leave them out together with what was measured then",
            source=table.source,
        )


def _days_between(column: DateColumn, moment: DateColumn) -> Float[np.ndarray, " n"]:
    """Return days from a column to the moment, with parts of a day where both have a time of day."""
    day = np.timedelta64(1, "D")
    whole = np.asarray((moment.days - column.days) / day, dtype=np.float64)
    if column.timed is None or moment.timed is None:
        return whole
    return np.asarray(np.where(column.timed & moment.timed, (moment.values - column.values) / day, whole))


def dating_of(table: ClinicalTable, stated: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the date column of each column that has one.

    Args:
        table: The table.
        stated: Of columns whose date has another name than "NAME date".

    Raises:
        DataError: What is stated names a column that is not there, or no column of dates.
    """
    dates = {name for name, c in table.columns.items() if isinstance(c, DateColumn)}
    for name, by in (stated or {}).items():
        table.column(name)
        if by not in dates:
            raise DataError(f"{name!r} is said to be dated by {by!r}, which is no column of dates", source=table.source)
    found = dict(stated or {})
    folded = {name.casefold(): name for name in dates}
    for name in table.columns:
        for suffix in _SUFFIXES:
            if name not in found and f"{name}{suffix}" in dates:
                found[name] = f"{name}{suffix}"
        for suffix in _SUFFIXES:
            if name not in found and f"{name}{suffix}".casefold() in folded:
                found[name] = folded[f"{name}{suffix}".casefold()]
    return found
