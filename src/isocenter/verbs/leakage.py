"""Columns that were hardly known when something is predicted: copies of the outcome, telling gaps, names of people."""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np
from jaxtyping import Bool, Float, Int64, Shaped

from isocenter.core.errors import ConfigError
from isocenter.data.tables import CategoryColumn, ClinicalTable, NumberColumn, telling_gaps
from isocenter.evaluate.ranking import auroc, concordance

__all__ = ["copies", "id_columns", "telling"]

_TELLS = 0.97
"""A covariate that by itself puts people in order this well was measured after the event, not before it."""
_LEAST_ORDERED = 10
_LEAST, _MOST_VALUES, _FAR = 5, 10, 0.2
"""People of a level that can tell; values of a number up to which they are levels; errors left of the base rate's."""
_ROWS = ("row", "rowid", "rowname", "rownames", "rownumber", "unnamed0")
_PEOPLE = ("patient", "person", "subject", "participant", "case")
_IDS = frozenset(
    (*_ROWS, *(f"{who}{what}" for who in _PEOPLE for what in ("id", "no", "nr", "number", "code", "name")), "id", "ids",
     "uid", "pid", "mrn", "recordid", "studyid", "sampleid", "subjid", "usubjid", *_PEOPLE, "patients")
)  # fmt: skip
"""Names of columns that name people or rows, in small letters and without what is no letter or digit."""


def telling(table: ClinicalTable, happened: Bool[np.ndarray, " n"], days: Float[np.ndarray, " n"]) -> dict[str, str]:
    """Return columns that tell when an event comes, by their gaps or by themselves, and how.

    Args:
        table: Columns that may be features.
        happened: Whether each row had the event.
        days: Until the event, or until last seen.
    """
    gaps = (
        "missing for nearly all without the event and hardly any with it, or the other way round: it was filled in "
        "because of the outcome"
    )
    found = dict.fromkeys(telling_gaps(table, happened), gaps)
    for name, column in table.columns.items():
        if isinstance(column, NumberColumn) and not column.missing.all():
            seen = ~column.missing
            if int(seen.sum()) < _LEAST_ORDERED:  # a few people are in order by chance
                continue
            order = concordance(days[seen], happened[seen], column.values[seen])
            if not np.isnan(order) and not 1 - _TELLS < order < _TELLS:
                found[name] = f"puts people in the order of their events by itself (C = {max(order, 1 - order):.2f})"
    return found


def id_columns(table: ClinicalTable, used: Collection[str | None], features: Collection[str]) -> list[str]:
    """Return columns that name people and are no features.

    Args:
        table: Read.
        used: Columns that are something else, or are left out.
        features: Columns that were asked for.

    Raises:
        ConfigError: There is one, and no column of the patient was told.
    """
    found = [
        name for name in (*table.columns, *table.text)
        if re.sub(r"[\W_]", "", name.casefold()) in _IDS and name not in used
    ]  # fmt: skip
    if found and not table.patients_known:
        raise ConfigError(
            f"column {found[0]!r} seems to name patients or rows: say so with --patient-column, that rows of one "
            "patient stay together, or leave it out with --leave-out"
        )
    return [name for name in found if name not in features and name in table.columns]


def copies(table: ClinicalTable, codes: Int64[np.ndarray, " n"]) -> dict[str, str]:
    """Return columns that tell the event almost by themselves, whenever it came, and how.

    Args:
        table: Columns that may be features.
        codes: 0 without any event, 1 with the one asked about, 2 and on with competing ones.
    """
    found = {}
    for name, column in table.columns.items():
        seen = ~column.missing
        values = column.codes if isinstance(column, CategoryColumn) else column.values
        # With competing events a column may tell the one asked about, or that there was any.
        for had in (codes == 1, codes > 0):
            why = _copy(values[seen], had[seen], isinstance(column, NumberColumn))
            if why:
                found[name] = why
    return found


def _copy(values: Shaped[np.ndarray, " n"], had: Bool[np.ndarray, " n"], number: bool) -> str:
    """Return how values tell who had the event, or "" where they don't."""
    few = int(min(had.sum(), (~had).sum()))
    if few < _LEAST:
        return ""
    levels, places = np.unique(values, return_inverse=True)
    if not number or len(levels) <= _MOST_VALUES:
        count = np.bincount(places)
        with_it = np.bincount(places, weights=had).astype(np.int64)
        by_all = with_it if had.mean() > 0.5 else count - with_it
        # A level of a few people is right by chance: there the base rate guesses.
        right = np.where(count < _LEAST, by_all, np.maximum(with_it, count - with_it)).sum()
        wrong = len(had) - int(right)
        if wrong < (1 - _TELLS) * len(had) and wrong <= _FAR * few:
            return f"tells who had the event by itself ({right / len(had):.0%} right): a copy of the outcome"
    if number:
        area = auroc(had, values.astype(np.float64))
        if not 1 - _TELLS <= area <= _TELLS:
            return f"tells who had the event by itself (AUC {max(area, 1 - area):.2f}): a copy of the outcome"
    return ""
