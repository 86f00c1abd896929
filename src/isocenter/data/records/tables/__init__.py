"""Tables of records, reports and files: CSV and its kin, ARFF, Parquet."""

from __future__ import annotations

from isocenter.data.records.tables.headings import age_unit, compact_moment, is_date, says_number_of_one
from isocenter.data.records.tables.parquet import stream_parquet
from isocenter.data.records.tables.read import read_table, stream_table
from isocenter.data.records.tables.roles import ROLES, is_age

__all__ = [
    "ROLES",
    "age_unit",
    "compact_moment",
    "is_age",
    "is_date",
    "read_table",
    "says_number_of_one",
    "stream_parquet",
    "stream_table",
]
