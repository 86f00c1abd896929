"""What a table holds, by its columns: survival, reports, candidates of queries, Dice by click, or scores."""

from __future__ import annotations

from typing import Literal

from isocenter.core.errors import DataError
from isocenter.verbs.evaluation.interactive import CLICK_COLUMNS, clicks_of_table
from isocenter.verbs.evaluation.reports import reports_of_table
from isocenter.verbs.evaluation.retrieval import retrieval_of_table
from isocenter.verbs.evaluation.scores import score_system
from isocenter.verbs.evaluation.survival import survival_of_table
from isocenter.verbs.evaluation.system import System
from isocenter.verbs.evaluation.tables import Table

__all__ = ["table_system"]


def table_system(table: Table, patients: Table | None, missing: Literal["fail", "count-as-zero"] = "fail") -> System:
    """Return the system of a table, whatever it holds.

    Args:
        table: The table.
        patients: Of case and patient; None where there is none.
        missing: What a query without a relevant candidate does.

    Raises:
        DataError: Its columns are of no kind that is known, or a value is not what its column holds.
    """
    columns = set(table.columns)
    try:
        if "event" in columns and {"days", "time"} & columns:
            return survival_of_table(table, patients)
        if {"reference", "report"} <= columns:
            return reports_of_table(table, patients)
        if {"query", "candidate"} <= columns:
            return retrieval_of_table(table, missing, patients)
        if "dice" in columns and columns & set(CLICK_COLUMNS):
            return clicks_of_table(table, patients)
        if "image" in columns and columns & {"x0", "x0_mm", "x", "x_mm"}:
            raise DataError("holds places in images: give two tables, of predictions and of references (PRED REF)")
        return score_system(table, patients)
    except DataError as error:
        if error.source:
            raise
        raise DataError(str(error), source=table.file) from error
