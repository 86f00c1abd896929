"""How much is missing, by column and by group: shown, because what is missing is seldom missing by chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from isocenter.core.errors import DataError
from isocenter.data.tables.reading import ClinicalTable

__all__ = ["Missing", "missingness", "telling_gaps"]


@dataclass(frozen=True)
class Missing:
    """How much of a column is missing.

    Args:
        column: Its name.
        count: Rows in which it is missing.
        share: Of all rows.
        by_group: Share by group.
    """

    column: str
    count: int
    share: float
    by_group: Mapping[str, float]


def missingness(table: ClinicalTable, groups: Sequence[str] | None = None) -> tuple[Missing, ...]:
    """Return how much of every column is missing.

    Args:
        table: The table.
        groups: The group of each row: a site, a scanner, an outcome; None for no groups.

    Raises:
        DataError: Not one group for each row.
    """
    if groups is not None and len(groups) != len(table):
        raise DataError(f"{len(groups)} groups for {len(table)} rows")
    labels = np.asarray(groups if groups is not None else [""] * len(table), dtype=str)
    found = []
    for name, column in table.columns.items():
        gap = column.missing
        shares = {str(g): float(gap[labels == g].mean()) for g in np.unique(labels)} if groups is not None else {}
        found.append(Missing(name, int(gap.sum()), float(gap.mean()), shares))
    return tuple(found)


def telling_gaps(table: ClinicalTable, happened: Bool[np.ndarray, " n"]) -> tuple[str, ...]:
    """Return columns that are missing for nearly all without the event and hardly any with it, or the other way round.

    Such a column was filled in because of the outcome (a cause of death): its gaps alone tell it.

    Args:
        table: The table.
        happened: Whether each row had the event.
    """
    if happened.all() or not happened.any():
        return ()
    found = []
    for name, column in table.columns.items():
        gap = column.missing
        with_it, without = float(gap[happened].mean()), float(gap[~happened].mean())
        if abs(with_it - without) > _TELLING:
            found.append(name)
    return tuple(found)


_TELLING = 0.8
"""A difference of shares that no mishap of recording makes (a convention of ours)."""
