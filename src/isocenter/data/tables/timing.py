"""What was known when: nothing dated later than the index time is a feature, and no date lies ahead of today.

A column is dated by a second one: "psa [ng/mL]" by "psa date", or by what the caller states. A column of dates is dated
by itself, and becomes the days that it lies before the index time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np

from isocenter.core.errors import DataError
from isocenter.data.tables.columns import Column, DateColumn, NumberColumn
from isocenter.data.tables.reading import ClinicalTable

__all__ = ["InTime", "features_in_time"]

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
        dated_by: The date column of each column; "NAME date" and "NAME_date" are found without.
        today: No date lies after it; None does not look.
        refuse: Whether a column that is dated later is an error; else it is left out and named.

    Raises:
        DataError: Dates without an index time, an index time that is missing, dates in the future, or a column that is
            dated later than the index time.
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
    dating = _dating(table, dates, dated_by or {})
    kept: dict[str, Column] = {}
    refused: dict[str, int] = {}
    for name, column in table.columns.items():
        if name == index_time or name in dating.values():
            continue
        dated = column if isinstance(column, DateColumn) else dates.get(dating.get(name, ""))
        if dated is not None:
            late = ~column.missing & ~dated.missing & (dated.values > moment.values)
            unknown = ~column.missing & dated.missing
            if late.any() or unknown.any():
                refused[name] = int((late | unknown).sum())
                continue
        if isinstance(column, DateColumn):
            days = (moment.values - column.values).astype(np.float64)
            days[column.missing] = np.nan
            kept[f"{name} before {index_time}"] = NumberColumn(f"{name} before {index_time}", "d", days)
        else:
            kept[name] = column
    if refused and refuse:
        told = ", ".join(f"{name} ({count} rows)" for name, count in refused.items())
        raise DataError(
            f"dated later than the index time {index_time!r}, or without a date: {told}; what was not known then is no "
            "feature: leave these columns out",
            source=table.source,
        )
    return InTime(table.with_columns(kept), refused)


def _check_future(table: ClinicalTable, dates: Mapping[str, DateColumn], today: date) -> None:
    for name, column in dates.items():
        ahead = ~column.missing & (column.values > np.datetime64(today, "D"))
        if ahead.any():
            line = int(table.lines[np.flatnonzero(ahead)[0]])
            raise DataError(
                f"{int(ahead.sum())} dates of {name!r} lie in the future, the first on line {line}; correct them",
                source=table.source,
            )


def _dating(table: ClinicalTable, dates: Mapping[str, DateColumn], stated: Mapping[str, str]) -> dict[str, str]:
    for name, by in stated.items():
        table.column(name)
        if by not in dates:
            raise DataError(f"{name!r} is said to be dated by {by!r}, which is no column of dates", source=table.source)
    found = dict(stated)
    for name in table.columns:
        for suffix in _SUFFIXES:
            if name not in found and f"{name}{suffix}" in dates:
                found[name] = f"{name}{suffix}"
    return found
