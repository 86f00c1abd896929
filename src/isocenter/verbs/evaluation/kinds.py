"""What a table holds, by its columns: survival, reports, or scores."""

from __future__ import annotations

from isocenter.core.errors import DataError
from isocenter.verbs.evaluation.reports import reports_of_table
from isocenter.verbs.evaluation.scores import score_system
from isocenter.verbs.evaluation.survival import survival_of_table
from isocenter.verbs.evaluation.system import System
from isocenter.verbs.evaluation.tables import Table

__all__ = ["table_system"]


def table_system(table: Table, patients: Table | None) -> System:
    """Return the system of a table, whatever it holds.

    Raises:
        DataError: Its columns are of no kind that is known, or a value is not what its column holds.
    """
    columns = set(table.columns)
    try:
        if "event" in columns and {"days", "time"} & columns:
            return survival_of_table(table, patients)
        if {"reference", "report"} <= columns:
            return reports_of_table(table, patients)
        return score_system(table, patients)
    except DataError as error:
        if error.source:
            raise
        raise DataError(str(error), source=table.file) from error
